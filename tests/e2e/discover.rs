//! Servers by name: what sources say becomes a pool's servers, and what they do not say takes none away.

use crate::support::app::{App, say};
use crate::support::balancer::{Balancer, Next, Reloaded};
use crate::support::dns::{DnsServer, Says, parsed};
use crate::support::{client, tcp, tls, udp, wait_for, wait_until};
use hickory_proto::op::ResponseCode;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// App servers on one port of several loopback addresses; each says its address.
struct Apps {
    port: u16,
    apps: Vec<App>,
}

impl Apps {
    fn on(addresses: &[&str]) -> Self {
        let app = |at: String| {
            App::on(&at.clone(), move |_, stream| say(stream, at.rsplit_once(':').expect("it has a port").0))
        };
        let first = App::on(&format!("{}:0", addresses[0]), |_, stream| say(stream, "first"));
        let port = first.address.port();
        drop(first);
        let apps = addresses.iter().map(|address| app(format!("{address}:{port}"))).collect();
        Self { port, apps }
    }

    fn of(&self, address: &str) -> &App {
        let app = self.apps.iter().find(|app| app.address.ip().to_string() == address);
        app.expect("it is one of them")
    }
}

/// A pool of what `pool` says, where PORT is the apps' port.
fn configuration(dns: &DnsServer, apps: &Apps, pool: &str) -> String {
    let pool = pool.replace("PORT", &apps.port.to_string());
    format!(
        "{}listeners: {{ web: {{ address: '127.0.0.1:0', pool: app }} }}\npools: {{ app: {{ {pool} }} }}\n",
        dns.section()
    )
}

/// Who answers so many requests.
fn answering(balancer: &Balancer, n: usize) -> BTreeSet<String> {
    // A connection each: one that is kept ends with a process that hands over.
    (0..n).map(|_| balancer.get("/").text()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn pool(balancer: &Balancer) -> Value {
    balancer.command_json(&["status"])["pools"][0].clone()
}

/// The names of the pool's servers.
fn servers(balancer: &Balancer) -> BTreeSet<String> {
    let pool = pool(balancer);
    let servers = pool["servers"].as_array().expect("a list");
    let address = |server: &Value| {
        let name = server["name"].as_str().expect("a text");
        name.rsplit_once(':').expect("it has a port").0.to_owned()
    };
    servers.iter().map(address).collect()
}

/// What the source's state is.
fn source(balancer: &Balancer) -> Value {
    pool(balancer)["sources"][0].clone()
}

const QUICK: &str = "discover: { dns: 'app.internal:PORT', leave_after: 0s, large_change: null }";

#[test]
fn a_host_name_among_the_servers_leads_to_each_of_its_addresses() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    let balancer = Balancer::start(&configuration(
        &dns,
        &apps,
        "servers: [{ address: 'app.internal:PORT', weight: 7 }]",
    ));
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2", "127.0.0.3"]), "from the first request on");
    let pool = pool(&balancer);
    assert_eq!(pool["servers"][0]["weight"], 7);
    assert_eq!(pool["servers"][0]["name"], format!("127.0.0.2:{}", apps.port));
    assert_eq!(source(&balancer)["source"], format!("dns:app.internal:{}", apps.port));
    assert_eq!(balancer.admin("/readyz").status, 200);
}

#[test]
fn the_machines_own_names_need_no_resolver() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.1"]));
    let balancer = Balancer::start(&configuration(&dns, &apps, "servers: ['localhost:PORT']"));
    assert_eq!(answering(&balancer, 2), names(&["127.0.0.1"]));
    assert_eq!(dns.queries(), 0);
}

#[test]
fn servers_follow_the_name() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    let balancer = Balancer::start(&configuration(&dns, &apps, QUICK));
    let generation = balancer.generation();
    dns.lead("app.internal", &["127.0.0.3", "127.0.0.4"]);
    wait_until("the servers have changed", || servers(&balancer) == names(&["127.0.0.3", "127.0.0.4"]));
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.3", "127.0.0.4"]));
    assert_eq!(balancer.generation(), generation + 1.0);
    // The same again wakes nobody.
    let queries = dns.queries();
    wait_until("it was asked again", || dns.queries() > queries + 6);
    assert_eq!(balancer.generation(), generation + 1.0);
    let events = balancer.command(&["events", "app", "--kind", "discovery", "--json"]).1;
    let event: Value =
        serde_json::from_str(events.lines().last().expect("there is one")).expect("it is JSON");
    assert_eq!(event["actor"], "discovery");
    let cause = event["cause"].as_str().expect("a text");
    assert!(cause.contains("2 → 2 servers") && cause.contains(&dns.address.to_string()), "{cause}");
    let labels = format!("dns:app.internal:{}", apps.port);
    let labels = [("pool", "app"), ("source", labels.as_str())];
    assert_eq!(balancer.metric("evenkeel_discovery_up", &labels), 1.0);
    assert_eq!(balancer.metric("evenkeel_discovery_changes_total", &labels), 2.0);
    assert_eq!(balancer.metric("evenkeel_discovery_servers", &labels), 2.0);
    assert!(balancer.metric("evenkeel_discovery_last_success_timestamp_seconds", &labels) > 1e9);
}

