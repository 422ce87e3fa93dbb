//! Whatever happens to servers while a line is full, nobody who waits is forgotten.

use crate::support::app::{App, say, status};
use crate::support::balancer::{Balancer, Reloaded};
use crate::support::client::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

const CLIENTS: usize = 24;
const EVENTS: usize = 50;

#[test]
fn reloads_drains_ejections_and_recoveries_strand_nobody() {
    let fails = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&fails);
    let moody = App::new(move |_, stream| match says.load(SeqCst) {
        true => status(stream, "500 Moody", "moody"),
        false => say(stream, "moody"),
    });
    let (one, two) = (App::saying("one"), App::saying("two"));
    let text = |limit: usize| {
        format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, pool: app }} }}\npools:\n  app:\n    max_connections: {limit}\n    \
             queue: {{ timeout: 60s, max: 1000 }}\n    outlier: {{ base_ejection: 100ms, max_ejection: 200ms }}\n    servers:\n      \
             - {{ name: one, address: {} }}\n      - {{ name: two, address: {} }}\n      - {{ name: moody, address: {} }}\n",
            one.address, two.address, moody.address
        )
    };
    let balancer = Balancer::start(&text(1));
    let ejections =
        || -> f64 { balancer.series("evenkeel_ejections_total", &[("server", "moody")]).iter().sum() };
    let address = balancer.address("web");
    let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                while !is_over.load(SeqCst) {
                    // Within the client's patience, or the test ends here.
                    let response = client.get("/");
                    assert!([200, 500].contains(&response.status), "{}", response.status);
                    answered.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for event in 0..EVENTS {
        match event % 5 {
            0 => assert_eq!(balancer.reload(&text(1 + event % 2)), Reloaded::Taken),
            1 => assert_eq!(balancer.command(&["drain", "app/one", "--force"]).0, Some(0)),
            2 => assert_eq!(balancer.command(&["ready", "app/one"]).0, Some(0)),
            3 => {
                let before = ejections();
                fails.store(true, SeqCst);
                crate::support::wait_until("the moody server is ejected", || ejections() > before);
            }
            _ => fails.store(false, SeqCst),
        }
        let before = answered.load(SeqCst);
        crate::support::wait_until("requests go on being answered", || {
            answered.load(SeqCst) >= before + CLIENTS
        });
    }
    is_over.store(true, SeqCst);
    clients.into_iter().for_each(|client| client.join().expect("each of its requests was answered"));
    assert_eq!(balancer.metric("evenkeel_pool_queue_length", &[("pool", "app")]), 0.0);
    assert_eq!(balancer.series("evenkeel_pool_queue_total", &[("result", "timeout")]), [0.0; 0]);
    assert!(balancer.metric("evenkeel_pool_queue_total", &[("pool", "app"), ("result", "served")]) > 0.0);
}
