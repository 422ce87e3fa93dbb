//! What HTTP/2 clients do to hurt: each is cut off and counted, others do not notice, memory stays where it was.

use crate::support::app::{App, Latch, say, wait_for_the_end};
use crate::support::balancer::{Balancer, plain};
use crate::support::client::Client;
use crate::support::h2::{self, END_HEADERS, END_STREAM, block, frame};
use crate::support::{DEADLINE, wait_until};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const ENHANCE_YOUR_CALM: u32 = 11;
/// More than any attack needs until it is cut off.
const PLENTY: u32 = 100_000;
/// What the process may have grown by in an attack, in KiB: a debug build with the system's threads and buffers.
const GROWTH: u64 = 48 * 1024;

/// A client that sends bytes as fast as it can, while a thread of its own reads what comes.
struct Attacker {
    stream: TcpStream,
    reader: JoinHandle<Option<u32>>,
}

impl Attacker {
    fn new(address: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).expect("the listener takes connections");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket takes its options");
        let mut copy = stream.try_clone().expect("a socket can be cloned");
        copy.set_read_timeout(Some(DEADLINE)).expect("a socket takes its options");
        let reader = std::thread::spawn(move || goaway(&mut copy));
        let _ = stream.write_all(&[h2::PREFACE, &frame(h2::SETTINGS, 0, 0, settings)].concat());
        Self { stream, reader }
    }

    /// Sends what `act` makes of 0, 1, 2 and so on until the other side takes no more.
    fn flood(&mut self, act: impl Fn(u32) -> Vec<u8>) {
        for n in 0..PLENTY / 50 {
            let bytes: Vec<_> = (50 * n..50 * (n + 1)).flat_map(&act).collect();
            if self.stream.write_all(&bytes).is_err() {
                return;
            }
        }
    }

    /// The code of the GOAWAY that came before the end.
    fn end(self) -> Option<u32> {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.reader.join().expect("the reader ends")
    }
}

/// Reads to the connection's end; the code of the last GOAWAY.
fn goaway(stream: &mut TcpStream) -> Option<u32> {
    let mut code = None;
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        if head[3] == h2::GOAWAY {
            code = payload[4..8].try_into().ok().map(u32::from_be_bytes);
        }
    }
    code
}

/// One who wants nothing but answers, over HTTP/2 and HTTP/1.1, for as long as this value lives.
struct Neighbour {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    fn of(balancer: &Balancer) -> Self {
        let address = balancer.address("web");
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&served));
        let thread = std::thread::spawn(move || {
            let mut h2 = h2::Connection::new(address);
            let mut h1 = Client::connect(address);
            for n in 0.. {
                if stopped.load(SeqCst) {
                    return;
                }
                // Each has the deadline of the support's sockets.
                h2.request(2 * n + 1, "GET", "/neighbour", true);
                assert_eq!(h2.response(2 * n + 1).0, 200);
                assert_eq!(h1.get("/neighbour").status, 200);
                count.fetch_add(1, SeqCst);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let neighbour = Self { stop, served, thread: Some(thread) };
        neighbour.is_served();
        neighbour
    }

    /// Waits for another answer.
    #[track_caller]
    fn is_served(&self) {
        let before = self.served.load(SeqCst);
        wait_until("the neighbour is served", || self.served.load(SeqCst) > before);
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the neighbour was not served");
        }
    }
}

/// Resident memory of the process, in KiB.
fn resident(balancer: &Balancer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", balancer.pid())).expect("it is running");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says how much it is");
    line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
}

fn small_app() -> App {
    App::saying("hello")
}

/// What it costs to be attacked: nothing to the neighbour, and little memory. The connection ends with `code`, is
/// counted as `kind`, and leaves a record.
#[track_caller]
fn attacked(kind: &str, code: u32, listener: &str, attack: impl FnOnce(&mut Attacker)) {
    attacked_one_way_or_another(&[kind], code, listener, attack);
}