#[test]
fn whatever_a_resolver_does_takes_no_server_away() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    let balancer = Balancer::start(&configuration(&dns, &apps, QUICK));
    let generation = balancer.generation();
    let check = |says: Says, held: &str, is_up: bool| {
        dns.say("app.internal", says, 0);
        wait_until(held, || source(&balancer)["held"] == held && source(&balancer)["up"] == is_up);
        assert_eq!(answering(&balancer, 8), names(&["127.0.0.2", "127.0.0.3"]), "{held}");
        // It is asked again within seconds.
        dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
        wait_until("all is well", || source(&balancer)["held"] == Value::Null);
    };
    check(Says::Code(ResponseCode::NXDomain), "empty", true);
    check(Says::Addresses(Vec::new()), "empty", true);
    check(Says::Code(ResponseCode::ServFail), "stale", false);
    check(Says::Silence, "stale", false);
    check(Says::Code(ResponseCode::Refused), "stale", false);
    dns.refuse_tcp(true);
    check(Says::Truncated(parsed(&["127.0.0.9"])), "stale", false);
    assert_eq!(balancer.generation(), generation);
    let status = balancer.command(&["status"]).1;
    assert!(status.contains(&format!("dns:app.internal:{}", apps.port)), "{status}");
}

#[test]
fn a_request_that_meets_a_server_no_longer_named_goes_on_to_one_that_is() {
    let all = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"];
    let (dns, mut apps) = (DnsServer::new(), Apps::on(&all));
    dns.lead("app.internal", &all);
    let pool = "discover: { dns: 'app.internal:PORT', leave_after: 1h, large_change: null }";
    let balancer = Balancer::start(&configuration(&dns, &apps, pool));
    assert_eq!(answering(&balancer, 8), names(&all));
    dns.lead("app.internal", &["127.0.0.3"]);
    wait_until("three to be missing", || source(&balancer)["missing"] == 3);
    let listed = self::pool(&balancer)["servers"].as_array().expect("a list").clone();
    assert_eq!(listed.iter().filter(|server| server["missing"] == true).count(), 3);
    let (_, told, _) = balancer.command(&["status"]);
    assert_eq!(told.matches("last answer leaves it out").count(), 3, "{told}");
    apps.apps.retain(|app| app.address.ip().to_string() == "127.0.0.3");
    let mut client = balancer.client();
    for _ in 0..24 {
        let response = client.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "127.0.0.3"));
    }
    assert_eq!(servers(&balancer), names(&all), "nobody has left for that");
}

#[test]
fn an_answer_too_large_for_a_datagram_comes_by_tcp() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.say("app.internal", Says::Truncated(parsed(&["127.0.0.2", "127.0.0.3"])), 0);
    let balancer = Balancer::start(&configuration(&dns, &apps, QUICK));
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2", "127.0.0.3"]));
    assert!(dns.queries_by_tcp() > 0);
}

#[test]
fn forged_answers_are_not_heard() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    let [forged, addresses] = [parsed(&["127.0.0.3"]), parsed(&["127.0.0.2"])];
    dns.say("app.internal", Says::Forged { forged: forged[0], addresses }, 0);
    let balancer = Balancer::start(&configuration(&dns, &apps, QUICK));
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2"]));
    let queries = dns.queries();
    wait_until("it was asked again", || dns.queries() > queries + 6);
    assert_eq!(servers(&balancer), names(&["127.0.0.2"]));
    assert_eq!(apps.of("127.0.0.3").hits(), 0);
}

#[test]
fn a_pool_whose_source_has_named_nobody_says_so() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2"]));
    dns.say("app.internal", Says::Code(ResponseCode::ServFail), 0);
    let text = configuration(&dns, &apps, QUICK).replace("leave_after", "start_wait: 1h, leave_after");
    let balancer = Balancer::start(&text);
    assert_eq!(balancer.get("/").status, 503);
    assert_eq!(balancer.outcome("/"), (503, "no_servers".to_owned()));
    let ready = balancer.admin("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("servers"), "{}", ready.text());
    dns.lead("app.internal", &["127.0.0.2"]);
    wait_until("it is ready", || balancer.admin("/readyz").status == 200);
    wait_until("there is a server", || balancer.get("/").status == 200);
}

#[test]
fn a_reload_keeps_servers_and_waits_for_no_source() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2"]);
    let text = configuration(&dns, &apps, QUICK);
    let balancer = Balancer::start(&text);
    dns.say("other.internal", Says::Silence, 0);
    let other = text.replace("app.internal", "other.internal");
    assert_eq!(balancer.reload(&other), Reloaded::Taken);
    assert_eq!(answering(&balancer, 2), names(&["127.0.0.2"]), "until the other name leads somewhere");
    dns.lead("other.internal", &["127.0.0.3"]);
    wait_until("the first answer takes their place", || servers(&balancer) == names(&["127.0.0.3"]));
    let queries = dns.queries();
    assert_eq!(balancer.reload(&format!("{other}# the same\n")), Reloaded::Taken);
    assert_eq!(answering(&balancer, 2), names(&["127.0.0.3"]));
    wait_until("it is still asked", || dns.queries() > queries + 3);
}

