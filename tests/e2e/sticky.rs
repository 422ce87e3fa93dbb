//! Clients stay with the server that has their session: what they are told, what servers see, and what moves nobody.

use crate::support::app::{App, Latch, Request, Then, say, send, status};
use crate::support::balancer::{Balancer, Directory, Next, Reloaded, plain};
use crate::support::client::{Client, Response};
use crate::support::h2::Connection;
use crate::support::tls::{Certificate, Shop, Speaker};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

const STICKY: &str = "sticky: { cookie: EK, wait: 30s }, balance: round_robin";
/// Of a server's names as it says them.
const NAMES: [&str; 4] = ["s1", "s2", "s3", "s4"];

/// Servers that say their names, but for what `answer` does.
fn servers(answer: impl Fn(&Request, &mut TcpStream) -> Option<Then> + Send + Sync + 'static) -> Vec<App> {
    let answer = Arc::new(answer);
    let server = |name: &'static str| {
        let answer = Arc::clone(&answer);
        App::new(move |request, stream| answer(request, stream).unwrap_or_else(|| say(stream, name)))
    };
    NAMES.map(server).into()
}

fn addresses(servers: &[App]) -> Vec<SocketAddr> {
    servers.iter().map(|server| server.address).collect()
}

/// Asks with these cookies, on a connection of its own.
#[track_caller]
fn ask_for(address: SocketAddr, path: &str, cookies: &str) -> Response {
    let mut client = Client::connect(address);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookies}\r\n\r\n"));
    client.response()
}

#[track_caller]
fn ask(balancer: &Balancer, cookies: &str) -> Response {
    ask_for(balancer.address("web"), "/", cookies)
}

/// The cookie that a response sets, as requests have it.
fn set_cookie(response: &Response) -> Option<String> {
    response.fields.iter().find(|(name, _)| name == "set-cookie").map(|(_, value)| pair(value))
}

fn pair(set_cookie: &str) -> String {
    set_cookie.split(';').next().unwrap_or_default().to_owned()
}

/// A client that has a session.
#[derive(Clone, Debug)]
struct Session {
    server: String,
    cookie: String,
}

/// Two clients of each server.
#[track_caller]
fn sessions(balancer: &Balancer) -> Vec<Session> {
    let sessions: Vec<_> = (0..8)
        .map(|_| {
            let response = balancer.get("/");
            let cookie = set_cookie(&response).expect("a new client gets a cookie");
            Session { server: response.text(), cookie }
        })
        .collect();
    let servers: BTreeSet<_> = sessions.iter().map(|session| &*session.server).collect();
    assert_eq!(servers, NAMES.into(), "each is chosen in turn");
    sessions
}

/// Each client finds its server, and is told nothing new.
#[track_caller]
fn all_stay(balancer: &Balancer, sessions: &[Session], when: &str) {
    for session in sessions {
        let response = ask(balancer, &session.cookie);
        assert_eq!((response.text(), set_cookie(&response)), (session.server.clone(), None), "{when}");
    }
}

/// So many requests have come to this by now.
#[track_caller]
fn wait_for_result(balancer: &Balancer, result: &str, expected: f64) {
    balancer.wait_for_metric("evenkeel_sticky_total", &[("pool", "app"), ("result", result)], expected);
}

#[test]
fn a_client_stays_with_the_server_that_its_cookie_means() {
    let apps = servers(|_, _| None);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", STICKY));
    let first = balancer.get("/");
    let set = first.field("set-cookie");
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax") && set.starts_with("EK="), "{set}");
    // Letters by chance are some server's name now and then, but not each server's own in one place.
    let sets =
        [(); 4].map(|()| balancer.get("/")).map(|response| (response.field("set-cookie"), response.text()));
    let is_named_at = |at: usize| sets.iter().all(|(set, name)| set[at..].starts_with(&**name));
    assert!(!(0..sets[0].0.len()).any(is_named_at), "it names nobody: {sets:?}");
    assert!(!sets.iter().any(|(set, _)| set.contains("127.0")), "nor an address: {sets:?}");
    let cookie = pair(&set);
    for cookies in [cookie.clone(), format!("a=1; {cookie}; b=\"2\""), format!("EK=x; {cookie}")] {
        let response = ask(&balancer, &cookies);
        assert_eq!((response.text(), set_cookie(&response)), (first.text(), None), "{cookies}");
    }
    let last = |app: &App| app.requests().last().map(|request| request.field("cookie"));
    let server = &apps[NAMES.iter().position(|name| *name == first.text()).expect("one of them")];
    assert_eq!(last(server).as_deref(), Some(""), "no server sees it");
    let _ = ask(&balancer, &format!("a=1; {cookie}; b=2"));
    assert_eq!(last(server).as_deref(), Some("a=1; b=2"));
    wait_for_result(&balancer, "kept", 4.0);
    wait_for_result(&balancer, "new", 5.0);
    let record = balancer.record_where("one that was kept", |record| record["sticky"] == "kept");
    assert_eq!(record["server"], first.text());
    let (_, status, _) = balancer.command(&["status"]);
    assert!(status.contains("  sticky by EK (insert): 4 kept, 5 new\n"), "{status}");
}

