//! `evenkeel explain`: who is told of is who serves.

use crate::support::app::{App, Latch, say};
use crate::support::balancer::{Balancer, Directory, evenkeel, plain};
use serde_json::Value;

fn apps(n: usize) -> Vec<App> {
    (0..n).map(|at| App::new(move |_, stream| say(stream, ["s1", "s2", "s3", "s4"][at]))).collect()
}

fn addresses(apps: &[App]) -> Vec<std::net::SocketAddr> {
    apps.iter().map(|app| app.address).collect()
}

fn url(balancer: &Balancer, path: &str) -> String {
    format!("http://{}{path}", balancer.address("web"))
}

fn winner(balancer: &Balancer, further: &[&str]) -> String {
    let url = url(balancer, "/");
    let report = balancer.command_json(&[&["explain", &url, "--listener", "web"], further].concat());
    report["winner"]["name"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn the_explained_winner_is_the_one_that_serves() {
    let apps = apps(4);
    for balance in ["round_robin", "least_connections"] {
        let balancer = Balancer::start(&plain(&addresses(&apps), "", &format!("balance: {balance}")));
        assert_eq!(balancer.command(&["drain", "app/s2"]).0, Some(0));
        let mut client = balancer.client();
        for _ in 0..9 {
            let told = winner(&balancer, &[]);
            assert_eq!(client.get("/").text(), told, "{balance}");
            balancer.wait_for_in_flight(0.0);
        }
    }
    let hashing = "balance: { consistent_hash: { key: { header: X-Key } } }";
    let balancer = Balancer::start(&plain(&addresses(&apps), "", hashing));
    assert_eq!(balancer.command(&["maint", "app/s3"]).0, Some(0));
    let mut client = balancer.client();
    for key in 0..30 {
        let told = winner(&balancer, &["-H", &format!("X-Key: {key}")]);
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX-Key: {key}\r\n\r\n"));
        assert_eq!(client.response().text(), told, "{key}");
    }
}

#[test]
fn what_is_in_flight_counts_and_full_servers_are_out() {
    let latch = Latch::default();
    let busy = App::holding("s1", &latch);
    let other = App::saying("s2");
    let text = plain(&[busy.address, other.address], "", "balance: least_connections").replacen(
        "{ name: s1,",
        "{ name: s1, max_connections: 1,",
        1,
    );
    let balancer = Balancer::start(&text);
    let mut client = balancer.client();
    client.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    let report = balancer.command_json(&["explain", &url(&balancer, "/"), "--listener", "web"]);
    let candidates = report["candidates"].as_array().expect("a list");
    assert_eq!(candidates[0]["out"], "full: 1 in flight (max_connections)");
    assert_eq!((&candidates[1]["score"], &candidates[1]["chosen"]), (&"load 0.0000".into(), &true.into()));
    let (code, out, _) = balancer.command(&["explain", &url(&balancer, "/"), "--listener", "web"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("out: full: 1 in flight") && out.contains("winner    s2"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    latch.open();
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_file_is_explained_without_a_process() {
    let directory = Directory::new();
    let file = directory.0.join("shop.yaml");
    let text = "listeners:\n  shop: { address: 0.0.0.0:80, routes: shop }\nroutes:\n  shop:\n    \
                - { name: static, match: { path: /static/* }, compress: { types: [text/*] }, pool: app }\n    - { name: rest, pool: app }\n\
                pools:\n  app: { servers: [10.0.0.1:80, 10.0.0.2:80] }\n";
    std::fs::write(&file, text).expect("writable");
    let run = |arguments: &[&str]| {
        let output = evenkeel().arg("explain").args(arguments).output().expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let file = file.display().to_string();
    let (code, out, err) = run(&["GET", "http://shop.example/cart", "-c", &file]);
    assert_eq!(code, Some(0), "{err}");
    for part in ["path /cart is not /static/*", "> rest -> app: matches", "all servers are taken to be up"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (code, out, _) = run(&["http://shop.example/static/a.css", "-c", &file, "--json"]);
    assert_eq!(code, Some(0));
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["rules"][0]["matched"], true);
    for (accept, does) in [
        ("gzip, br", "compresses text/* with br"),
        ("deflate", "compresses nothing: the client takes no coding that is listed (Accept-Encoding)"),
    ] {
        let accept = format!("Accept-Encoding: {accept}");
        let (_, out, err) = run(&["http://a/static/a.css", "-c", &file, "-H", &accept, "--json"]);
        let report: Value = serde_json::from_str(&out).expect("JSON");
        let told = &report["policy"][0];
        assert_eq!((&told["phase"], &told["does"]), (&"compress".into(), &does.into()), "{accept} {err}");
    }
    for (arguments, complaint) in [
        (&["shop.example/cart", "-c", &file][..], "write it like `evenkeel explain GET https://"),
        (&["http://x/", "-H", "nonsense", "-c", &file], "write it like 'X-Beta: yes'"),
        (&["https://x/", "-c", &file], "no listener takes https requests"),
        (&["http://x/", "-c", &file, "--listener", "shp"], "there is no listener shp"),
    ] {
        let (code, _, err) = run(arguments);
        assert!(code != Some(0) && err.contains(complaint), "{arguments:?}: {err}");
    }
}

#[test]
fn an_upload_that_its_client_is_slow_with_is_no_cost_of_its_server() {
    let app = App::saying("a");
    let balancer = Balancer::start(&plain(&[app.address], "", "balance: peak_ewma"));
    let mut client = balancer.client();
    client.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
    balancer.wait_for_in_flight(1.0);
    // The client's slowness.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    client.send("b");
    assert_eq!(client.response().status, 200);
    let explained = balancer.command_json(&["explain", "GET", "http://a/"]);
    let score = explained["candidates"][0]["score"].as_str().unwrap_or_default();
    let cost =
        score.split_once(": ").and_then(|(_, cost)| cost.split_once(" ms")).map(|(cost, _)| cost.parse());
    assert!(matches!(cost, Some(Ok(0.0..700.0))), "{explained}");
}