#[test]
fn half_a_first_answer_takes_nobodys_place_whatever_is_reloaded() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    let listed = configuration(&dns, &apps, "servers: ['127.0.0.2:PORT']");
    dns.say("app.internal", Says::OneFamily(parsed(&["127.0.0.3"])), 0);
    let balancer = Balancer::start(&listed);
    let both = names(&["127.0.0.2", "127.0.0.3"]);
    for rules in ["large_change: null", "large_change: 90%", "large_change: 80%"] {
        let named = configuration(&dns, &apps, &QUICK.replace("large_change: null", rules));
        assert_eq!(balancer.reload(&named), Reloaded::Taken);
        let queries = dns.queries();
        wait_until("it has been asked", || dns.queries() > queries + 6 && servers(&balancer).len() == 2);
        assert_eq!(servers(&balancer), both, "the other half may have it");
    }
    dns.lead("app.internal", &["127.0.0.3"]);
    wait_until("both halves have answered", || servers(&balancer) == names(&["127.0.0.3"]));
}

#[test]
fn a_name_in_place_of_a_list_begins_with_the_servers_that_were_listed() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.say("app.internal", Says::Silence, 0);
    let listed = configuration(&dns, &apps, "servers: ['127.0.0.2:PORT', '127.0.0.3:PORT']");
    let balancer = Balancer::start(&listed);
    let since = pool(&balancer)["servers"][0]["since"].clone();
    let named = configuration(&dns, &apps, QUICK);
    balancer.write(&named);
    let (_, out, _) = balancer.command(&["plan"]);
    assert!(out.contains("2 servers of before stay until dns:app.internal") && !out.contains("503"), "{out}");
    assert_eq!(balancer.reload(&named), Reloaded::Taken);
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2", "127.0.0.3"]), "nobody has said anything else");
    assert_eq!(source(&balancer)["servers"], 2);
    assert_eq!(balancer.reload(&format!("{named}# the same\n")), Reloaded::Taken);
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2", "127.0.0.3"]), "whatever is reloaded meanwhile");
    dns.lead("app.internal", &["127.0.0.2"]);
    wait_until("the first answer says whose they are", || servers(&balancer) == names(&["127.0.0.2"]));
    assert_eq!(pool(&balancer)["servers"][0]["since"], since, "the same server as before");
    // Whoever is gone stays gone: another source that is new begins with nobody.
    dns.say("more.internal", Says::Silence, 0);
    let more = named.replace("discover:", &format!("servers: ['more.internal:{}'], discover:", apps.port));
    assert_eq!(balancer.reload(&more), Reloaded::Taken);
    assert_eq!(servers(&balancer), names(&["127.0.0.2"]));
}

#[test]
fn a_server_that_another_source_names_is_not_missing() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("a.internal", &["127.0.0.2", "127.0.0.3"]);
    dns.lead("b.internal", &["127.0.0.2", "127.0.0.3"]);
    let balancer =
        Balancer::start(&configuration(&dns, &apps, "servers: ['a.internal:PORT', 'b.internal:PORT']"));
    wait_until("both have answered", || servers(&balancer) == names(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("b.internal", &["127.0.0.2"]);
    wait_until("one source leaves it out", || pool(&balancer)["sources"][1]["missing"] == 1);
    let listed = pool(&balancer)["servers"].as_array().expect("a list").clone();
    assert!(listed.iter().all(|server| server["missing"] == false), "{listed:?}");
}

#[test]
fn servers_of_a_list_that_a_name_has_replaced_go_over_with_an_upgrade() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.say("app.internal", Says::Silence, 0);
    let listed = configuration(&dns, &apps, "servers: ['127.0.0.2:PORT', '127.0.0.3:PORT']");
    let balancer = Balancer::start(&listed);
    assert_eq!(balancer.reload(&configuration(&dns, &apps, QUICK)), Reloaded::Taken);
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2", "127.0.0.3"]));
    next.end();
}

#[test]
fn connections_go_on_when_another_name_leads_to_their_server() {
    let dns = DnsServer::new();
    let echo = tcp::Server::echo("db ");
    dns.lead("db.internal", &["127.0.0.1"]);
    dns.lead("new.internal", &["127.0.0.1"]);
    let text = |servers: &str| {
        format!(
            "{}listeners: {{ web: {{ address: '127.0.0.1:0', protocol: tcp, pool: db }} }}\n\
             pools: {{ db: {{ servers: [{}], drain_timeout: 0s }} }}\n",
            dns.section(),
            servers.replace("PORT", &echo.address.port().to_string())
        )
    };
    let balancer = Balancer::start(&text("'db.internal:PORT'"));
    let mut client = tcp::connect(balancer.address("web"));
    assert_eq!(tcp::bytes(&mut client, 3), b"db ");
    for servers in ["'new.internal:PORT'", "'127.0.0.1:PORT'", "'db.internal:PORT'"] {
        let queries = dns.queries();
        assert_eq!(balancer.reload(&text(servers)), Reloaded::Taken);
        let is_named = servers.contains("internal");
        wait_until("the name is asked for", || !is_named || dns.queries() >= queries + 4);
        client.write_all(b"x").expect("it is still open");
        assert_eq!(tcp::bytes(&mut client, 1), b"x", "{servers}");
    }
}