/// Where two bounds are met at about the same time, either may be what ends it.
fn attacked_one_way_or_another(
    kinds: &[&str],
    code: u32,
    listener: &str,
    attack: impl FnOnce(&mut Attacker),
) {
    let app = small_app();
    let balancer = Balancer::start(&plain(&[app.address], listener, ""));
    let neighbour = Neighbour::of(&balancer);
    let before = resident(&balancer);
    let mut attacker = Attacker::new(balancer.address("web"), &[]);
    attack(&mut attacker);
    assert_eq!(attacker.end(), Some(code), "the code of GOAWAY");
    balancer.wait_for_metric("evenkeel_http2_abuse_total", &[("listener", "web")], 1.0);
    let counted = |kind: &&&str| {
        balancer.metric("evenkeel_http2_abuse_total", &[("listener", "web"), ("kind", **kind)]) == 1.0
    };
    let kind = *kinds.iter().find(counted).unwrap_or_else(|| panic!("counted as none of {kinds:?}"));
    assert_eq!(balancer.metric("evenkeel_http2_abuse_total", &[]), 1.0, "counted once");
    let why = if kind == "protocol" { "malformed" } else { "http2_abuse" };
    let record = balancer.record_where("of the connection", |record| record["detail"] == kind);
    assert_eq!((&record["why"], &record["status"]), (&why.into(), &0.into()));
    let grown = resident(&balancer).saturating_sub(before);
    assert!(grown < GROWTH, "grown by {grown} KiB");
    neighbour.is_served();
    drop(neighbour);
    balancer.wait_for_in_flight(0.0);
}

fn request(stream: u32, last: bool) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/attack")];
    frame(h2::HEADERS, END_HEADERS | u8::from(last), stream, &block(&fields))
}

