//! Open files: what there are is shared out, so that clients, servers, probes and the admin endpoint cannot take them from
//! one another, and what we lack ourselves is no server's fault.

use crate::support::app::{App, say};
use crate::support::balancer::{Balancer, evenkeel, plain};
use crate::support::{h2, wait_until};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The binary where it may open so many files.
fn with_files(files: u32) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(evenkeel().get_program());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("NOTIFY_SOCKET");
    command
}

const PROBED: &str = "health: { http: /healthz, interval: 20ms, fall: 1 }";

fn sleepy() -> App {
    App::new(|request, stream| {
        if request.target != "/healthz" {
            std::thread::sleep(Duration::from_millis(20));
        }
        say(stream, "well")
    })
}

#[test]
fn many_streams_of_few_clients_take_no_files_from_probes_and_are_all_served() {
    const CLIENTS: u32 = 6;
    const STREAMS: u32 = 100;
    let apps = [sleepy(), sleepy()];
    let addresses = apps.each_ref().map(|app| app.address);
    let text = format!("process: {{ max_connections: 20 }}\n{}", plain(&addresses, "", PROBED));
    let balancer = Balancer::start_as(&mut with_files(300), &text);
    assert_eq!(balancer.metric("evenkeel_server_connections_limit", &[]), 130.0);
    let address = balancer.address("web");
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(move || {
                let mut client = h2::Connection::new(address);
                for stream in 0..STREAMS {
                    client.request(2 * stream + 1, "GET", "/", true);
                }
                let (mut answers, mut ended) = (0, 0);
                while ended < STREAMS {
                    let frame = client.next().expect("all are answered");
                    if frame.kind == h2::HEADERS {
                        assert_eq!(h2::status(&frame.payload), 200);
                        answers += 1;
                    }
                    ended += u32::from(frame.ends_stream());
                }
                assert_eq!(answers, STREAMS);
            });
        }
    });
    assert!(balancer.metric("evenkeel_server_connection_waits_total", &[]) > 0.0, "it was too easy");
    assert!(balancer.metric("evenkeel_server_connections", &[]) <= 130.0);
    let failed = |result| balancer.metric("evenkeel_probes_total", &[("result", result)]);
    assert_eq!((failed("connect"), failed("own_resources")), (0.0, 0.0));
    assert_eq!(balancer.metric("evenkeel_health_transitions_total", &[("to", "down")]), 0.0);
    assert!(!balancer.log.has("Too many open files"), "{:#?}", balancer.log.all());
}

#[test]
fn idle_connections_give_way_to_those_that_are_needed() {
    let (many, other) = (sleepy(), sleepy());
    let text = format!(
        "process: {{ max_connections: 20, threads: 1 }}\nlisteners:\n  web: {{ address: 127.0.0.1:0, routes: r }}\n\
         routes:\n  r:\n    - {{ match: {{ path: /other }}, pool: other }}\n    - {{ pool: many }}\n\
         pools:\n  many: {{ servers: [{}] }}\n  other: {{ servers: [{}] }}\n",
        many.address, other.address
    );
    let balancer = Balancer::start_as(&mut with_files(120), &text);
    let limit = balancer.metric("evenkeel_server_connections_limit", &[]);
    assert_eq!(limit, 40.0);
    let mut client = h2::Connection::new(balancer.address("web"));
    (0..100).for_each(|stream| client.request(2 * stream + 1, "GET", "/", true));
    let mut ended = 0;
    while ended < 100 {
        ended += u32::from(client.next().expect("all are answered").ends_stream());
    }
    let mut asking = balancer.client();
    assert_eq!(asking.get("/other").status, 200);
    assert_eq!(other.hits(), 1);
    assert!(balancer.metric("evenkeel_server_connections", &[]) <= limit);
}

#[test]
fn whoever_finds_no_place_in_time_is_told_so_and_no_server_is_blamed() {
    let latch = crate::support::app::Latch::default();
    let app = App::holding("held", &latch);
    let pool = "retries: { max: 3 }, timeouts: { connect: 100ms }";
    let text = format!("process: {{ max_connections: 9 }}\n{}", plain(&[app.address], "", pool));
    let balancer = Balancer::start_as(&mut with_files(80), &text);
    let limit = balancer.metric("evenkeel_server_connections_limit", &[]) as u32;
    let mut holding = h2::Connection::new(balancer.address("web"));
    (0..limit).for_each(|stream| holding.request(2 * stream + 1, "GET", "/held", true));
    wait_until("all places are taken", || app.hits() as u32 == limit);
    let refused = balancer.get("/late");
    assert_eq!((refused.status, refused.field("retry-after").is_empty()), (503, false));
    assert_eq!(balancer.outcome("/late"), (503, "own_resources".to_owned()));
    let record = balancer.record("/late");
    assert_eq!((&record["detail"], &record["tries"]), (&"connections to servers".into(), &1.into()));
    latch.open();
}

#[test]
fn silent_connections_to_the_admin_endpoint_give_way() {
    let app = App::saying("well");
    let balancer = Balancer::start(&plain(&[app.address], "", PROBED));
    let address = balancer.admin_address();
    let half = |line: &str, framing: &str| format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{framing}");
    for (round, sent) in [
        String::new(),
        "GET /livez HTT".to_owned(),
        half("GET /metrics", "Content-Length: 50\r\n\r\n{"),
        half("GET /api/v1/status", "Transfer-Encoding: chunked\r\n\r\n5\r\na"),
        half("POST /api/v1/reload", "Content-Length: 50\r\n\r\n{"),
        half("POST /livez", "Content-Length: 50\r\n\r\n{"),
    ]
    .iter()
    .enumerate()
    {
        // More than there are places.
        let silent: Vec<TcpStream> = (0..300)
            .map(|_| {
                let mut silent = TcpStream::connect(address).expect("the kernel's queue has room");
                let _ = silent.write_all(sent.as_bytes());
                silent
            })
            .collect();
        assert_eq!(balancer.admin("/livez").status, 200, "{sent}");
        let evicted = balancer.metric("evenkeel_admin_connections_evicted_total", &[]);
        // What can be answered is, and then closed.
        assert!(evicted >= 44.0 || round > 1, "{sent}: {evicted}");
        drop(silent);
        wait_until("the endpoint is at rest again", || balancer.admin("/livez").status == 200);
    }
    // Over the socket a change is read whole before it is answered.
    let socket = balancer.path("admin.sock");
    let before = balancer.metric("evenkeel_admin_connections_evicted_total", &[]);
    let halves: Vec<UnixStream> = (0..300)
        .map(|_| {
            let mut silent = UnixStream::connect(&socket).expect("there is room");
            let _ = silent.write_all(half("POST /api/v1/reload", "Content-Length: 50\r\n\r\n{").as_bytes());
            silent
        })
        .collect();
    assert_eq!(balancer.command_json(&["status"])["process"]["generation"], 1);
    assert!(balancer.metric("evenkeel_admin_connections_evicted_total", &[]) >= before + 44.0);
    drop(halves);
}
