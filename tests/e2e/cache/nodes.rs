//! What is purged on one node is purged on the others, and who purges is told where it is.

use super::{app, get, sections};
use crate::support::app::{App, Refusing, Silent};
use crate::support::balancer::{Balancer, Directory, Next, Reloaded, evenkeel};
use crate::support::tcp::Server;
use crate::support::ways::{Asked, Way, Ways};
use crate::support::{wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::Read;
use std::time::{Duration, Instant};

const TAGGED: &str = "/shop/with/cache-control:max-age=60&surrogate-key:p1+p2&etag:%22x%22";

/// A node with servers of its own.
struct Node {
    app: App,
    balancer: Balancer,
}

/// The file of one that tells these nodes; `admin` is in place of a socket and an address as tests have them.
fn text(app: &App, admin: &str, nodes: &[String]) -> String {
    let nodes = nodes.join(", ");
    let admin = if admin.is_empty() { String::new() } else { format!("admin: {{ {admin} }}\n") };
    let rules = "    - { name: all, cache: {}, pool: app }\n";
    format!(
        "{admin}cache: {{ purge_from: [127.0.0.1], purge_nodes: [{nodes}] }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, routes: shop }} }}\n{}",
        sections(app, rules)
    )
}

impl Node {
    #[track_caller]
    fn start(nodes: &[String]) -> Self {
        Self::with_admin("", nodes)
    }

    #[track_caller]
    fn with_admin(admin: &str, nodes: &[String]) -> Self {
        let app = app();
        let balancer = Balancer::start(&text(&app, admin, nodes));
        Self { app, balancer }
    }

    #[track_caller]
    fn name(&self, nodes: &[String]) {
        assert_eq!(self.balancer.reload(&text(&self.app, "", nodes)), Reloaded::Taken);
    }

    /// As others name it.
    fn socket(&self) -> String {
        format!("unix:{}", self.balancer.path("admin.sock").display())
    }

    /// Asks for what is kept by now; whether its server was asked about it.
    #[track_caller]
    fn was_asked(&self) -> bool {
        let before = self.app.hits();
        assert_eq!(self.balancer.get(TAGGED).status, 200);
        self.app.hits() > before
    }

    /// Purges of every kind.
    fn purges(&self) -> f64 {
        self.balancer.metric("evenkeel_cache_purges_total", &[])
    }

    fn status(&self) -> Value {
        self.balancer.command_json(&["status"])["cache"]["nodes"][0].clone()
    }

    /// What the ledger says of other nodes.
    #[track_caller]
    fn events(&self) -> Vec<String> {
        let (code, told, _) = self.balancer.command(&["events", "--kind", "cache", "--json"]);
        assert_eq!(code, Some(0));
        let to = |line: &str| {
            let event: Value = serde_json::from_str(line).expect("each is JSON");
            event["to"].as_str().unwrap_or_default().to_owned()
        };
        told.lines().map(to).collect()
    }

    fn behind(&self) -> f64 {
        self.balancer.metric("evenkeel_cache_purge_node_behind", &[])
    }
}

/// The receipt's nodes: `name ok` or `name why`.
fn told(receipt: &Value) -> Vec<String> {
    let nodes = receipt["nodes"].as_array().expect("there is a list of nodes");
    let one = |node: &Value| {
        let why = if node["confirmed"] == true { "ok" } else { node["why"].as_str().unwrap_or("no reason") };
        format!("{} {why}", node["node"].as_str().unwrap_or_default())
    };
    nodes.iter().map(one).collect()
}

/// What a purge that some node has not confirmed says.
#[track_caller]
fn purge_and_fail(node: &Node) -> Value {
    let (code, out, err) = node.balancer.command(&["purge", "--tag", "p1", "--json"]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(err.contains("has not confirmed"), "{err}");
    serde_json::from_str(&out).expect("--json prints JSON")
}

fn quoted(name: impl Display) -> String {
    format!("\"{name}\"")
}

#[test]
fn what_is_purged_on_one_node_is_purged_on_the_others() {
    let others = [Node::start(&[]), Node::start(&[])];
    let names = others.each_ref().map(Node::socket);
    let one = Node::start(&names);
    let all = [&one, &others[0], &others[1]];
    let url = format!("http://test{TAGGED}?utm_a=2");
    all.iter().for_each(|node| _ = node.was_asked());
    for (arguments, is_purged) in [
        // First, for it is as strict as what was purged before.
        (&["--all"][..], true),
        (&["--tag", "p2"], true),
        (&["--tag", "p3", "--tag", "p1"], true),
        (&["--tag", "p"], false),
        (&[url.as_str()], true),
        (&["--prefix", "test/shop/"], true),
        (&["--prefix", "other/"], false),
    ] {
        for hard in [false, true] {
            let more: &[&str] = if hard { &["--hard"] } else { &[] };
            let (code, said, err) = one.balancer.command(&[&["purge"], arguments, more].concat());
            assert_eq!(code, Some(0), "{arguments:?}: {err}");
            assert!(said.lines().nth(1).is_some_and(|line| line.starts_with("confirmed by unix:")), "{said}");
            assert!(names.iter().all(|name| said.contains(&**name)), "{said}");
            for (place, node) in all.iter().enumerate() {
                let what = format!("{arguments:?} {hard} {place}");
                assert_eq!(node.was_asked(), is_purged, "{what}");
                if is_purged {
                    assert_eq!(node.app.last().has("if-none-match"), !hard, "{what}");
                }
                assert!(!node.was_asked(), "{what}: it is good again");
            }
        }
    }
    let receipt = one.balancer.command_json(&["purge", "--all", "--hard"]);
    let expected: Vec<_> = names.iter().map(|name| format!("{name} ok")).collect();
    assert_eq!((&receipt["purges"], &receipt["hard"]), (&json!(1), &json!(true)));
    assert_eq!(told(&receipt), expected);
    assert_eq!(one.balancer.series("evenkeel_cache_purge_node_behind", &[]), [0.0, 0.0]);
}

#[test]
fn a_purge_by_method_tells_the_others_and_says_who_has_confirmed() {
    let other = Node::start(&[]);
    let name = other.socket();
    let app = app();
    let rules = "    - { name: all, cache: {}, pool: app }\n";
    let cache = format!("cache: {{ purge_from: [127.0.0.1], purge_nodes: [\"{name}\"] }}\n");
    let one = Ways::start("routes: shop", &format!("{cache}{}", sections(&app, rules)));
    let asked = |target, fields| Asked { host: "test", ..get(target, fields) };
    let magento = "((^|,)p9(,|$))|((^|,)p1(,|$))";
    for (fields, purges, is_purged) in [
        (&[][..], 1, true),
        (&[("surrogate-key", "p7 p2")], 2, true),
        (&[("cache-tag", "p7")], 1, false),
        (&[("x-magento-tags-pattern", magento)], 2, true),
        (&[("x-magento-tags-pattern", ".*")], 1, true),
    ] {
        for way in [Way::Http11, Way::H2] {
            one.ask(way, asked(TAGGED, &[]));
            other.was_asked();
            let purged = one.ask(way, Asked { method: "PURGE", ..asked(TAGGED, fields) });
            assert_eq!(purged.status, 200, "{fields:?} {way:?}");
            assert_eq!(purged.field("content-type"), "application/json");
            let receipt: Value = serde_json::from_str(&purged.text()).expect("it is JSON");
            let node = json!({ "node": name, "confirmed": true, "why": null });
            assert_eq!(receipt, json!({ "purges": purges, "hard": false, "nodes": [node] }), "{fields:?}");
            assert_eq!(other.was_asked(), is_purged, "{fields:?} {way:?}");
            let before = app.hits();
            one.ask(way, asked(TAGGED, &[]));
            assert_eq!(app.hits() > before, is_purged, "{fields:?} {way:?}");
        }
    }
    // What cannot be read is passed on to nobody.
    let before = other.purges();
    for fields in [&[("x-magento-tags-pattern", "p.*")][..], &[("cache-tag", "a,\u{ff}")]] {
        let mut client = one.balancer.client();
        let (name, value) = fields[0];
        let value: Vec<u8> = value.chars().map(|letter| letter as u8).collect();
        client.send(
            [format!("PURGE / HTTP/1.1\r\nHost: test\r\n{name}: ").as_bytes(), &value, b"\r\n\r\n"].concat(),
        );
        assert_eq!(client.response().status, 400, "{name}");
    }
    assert_eq!(other.purges(), before);
}

#[test]
fn a_node_passes_on_nothing_that_was_passed_on_to_it() {
    // In a ring, and each to all.
    let nodes: Vec<_> = (0..3).map(|_| Node::start(&[])).collect();
    let sockets: Vec<_> = nodes.iter().map(Node::socket).collect();
    for (place, node) in nodes.iter().enumerate() {
        let others = sockets.iter().enumerate().filter(|(other, _)| *other != place);
        node.name(&others.map(|(_, socket)| socket.clone()).collect::<Vec<_>>());
    }
    for (place, node) in nodes.iter().enumerate() {
        assert_eq!(node.balancer.command(&["purge", "--tag", "p1"]).0, Some(0));
        for (other, node) in nodes.iter().enumerate() {
            assert_eq!(node.purges(), (place + 1) as f64, "{place} {other}");
        }
    }
    // One that is named in its own list is left out, and where that cannot be seen it tells itself once.
    let node = Node::start(&[]);
    node.name(&[node.socket()]);
    assert_eq!(told(&node.balancer.command_json(&["purge", "--tag", "p1"])), [""; 0]);
    let directory = Directory::new();
    let alias = directory.0.join("other.sock");
    std::os::unix::fs::symlink(node.balancer.path("admin.sock"), &alias).expect("a link can be made");
    node.name(&[format!("unix:{}", alias.display())]);
    let receipt = node.balancer.command_json(&["purge", "--tag", "p1"]);
    assert_eq!(told(&receipt), [format!("unix:{} ok", alias.display())]);
    assert_eq!(node.purges(), 3.0);
}

/// Dead, silent before and after it accepts, and one that refuses: by all of them together nobody is kept waiting for long, and what
/// is purged here is in force at once.
#[test]
fn nodes_that_do_not_confirm_hold_up_nobody() {
    let good = Node::start(&[]);
    let (dead, silent) = (Refusing::new(), Silent::new());
    let mute = Server::new(|mut stream| _ = stream.read_to_end(&mut Vec::new()));
    let refuses = Node::start(&[]);
    let names = [
        quoted(dead.address),
        quoted(silent.address),
        quoted(mute.address),
        quoted(refuses.balancer.admin_address()),
        quoted(good.socket()),
    ];
    let one = Node::start(&names);
    one.was_asked();
    assert!(!one.was_asked());
    let mut command =
        one.balancer.command_to_be_run(&["purge", "--tag", "p1", "--json"]).spawn().expect("it runs");
    wait_until("it is purged here", || one.purges() == 1.0);
    wait_until("one of them is asked", || mute.accepted() > 0);
    assert!(command.try_wait().expect("it can be waited for").is_none(), "it waits for the others");
    assert!(one.was_asked(), "and nobody else does");
    let output = command.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(3));
    let receipt: Value = serde_json::from_slice(&output.stdout).expect("--json prints JSON");
    let expected = [
        "no connection: Connection refused (os error 111)",
        "no answer within 2s",
        "no answer within 2s",
        "it answers 403 Forbidden: nothing can be changed over TCP, because there is no `admin.token_file`",
        "ok",
    ];
    let bare = |name: &String| name.trim_matches('"').to_owned();
    let expected: Vec<_> =
        names.iter().zip(expected).map(|(name, why)| format!("{} {why}", bare(name))).collect();
    assert_eq!(told(&receipt), expected);
    assert_eq!(one.behind(), 4.0);
    // Who purges then is told at once what is known already.
    let since = Instant::now();
    let again = purge_and_fail(&one);
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(told(&again)[3..], expected[3..]);
    let one_dead = [("node", &*dead.address.to_string())];
    assert!(one.balancer.metric("evenkeel_cache_purge_node_failures_total", &one_dead) >= 1.0);
    one.balancer.log.wait_for("a node has not confirmed a purge, and is asked again until it does");
    assert_eq!(one.events(), ["behind"; 4]);
}

#[test]
fn a_node_that_was_away_is_told_what_it_has_missed() {
    let directory = Directory::new();
    let socket = directory.0.join("other.sock");
    let one = Node::start(&[format!("unix:{}", socket.display())]);
    purge_and_fail(&one);
    let (code, _, err) = one.balancer.command(&["purge", "--tag", "p2", "http://test/a"]);
    assert_eq!(code, Some(3), "{err}");
    assert_eq!((one.behind(), &one.status()["missing"]), (1.0, &json!(3)));
    let (_, told, _) = one.balancer.command(&["status"]);
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("other.sock LACKS 3 purges: no connection"), "{told}");
    let admin = format!("address: 127.0.0.1:0, socket: {}, state_file: null", socket.display());
    let other = Node::with_admin(&admin, &[]);
    wait_until("it has what it has missed", || other.purges() == 3.0);
    wait_until("that is known", || one.behind() == 0.0);
    assert_eq!((&one.status()["missing"], &one.status()["why"]), (&json!(0), &Value::Null));
    one.balancer.log.wait_for("a node has confirmed the purges that it had missed");
    assert_eq!(one.balancer.command(&["purge", "--tag", "p2"]).0, Some(0));
    assert_eq!(one.events(), ["behind", "confirmed"]);
    let (_, told, _) = one.balancer.command(&["events", "--kind", "cache", "--json"]);
    assert!(told.contains("had missed; it had not until now: no connection"), "{told}");
}

