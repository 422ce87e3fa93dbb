//! docs/openapi.yaml is what the API does, and the API does what the file says: paths, methods, parameters, bodies, statuses
//! and every field of every answer.

#[path = "openapi/contract.rs"]
mod contract;
use crate::support::app::{App, Latch, Refusing, say};
use crate::support::balancer::{Balancer, Directory, value};
use crate::support::client::{Client, Response};
use crate::support::{documented, wait_until};
use contract::Contract;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// A running process and the file that it is held against.
struct Api<'a> {
    contract: &'a Contract,
    balancer: &'a Balancer,
}

impl Api<'_> {
    /// `GET /status` over the socket.
    #[track_caller]
    fn ask(&self, request: &str, body: &str, expected: u16) -> Value {
        let mut client = Client::connect_unix(&self.balancer.path("admin.sock"));
        client.send(head(request, "Host: localhost", body));
        self.held(request, expected, client.response())
    }

    /// The same over TCP, with these fields.
    #[track_caller]
    fn ask_over_tcp(&self, request: &str, fields: &str, body: &str, expected: u16) -> Value {
        let mut client = Client::connect(self.balancer.admin_address());
        client.send(head(request, fields, body));
        self.held(request, expected, client.response())
    }

    #[track_caller]
    fn held(&self, request: &str, expected: u16, response: Response) -> Value {
        assert_eq!(response.status, expected, "{request}: {}", response.text());
        self.contract.hold(&self.contract.operation(request), &response)
    }
}