fn reset(stream: u32) -> Vec<u8> {
    frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// A request whose window goes beyond what there may be.
fn must_be_reset(n: u32) -> Vec<u8> {
    [request(2 * n + 1, false), window(2 * n + 1, 0x7fff_ffff)].concat()
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(h2::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// CVE-2023-44487.
#[test]
fn requests_that_are_reset_at_once() {
    attacked("resets", ENHANCE_YOUR_CALM, "", |attacker| {
        attacker.flood(|n| [request(2 * n + 1, true), reset(2 * n + 1)].concat());
    });
}

/// CVE-2025-8671: the server is made to reset, by a window that overflows, in fewer frames than would be too many
/// by themselves.
#[test]
fn requests_that_the_server_must_reset() {
    attacked("stream_errors", ENHANCE_YOUR_CALM, "", |attacker| {
        for n in 0..900 {
            let _ = attacker.stream.write_all(&must_be_reset(n));
        }
        // One that has left is not told.
        wait_until("the connection's end", || attacker.reader.is_finished());
    });
}

/// The same without end: each costs us a reset and is a window update, and which of the two is too many first depends
/// on how many are read at once.
#[test]
fn requests_without_end_that_the_server_must_reset() {
    attacked_one_way_or_another(&["stream_errors", "window_updates"], ENHANCE_YOUR_CALM, "", |attacker| {
        attacker.flood(must_be_reset);
    });
}

#[test]
fn resets_that_are_not_read() {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("connection", "close")];
    let block = block(&fields);
    let malformed = |n: u32| frame(h2::HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block);
    // DATA for a stream that is over, which has no budget of its own.
    let late = |n: u32| if n == 0 { request(1, true) } else { frame(h2::DATA, 0, 1, b"x") };
    let acts: [&dyn Fn(u32) -> Vec<u8>; 2] = [&malformed, &late];
    for act in acts {
        let app = small_app();
        let balancer = Balancer::start(&plain(&[app.address], "", ""));
        let before = resident(&balancer);
        let mut stream = TcpStream::connect(balancer.address("web")).expect("the listener takes connections");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket takes its options");
        let _ = stream.write_all(&[h2::PREFACE, &frame(h2::SETTINGS, 0, 0, &[])].concat());
        for n in 0..PLENTY / 50 {
            let bytes: Vec<_> = (50 * n..50 * (n + 1)).flat_map(act).collect();
            if stream.write_all(&bytes).is_err() {
                break;
            }
        }
        wait_until("it is counted", || balancer.metric("evenkeel_http2_abuse_total", &[]) == 1.0);
        let grown = resident(&balancer).saturating_sub(before);
        assert!(grown < GROWTH, "grown by {grown} KiB");
        assert!(balancer.records().len() < 5000, "one attack fills no log");
        drop(stream);
        balancer.wait_for_metric("evenkeel_connections", &[("listener", "web")], 0.0);
        balancer.wait_for_in_flight(0.0);
    }
}

#[test]
fn requests_that_are_malformed() {
    attacked("stream_errors", ENHANCE_YOUR_CALM, "", |attacker| {
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("connection", "close")];
        let block = block(&fields);
        attacker.flood(|n| frame(h2::HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block));
    });
}

#[test]
fn streams_beyond_the_limit() {
    let app = App::new(|_, stream| wait_for_the_end(stream));
    let balancer = Balancer::start(&plain(&[app.address], "http2: { max_concurrent_streams: 10 }", ""));
    let mut attacker = Attacker::new(balancer.address("web"), &[]);
    attacker.flood(|n| request(2 * n + 1, true));
    assert_eq!(attacker.end(), Some(ENHANCE_YOUR_CALM));
    balancer.wait_for_metric("evenkeel_http2_abuse_total", &[("kind", "resets")], 1.0);
    balancer.wait_for_in_flight(0.0);
    assert!(app.hits() <= 10, "{} requests reached the server", app.hits());
}

/// CVE-2024-27316 and its kind: a header block without end, in large, small and empty pieces.
#[test]
fn header_blocks_without_end() {
    for piece in [&[0; 1000][..], b"x", b""] {
        attacked("continuations", ENHANCE_YOUR_CALM, "", |attacker| {
            let start = frame(h2::HEADERS, END_STREAM, 1, &block(&[(":method", "GET")]));
            let _ = attacker.stream.write_all(&start);
            // A field whose value is as long as the pieces of it.
            let _ = attacker.stream.write_all(&frame(h2::CONTINUATION, 0, 1, b"\x00\x01x\x7f\xff\xff\x7f"));
            attacker.flood(|_| frame(h2::CONTINUATION, 0, 1, piece));
        });
    }
}

/// CVE-2019-9515.
#[test]
fn settings_without_end() {
    attacked("settings", ENHANCE_YOUR_CALM, "", |attacker| {
        attacker.flood(|n| frame(h2::SETTINGS, 0, 0, &[0, 4, 0, 0, (n % 2) as u8, 0]));
    });
}

/// CVE-2019-9512.
#[test]
fn pings_without_end() {
    attacked("pings", ENHANCE_YOUR_CALM, "", |attacker| {
        attacker.flood(|_| frame(h2::PING, 0, 0, &[7; 8]));
    });
}

/// CVE-2019-9513.
#[test]
fn priorities_without_end() {
    attacked("priorities", ENHANCE_YOUR_CALM, "", |attacker| {
        attacker.flood(|n| frame(h2::PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, (n % 256) as u8]));
    });
}

#[test]
fn window_updates_without_end() {
    attacked("window_updates", ENHANCE_YOUR_CALM, "", |attacker| attacker.flood(|_| window(0, 1)));
}

#[test]
fn frames_of_unknown_types_without_end() {
    attacked("unknown_frames", ENHANCE_YOUR_CALM, "", |attacker| {
        attacker.flood(|n| frame(0x20 + (n % 0xd0) as u8, 0, 0, &[0; 100]));
    });
}

/// CVE-2019-9518.
#[test]
fn data_without_data() {
    attacked("empty_data", ENHANCE_YOUR_CALM, "", |attacker| {
        let _ = attacker.stream.write_all(&request(1, false));
        attacker.flood(|_| frame(h2::DATA, 0, 1, b""));
    });
}