#[test]
fn how_old_a_set_is_counts_from_the_last_answer() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2"]));
    dns.lead("app.internal", &["127.0.0.2"]);
    let directory = std::env::temp_dir().join(format!("evenkeel-stale-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("it can be made");
    let source =
        "discover: { dns: 'app.internal:PORT', when_empty: remove, keep_stale: 3s, leave_after: LEAVE }";
    let text =
        |leave: &str| lasting(&configuration(&dns, &apps, &source.replace("LEAVE", leave)), &directory);
    let mut balancer = Balancer::start(&text("1s"));
    assert_eq!(answering(&balancer, 2), names(&["127.0.0.2"]));
    // It says the same for longer than that.
    let begun = Instant::now();
    wait_until("the source has said it again", || begun.elapsed() > Duration::from_secs(4));
    dns.say("app.internal", Says::Code(ResponseCode::ServFail), 0);
    assert_eq!(balancer.reload(&text("2s")), Reloaded::Taken);
    wait_until("it fails", || self::source(&balancer)["up"] == false);
    assert_eq!(servers(&balancer), names(&["127.0.0.2"]), "what it said a moment ago");
    dns.lead("app.internal", &["127.0.0.2"]);
    wait_until("it answers again", || self::source(&balancer)["up"] == true);
    balancer.signal(Signal::TERM);
    balancer.wait_for_exit();
    dns.say("app.internal", Says::Code(ResponseCode::ServFail), 0);
    let balancer = Balancer::start(&text("2s"));
    assert_eq!(answering(&balancer, 2), names(&["127.0.0.2"]), "a restart is no reason");
    wait_until("it is stale after its time", || servers(&balancer).is_empty());
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn servers_that_a_name_leads_to_are_probed_by_it() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2"]);
    let text = configuration(&dns, &apps, &format!("{QUICK}, health: {{ http: /healthz, interval: 20ms }}"));
    let balancer = Balancer::start(&text);
    assert_eq!(answering(&balancer, 2), names(&["127.0.0.2"]));
    let probe = |app: &App| app.requests().into_iter().find(|request| request.target == "/healthz");
    let asked = probe(apps.of("127.0.0.2")).expect("it was probed before it was used");
    assert_eq!(asked.field("host"), format!("app.internal:{}", apps.port));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    wait_until("the joiner is probed and used", || answering(&balancer, 4).len() == 2);
}

#[test]
fn tcp_pools_have_servers_by_name_too() {
    let dns = DnsServer::new();
    let echo = tcp::Server::echo("db ");
    dns.lead("db.internal", &["127.0.0.1"]);
    let balancer = Balancer::start(&format!(
        "{}listeners: {{ web: {{ address: '127.0.0.1:0', protocol: tcp, pool: db }} }}\n\
         pools: {{ db: {{ servers: ['db.internal:{}'] }} }}\n",
        dns.section(),
        echo.address.port()
    ));
    let mut client = tcp::connect(balancer.address("web"));
    client.write_all(b"hello").expect("it is connected");
    assert_eq!(tcp::bytes(&mut client, 8), b"db hello");
}

/// A pool with another source, and `DIR` for the test's directory.
fn from_list(source: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: '127.0.0.1:0', pool: app }} }}\npools: {{ app: {{ discover: {{ {source} }} }} }}\n"
    )
}

#[test]
fn servers_follow_a_file() {
    let apps = [App::saying("one"), App::saying("two")];
    let balancer = Balancer::start(&from_list("file: DIR/servers.yaml, start_wait: 0s"));
    assert_eq!(balancer.get("/").status, 503, "there is no file yet");
    let write = |text: &str| {
        let new = balancer.path("servers.new");
        std::fs::write(&new, text).expect("it can be written");
        std::fs::rename(new, balancer.path("servers.yaml")).expect("it can be replaced");
    };
    write(&format!("[{{ name: a, address: '{}' }}]", apps[0].address));
    wait_until("the first server", || balancer.get("/").status == 200);
    assert_eq!(answering(&balancer, 2), names(&["one"]));
    write(&format!(
        r#"[{{"targets": ["{}"], "labels": {{"name": "b"}}}}, {{"targets": ["{}"], "labels": {{"name": "a"}}}}]"#,
        apps[1].address, apps[0].address
    ));
    wait_until("the second server", || answering(&balancer, 8) == names(&["one", "two"]));
    write("[a, b");
    wait_until("the file is refused", || source(&balancer)["up"] == false);
    let problem = source(&balancer)["problem"].as_str().expect("a text").to_owned();
    assert!(problem.contains("servers.yaml:1:"), "{problem}");
    assert_eq!(answering(&balancer, 8), names(&["one", "two"]));
    write("[]");
    wait_until("there is none", || balancer.get("/").status == 503);
}