#[test]
fn what_is_no_cookie_of_ours_is_as_none() {
    let apps = servers(|_, _| None);
    let text = plain(&addresses(&apps), "", STICKY);
    let balancer = Balancer::start(&text);
    let other_key = Balancer::start(&text);
    let foreign = set_cookie(&other_key.get("/")).expect("a cookie");
    let own = set_cookie(&balancer.get("/")).expect("a cookie");
    let mut forged = own.clone().into_bytes();
    let at = forged.len() - 9;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("text");
    for cookie in ["EK=", "EK=s1", &foreign, &forged, &own[..own.len() - 1], &format!("{own}A")] {
        // In turn, so nobody decides where it goes.
        let seen: BTreeSet<_> = (0..4)
            .map(|_| {
                let response = ask(&balancer, cookie);
                assert!(set_cookie(&response).is_some(), "{cookie}");
                response.text()
            })
            .collect();
        assert_eq!(seen.len(), 4, "{cookie}: {seen:?}");
    }
    wait_for_result(&balancer, "new", 25.0);
    wait_for_result(&balancer, "kept", 0.0);
}

#[test]
fn a_drained_server_keeps_its_clients_and_one_in_maintenance_loses_them() {
    let apps = servers(|_, _| None);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", STICKY));
    let sessions = sessions(&balancer);
    assert_eq!(balancer.command(&["drain", "app/s1"]).0, Some(0));
    all_stay(&balancer, &sessions, "drained");
    for _ in 0..8 {
        assert_ne!(balancer.get("/").text(), "s1", "nobody new comes");
    }
    assert_eq!(balancer.command(&["maint", "app/s1"]).0, Some(0));
    for session in &sessions {
        let response = ask(&balancer, &session.cookie);
        match &*session.server {
            "s1" => {
                let cookie = set_cookie(&response).expect("a new cookie");
                assert_ne!(response.text(), "s1");
                let again = ask(&balancer, &cookie);
                assert_eq!((again.text(), set_cookie(&again)), (response.text(), None), "it stays there");
            }
            stays => assert_eq!((&*response.text(), set_cookie(&response)), (stays, None)),
        }
    }
    wait_for_result(&balancer, "moved", 2.0);
    assert_eq!(balancer.command(&["ready", "app/s1"]).0, Some(0));
    all_stay(&balancer, &sessions, "who kept its cookie finds it again");
}

#[test]
fn fifty_reloads_a_restart_and_an_upgrade_move_nobody() {
    let apps = servers(|_, _| None);
    let state = Directory::new();
    let admin = format!(
        "admin: {{ address: 127.0.0.1:0, socket: DIR/admin.sock, state_file: {}/state.json }}\n",
        state.0.display()
    );
    let text = |more: &str| {
        let text = plain(&addresses(&apps), "", &format!("{STICKY}, {more}"));
        format!("{admin}{text}")
    };
    let mut balancer = Balancer::start(&text(""));
    let sessions = sessions(&balancer);
    for reload in 1..=50 {
        let other = format!(
            "drain_timeout: {reload}s, max_connections: {reload}, timeouts: {{ connect: {reload}ms }}"
        );
        assert_eq!(balancer.reload(&text(&other)), Reloaded::Taken);
        all_stay(&balancer, &sessions[reload % 8..=reload % 8], "reloaded");
    }
    let turned = addresses(&apps).into_iter().enumerate().rev();
    let turned: Vec<_> = turned
        .map(|(at, address)| format!("{{ name: s{}, address: {address}, weight: {} }}", at + 1, at + 7))
        .collect();
    let other_order = format!(
        "{admin}listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\npools:\n  app: {{ servers: [{}], {STICKY} }}\n",
        turned.join(", ")
    );
    assert_eq!(balancer.reload(&other_order), Reloaded::Taken);
    all_stay(&balancer, &sessions, "in another order, with other weights");

    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    balancer.wait_for_exit();
    all_stay(&balancer, &sessions, "after an upgrade");
    next.end();
    drop(balancer);

    let balancer = Balancer::start(&text(""));
    all_stay(&balancer, &sessions, "after a restart");
    use std::os::unix::fs::PermissionsExt;
    let mode =
        std::fs::metadata(state.0.join("state.json")).expect("there is a state file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds the key");
}

