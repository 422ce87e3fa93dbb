//! Requests that are not as they should be: each with what becomes of it, seen from both ends. The server behind reads
//! as strictly as can be: it sees nothing, or one request that can be read in one way only.
//!
//! `docs/malformed-requests.md` is this table for readers; `UPDATE_DOCS=1` writes it anew.

mod cases;
mod h1;
mod h2_cases;
mod server;
#[path = "../support/mod.rs"]
mod support;

use cases::{Case, Outcome, Wire};
use server::{Saw, Server};
use std::fmt::Write as _;
use std::net::SocketAddr;
use support::balancer::{Balancer, plain};
use support::client::Client;
use support::h2::{self, Connection};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/malformed-requests.md");
const START: &str =
    "<!-- The table is written by tests/malformed: UPDATE_DOCS=1 cargo nextest run --test malformed -->\n";

/// What the client got.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Statuses(Vec<u16>),
    StreamError,
    ConnectionError,
}

fn send_h1(address: SocketAddr, bytes: &[u8], outcome: &Outcome) -> Got {
    let mut client = Client::connect(address);
    // It may be refused before all of it was sent.
    let _ = client.try_send(bytes);
    if *outcome == Outcome::Left {
        client.finish_sending();
    }
    let mut statuses = Vec::new();
    while let Some(response) = client.try_response() {
        statuses.push(response.status);
        if *outcome == Outcome::Passed {
            // The connection stays open.
            break;
        }
    }
    Got::Statuses(statuses)
}

fn send_h2(address: SocketAddr, bytes: &[u8]) -> Got {
    let mut connection = Connection::new(address);
    let _ = connection.try_send(bytes);
    while let Some(frame) = connection.next() {
        let got = match (frame.kind, frame.stream) {
            (h2::HEADERS, 1) => Got::Statuses(vec![h2::status(&frame.payload)]),
            (h2::RST_STREAM, 1) => Got::StreamError,
            (h2::GOAWAY, _) => return Got::ConnectionError,
            _ => continue,
        };
        assert!(connection.is_alive(), "the connection goes on after {got:?}");
        return got;
    }
    Got::ConnectionError
}

fn check(case: &Case, got: &Got, saw: &[Saw]) -> Result<(), String> {
    let expected = match &case.outcome {
        Outcome::Passed => Got::Statuses(vec![200]),
        Outcome::Answer(status) | Outcome::Broken(status) => Got::Statuses(vec![*status]),
        Outcome::Left => Got::Statuses(Vec::new()),
        Outcome::Then(status) => Got::Statuses(vec![200, *status]),
        Outcome::StreamError | Outcome::StreamBroken => Got::StreamError,
        Outcome::ConnectionError => Got::ConnectionError,
    };
    if *got != expected {
        return Err(format!("the client got {got:?} and not {expected:?}; the server saw {saw:?}"));
    }
    // Another thread reads what is broken off, and may be late.
    let is_late = |saw: &&Saw| matches!(saw, Saw::Part(bytes) if bytes.contains(" /broken "));
    let saw: Vec<_> = saw.iter().filter(|saw| !is_late(saw)).collect();
    let whole = saw.iter().filter(|saw| matches!(saw, Saw::Request(_))).count();
    let strange = saw.iter().find(|saw| matches!(saw, Saw::Nonsense(..)));
    if let Some(strange) = strange {
        return Err(format!("the server saw {strange:?}"));
    }
    match &case.outcome {
        Outcome::Passed | Outcome::Then(_) if whole == 1 => Ok(()),
        Outcome::Broken(_) | Outcome::Left | Outcome::StreamBroken if whole == 0 => Ok(()),
        Outcome::Answer(_) | Outcome::StreamError | Outcome::ConnectionError if saw.is_empty() => Ok(()),
        _ => Err(format!("the server saw {saw:?}")),
    }
}

#[test]
fn each_malformed_request_has_its_outcome_and_no_server_is_misled() {
    let server = Server::new();
    let text =
        plain(&[server.address], "limits: { request_headers: 4KiB, connections_per_client: null }", "");
    let balancer = Balancer::start(&text);
    let address = balancer.address("web");
    let mut neighbours = (Client::connect(address), Connection::new(address));
    let mut faults = String::new();
    for (n, case) in cases::all().iter().enumerate() {
        server.take();
        let got = match &case.wire {
            Wire::H1(bytes) => send_h1(address, bytes, &case.outcome),
            Wire::H2 { bytes, .. } => send_h2(address, bytes),
        };
        if let Err(fault) = check(case, &got, &server.take()) {
            let _ = writeln!(faults, "{}: {fault}", case.id);
        }
        // Those beside it are served as ever, and so on the connections to the server that it may have used.
        let stream = 2 * n as u32 + 1;
        neighbours.1.request(stream, "GET", "/neighbour", true);
        assert_eq!(neighbours.1.response(stream).0, 200, "over HTTP/2 after {}", case.id);
        assert_eq!(neighbours.0.get("/neighbour").status, 200, "over HTTP/1.1 after {}", case.id);
        let saw = server.take();
        let is_good = |saw: &Saw| match saw {
            Saw::Request(bytes) => bytes.contains(" /neighbour "),
            Saw::Part(bytes) => bytes.contains(" /broken "),
            Saw::Nonsense(..) => false,
        };
        let whole = saw.iter().filter(|saw| matches!(saw, Saw::Request(_))).count();
        if whole != 2 || !saw.iter().all(is_good) {
            let _ = writeln!(faults, "{}: of the neighbours the server saw {saw:?}", case.id);
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.metric("evenkeel_panics_total", &[]), 0.0);
}

#[test]
fn the_reference_has_every_case() {
    let text = std::fs::read_to_string(DOCS).expect("docs/malformed-requests.md is there");
    let (before, _) = text.split_once(START).expect("the table begins after its comment");
    let table = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(DOCS, format!("{before}{START}{table}")).expect("the page can be written");
        return;
    }
    assert!(text.ends_with(&table), "docs/malformed-requests.md is not up to date; set UPDATE_DOCS=1");
}

#[test]
fn the_table_is_as_large_as_it_says_and_no_id_is_there_twice() {
    let cases = cases::all();
    assert!(cases.len() >= 100, "{} cases", cases.len());
    let mut ids: Vec<_> = cases.iter().map(|case| case.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), cases.len());
}

fn table() -> String {
    let mut text = String::new();
    for (title, is_h1) in [("HTTP/1.1", true), ("HTTP/2", false)] {
        let _ = writeln!(
            text,
            "\n## {title}\n\n| id | the request | example | outcome | RFC |\n|---|---|---|---|---|"
        );
        for case in cases::all() {
            if matches!(case.wire, Wire::H1(_)) == is_h1 {
                let Case { id, rule, rfc, .. } = case;
                let (example, outcome) = (case.example(), case.outcome.text());
                let _ = writeln!(text, "| {id} | {rule} | {example} | {outcome} | {rfc} |");
            }
        }
    }
    text
}