#[test]
fn servers_follow_a_web_server() {
    let apps = [App::saying("one"), App::saying("two")];
    let answer = std::sync::Arc::new(std::sync::Mutex::new(("200 OK", String::new())));
    let told = std::sync::Arc::clone(&answer);
    let inventory = App::new(move |request, stream| {
        let (status, body) = told.lock().expect("no test thread panics with it").clone();
        if request.field("if-none-match") == "\"1\"" && body.contains("etag") {
            return crate::support::app::send(stream, "HTTP/1.1 304 Not Modified\r\n\r\n");
        }
        let head =
            format!("HTTP/1.1 {status}\r\nETag: \"1\"\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        crate::support::app::send(stream, &head)
    });
    let say = |status: &'static str, body: &str| {
        *answer.lock().expect("no test thread panics with it") = (status, body.to_owned());
    };
    let targets = |apps: &[App], label: &str| {
        let targets: Vec<_> = apps.iter().map(|app| format!("\"{}\"", app.address)).collect();
        format!(r#"[{{"targets": [{}], "labels": {{"x": "{label}"}}}}]"#, targets.join(", "))
    };
    say("200 OK", &targets(&apps, ""));
    let url = format!("http://localhost:{}/app.json?x=1", inventory.address.port());
    let source_text = format!("http: {{ url: '{url}', interval: 1s }}, large_change: null");
    let balancer = Balancer::start(&from_list(&source_text));
    assert_eq!(answering(&balancer, 8), names(&["one", "two"]));
    assert_eq!(inventory.last().target, "/app.json?x=1");
    let generation = balancer.generation();
    for (status, body) in [
        ("500 Internal Server Error", targets(&apps[..1], "")),
        ("200 OK", "<html>".to_owned()),
        ("200 OK", "x".repeat(10 << 20)),
        ("302 Found", targets(&apps[..1], "")),
    ] {
        say(status, &body);
        wait_until("it fails", || source(&balancer)["up"] == false);
        say("200 OK", &targets(&apps, ""));
        wait_until("it answers again", || source(&balancer)["up"] == true);
    }
    say("200 OK", &targets(&apps, "etag"));
    wait_until("it is not modified", || {
        source(&balancer)["last_answer"].as_str().is_some_and(|said| said.contains("not modified"))
    });
    assert_eq!(balancer.generation(), generation, "nobody was woken");
    assert_eq!(answering(&balancer, 8), names(&["one", "two"]));
    say("200 OK", &targets(&apps[1..], ""));
    wait_until("one has left", || answering(&balancer, 4) == names(&["two"]));
    say("200 OK", "[]");
    wait_until("all have left", || balancer.get("/").status == 503);
}

#[test]
fn a_silent_resolver_is_asked_last_though_nobody_waits_for_its_end() {
    let (silent, dns, apps) = (DnsServer::new(), DnsServer::new(), Apps::on(&["127.0.0.2"]));
    silent.say("inventory.internal", Says::Silence, 0);
    dns.lead("inventory.internal", &["127.0.0.1"]);
    let found = format!("[{{\"targets\": [\"127.0.0.2:{}\"]}}]", apps.port);
    let list = App::new(move |_, stream| say(stream, &found));
    // Less than the resolver may take.
    let url = format!("http://inventory.internal:{}/", list.address.port());
    let pool = format!("discover: {{ http: {{ url: '{url}', interval: 1s, timeout: 900ms }} }}");
    let both = format!("['{}', '{}'], timeout: 10s", silent.address, dns.address);
    let text = configuration(&dns, &apps, &pool);
    let text = text.replace(&format!("['{}']", dns.address), &both).replace(", timeout: 500ms", "");
    let balancer = Balancer::start(&text);
    wait_until("the other one is asked first", || source(&balancer)["servers"] == 1);
    assert_eq!(answering(&balancer, 2), names(&["127.0.0.2"]));
}

#[test]
fn a_services_first_priority_serves_and_the_others_stand_by() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("a.internal", &["127.0.0.2"]);
    dns.lead("b.internal", &["127.0.0.3"]);
    let port = apps.port;
    let say = |of_a, of_b| {
        dns.say(
            "_http._tcp.app.internal",
            Says::Services(vec![(of_a, 1, port, "a.internal"), (of_b, 1, port, "b.internal")]),
            0,
        );
    };
    say(1, 2);
    let balancer =
        Balancer::start(&configuration(&dns, &apps, "discover: { dns_srv: _http._tcp.app.internal }"));
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2"]));
    let pool = pool(&balancer);
    assert_eq!(pool["servers"][1]["name"], format!("b.internal:{port}"));
    say(3, 2);
    wait_until("the other one serves", || answering(&balancer, 8) == names(&["127.0.0.3"]));
    dns.say("a.internal", Says::Code(ResponseCode::ServFail), 0);
    wait_until("a target fails", || source(&balancer)["problem"].is_string());
    assert_eq!(source(&balancer)["servers"], 2, "it keeps its address");
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.3"]));
}

