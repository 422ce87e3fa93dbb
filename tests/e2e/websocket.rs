//! WebSockets that end from our side: between two frames with a close frame (RFC 6455 section 5.5.1), within one
//! without.

use crate::support::DEADLINE;
use crate::support::app::{App, Then, send};
use crate::support::balancer::{Balancer, Reloaded, outcome, plain};
use crate::support::client::Client;
use evenkeel::websocket::{Frames, close};
use rustix::process::Signal;
use std::io::Read;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// A masked text frame from the client, `hi`, and one from the server.
const FROM_CLIENT: &[u8] = b"\x81\x82\x00\x00\x00\x00hi";
const FROM_SERVER: &[u8] = b"\x81\x02ho";

/// A server that greets with some bytes, and tells everything it got once the connection has ended.
fn server(greeting: impl Into<Vec<u8>>) -> (App, Receiver<Vec<u8>>) {
    let (tell, told) = channel();
    let greeting = greeting.into();
    let app = App::new(move |_, stream| {
        send(stream, SWITCHING);
        let _ = std::io::Write::write_all(stream, &greeting);
        let _ = tell.send(read_to_end(stream));
        Then::Close
    });
    (app, told)
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let mut bytes = [0; 64 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut bytes) {
        got.extend_from_slice(&bytes[..n]);
    }
    got
}

fn upgraded(balancer: &Balancer) -> Client {
    let mut client = balancer.client();
    client.send(UPGRADE);
    assert_eq!(client.response_to_head().status, 101);
    client
}

/// One that ends so is an abnormal closure to its client (RFC 6455 section 7.1.5).
#[test]
fn a_websocket_that_its_server_closes_at_once_without_a_word_has_failed() {
    let app = App::new(|request, stream| {
        let protocol = request.field("upgrade");
        let rest = match request.target.as_str() {
            "/greeted" => FROM_SERVER,
            "/closed" => b"\x88\x02\x03\xe8",
            _ => b"",
        };
        let head = SWITCHING.replace("websocket", &protocol);
        let _ = std::io::Write::write_all(stream, &[head.as_bytes(), rest].concat());
        if request.target == "/asked" {
            let _ = stream.read(&mut [0; 64]);
        }
        if matches!(request.target.as_str(), "/left" | "/later") {
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        Then::Close
    });
    let text = plain(&[app.address], "", "").replace("pool: app,", "routes: all,")
        + "routes: { all: [{ upgrades: [websocket, tcp], pool: app }] }\n";
    let balancer = Balancer::start(&text);
    let mut failed = 0.0;
    for (path, protocol, says, why) in [
        ("/mute", "websocket", &b""[..], "server_reset"),
        // It has said something.
        ("/greeted", "websocket", b"", "ok"),
        ("/closed", "websocket", b"", "ok"),
        // What its client has said may have been the reason.
        ("/asked", "websocket", FROM_CLIENT, "ok"),
        // It was open for a while.
        ("/later", "websocket", b"", "ok"),
        // One has nothing to say where there is no close frame.
        ("/attach", "tcp", b"", "ok"),
    ] {
        let mut client = balancer.client();
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        ));
        assert_eq!(client.response_to_head().status, 101, "{path}");
        client.send(says);
        let _ = client.read_to_end();
        drop(client);
        assert_eq!(balancer.outcome(path), (101, why.to_owned()), "{path}");
        failed += f64::from(u8::from(why != "ok"));
        balancer.wait_for_metric("evenkeel_http_requests_failed_total", &[("pool", "app")], failed);
    }
    // Its client has left first.
    let mut client = balancer.client();
    client.send(UPGRADE.replace("/ws", "/left"));
    assert_eq!(client.response_to_head().status, 101);
    drop(client);
    assert_eq!(balancer.outcome("/left").0, 101);
    assert_eq!(balancer.metric("evenkeel_http_requests_failed_total", &[]), failed);
}