#[test]
fn over_tcp_a_node_is_shown_its_token() {
    let directory = Directory::new();
    let token = |name: &str, text: &str| {
        let file = directory.0.join(name);
        std::fs::write(&file, text).expect("writable");
        file.display().to_string()
    };
    let (ours, theirs) = (token("ours", "0123456789abcdef"), token("theirs", "another-token-of-some-length"));
    let admin = |file: &str| {
        format!("address: 127.0.0.1:0, socket: DIR/admin.sock, state_file: null, token_file: {file}")
    };
    let (same, other) = (Node::with_admin(&admin(&ours), &[]), Node::with_admin(&admin(&theirs), &[]));
    let [same_at, other_at] = [&same, &other].map(|node| node.balancer.admin_address().to_string());
    let own_app = app();
    let with = |nodes: &[String]| text(&own_app, &admin(&ours), nodes);
    let one = Balancer::start(&with(&[quoted(&same_at), quoted(&other_at)]));
    let (code, out, err) = one.command(&["purge", "--tag", "p1", "--json"]);
    assert_eq!(code, Some(3), "{err}");
    let receipt: Value = serde_json::from_str(&out).expect("--json prints JSON");
    assert_eq!(told(&receipt)[0], format!("{same_at} ok"));
    assert!(
        told(&receipt)[1].contains("it answers 401 Unauthorized: a change over TCP must show"),
        "{receipt}"
    );
    // A reload shows it another at once, and it is told what it has missed.
    let named = format!("{{ address: \"{other_at}\", token_file: {theirs} }}");
    assert_eq!(one.reload(&with(&[quoted(&same_at), named.clone()])), Reloaded::Taken);
    wait_until("it has confirmed", || other.purges() == 1.0);
    wait_for("its confirmation is known", || {
        let behind = one.metric("evenkeel_cache_purge_node_behind", &[]);
        (behind == 0.0).then_some(())
    });
    assert_eq!(one.command(&["purge", "--tag", "p1"]).0, Some(0));
    other.balancer.log.wait_for("cache purged by=\"passed-on (token from 127.0.0.1)\"");
    // One that cannot be read is refused, with its place.
    token("theirs", "short");
    assert_eq!(one.reload(&with(&[quoted(&same_at), named])), Reloaded::Refused);
    one.log.wait_for("cache.purge_nodes[1].token_file: ");
}

