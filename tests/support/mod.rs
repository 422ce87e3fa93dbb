//! What end-to-end tests share: the real binary, app servers that do what they are told, and clients that
//! see every byte.
// Each test program uses its own part of it.
#![allow(dead_code)]

pub(crate) mod app;
pub(crate) mod balancer;
pub(crate) mod client;
pub(crate) mod dns;
pub(crate) mod h2;
pub(crate) mod hanging;
pub(crate) mod mmdb;
pub(crate) mod ocsp;
pub(crate) mod pebble;
pub(crate) mod tcp;
pub(crate) mod terminal;
pub(crate) mod tls;
pub(crate) mod udp;
pub(crate) mod ways;

use std::time::{Duration, Instant};

/// How long a fact may take to come true. Far more than any needs, so that a busy machine fails nothing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// Waits until `fact` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut fact: impl FnMut() -> bool) {
    wait_for(what, || fact().then_some(()));
}

/// Waits until `fact` gives something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(since.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Method and path of each row of docs/api.md.
pub(crate) fn documented() -> Vec<(String, String)> {
    let row = |line: &str| {
        let cells: Vec<_> = line.strip_prefix("| ")?.split(" | ").collect();
        let path = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((cells[0].to_owned(), path.to_owned()))
    };
    include_str!("../../docs/api.md").lines().filter_map(row).collect()
}

/// Whether a process catches this signal, as its kernel has it.
pub(crate) fn catches(pid: u32, signal: rustix::process::Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask").trim();
    u64::from_str_radix(caught, 16).expect("hexadecimal") >> (signal.as_raw() - 1) & 1 == 1
}
