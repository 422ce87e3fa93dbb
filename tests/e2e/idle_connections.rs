//! Connections to servers that wait for their next request, and what closes them before their time.

use crate::support::app::{App, Latch};
use crate::support::balancer::{Balancer, Next, Reloaded};
use crate::support::client::Client;
use crate::support::wait_until;
use rustix::process::Signal;

/// Connections rest for longer than any test waits.
fn text(servers: &str, pool: &str) -> String {
    format!(
        "process: {{ threads: 2 }}\n\
         listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\n\
         pools:\n  app: {{ servers: [{servers}], timeouts: {{ keepalive: 1h }}, {pool} }}\n"
    )
}

/// A request that its server holds.
fn hold(balancer: &Balancer) -> Client {
    let mut client = balancer.client();
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

/// So many requests at once, which leave as many connections at rest.
fn rest(balancer: &Balancer, apps: &[&App], latch: &Latch, n: usize) {
    let hits = || apps.iter().map(|app| app.hits()).sum::<usize>();
    let before = hits();
    let clients: Vec<_> = (0..n).map(|_| hold(balancer)).collect();
    // Each has a connection then, and none waits for one.
    wait_until("the servers have them all", || hits() == before + n);
    latch.open();
    for mut client in clients {
        assert_eq!(client.response().status, 200);
    }
    balancer.wait_for_in_flight(0.0);
    latch.close();
}

fn wait_for_open(app: &App, open: usize) {
    wait_until(&format!("{open} connections are open"), || app.open_connections() == open);
}

#[test]
fn what_rests_at_a_server_is_closed_when_the_server_leaves_and_when_it_is_in_maintenance() {
    let latch = Latch::default();
    let [first, second] = ["first", "second"].map(|name| App::holding(name, &latch));
    let [a, b] = [&first, &second].map(|app| app.address);
    let limit = "max_connections: 4";
    let both = text(&format!("{{ name: a, address: {a} }}, {{ name: b, address: {b} }}"), limit);
    let balancer = Balancer::start(&both);
    rest(&balancer, &[&first, &second], &latch, 8);
    assert_eq!([&first, &second].map(App::open_connections), [4, 4]);
    // It leaves, and comes back as another one, of which four more are open.
    let mut held = hold(&balancer);
    let mut other = hold(&balancer);
    balancer.wait_for_in_flight(2.0);
    let alone = text(&format!("{{ name: a, address: {a} }}"), limit);
    assert_eq!(balancer.reload(&alone), Reloaded::Taken);
    wait_for_open(&second, 1);
    // The other's rest on.
    wait_for_open(&first, 4);
    latch.open();
    assert_eq!([&mut held, &mut other].map(|client| client.response().status), [200, 200]);
    wait_for_open(&second, 0);
    latch.close();
    assert_eq!(balancer.reload(&both), Reloaded::Taken);
    rest(&balancer, &[&first, &second], &latch, 8);
    wait_for_open(&first, 4);
    wait_for_open(&second, 4);
    // It is another one by another name, too.
    let renamed = text(&format!("{{ name: c, address: {a} }}, {{ name: b, address: {b} }}"), limit);
    assert_eq!(balancer.reload(&renamed), Reloaded::Taken);
    wait_for_open(&first, 0);
    assert_eq!(second.open_connections(), 4);
    let (code, _, error) = balancer.command(&["maint", "app/b"]);
    assert_eq!(code, Some(0), "{error}");
    wait_for_open(&second, 0);
}

#[test]
fn what_rests_beyond_a_lowered_limit_is_closed() {
    let latch = Latch::default();
    let app = App::holding("app", &latch);
    let server = format!("{{ name: a, address: {} }}", app.address);
    let limited = |limit: &str| text(&server, &format!("max_connections: {limit}"));
    let balancer = Balancer::start(&limited("8"));
    rest(&balancer, &[&app], &latch, 8);
    assert_eq!(app.open_connections(), 8);
    assert_eq!(balancer.reload(&limited("2")), Reloaded::Taken);
    // Two cores that look at once may each close one for the same place.
    wait_until("no more than the limit are open", || app.open_connections() <= 2);
    // Those that are in use are closed as they come back.
    assert_eq!(balancer.reload(&limited("null")), Reloaded::Taken);
    let mut clients: Vec<_> = (0..6).map(|_| hold(&balancer)).collect();
    balancer.wait_for_in_flight(6.0);
    assert_eq!(balancer.reload(&limited("3")), Reloaded::Taken);
    latch.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    wait_until("no more than the limit are open", || app.open_connections() <= 3);
    latch.close();
    rest(&balancer, &[&app], &latch, 3);
    wait_for_open(&app, 3);
}

#[test]
fn a_process_that_has_handed_over_keeps_no_connection_at_rest() {
    let latch = Latch::default();
    let app = App::holding("app", &latch);
    let server = format!("{{ name: a, address: {} }}", app.address);
    let mut balancer = Balancer::start(&text(&server, "max_connections: 4"));
    rest(&balancer, &[&app], &latch, 4);
    let mut held = hold(&balancer);
    balancer.wait_for_in_flight(1.0);
    wait_for_open(&app, 4);
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    wait_for_open(&app, 1);
    latch.open();
    assert_eq!(held.response().status, 200);
    wait_for_open(&app, 0);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    next.end();
}