/// A table's entry, referred to again and again: 16 KiB that stand for 64 MiB.
#[test]
fn fields_that_decode_to_far_more() {
    attacked("headers", ENHANCE_YOUR_CALM, "", |attacker| {
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/bomb")];
        let mut bomb = block(&fields);
        // Section 6.2.1 of RFC 7541: a literal that goes into the table; 4,000 bytes are 127 + 33 + 30 * 128.
        bomb.extend_from_slice(b"\x40\x01x\x7f\xa1\x1e");
        bomb.extend_from_slice(&[b'x'; 4000]);
        // Entry 62 is the latest one.
        bomb.resize(16_000, 0xbe);
        attacker.flood(|n| frame(h2::HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &bomb));
    });
}

#[test]
fn frames_that_no_client_may_send() {
    const PROTOCOL_ERROR: u32 = 1;
    const FRAME_SIZE_ERROR: u32 = 6;
    let table = [
        (PROTOCOL_ERROR, frame(h2::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        (FRAME_SIZE_ERROR, frame(h2::DATA, 0, 1, &[0; 20_000])),
        (PROTOCOL_ERROR, window(0, 0)),
        (PROTOCOL_ERROR, frame(h2::CONTINUATION, END_HEADERS, 1, b"")),
        (PROTOCOL_ERROR, frame(h2::DATA, 0, 0, b"x")),
        (PROTOCOL_ERROR, request(2, true)),
    ];
    for (code, bytes) in table {
        attacked("protocol", code, "", |attacker| drop(attacker.stream.write_all(&bytes)));
    }
}

/// CVE-2019-9511: a window of one byte at a time.
#[test]
fn a_response_taken_byte_by_byte() {
    let app = App::new(|_, stream| say(stream, &"x".repeat(100_000)));
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    // SETTINGS_INITIAL_WINDOW_SIZE of 1.
    let mut attacker = Attacker::new(balancer.address("web"), &[0, 4, 0, 0, 0, 1]);
    let _ = attacker.stream.write_all(&request(1, true));
    for _ in 0..PLENTY {
        if attacker.stream.write_all(&window(1, 1)).is_err() {
            break;
        }
    }
    assert_eq!(attacker.end(), Some(ENHANCE_YOUR_CALM));
    balancer.wait_for_metric("evenkeel_http2_abuse_total", &[("kind", "window_updates")], 1.0);
    balancer.wait_for_in_flight(0.0);
}

/// CVE-2019-9517: much is asked for and nothing taken.
#[test]
fn responses_that_nobody_takes() {
    const STREAMS: u32 = 100;
    let app = App::new(|_, stream| say(stream, &"x".repeat(1 << 20)));
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { stream_idle: 500ms }"));
    let before = resident(&balancer);
    for settings in [
        // No window at all.
        [0, 4, 0, 0, 0, 0],
        // All the window there can be, and a socket that is not read.
        [0, 4, 0x7f, 0xff, 0xff, 0xff],
    ] {
        let mut stream = TcpStream::connect(balancer.address("web")).expect("the listener takes connections");
        let mut bytes = [h2::PREFACE, &frame(h2::SETTINGS, 0, 0, &settings)].concat();
        bytes.extend((0..STREAMS).flat_map(|n| request(2 * n + 1, true)));
        bytes.extend(window(0, 0x7fff_0000));
        stream.write_all(&bytes).expect("the other side takes what is sent");
        wait_until("each stream ends", || balancer.records().len() == STREAMS as usize);
        // Sockets' own buffers hold some MiB: that many responses are gone for good.
        let of_idleness = balancer.records().iter().filter(|record| record["why"] == "stream_idle").count();
        assert!(of_idleness > STREAMS as usize * 9 / 10, "{of_idleness}");
        balancer.wait_for_in_flight(0.0);
        let grown = resident(&balancer).saturating_sub(before);
        assert!(grown < 2 * GROWTH, "grown by {grown} KiB");
        balancer.output.clear();
    }
}

#[test]
fn what_is_begun_and_not_finished() {
    let app = small_app();
    let timeouts = "timeouts: { request_header: 300ms, request_body: 300ms }";
    let balancer = Balancer::start(&plain(&[app.address], timeouts, ""));
    let neighbour = Neighbour::of(&balancer);
    let settings = frame(h2::SETTINGS, 0, 0, &[]);
    let half = frame(h2::HEADERS, END_STREAM, 1, &block(&[(":method", "GET")]));
    for (what, bytes) in [
        ("no SETTINGS", h2::PREFACE.to_vec()),
        ("a header block", [h2::PREFACE, &settings, &half].concat()),
        ("one after a request", [h2::PREFACE, &settings, &request(1, true), &half.clone()].concat()),
    ] {
        let before = balancer.failures("request_header_timeout");
        let mut stream = TcpStream::connect(balancer.address("web")).expect("the listener takes connections");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes its options");
        let bytes = if what == "one after a request" {
            let last = bytes.len() - half.len();
            let mut other = half.clone();
            other[8] = 3;
            [&bytes[..last], &other].concat()
        } else {
            bytes
        };
        stream.write_all(&bytes).expect("the other side takes what is sent");
        assert_eq!(goaway(&mut stream), Some(0), "{what}");
        balancer.wait_for_failures("request_header_timeout", before + 1.0);
    }
    // Bodies that stop end their streams and not the connection.
    let mut connection = h2::Connection::new(balancer.address("web"));
    for n in 0..50 {
        connection.send(&request(2 * n + 1, false));
    }
    balancer.wait_for_metric("evenkeel_http_failures_total", &[("why", "request_body_timeout")], 50.0);
    balancer.wait_for_in_flight(0.0);
    connection.request(201, "GET", "/after", true);
    assert_eq!(connection.response(201).0, 200);
    neighbour.is_served();
}

/// However fast streams are reset, servers have no more to do than the streams that may be open.
#[test]
fn servers_never_have_more_than_the_streams_that_may_be_open() {
    const LIMIT: usize = 8;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(0)));
    let (counting, highest) = (Arc::clone(&now), Arc::clone(&most));
    let app = App::new(move |_, stream| {
        let count = counting.fetch_add(1, SeqCst) + 1;
        let mut highest = highest.lock().expect("no test thread panics with it");
        *highest = (*highest).max(count);
        drop(highest);
        let then = wait_for_the_end(stream);
        counting.fetch_sub(1, SeqCst);
        then
    });
    let listener = format!("http2: {{ max_concurrent_streams: {LIMIT} }}");
    let balancer = Balancer::start(&plain(&[app.address], &listener, ""));
    let mut connection = h2::Connection::new(balancer.address("web"));
    // Waves, so that the requests reach the server before they are reset.
    for wave in 0..10 {
        let streams = (0..LIMIT as u32).map(|n| 2 * (wave * LIMIT as u32 + n) + 1);
        connection.send(&streams.clone().flat_map(|stream| request(stream, true)).collect::<Vec<_>>());
        let arrived = (wave as usize + 1) * LIMIT;
        wait_until("the wave has arrived", || app.hits() == arrived);
        balancer.wait_for_in_flight(LIMIT as f64);
        connection.send(&streams.flat_map(reset).collect::<Vec<_>>());
        balancer.wait_for_in_flight(0.0);
    }
    wait_until("the servers' connections are closed", || now.load(SeqCst) == 0);
    // As fast as it goes, until it is cut off.
    let mut attacker = Attacker::new(balancer.address("web"), &[]);
    attacker.flood(|n| [request(2 * n + 1, true), reset(2 * n + 1)].concat());
    assert_eq!(attacker.end(), Some(ENHANCE_YOUR_CALM));
    balancer.wait_for_in_flight(0.0);
    // A server's thread notices a little later than the balancer.
    let most = *most.lock().expect("no test thread panics with it");
    assert!(most <= 2 * LIMIT, "{most} requests at once");
    assert!(connection.is_alive(), "the other connection goes on");
}

#[test]
fn a_client_that_says_goodbye_is_served_to_its_end() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        held.wait();
        say(stream, "late")
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut connection = h2::Connection::new(balancer.address("web"));
    connection.request(1, "GET", "/", true);
    connection.frame(h2::GOAWAY, 0, 0, &[0; 8]);
    balancer.wait_for_in_flight(1.0);
    latch.open();
    assert_eq!(connection.response(1), (200, b"late".to_vec()));
    assert_eq!(balancer.metric("evenkeel_http2_abuse_total", &[]), 0.0);
}