#[test]
fn a_node_that_leaves_the_list_is_waited_for_no_longer() {
    let mute = Server::new(|mut stream| _ = stream.read_to_end(&mut Vec::new()));
    let one = Node::start(&[quoted(mute.address)]);
    let mut command = one.balancer.command_to_be_run(&["purge", "--tag", "p1"]).spawn().expect("it runs");
    wait_until("it is asked", || mute.accepted() > 0);
    assert!(command.try_wait().expect("it can be waited for").is_none());
    one.name(&[]);
    let output = command.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("not one of `cache.purge_nodes` any more"), "{err}");
    assert_eq!(one.balancer.command(&["purge", "--tag", "p1"]).0, Some(0));
    // With plan it is seen before.
    one.balancer.write(&text(&one.app, "", &[quoted(mute.address)]));
    let (code, said, _) = one.balancer.command(&["plan"]);
    assert!(code == Some(3) && said.contains("cache.purge_nodes"), "{said}");
}

/// A node without a cache has nothing to be purged, which is as good.
#[test]
fn a_node_that_keeps_nothing_confirms() {
    let app = app();
    let other = Balancer::start(&crate::support::balancer::plain(&[app.address], "", ""));
    let one = Node::start(&[format!("unix:{}", other.path("admin.sock").display())]);
    assert_eq!(one.balancer.command(&["purge", "--all"]).0, Some(0));
    let mut check = evenkeel();
    let file = one.balancer.path("evenkeel.yaml");
    std::fs::write(&file, text(&one.app, "socket: /run/a.sock", &["unix:/run/a.sock".to_owned()]))
        .expect("writable");
    let output = check.arg("check").arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("own admin endpoint"), "{said}");
}

#[test]
fn what_a_node_has_missed_is_left_to_the_next_process() {
    let dead = Refusing::new();
    let mut one = Node::start(&[dead.address.to_string()]);
    assert_eq!(one.balancer.command(&["purge", "--tag", "p1"]).0, Some(3));
    wait_until("it has missed that", || one.status()["missing"] == 1);
    one.balancer.signal(Signal::USR2);
    let next = Next::of(&one.balancer);
    one.balancer.wait_for_exit();
    wait_until("the next process asks it", || {
        one.status()["missing"] == 1
            && one.status()["why"].as_str().is_some_and(|why| why.contains("connection"))
    });
    next.end();
}