#[test]
fn an_upgrade_hands_the_key_over_where_no_file_keeps_it() {
    let apps = servers(|_, _| None);
    let admin = "admin: { address: 127.0.0.1:0, socket: DIR/admin.sock, state_file: null }\n";
    let mut balancer = Balancer::start(&format!("{admin}{}", plain(&addresses(&apps), "", STICKY)));
    let sessions = sessions(&balancer);
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    balancer.wait_for_exit();
    all_stay(&balancer, &sessions, "after an upgrade");
    next.end();
}

#[test]
fn nodes_with_one_key_file_agree_and_a_new_key_moves_nobody() {
    let apps = servers(|_, _| None);
    let keys = Directory::new();
    let file = keys.0.join("sticky.keys");
    let write = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| line.repeat(16)).collect();
        std::fs::write(&file, lines.join("\n") + "\n").expect("writable");
    };
    write(&["k1"]);
    let pool = format!("sticky: {{ cookie: EK, key_file: {} }}, balance: round_robin", file.display());
    let text = plain(&addresses(&apps), "", &pool);
    let nodes = [Balancer::start(&text), Balancer::start(&text)];
    let sessions = sessions(&nodes[0]);
    all_stay(&nodes[1], &sessions, "on another node");

    write(&["k1", "k2"]);
    assert!(nodes.iter().all(|node| node.reload(&text) == Reloaded::Taken));
    nodes.iter().for_each(|node| all_stay(node, &sessions, "with a key that nobody signs by yet"));

    write(&["k2", "k1"]);
    // One is told before the other.
    assert_eq!(nodes[0].reload(&text), Reloaded::Taken);
    let renewed: Vec<_> = sessions
        .iter()
        .map(|session| {
            let response = ask(&nodes[0], &session.cookie);
            assert_eq!(response.text(), session.server, "a new key moves nobody");
            let cookie = set_cookie(&response).expect("it is signed by the new key");
            Session { cookie, ..session.clone() }
        })
        .collect();
    all_stay(&nodes[0], &renewed, "signed anew");
    for session in &renewed {
        assert_eq!(ask(&nodes[1], &session.cookie).text(), session.server, "the other node knows the key");
    }
    write(&["k2"]);
    assert!(nodes.iter().all(|node| node.reload(&text) == Reloaded::Taken));
    nodes.iter().for_each(|node| all_stay(node, &renewed, "without the old key"));
    assert!(set_cookie(&ask(&nodes[0], &sessions[0].cookie)).is_some(), "that one is as none now");

    write(&["x"]);
    assert_eq!(nodes[0].reload(&text), Reloaded::Refused, "a file without a key changes nothing");
    all_stay(&nodes[0], &renewed, "after a reload that was refused");
}

#[test]
fn a_check_says_what_an_absent_key_file_would_mean() {
    let directory = Directory::new();
    let file = directory.0.join("evenkeel.yaml");
    let text = "listeners: { web: { address: 127.0.0.1:0, pool: app } }\npools:\n\
                \x20 app: { servers: [127.0.0.1:1], sticky: { cookie: EK, key_file: /nowhere/keys } }\n";
    std::fs::write(&file, text).expect("it is ours");
    let checked = crate::support::balancer::evenkeel().arg("check").arg(&file).output().expect("it runs");
    let told = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success() && told.contains("a reload is refused without this file"), "{told}");
}