/// The same with a file for what outlives the process, in a directory of its own.
fn lasting(text: &str, directory: &std::path::Path) -> String {
    let at = directory.display();
    format!(
        "admin: {{ address: '127.0.0.1:0', socket: 'DIR/admin.sock', state_file: '{at}/state.json' }}\n{text}"
    )
}

#[test]
fn a_start_without_the_source_goes_on_with_what_it_had_named() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    let directory = std::env::temp_dir().join(format!("evenkeel-discover-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("it can be made");
    let text = lasting(&configuration(&dns, &apps, QUICK), &directory);
    let mut balancer = Balancer::start(&text);
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2", "127.0.0.3"]));
    assert_eq!(balancer.command(&["maint", &format!("app/127.0.0.3:{}", apps.port)]).0, Some(0));
    balancer.signal(Signal::TERM);
    balancer.wait_for_exit();
    let stored = directory.join("state.servers.json");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&stored).expect("it is written"));
    assert_eq!(mode & 0o777, 0o600);
    dns.say("app.internal", Says::Silence, 0);
    let balancer = Balancer::start(&text);
    assert_eq!(balancer.admin("/readyz").status, 200);
    assert_eq!(answering(&balancer, 4), names(&["127.0.0.2"]), "and what operators have said holds");
    assert_eq!(servers(&balancer), names(&["127.0.0.2", "127.0.0.3"]));
    assert_eq!(source(&balancer)["held"], "stale");
    assert!(source(&balancer)["last_success"].is_string(), "when it was last said is known");
    dns.lead("app.internal", &["127.0.0.3"]);
    wait_until("it is asked again", || servers(&balancer) == names(&["127.0.0.3"]));
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn what_operators_have_said_outlives_a_flap() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    let text = configuration(&dns, &apps, QUICK);
    let balancer = Balancer::start(&text);
    let server = format!("app/127.0.0.3:{}", apps.port);
    assert_eq!(balancer.command(&["maint", &server]).0, Some(0));
    for is_reloaded in [false, true] {
        dns.lead("app.internal", &["127.0.0.2"]);
        wait_until("it is gone", || servers(&balancer) == names(&["127.0.0.2"]));
        if is_reloaded {
            assert_eq!(balancer.reload(&format!("{text}# again\n")), Reloaded::Taken);
        }
        dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
        wait_until("it is back", || servers(&balancer).len() == 2);
        let servers = pool(&balancer)["servers"].as_array().expect("a list").clone();
        let state = servers.iter().find(|server| server["name"] == format!("127.0.0.3:{}", apps.port));
        assert_eq!(state.expect("it is there")["state"], "maint");
        assert_eq!(answering(&balancer, 4), names(&["127.0.0.2"]));
    }
}

#[test]
fn what_was_said_of_an_absent_server_is_shown_and_can_be_taken_back() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    let balancer = Balancer::start(&configuration(&dns, &apps, QUICK));
    let server = format!("app/127.0.0.3:{}", apps.port);
    assert_eq!(balancer.command(&["maint", &server]).0, Some(0));
    dns.lead("app.internal", &["127.0.0.2"]);
    wait_until("it is gone", || servers(&balancer) == names(&["127.0.0.2"]));
    // Long lines are folded.
    let told = || balancer.command(&["status"]).1.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told().contains("should one do so again: maint by "), "{}", told());
    let mut browser = client::Client::connect(balancer.admin_address());
    browser.send(format!("GET /page HTTP/1.1\r\nHost: {}\r\n\r\n", balancer.admin_address()));
    let page = browser.response().text();
    assert!(page.contains("should one do so again: maint by "), "{page}");
    let (code, _, said) = balancer.command(&["drain", &server]);
    assert_ne!(code, Some(0), "nothing new is said of who is not there");
    assert!(said.contains("no source names 127.0.0.3:") && said.contains("taken back"), "{said}");
    let (code, _, said) = balancer.command(&["ready", &server]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no source names it now"), "{said}");
    assert!(!told().contains("should one do so"), "{}", told());
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    wait_until("it is back", || servers(&balancer).len() == 2);
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2", "127.0.0.3"]));
}

