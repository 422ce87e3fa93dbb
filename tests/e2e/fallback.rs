//! A pool that has nothing usable, and the one that serves for it.

use crate::support::app::{App, Latch};
use crate::support::balancer::Balancer;
use crate::support::client::Client;
use crate::support::tcp::{Server, bytes, connect};
use crate::support::wait_until;
use std::net::SocketAddr;

/// `app`, whose fallback is `spare`, whose fallback is `last`; a server each.
fn text(listener: &str, servers: [SocketAddr; 3], app: &str) -> String {
    let [first, second, third] = servers;
    let pool = |name: &str, server: SocketAddr, more: &str| {
        format!(
            "  {name}: {{ servers: [{{ name: s, address: {server} }}], when_all_unhealthy: refuse{more} }}\n"
        )
    };
    format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app{listener} }}\npools:\n{}{}{}",
        pool("app", first, &format!(", fallback: spare{app}")),
        pool("spare", second, ", fallback: last"),
        pool("last", third, ""),
    )
}

fn operate(balancer: &Balancer, arguments: &[&str]) {
    let (status, out, err) = balancer.command(arguments);
    assert_eq!(status, Some(0), "{arguments:?}: {out}{err}");
}

#[test]
fn requests_go_to_the_fallback_while_a_pool_has_nothing_usable() {
    let apps = ["app", "spare", "last"].map(App::saying);
    let balancer = Balancer::start(&text("", apps.each_ref().map(|app| app.address), ""));
    assert_eq!(balancer.get("/first").text(), "app");
    operate(&balancer, &["drain", "app/s", "--force"]);
    assert_eq!(balancer.get("/second").text(), "spare");
    let record = balancer.record("/second");
    assert_eq!((&record["pool"], &record["fallback_from"]), (&"spare".into(), &"app".into()), "{record}");
    assert!(balancer.record("/first").get("fallback_from").is_none());
    let status = balancer.command_json(&["status"]);
    let served_by = |pool: &str| {
        let pools = status["pools"].as_array().expect("a list");
        pools.iter().find(|told| told["name"] == pool).expect("it is there")["served_by"].clone()
    };
    assert_eq!([served_by("app"), served_by("spare")], ["spare".into(), serde_json::Value::Null]);
    let (_, told, _) = balancer.command(&["status"]);
    assert!(told.contains("pool spare serves in its place"), "{told}");
    let labels = [("pool", "app"), ("fallback", "spare")];
    assert_eq!(balancer.metric("evenkeel_pool_fallback_total", &labels), 1.0);

    let url = format!("http://{}/", balancer.address("web"));
    let told = balancer.command_json(&["explain", &url, "--listener", "web"]);
    assert_eq!((&told["pool"], &told["fallback_from"]), (&"spare".into(), &"app".into()));
    let (_, out, _) = balancer.command(&["explain", &url, "--listener", "web"]);
    assert!(out.contains("the fallback of app, which has nothing usable"), "{out}");

    operate(&balancer, &["maint", "spare/s", "--force"]);
    assert_eq!(balancer.get("/third").text(), "last");
    assert_eq!(balancer.record("/third")["fallback_from"], "app");
    operate(&balancer, &["drain", "last/s", "--force"]);
    assert_eq!(balancer.get("/fourth").status, 503);
    assert_eq!(
        balancer.record("/fourth")["pool"],
        "app",
        "none of them can, so it is its own pool that could not"
    );
    operate(&balancer, &["ready", "app/s"]);
    assert_eq!(balancer.get("/fifth").text(), "app");
}

#[test]
fn who_waits_for_a_pool_that_goes_is_served_by_the_fallback() {
    let latch = Latch::default();
    let (busy, spare) = (App::holding("app", &latch), App::saying("spare"));
    let balancer =
        Balancer::start(&text("", [busy.address, spare.address, spare.address], ", max_connections: 1"));
    let mut first = balancer.client();
    first.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_metric("evenkeel_server_in_flight", &[("pool", "app")], 1.0);
    let mut second: Client = balancer.client();
    second.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("it waits", || balancer.metric("evenkeel_pool_queue_length", &[("pool", "app")]) == 1.0);
    operate(&balancer, &["drain", "app/s", "--force"]);
    assert_eq!(second.response().text(), "spare");
    latch.open();
    assert_eq!(first.response().text(), "app");
}

#[test]
fn connections_go_to_the_fallback_too() {
    let servers = [Server::echo("1"), Server::echo("2"), Server::echo("3")];
    let addresses = servers.each_ref().map(|server| server.address);
    let balancer = Balancer::start(&text(", protocol: tcp", addresses, ""));
    let greeting = || bytes(&mut connect(balancer.address("web")), 1);
    assert_eq!(greeting(), b"1");
    operate(&balancer, &["drain", "app/s", "--force"]);
    assert_eq!(greeting(), b"2");
    let record = balancer.record_where("a connection to the fallback", |record| record["pool"] == "spare");
    assert_eq!(record["fallback_from"], "app");
}