/// What follows in a close frame with a mask, unmasked.
fn unmasked(frame: &[u8]) -> Vec<u8> {
    assert_eq!((frame[0], frame[1] & 0x80), (0x88, 0x80), "a masked close frame: {frame:?}");
    frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

/// Both ends hear of an end for this reason, after what was said before it.
#[track_caller]
fn check_farewell(mut client: Client, told: &Receiver<Vec<u8>>, why: &str) {
    let expected = close(1001, why, None);
    assert_eq!(client.bytes(expected.len()), expected);
    assert!(client.is_closed());
    let got = told.recv_timeout(DEADLINE).expect("the server hears of the end");
    let farewell = got.strip_prefix(FROM_CLIENT).expect("what the client said comes first");
    assert_eq!(unmasked(farewell), expected[2..]);
}

#[test]
fn a_removed_servers_websocket_ends_with_a_close_frame() {
    let ((leaving, told), staying) = (server(FROM_SERVER), App::saying("staying"));
    let pool = "drain_timeout: 300ms";
    let balancer = Balancer::start(&plain(&[leaving.address], "", pool));
    let mut client = upgraded(&balancer);
    assert_eq!(client.bytes(FROM_SERVER.len()), FROM_SERVER);
    client.send(FROM_CLIENT);
    assert_eq!(balancer.reload(&plain(&[staying.address], "", pool)), Reloaded::Taken);
    check_farewell(client, &told, "drained");
    assert_eq!(outcome(&balancer.record("/ws")), (101, "drained".to_owned()));
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn a_silent_websocket_ends_with_a_close_frame() {
    let (app, told) = server("");
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { tunnel_idle: 1s }"));
    let mut client = upgraded(&balancer);
    client.send(FROM_CLIENT);
    check_farewell(client, &told, "tunnel_idle");
}

#[test]
fn a_stop_ends_websockets_with_a_close_frame() {
    let (app, told) = server("");
    let text = format!("process: {{ shutdown_timeout: 1s }}\n{}", plain(&[app.address], "", ""));
    let mut balancer = Balancer::start(&text);
    let mut client = upgraded(&balancer);
    client.send(FROM_CLIENT);
    balancer.signal(Signal::TERM);
    check_farewell(client, &told, "shutdown");
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
}

#[test]
fn a_frame_under_way_gets_nothing_put_in() {
    let half = &FROM_SERVER[..3];
    let (app, told) = server(half);
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { tunnel_idle: 1s }"));
    let mut client = upgraded(&balancer);
    client.send(&FROM_CLIENT[..5]);
    assert_eq!(client.bytes(half.len()), half);
    assert!(client.is_closed());
    assert_eq!(told.recv_timeout(DEADLINE).expect("the server hears of the end"), &FROM_CLIENT[..5]);
}

#[test]
fn after_a_close_frame_comes_no_second() {
    let theirs = close(1000, "", None);
    let (app, told) = server(theirs.clone());
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { tunnel_idle: 1s }"));
    let mut client = upgraded(&balancer);
    let mine = close(1000, "", Some([1, 2, 3, 4]));
    client.send(&mine);
    assert_eq!(client.bytes(theirs.len()), theirs);
    assert!(client.is_closed());
    assert_eq!(told.recv_timeout(DEADLINE).expect("the server hears of the end"), mine);
}

/// Long frames are moved within the kernel; their ends are seen all the same.
#[test]
fn frames_of_all_sizes_arrive_whole_and_are_told_apart() {
    let frame = |length: usize| {
        let mut frame = vec![0x82, 127];
        frame.extend_from_slice(&(length as u64).to_be_bytes());
        frame.extend((0..length).map(|n| (n * 7 % 251) as u8));
        frame
    };
    let mut all = Vec::new();
    for length in [3 << 20, 5, 100_000, 0, 65_536, 1, 1 << 20] {
        all.append(&mut frame(length));
    }
    let mut frames = Frames::default();
    frames.pass(&all);
    assert!(frames.is_between());
    let (app, _told) = server(all.clone());
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { tunnel_idle: 2s }"));
    let mut client = upgraded(&balancer);
    assert!(client.bytes(all.len()) == all, "what came is not what was sent");
    let farewell = close(1001, "tunnel_idle", None);
    assert_eq!(client.bytes(farewell.len()), farewell);
}