#[test]
fn a_services_server_that_returns_is_the_one_that_operators_have_spoken_of() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    let port = apps.port;
    dns.say("_http._tcp.app.internal", Says::Services(vec![(1, 1, port, "app.internal")]), 0);
    dns.lead("app.internal", &["127.0.0.2"]);
    let pool = "discover: { dns_srv: _http._tcp.app.internal, leave_after: 0s, large_change: null }";
    let balancer = Balancer::start(&configuration(&dns, &apps, pool));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    wait_until("another has joined", || self::pool(&balancer)["up"] == 2);
    assert_eq!(balancer.command(&["maint", &format!("app/app.internal:{port}")]).0, Some(0));
    dns.lead("app.internal", &["127.0.0.3"]);
    wait_until("it is gone", || source(&balancer)["servers"] == 1);
    // The rules are others, and so is the task that asks.
    let rules = configuration(&dns, &apps, &pool.replace("large_change: null", "large_change: 90%"));
    assert_eq!(balancer.reload(&rules), Reloaded::Taken);
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    wait_until("it is back", || source(&balancer)["servers"] == 2);
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.3"]));
    for target in ["app.internal", "_http._tcp.app.internal"] {
        dns.say(target, Says::Code(ResponseCode::ServFail), 0);
        wait_until("nothing can be had", || source(&balancer)["held"] == "stale");
        assert_eq!(source(&balancer)["up"], false, "{target}");
    }
}

#[test]
fn an_answer_with_too_many_servers_says_how_many_there_may_be() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2"]);
    let balancer = Balancer::start(&configuration(
        &dns,
        &apps,
        &QUICK.replace("leave_after", "max_servers: 1, leave_after"),
    ));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    wait_until("it is refused", || source(&balancer)["held"] == "too_many");
    let source = source(&balancer);
    let problem = source["problem"].as_str().expect("a text");
    assert!(problem.contains("2 addresses") && problem.contains("max_servers: 1"), "{problem}");
    assert_eq!((&source["servers"], &source["up"]), (&Value::from(1), &Value::from(false)));
}

#[test]
fn the_sources_can_be_asked_step_by_step() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2"]));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    let balancer = Balancer::start(&configuration(&dns, &apps, QUICK));
    let generation = balancer.generation();
    let (code, out, _) = balancer.command(&["discover", "app"]);
    assert_eq!(code, Some(0), "{out}");
    for part in [
        format!("asked {} for A of app.internal: 2 records, TTL 0s", dns.address),
        format!("    127.0.0.3:{port} at 127.0.0.3:{port}", port = apps.port),
        "  answers\n".to_owned(),
    ] {
        assert!(out.contains(&part), "{part} is not in\n{out}");
    }
    dns.say("app.internal", Says::Code(ResponseCode::Refused), 0);
    let (code, out, _) = balancer.command(&["discover", "app", "--json"]);
    let said: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!((code, &said[0]["answers"]), (Some(1), &Value::Bool(false)), "{out}");
    assert!(said[0]["problem"].as_str().is_some_and(|problem| problem.contains("REFUSED")), "{out}");
    assert_eq!(balancer.generation(), generation);
    assert_eq!(balancer.command(&["discover", "apq"]).0, Some(1));
}

#[test]
fn udp_and_tls_passed_through_have_servers_by_name_too() {
    let (dns, datagrams) = (DnsServer::new(), udp::Server::echo("syslog "));
    let certificate = tls::Certificate::named(&["db.internal"]);
    let secured = certificate.serve();
    dns.lead("log.internal", &["127.0.0.1"]);
    dns.lead("db.internal", &["127.0.0.1"]);
    let balancer = Balancer::start(&format!(
        "{}listeners:\n  log: {{ address: '127.0.0.1:0', protocol: udp, pool: log }}\n  \
         db: {{ address: '127.0.0.1:0', protocol: tls_passthrough, pool: db }}\n\
         pools:\n  log: {{ discover: {{ dns: 'log.internal:{}' }} }}\n  db: {{ servers: ['db.internal:{}'] }}\n",
        dns.section(),
        datagrams.address.port(),
        secured.address.port()
    ));
    let client = udp::Client::new(balancer.address("log"));
    assert_eq!(client.ask(b"line"), b"syslog ");
    let stream = tls::Speaker::new().connect(balancer.address("db"), "db.internal").expect("it shakes hands");
    assert!(certificate.is_shown_by(&stream));
}

#[test]
fn an_upgrade_hands_over_whom_sources_have_named() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    // Without a state file there is no other way to know them.
    let text = format!(
        "admin: {{ address: '127.0.0.1:0', socket: 'DIR/admin.sock', state_file: null }}\n{}",
        configuration(&dns, &apps, QUICK)
    );
    let mut balancer = Balancer::start(&text);
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2", "127.0.0.3"]));
    dns.say("app.internal", Says::Silence, 0);
    let address = balancer.address("web");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let asking = std::thread::spawn(move || {
        let mut asked = 0;
        while !stopped.load(Relaxed) {
            assert_eq!(client::get(address, "/").status, 200);
            asked += 1;
        }
        asked
    });
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    assert_eq!(servers(&balancer), names(&["127.0.0.2", "127.0.0.3"]));
    assert_eq!(source(&balancer)["held"], "stale");
    stop.store(true, Relaxed);
    assert!(asking.join().expect("nobody was refused") > 0);
    dns.lead("app.internal", &["127.0.0.3"]);
    wait_until("it is asked again", || servers(&balancer) == names(&["127.0.0.3"]));
    next.end();
}