fn head(request: &str, fields: &str, body: &str) -> String {
    let (method, path) = request.split_once(' ').expect("a method and a path");
    let length = body.len();
    format!(
        "{method} /api/v1{path} HTTP/1.1\r\n{fields}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Everything at once: routes, a redirect, probes that pass and one that fails, a pool that hashes, a list of servers.
fn shop(app1: &App, app2: &App, dead: &Refusing, list: &Path) -> String {
    format!(
        "listeners:
  shop: {{ address: 127.0.0.1:0, routes: shop }}
  old: {{ address: 127.0.0.1:0, redirect_to_https: true }}
routes:
  shop:
    - {{ name: static, match: {{ path: /static/* }}, pool: cache, response_headers: {{ set: {{ X-Cache: \"no\" }} }} }}
    - {{ name: moved, match: {{ path: /moved }}, redirect: /static/ }}
    - {{ name: kept, match: {{ path: /kept }}, cache: {{ ttl: 1h }}, pool: app }}
    - {{ name: passed, match: {{ path: /passed }}, cache: {{}}, pool: app }}
    - {{ name: limited, match: {{ path: /limited }}, respond: {{ status: 200 }}, rate_limit: [{{ requests: 1/h }}] }}
    - {{ name: gone, match: {{ path: /gone }}, respond: {{ status: 410 }} }}
    - {{ name: mixed, match: {{ path: /mixed/* }}, pool: mixed }}
    - {{ name: rest, pool: app }}
pools:
  app:
    health: {{ http: /healthz, interval: 20ms, timeout: 10s }}
    servers:
      - {{ name: app1, address: {one} }}
      - {{ name: app2, address: {two}, max_connections: 50 }}
      - {{ name: app3, address: {three} }}
  cache:
    balance: {{ consistent_hash: {{ key: path }} }}
    sticky: {{ cookie: EK }}
    servers: [{{ name: c1, address: {one} }}, {{ name: c2, address: {two} }}, {{ name: c3, address: {two} }}, \"localhost:{port}\"]
  mixed:
    balance: round_robin
    servers: [{{ name: m1, address: {one} }}, {{ name: m2, address: {three} }}]
    outlier: {{ base_ejection: 100ms }}
  listed: {{ discover: {{ file: {list} }} }}
",
        list = list.display(),
        one = app1.address,
        port = app1.address.port(),
        two = app2.address,
        three = dead.address,
    )
}

#[test]
fn the_file_has_the_paths_that_the_code_has_and_no_other() {
    let contract = Contract::read();
    let told = contract.operations().into_iter().map(|operation| {
        let path = operation
            .template
            .replace("{pool}", "POOL")
            .replace("{server}", "SERVER")
            .replace("{client}", "CLIENT")
            .replace("{route}", "ROUTE");
        (operation.method, path)
    });
    let (mut told, mut served): (Vec<_>, _) = (told.collect(), documented());
    told.sort();
    // docs/api.md, which tests/e2e/operate.rs holds against the code.
    served.sort();
    assert_eq!(told, served);
    assert_eq!(contract.unknown_words(), Vec::<String>::new());
}

#[test]
fn parameters_and_bodies_have_the_fields_that_the_code_reads_and_no_other() {
    let contract = Contract::read();
    let app = App::saying("hello");
    let balancer = Balancer::start(&crate::support::balancer::plain(&[app.address], "", ""));
    let api = Api { contract: &contract, balancer: &balancer };
    let mut read = 0;
    for operation in contract.operations() {
        let (request, body) = (operation.request(), operation.example());
        let name = |parameter: &Value| parameter["name"].as_str().map(str::to_owned);
        let mut told: Vec<String> = operation.parameters().iter().filter_map(name).collect();
        let wrong = if !told.is_empty() {
            api.ask(&format!("{request}?nonsense=1"), "", 400)
        } else if !body.is_empty() {
            told = contract.fields(&operation);
            let example = serde_json::from_str(&body).expect("JSON");
            assert!(contract.takes(&operation, &example), "{request}: {body}");
            api.ask(&request, r#"{"nonsense": 1}"#, 400)
        } else {
            continue;
        };
        // "unknown field `nonsense`, expected one of `a`, `b`"
        let message = wrong["error"]["message"].as_str().expect("a message");
        let mut known: Vec<_> = message.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        known.sort();
        told.sort();
        assert_eq!(told, known, "{request}: {message}");
        read += 1;
    }
    assert!(read >= 6, "{read} have parameters or a body");
}

#[test]
fn what_the_file_does_not_let_pass_the_process_refuses() {
    let contract = Contract::read();
    let app = App::saying("hello");
    let balancer = Balancer::start(&crate::support::balancer::plain(&[app.address], "", ""));
    let api = Api { contract: &contract, balancer: &balancer };
    for (request, body) in [
        ("PUT /pools/app/servers/s1/state", json!({ "state": "up" })),
        ("PUT /pools/app/servers/s1/state", json!({})),
        ("PUT /pools/app/servers/s1/weight", json!({ "weight": 0 })),
        ("PUT /pools/app/servers/s1/weight", json!({ "weight": 257 })),
        ("POST /reload", json!({ "guard": "soon" })),
        ("POST /reload", json!({ "min_requests": 20 })),
        ("POST /reload", json!({ "guard": "60s", "max_error_rise": 2 })),
        ("POST /plan", json!({ "keys": 0 })),
        ("POST /plan", json!({ "keys": 10_000_001 })),
        ("POST /explain", json!({ "method": "GET" })),
        ("POST /explain", json!({ "url": "http://x/", "headers": [["one"]] })),
    ] {
        assert!(!contract.takes(&contract.operation(request), &body), "{request}: {body}");
        api.ask(request, &body.to_string(), 400);
    }
}

#[test]
fn answers_keep_to_the_file_and_show_all_that_it_has() {
    let contract = Contract::read();
    let held = Latch::default();
    let (app1, hangs) = (App::holding("app1", &held), Arc::new(AtomicBool::new(false)));
    let (probe, is_hanging) = (Latch::default(), Arc::clone(&hangs));
    let until = probe.clone();
    let app2 = App::new(move |request, stream| {
        if request.target == "/healthz" && is_hanging.load(SeqCst) {
            until.wait();
        }
        say(stream, "app2")
    });
    let dead = Refusing::new();
    let directory = Directory::new();
    let list = directory.0.join("servers.yaml");
    std::fs::write(&list, format!("[{{ name: l1, address: {} }}]", app1.address)).expect("writable");
    let text = shop(&app1, &app2, &dead, &list);
    let text =
        format!("cache: {{ purge_nodes: [unix:{}] }}\n{text}", directory.0.join("nobody.sock").display());
    let balancer = Balancer::start(&text);
    let api = Api { contract: &contract, balancer: &balancer };

    look(&api);
    operate(&api);
    limit(&api);
    maintain(&api);
    operate_absent(&api, &list);
    ask(&api, &text);
    reload(&api, &text);
    over_tcp(&api);
    upgrade(&api, &hangs, &probe);
    stop(&api, &held);

    closed(&contract, &text);
    // Bodies that are slow or long and floods are refused before anybody looks at the path, so once is enough; a slow body
    // would take ten seconds.
    let is_said_once = |unheld: &String| {
        ["408", "413", "429"].iter().any(|status| unheld.contains(&format!(": {status} was")))
            // Only while a process before this one finishes: see succession.rs.
            || unheld.starts_with("Before.")
    };
    let unheld: Vec<_> = contract.unheld().into_iter().filter(|unheld| !is_said_once(unheld)).collect();
    assert!(unheld.is_empty(), "{unheld:#?}");
}

fn look(api: &Api<'_>) {
    let mut client = Client::connect(api.balancer.address("shop"));
    client.get("/kept");
    wait_until("a second with requests is in the history", || {
        client.get("/cart");
        let history = api.ask("GET /history", "", 200);
        let points = history["pools"]["app"]["points"].as_array().cloned().unwrap_or_default();
        points.iter().any(|point| point["requests"].as_u64() > Some(0))
    });
    let ejection = || {
        let status = api.ask("GET /status", "", 200);
        let pools = status["pools"].as_array().cloned().unwrap_or_default();
        let mixed = pools.iter().find(|pool| pool["name"] == "mixed").cloned().unwrap_or_default();
        mixed["servers"][1]["ejection"].clone()
    };
    wait_until("a server is ejected", || {
        (0..20).for_each(|_| drop(client.get("/mixed/")));
        ejection().is_object()
    });
    // Nobody asks for it meanwhile.
    wait_until("it is to be tried out", || ejection()["trial"].is_number());
    let question = json!({ "url": "http://shop.example/mixed/", "listener": "shop" });
    let told = api.ask("POST /explain", &question.to_string(), 200);
    assert!(told["report"]["candidates"][1]["ejection"]["trial"].is_number(), "{told:#}");
    wait_until("the dead server is down", || {
        api.ask("GET /status", "", 200)["pools"][0]["servers"][2]["state"] == "down"
    });
    api.ask("GET /pools/app", "", 200);
    api.ask("GET /pools/app/servers/app2", "", 200);
    for path in ["/pools/apq", "/pools/apq/servers/app2", "/pools/app/servers/app9"] {
        api.ask(&format!("GET {path}"), "", 404);
    }
    for path in ["/pools/%ff", "/pools/app/servers/%ff", "/events?kind=helth", "/events?since=now"] {
        api.ask(&format!("GET {path}"), "", 400);
    }
    for parameter in api.contract.operation("GET /events").parameters() {
        let (name, example) = (parameter["name"].as_str().expect("a name"), &parameter["example"]);
        let example = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        api.ask(&format!("GET /events?{name}={example}"), "", 200);
    }
}

fn limit(api: &Api<'_>) {
    let request = "PUT /bans/192.0.2.7";
    api.ask(request, &api.contract.operation(request).example(), 200);
    api.ask(request, "nonsense", 400);
    api.ask(request, r#"{"seconds": 0}"#, 400);
    api.ask("PUT /bans/nobody", r#"{"seconds": 1}"#, 400);
    assert_eq!(api.ask("GET /bans", "", 200)["bans"][0]["client"], "192.0.2.7");
    assert_eq!(api.ask("DELETE /bans/192.0.2.7", "", 200)["ended"], 1);
    api.ask("DELETE /bans/nobody", "", 400);
    let request = "POST /cache/purge";
    api.ask(request, &api.contract.operation(request).example(), 200);
    let purged = api.ask(request, r#"{"all": true, "hard": true}"#, 200);
    assert_eq!(purged["nodes"][0]["confirmed"], false);
    let in_vain = api.ask(request, r#"{"tags": ["a b"], "prefixes": ["shop.example/?a"]}"#, 200);
    assert_eq!(in_vain["unreached"][0]["what"], "shop.example/?a");
    assert_eq!(in_vain["hints"][0]["what"], "a b");
    assert!(api.ask("GET /status", "", 200)["cache"]["nodes"][0]["failing_since"].is_string());
    api.ask(request, "{}", 400);
    let mut client = Client::connect(api.balancer.address("shop"));
    (0..2).for_each(|_| drop(client.get("/limited")));
    assert_eq!(api.ask("GET /limits", "", 200)["top"][0]["limit"], "limited[1]");
}

fn maintain(api: &Api<'_>) {
    let request = "PUT /maintenance/shop";
    let changed = api.ask(request, &api.contract.operation(request).example(), 200);
    assert_eq!(changed["rules"][0], "static");
    let listed = &api.ask("GET /maintenance", "", 200)["maintenance"][0];
    assert_eq!((&listed["route"], &listed["enabled"]), (&json!("static"), &json!(true)));
    api.ask("GET /status", "", 200);
    api.ask(request, "nonsense", 400);
    api.ask("PUT /maintenance/%ff", r#"{"enabled": true}"#, 400);
    api.ask("PUT /maintenance/nobody", r#"{"enabled": true}"#, 404);
    api.ask(request, r#"{"enabled": false}"#, 200);
}

fn operate(api: &Api<'_>) {
    for what in ["state", "weight"] {
        let request = format!("PUT /pools/app/servers/app2/{what}");
        let body = api.contract.operation(&request).example();
        api.ask(&request, &body, 200);
        api.ask(&request, "nonsense", 400);
        api.ask(&request.replace("app2", "app9"), &body, 404);
    }
    api.ask("PUT /pools/app/servers/app1/state", r#"{"state": "maint"}"#, 409);
    let server = api.ask("GET /pools/app/servers/app2", "", 200);
    assert_eq!((&server["admin"]["by_operator"]["state"], &server["weight"]), (&json!("drain"), &json!(50)));
    api.ask("GET /events", "", 200);
    api.ask("PUT /pools/app/servers/app2/state", r#"{"state": "ready"}"#, 200);
    api.ask("PUT /pools/app/servers/app2/weight", r#"{"weight": null}"#, 200);
}

/// What was said of a server is remembered when it goes, and can be taken back.
fn operate_absent(api: &Api<'_>, list: &Path) {
    api.ask("PUT /pools/listed/servers/l1/state", r#"{"state": "maint", "force": true}"#, 200);
    api.ask("PUT /pools/listed/servers/l1/weight", r#"{"weight": 50}"#, 200);
    std::fs::write(list, "[]").expect("writable");
    wait_until("it has left", || {
        let pool = api.ask("GET /pools/listed", "", 200);
        pool["absent"][0]["by_operator"]["state"] == "maint" && pool["absent"][0]["weight"] == 50
    });
    api.ask("PUT /pools/listed/servers/l1/state", r#"{"state": "drain"}"#, 404);
    let taken_back = api.ask("PUT /pools/listed/servers/l1/state", r#"{"state": "ready"}"#, 200);
    assert_eq!(taken_back["server"], Value::Null);
    api.ask("PUT /pools/listed/servers/l1/weight", r#"{"weight": null}"#, 200);
    assert_eq!(api.ask("GET /pools/listed", "", 200)["absent"], json!([]));
    api.ask("PUT /pools/listed/servers/l1/weight", r#"{"weight": null}"#, 404);
}

fn ask(api: &Api<'_>, text: &str) {
    api.ask("POST /plan", "{}", 200);
    // Another of everything.
    let new = format!("process: {{ shutdown_timeout: 7s }}\nlog: {{ level: warn }}\n{text}")
        .replace("redirect_to_https: true }", "redirect_to_https: true, timeouts: { idle: 7s } }")
        .replace("path: /static/*", "path: /assets/*")
        .replace("http: /healthz", "http: /ready")
        .replace("max_connections: 50", "max_connections: 60")
        .replace(", { name: c3,", ", { name: c4,");
    let planned =
        api.ask("POST /plan", &json!({ "text": new, "probe": true, "keys": 1000 }).to_string(), 200);
    let report = &planned["report"];
    assert!(
        report["probes"][0].is_object() && report["pools"]["changed"][1]["churn"].is_object(),
        "{report:#}"
    );
    api.ask("POST /plan", &json!({ "text": "listeners: {}" }).to_string(), 422);
    api.ask("POST /plan", "nonsense", 400);

    assert_eq!(api.ask("POST /pools/app/servers/app2/probe", "", 200)["passed"], true);
    let refused = api.ask("POST /pools/app/servers/app3/probe", "", 200);
    assert_eq!((&refused["result"], &refused["health"]), (&json!("connect"), &json!("down")));
    let bare = api.ask("POST /pools/cache/servers/c1/probe", "", 200);
    assert!(bare["notes"][0].is_string() && bare["health"].is_null(), "{bare:#}");
    api.ask("POST /pools/app/servers/app9/probe", "", 404);
    api.ask("POST /pools/%ff/servers/app2/probe", "", 400);

    let example = api.contract.operation("POST /explain").example();
    api.ask("POST /explain", &example, 200);
    for (url, listener) in [
        ("http://shop.example/static/a.css", "shop"),
        ("http://shop.example/moved", "shop"),
        ("http://shop.example/gone", "shop"),
        ("http://shop.example/", "old"),
    ] {
        api.ask("POST /explain", &json!({ "url": url, "listener": listener }).to_string(), 200);
    }
    let mut client = Client::connect(api.balancer.address("shop"));
    for (path, result, reason) in [("/kept", "hit", json!(null)), ("/passed", "miss", json!("no lifetime"))] {
        client.get(path);
        // What is fetched is kept when all of it has come, which its client need not wait for.
        wait_until("the cache has judged", || {
            let question = json!({ "url": format!("http://test{path}"), "listener": "shop" });
            let told = &api.ask("POST /explain", &question.to_string(), 200)["report"]["cache"];
            told["result"] == result && told["reason"] == reason
        });
    }
    api.ask("POST /explain", r#"{"url": "https://shop.example/"}"#, 422);
    api.ask("POST /explain", r#"{"url": "not a URL"}"#, 400);
}

fn reload(api: &Api<'_>, text: &str) {
    let example = api.contract.operation("POST /reload").example();
    api.balancer.write(&text.replace("max_connections: 50", "max_connections: 60"));
    let receipt = api.ask("POST /reload", &example, 200);
    assert_eq!(receipt["servers"]["changed"], json!(["app/app2"]));
    assert_eq!(api.ask("GET /status", "", 200)["guard"]["state"], "watching");
    api.balancer.write("listeners: {}\n");
    api.ask("POST /reload", "", 422);
    api.balancer.write(text);
    api.ask("POST /reload", "", 200);
    api.ask("POST /reload", "nonsense", 400);
    api.ask("GET /status", "", 200);
}

fn over_tcp(api: &Api<'_>) {
    for operation in api.contract.operations() {
        api.ask_over_tcp(&operation.request(), "Host: evil.example", &operation.example(), 403);
    }
    let long = format!("\"{}\"", "x".repeat(8 << 20));
    let refused = api.ask("POST /plan", &long, 413);
    assert!(
        refused["error"]["message"].as_str().is_some_and(|message| message.contains("8 MiB")),
        "{refused}"
    );
    // A body that may come is read to its end.
    let large = json!({ "text": format!("{}\nlisteners: {{}}", "#".repeat(7 << 20)) });
    api.ask("POST /plan", &large.to_string(), 422);
    let mut client = Client::connect(api.balancer.admin_address());
    client.send(head("GET /pools/none", "Host: localhost", "").repeat(1000));
    let mut flood = (0..1000).map(|_| client.response());
    let refused = flood.find(|response| response.status == 429).expect("a flood is refused");
    api.held("GET /pools/none", 429, refused);
}

/// The next process waits for a probe that hangs, so there is time to ask for another upgrade.
fn upgrade(api: &Api<'_>, hangs: &AtomicBool, probe: &Latch) {
    hangs.store(true, SeqCst);
    assert_eq!(api.ask("POST /upgrade", "", 202)["upgrading"], true);
    api.ask("POST /upgrade", "", 409);
    let line = api.balancer.log.wait_for("upgrading: waiting for the new process to be ready pid=");
    let pid = value(&line, "pid").parse().ok().and_then(Pid::from_raw).expect("the log says which process");
    let _ = kill_process(pid, Signal::KILL);
    wait_until("it has failed", || {
        api.ask("GET /status", "", 200)["process"]["last_upgrade_failure"].is_string()
    });
    probe.open();
}

/// What changes something is refused while the process finishes.
fn stop(api: &Api<'_>, held: &Latch) {
    // To a server that is sure to hold it.
    api.ask("PUT /pools/app/servers/app2/state", r#"{"state": "drain"}"#, 200);
    let mut client = Client::connect(api.balancer.address("shop"));
    client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    api.balancer.wait_for_in_flight(1.0);
    api.balancer.signal(Signal::TERM);
    wait_until("it stops", || api.balancer.admin("/readyz").status == 503);
    for operation in api.contract.operations() {
        if operation.about["responses"]["503"].is_object() {
            api.ask(&operation.request(), &operation.example(), 503);
        }
    }
    held.open();
    assert_eq!(client.response().text(), "app1");
}

/// An address that others can reach asks everybody for the token.
fn closed(contract: &Contract, text: &str) {
    let directory = Directory::new();
    let token = directory.0.join("token");
    std::fs::write(&token, "0123456789abcdef").expect("writable");
    let admin = format!(
        "admin: {{ address: 0.0.0.0:0, socket: null, state_file: null, token_file: {} }}\n",
        token.display()
    );
    let balancer = Balancer::start(&format!("{admin}{text}"));
    let api = Api { contract, balancer: &balancer };
    for operation in contract.operations() {
        let (request, body) = (operation.request(), operation.example());
        api.ask_over_tcp(&request, "Host: localhost", &body, 401);
        // A password opens what reads.
        let basic = "Host: localhost\r\nAuthorization: Basic YW55OjAxMjM0NTY3ODlhYmNkZWY=";
        let security = operation.about["security"].as_array().cloned().unwrap_or_default();
        let expected = if security.contains(&json!({ "basic": [] })) { 200 } else { 401 };
        api.ask_over_tcp(&request, basic, &body, expected);
    }
    api.ask_over_tcp("GET /status", "Host: x\r\nAuthorization: Bearer 0123456789abcdef", "", 200);
}