#[test]
fn a_full_server_is_waited_for_and_then_any_will_do() {
    let latch = Latch::default();
    let held = latch.clone();
    let apps = servers(move |request, _| {
        if request.target == "/held" {
            held.wait();
        }
        None
    });
    let text = |wait: &str| {
        let pool = format!(
            "sticky: {{ cookie: EK, wait: {wait} }}, balance: round_robin, max_connections: 1, queue: {{ timeout: 60s }}"
        );
        plain(&addresses(&apps), "", &pool)
    };
    let balancer = Balancer::start(&text("50s"));
    let sessions = sessions(&balancer);
    let session = &sessions[0];
    let send = |path: &str, session: &Session| {
        let mut client = balancer.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", session.cookie));
        client
    };
    let mut first = send("/held", session);
    balancer.wait_for_in_flight(1.0);
    let mut second = send("/second", session);
    balancer.wait_for_metric("evenkeel_pool_queue_length", &[("pool", "app")], 1.0);
    // Nobody else waits with it.
    let other = sessions.iter().find(|other| other.server != session.server).expect("another server's");
    assert_eq!(ask(&balancer, &other.cookie).text(), other.server);
    assert_ne!(balancer.get("/").text(), session.server);
    assert_eq!(balancer.metric("evenkeel_pool_queue_length", &[("pool", "app")]), 1.0);
    latch.open();
    assert_eq!(first.response().text(), session.server);
    let response = second.response();
    assert_eq!((response.text(), set_cookie(&response)), (session.server.clone(), None));
    let record = balancer.record("/second");
    assert_eq!(
        (record["sticky"].as_str(), record["server"].as_str()),
        (Some("waited"), Some(&*session.server))
    );

    let latch = Latch::default();
    let held = latch.clone();
    let apps = servers(move |request, _| {
        if request.target == "/held" {
            held.wait();
        }
        None
    });
    let pool = "sticky: { cookie: EK, wait: 200ms }, balance: round_robin, max_connections: 1, queue: { timeout: 60s }";
    let balancer = Balancer::start(&plain(&addresses(&apps), "", pool));
    let session = balancer.get("/");
    let cookie = set_cookie(&session).expect("a cookie");
    let mut first = balancer.client();
    first.send(format!("GET /held HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    balancer.wait_for_in_flight(1.0);
    let response = ask_for(balancer.address("web"), "/moved", &cookie);
    assert_ne!(response.text(), session.text());
    assert!(set_cookie(&response).is_some());
    let record = balancer.record("/moved");
    assert_eq!(record["sticky"], "moved");
    assert!(record["queue_ms"].as_f64().is_some_and(|waited| waited >= 200.0), "{record}");
    latch.open();
    assert_eq!(first.response().text(), session.text());
}

#[test]
fn a_cookie_is_not_set_where_others_could_be_given_it_nor_by_a_server_that_fails() {
    let apps = servers(|request, stream| {
        let fields = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 2\r\n\r\nok");
        Some(match &*request.target {
            "/500" => status(stream, "500 Oops", ""),
            "/503" => status(stream, "503 Busy", ""),
            "/304" => send(stream, "HTTP/1.1 304 Not Modified\r\n\r\n"),
            "/404" => status(stream, "404 None", ""),
            "/302" => status(stream, "302 Found", ""),
            "/own" => send(stream, &fields("Set-Cookie: EK=; Max-Age=0")),
            path => {
                let (_, fields_of) = path.split_once("/f?").unwrap_or_default();
                send(stream, &fields(&fields_of.replace("%20", " ").replace('+', ": ")))
            }
        })
    });
    let pool = format!("{STICKY}, retries: {{ max: 0 }}");
    let balancer = Balancer::start(&plain(&addresses(&apps), "", &pool));
    for (path, is_set) in [
        ("/500", false),
        ("/503", false),
        ("/304", false),
        ("/404", true),
        ("/302", true),
        ("/f?X+1", true),
        ("/f?Cache-Control+public", false),
        ("/f?Cache-Control+max-age=60", false),
        ("/f?Cache-Control+max-age=0", true),
        ("/f?Cache-Control+no-cache", true),
        ("/f?Cache-Control+private,max-age=60", true),
        ("/f?Cache-Control+max-age=60,no-store", true),
        ("/f?Cache-Control+private,s-maxage=60", false),
        ("/f?CDN-Cache-Control+max-age=60", false),
        ("/f?Expires+Thu,%2001%20Jan%202099%2000:00:00%20GMT", false),
        ("/f?Expires+0", true),
    ] {
        let response = balancer.get(path);
        assert_eq!(set_cookie(&response).is_some(), is_set, "{path}: {:?}", response.fields);
    }
    let mut client = balancer.client();
    client.send("POST /f?Cache-Control+max-age=60 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert!(set_cookie(&client.response()).is_some(), "caches keep no answers to it");
    assert_eq!(balancer.get("/own").field("set-cookie"), "EK=; Max-Age=0", "the server has ended it");
    let record = balancer.record("/500");
    assert_eq!(record["sticky"], "none");
}

#[test]
fn requests_without_a_cookie_follow_the_first_of_their_connection() {
    let apps = servers(|_, _| None);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", STICKY));
    let mut client = balancer.client();
    let first = client.get("/").text();
    for _ in 0..6 {
        let response = client.get("/");
        assert_eq!(response.text(), first);
        assert!(set_cookie(&response).is_some());
    }
    assert_ne!(balancer.get("/").text(), first, "another connection is another client's");

    // A page's parts that are asked for at once, over HTTP/2.
    let mut client = Connection::new(balancer.address("web"));
    let streams: Vec<u32> = (0..6).map(|n| 2 * n + 1).collect();
    streams.iter().for_each(|stream| client.request(*stream, "GET", "/", true));
    let (mut bodies, mut ended) = (BTreeMap::<u32, Vec<u8>>::new(), 0);
    while ended < streams.len() {
        let frame = client.next().expect("the connection goes on");
        ended += usize::from(frame.ends_stream());
        // DATA
        if frame.kind == 0 {
            bodies.entry(frame.stream).or_default().extend(frame.payload);
        }
    }
    let servers: BTreeSet<_> = bodies.values().collect();
    assert_eq!((bodies.len(), servers.len()), (6, 1), "{bodies:?}");

    // Of a proxy that many clients come by each is one of its own.
    let trusting = plain(&addresses(&apps), "trusted_proxies: [127.0.0.1]", STICKY);
    let balancer = Balancer::start(&trusting);
    let mut client = balancer.client();
    let seen: BTreeSet<_> = (0..4).map(|_| client.get("/").text()).collect();
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_client_whose_server_cannot_be_reached_moves_and_one_whose_server_fails_does_not() {
    let apps = servers(|request, stream| match &*request.target {
        "/503" => Some(status(stream, "503 Busy", "")),
        _ => None,
    });
    let pool = format!("{STICKY}, retries: {{ max: 3 }}");
    let balancer = Balancer::start(&plain(&addresses(&apps), "", &pool));
    let sessions = sessions(&balancer);
    let before: Vec<_> = apps.iter().map(App::hits).collect();
    assert_eq!(ask_for(balancer.address("web"), "/503", &sessions[0].cookie).status, 503);
    let hits: usize = apps.iter().zip(before).map(|(app, before)| app.hits() - before).sum();
    assert_eq!(hits, 1, "elsewhere it is a stranger");

    let mut apps = apps;
    let gone = NAMES.iter().position(|name| *name == sessions[0].server).expect("one of them");
    drop(apps.remove(gone));
    let response = ask_for(balancer.address("web"), "/moved", &sessions[0].cookie);
    assert_eq!(response.status, 200);
    assert_ne!(response.text(), sessions[0].server);
    let cookie = set_cookie(&response).expect("a new cookie");
    assert_eq!(ask(&balancer, &cookie).text(), response.text());
    assert_eq!(balancer.record("/moved")["sticky"], "moved");
}

#[test]
fn a_client_that_came_by_tls_is_told_to_keep_the_cookie_there() {
    let apps = servers(|_, _| None);
    let certificate = Certificate::named(&["shop.example"]);
    let files = Shop::new(&[("shop", &certificate)]);
    let tls = files.tls(&["shop"], "");
    let pool = "sticky: { cookie: __Host-EK, same_site: none, max_age: 1h }";
    let balancer = Balancer::start(&plain(&addresses(&apps), &tls, pool));
    let stream = Speaker::new().connect(balancer.address("web"), "shop.example").expect("a handshake");
    let response = Client::over_tls(stream).get("/");
    let set = response.field("set-cookie");
    assert!(set.ends_with("; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=None"), "{set}");

    let text = plain(&addresses(&apps), "trusted_proxies: [127.0.0.1]", STICKY);
    let balancer = Balancer::start(&text);
    for (fields, is_secure) in [
        ("X-Forwarded-Proto: https\r\n", true),
        ("Forwarded: for=192.0.2.1;proto=https\r\n", true),
        ("X-Forwarded-Proto: http\r\n", false),
        ("", false),
    ] {
        let mut client = balancer.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(client.response().field("set-cookie").contains("; Secure"), is_secure, "{fields}");
    }
}

#[test]
fn every_version_of_http_has_its_cookie() {
    let apps = servers(|_, _| None);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", STICKY));
    let session = balancer.get("/");
    let cookie = set_cookie(&session).expect("a cookie");
    let mut old = balancer.client();
    old.send(format!("GET / HTTP/1.0\r\nCookie: {cookie}\r\n\r\n"));
    assert_eq!(old.response().text(), session.text());
    let mut new = Connection::new(balancer.address("web"));
    let fields = [
        (":method", "GET"),
        (":path", "/"),
        (":scheme", "http"),
        (":authority", "a"),
        ("cookie", "a=1"),
        ("cookie", &cookie),
        ("cookie", "b=2"),
    ];
    new.fields(1, &fields, true);
    assert_eq!(new.response(1), (200, session.body.clone()));
    let server = &apps[NAMES.iter().position(|name| *name == session.text()).expect("one of them")];
    assert_eq!(server.last().field("cookie"), "a=1; b=2");
}

#[test]
fn the_applications_own_cookie_can_carry_it() {
    let apps = servers(|request, stream| {
        let set = match &*request.target {
            "/login" => "Set-Cookie: SID=abc; Path=/app; Secure\r\nSet-Cookie: other=1\r\n",
            "/quoted" => "Set-Cookie: SID=\"a b\"\r\n",
            "/logout" => "Set-Cookie: SID=; Max-Age=0\r\n",
            _ => return None,
        };
        Some(send(
            stream,
            &format!("HTTP/1.1 200 OK\r\n{set}Cache-Control: public\r\nContent-Length: 0\r\n\r\n"),
        ))
    });
    let pool = "sticky: { cookie: SID, mode: suffix }, balance: round_robin";
    let balancer = Balancer::start(&plain(&addresses(&apps), "", pool));
    assert_eq!(set_cookie(&balancer.get("/")), None, "there is no session yet");
    let response = balancer.get("/login");
    let set: Vec<_> = response.fields.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!(set.len(), 2);
    let session = set.iter().find(|(_, value)| value.starts_with("SID=abc~")).expect("with the token");
    assert!(session.1.ends_with("; Path=/app; Secure"), "{session:?}");
    let hit = |app: &App| app.requests().iter().any(|request| request.target == "/login");
    let home = apps.iter().position(hit).expect("one was asked");
    for _ in 0..5 {
        let response = ask(&balancer, &format!("x=1; {}", pair(&session.1)));
        assert_eq!((&*response.text(), response.field("set-cookie")), (NAMES[home], String::new()));
    }
    assert_eq!(apps[home].last().field("cookie"), "x=1; SID=abc", "the application has its own value");
    let quoted = pair(&balancer.get("/quoted").field("set-cookie"));
    assert!(quoted.starts_with("SID=\"a b~") && quoted.ends_with('"'), "{quoted}");
    let response = ask(&balancer, &quoted);
    let home = NAMES.iter().position(|name| *name == response.text()).expect("one of them");
    assert_eq!(apps[home].last().field("cookie"), "SID=\"a b\"");
    assert_eq!(ask_for(balancer.address("web"), "/logout", &quoted).field("set-cookie"), "SID=; Max-Age=0");
    // A value that was there before is nobody's.
    assert_eq!(ask(&balancer, "SID=abc").status, 200);
    wait_for_result(&balancer, "none", 2.0);
}

#[test]
fn a_server_that_leaves_the_configuration_and_comes_back_has_its_clients_again() {
    let apps = servers(|_, _| None);
    let text = plain(&addresses(&apps), "", STICKY);
    let balancer = Balancer::start(&text);
    let sessions = sessions(&balancer);
    assert_eq!(balancer.reload(&plain(&addresses(&apps)[..3], "", STICKY)), Reloaded::Taken);
    let (gone, stay): (Vec<_>, Vec<_>) = sessions.iter().cloned().partition(|session| session.server == "s4");
    all_stay(&balancer, &stay, "others go");
    for session in &gone {
        assert!(set_cookie(&ask(&balancer, &session.cookie)).is_some());
    }
    wait_for_result(&balancer, "moved", 2.0);
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    all_stay(&balancer, &sessions, "it is back");
    wait_for_result(&balancer, "kept", 14.0);
}

#[test]
fn who_is_explained_is_who_a_cookie_means() {
    let apps = servers(|_, _| None);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", STICKY));
    let url = format!("http://{}/", balancer.address("web"));
    let explain = |cookie: &str| {
        let field = format!("Cookie: {cookie}");
        balancer.command_json(&["explain", &url, "--listener", "web", "-H", &field])
    };
    for session in sessions(&balancer) {
        let told = explain(&session.cookie);
        assert_eq!(told["winner"]["name"], session.server, "{told}");
        assert_eq!(told["sticky"], format!("cookie EK means {}", session.server));
        assert_eq!(ask(&balancer, &session.cookie).text(), session.server);
    }
    assert!(explain("EK=forged")["sticky"].as_str().is_some_and(|said| said.contains("none of ours")));
}

#[test]
fn a_drained_pool_keeps_its_clients_though_another_serves_new_ones() {
    let apps = servers(|_, _| None);
    let address = |index: usize| apps[index].address;
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: blue }}\npools:\n\
         \x20 blue: {{ servers: [{{ name: s1, address: {} }}], {STICKY}, fallback: green }}\n\
         \x20 green: {{ servers: [{{ name: s2, address: {} }}], sticky: {{ cookie: GREEN }} }}\n",
        address(0),
        address(1)
    );
    let balancer = Balancer::start(&text);
    let cookie = set_cookie(&balancer.get("/")).expect("a cookie");
    assert_eq!(balancer.command(&["drain", "blue/s1", "--force"]).0, Some(0));
    let new = balancer.get("/");
    assert_eq!(new.text(), "s2");
    assert!(set_cookie(&new).is_some_and(|cookie| cookie.starts_with("GREEN=")));
    assert_eq!(ask(&balancer, &cookie).text(), "s1");
    let url = format!("http://{}/", balancer.address("web"));
    let told =
        balancer.command_json(&["explain", &url, "--listener", "web", "-H", &format!("Cookie: {cookie}")]);
    assert_eq!(told["winner"]["name"], "s1", "{told}");
    assert_eq!(balancer.command(&["maint", "blue/s1", "--force"]).0, Some(0));
    assert_eq!(ask(&balancer, &cookie).text(), "s2");
    assert_eq!(balancer.command(&["ready", "blue/s1"]).0, Some(0));
    assert_eq!(ask(&balancer, &cookie).text(), "s1", "its cookie was not taken away");
}

#[test]
fn servers_of_a_fallback_see_no_cookie_of_the_pool_that_they_serve_for() {
    let seen = |request: &Request, stream: &mut TcpStream| {
        let cookies = request.field("cookie");
        Some(say(stream, &format!("[{cookies}]")))
    };
    let apps = servers(seen);
    let pool = |index: usize, more: &str| {
        format!("{{ servers: [{{ name: s, address: {} }}]{more} }}", apps[index].address)
    };
    let text = format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, pool: blue }} }}\npools:\n  blue: {}\n  green: {}\n  last: {}\n",
        pool(0, ", sticky: { cookie: EK }, fallback: green"),
        pool(1, ", sticky: { cookie: GREEN }, fallback: last"),
        pool(2, "")
    );
    let balancer = Balancer::start(&text);
    let cookies = "EK=e; a=1; GREEN=g";
    assert_eq!(ask(&balancer, cookies).text(), "[a=1]");
    assert_eq!(balancer.command(&["maint", "blue/s", "--force"]).0, Some(0));
    assert_eq!(ask(&balancer, cookies).text(), "[a=1]");
    assert_eq!(balancer.command(&["maint", "green/s", "--force"]).0, Some(0));
    assert_eq!(ask(&balancer, cookies).text(), "[a=1]");
}