#[test]
fn localhost_is_the_loopback_address_at_which_somebody_listens() {
    let dns = DnsServer::new();
    let app = App::on("[::1]:0", |_, stream| say(stream, "by IPv6"));
    let pool = format!("servers: ['localhost:{}']", app.address.port());
    let balancer = Balancer::start(&format!(
        "{}listeners: {{ web: {{ address: '127.0.0.1:0', pool: app }} }}\npools: {{ app: {{ {pool} }} }}\n",
        dns.section()
    ));
    assert_eq!(balancer.get("/").text(), "by IPv6");
    let servers = self::pool(&balancer)["servers"].clone();
    assert_eq!(
        (servers.as_array().map(Vec::len), &servers[0]["name"]),
        (Some(1), &Value::String(app.address.to_string()))
    );
}

#[test]
fn a_start_does_not_wait_for_a_source_that_says_nothing() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2"]));
    dns.say("slow.internal", Says::Silence, 0);
    let started = Instant::now();
    let balancer = Balancer::start(&format!(
        "dns: {{ resolvers: ['{}'], timeout: 5s }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:0', pool: app }} }}\n\
         pools:\n  app: {{ servers: ['127.0.0.2:{}'] }}\n  slow: {{ discover: {{ dns: 'slow.internal:80' }} }}\n",
        dns.address, apps.port
    ));
    assert_eq!(balancer.get("/").text(), "127.0.0.2");
    let took = started.elapsed();
    assert_eq!(balancer.admin("/readyz").status, 503, "who is slow is waited for here");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn the_ledger_says_who_has_let_a_server_go() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    let balancer = Balancer::start(&configuration(&dns, &apps, QUICK));
    assert_eq!(answering(&balancer, 8), names(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.3"]);
    let gone = wait_for("it is gone", || {
        let (_, out, _) = balancer.command(&["events", "--json"]);
        let mut events = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.find(|event| event["to"] == "gone")
    });
    assert_eq!(gone["actor"], "discovery", "{gone}");
}

#[test]
fn a_server_that_is_listed_and_found_is_told_of() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2", "127.0.0.3"]);
    let pool = "servers: [{ address: '127.0.0.2:PORT', weight: 7 }], discover: { dns: 'app.internal:PORT' }";
    let balancer = Balancer::start(&configuration(&dns, &apps, pool));
    let line = balancer.log.wait_for("listed as well");
    assert!(line.contains(&format!("127.0.0.2:{}", apps.port)), "{line}");
    assert_eq!(self::pool(&balancer)["servers"][0]["weight"], 7, "what is listed counts");
    assert_eq!(servers(&balancer), names(&["127.0.0.2", "127.0.0.3"]));
}

#[test]
fn a_plan_can_ask_the_sources() {
    let (dns, apps) = (DnsServer::new(), Apps::on(&["127.0.0.2", "127.0.0.3"]));
    dns.lead("app.internal", &["127.0.0.2"]);
    dns.lead("new.internal", &["127.0.0.3"]);
    let text = configuration(&dns, &apps, QUICK);
    let balancer = Balancer::start(&text);
    let fresh = balancer.path("new.yaml");
    std::fs::write(
        &fresh,
        std::fs::read_to_string(balancer.path("evenkeel.yaml"))
            .expect("it is there")
            .replace("app.internal", "new.internal"),
    )
    .expect("it can be written");
    let fresh = fresh.to_str().expect("it is UTF-8");
    let (_, out, _) = balancer.command(&["plan", fresh]);
    assert!(
        out.contains("until dns:new.internal") && !out.contains("127.0.0.3"),
        "a reload waits for nobody\n{out}"
    );
    let (code, out, err) = balancer.command(&["plan", fresh, "--discover"]);
    assert!(code == Some(3) && out.contains("127.0.0.3"), "{out}{err}");
    dns.say("new.internal", Says::Code(ResponseCode::ServFail), 0);
    let (_, out, _) = balancer.command(&["plan", fresh, "--discover"]);
    assert!(out.contains("SERVFAIL") && out.contains("stays"), "{out}");
    dns.lead("new.internal", &["127.0.0.3"]);
    // By the files alone.
    let old = balancer.path("evenkeel.yaml");
    let old = old.to_str().expect("it is UTF-8");
    let (_, out, _) = balancer.command(&["plan", fresh, "--against", old]);
    assert!(out.contains("--discover asks"), "{out}");
    let (_, out, _) = balancer.command(&["plan", fresh, "--against", old, "--discover"]);
    assert!(out.contains("127.0.0.3") && out.contains("127.0.0.2"), "{out}");
    let (_, out, _) = balancer.command(&["explain", "http://app/", "-c", old]);
    assert!(out.contains("--discover asks"), "{out}");
    let (_, out, _) = balancer.command(&["explain", "http://app/", "-c", old, "--discover"]);
    assert!(out.contains(&format!("winner    127.0.0.2:{}", apps.port)), "{out}");
    let (_, out, _) = balancer.command(&["explain", "http://app/"]);
    assert!(out.contains("servers   from dns:app.internal"), "{out}");
}
