//! Keys that leave with a reload and come back with another: what was purged and changed meanwhile is not as it was before.

use super::{app, sections};
use crate::support::app::{App, Latch, Refusing, send};
use crate::support::balancer::{Balancer, Directory, Next, Reloaded};
use crate::support::wait_until;
use crate::support::ways::{Asked, Way, Ways};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const PURGED: &str = "/purged/with/cache-control:max-age=600?id=1";
const KEPT: &str = "/kept/with/cache-control:max-age=600?id=1";
const OTHERS: [&str; 4] = ["query: []", "host: false", "ignore_query: [id]", "sort_query: false, query: [x]"];

fn rules(key: &str) -> String {
    format!("    - {{ name: all, cache: {{ key: {{ {key} }} }}, pool: app }}\n")
}

fn with_key(app: &App, key: &str) -> String {
    format!("cache: {{ purge_from: [127.0.0.1] }}\n{}", sections(app, &rules(key)))
}

fn is_hit(shop: &Ways, target: &str) -> bool {
    shop.ask(Way::Http11, Asked::get(target)).field("cache-status").starts_with("evenkeel; hit")
}

#[track_caller]
fn reload(shop: &Ways, rest: &str) {
    assert_eq!(shop.balancer.reload(&shop.configuration("routes: shop", rest)), Reloaded::Taken);
}

#[test]
fn what_was_purged_or_changed_under_other_keys_is_not_found_by_those_of_before() {
    let url = format!("http://shop.example{PURGED}");
    for other in OTHERS {
        let app = app();
        let shop = Ways::start("routes: shop", &with_key(&app, ""));
        let by_command = |arguments: &[&str]| {
            assert_eq!(shop.balancer.command(&[&["purge"], arguments].concat()).0, Some(0), "{arguments:?}");
        };
        let by_method = |method| {
            let told = shop.ask(Way::Http11, Asked { method, ..Asked::get(PURGED) });
            assert_eq!(told.status, 200, "{method}");
        };
        let ways: [&dyn Fn(); 5] = [
            &|| by_command(&["--hard", &url]),
            &|| by_command(&[&url]),
            &|| by_command(&["--hard", "--prefix", "shop.example/purged"]),
            &|| by_method("PURGE"),
            &|| by_method("POST"),
        ];
        assert!(!is_hit(&shop, KEPT));
        for (place, purge) in ways.iter().enumerate() {
            is_hit(&shop, PURGED);
            assert!(is_hit(&shop, PURGED) && is_hit(&shop, KEPT), "{other} {place}");
            reload(&shop, &with_key(&app, other));
            purge();
            reload(&shop, &with_key(&app, ""));
            assert!(!is_hit(&shop, PURGED) && is_hit(&shop, PURGED), "{other} {place}");
            assert!(is_hit(&shop, KEPT), "{other} {place}: nobody has purged it");
        }
    }
}

#[test]
fn keys_that_come_for_the_first_time_keep_what_is_found_by_them_too() {
    let app = app();
    let shop = Ways::start("routes: shop", &with_key(&app, ""));
    assert!(!is_hit(&shop, KEPT));
    shop.ask(Way::Http11, Asked { method: "POST", ..Asked::get(PURGED) });
    reload(&shop, &with_key(&app, "ignore_query: [campaign]"));
    assert!(is_hit(&shop, KEPT) && is_hit(&shop, &format!("{KEPT}&campaign=1")));
}

#[test]
fn what_was_purged_while_a_reload_was_watched_is_not_found_once_that_is_taken_back() {
    let (app, refusing) = (app(), Refusing::new());
    let shop = Ways::start("routes: shop", &with_key(&app, ""));
    is_hit(&shop, PURGED);
    assert!(is_hit(&shop, PURGED));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    shop.ask(Way::Http11, Asked::get("/none"));
                }
            });
        }
        wait_until("the history has traffic", || app.hits() > 100);
        let worse =
            with_key(&app, "query: []").replace(&app.address.to_string(), &refusing.address.to_string());
        shop.balancer.write(&shop.configuration("routes: shop", &worse));
        let watched = shop.balancer.command_to_be_run(&["reload", "--guard", "30s", "--min-requests", "4"]);
        let watched = { watched }.stderr(std::process::Stdio::piped()).spawn().expect("it runs");
        wait_until("it is in force", || shop.balancer.generation() > 1.0);
        let purged = shop.balancer.command(&["purge", "--hard", &format!("http://shop.example{PURGED}")]);
        let watched = watched.wait_with_output();
        stop.store(true, SeqCst);
        let said = watched.map(|watched| String::from_utf8_lossy(&watched.stderr).into_owned());
        assert!(said.is_ok_and(|said| said.contains("rolled back: pools.app: ")) && purged.0 == Some(0));
    });
    assert!(!is_hit(&shop, PURGED));
}

#[test]
fn what_was_purged_by_a_process_with_other_keys_is_not_found_on_the_disk_either() {
    let (app, kept) = (app(), Directory::new());
    let folder = kept.0.join("cache");
    let text = |key: &str| {
        let disk =
            format!("cache: {{ disk: {{ path: {}, size: 8MiB, min_object: 1B }} }}\n", folder.display());
        format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, routes: shop }} }}\n{disk}{}",
            sections(&app, &rules(key))
        )
    };
    let start = |key| {
        let balancer = Balancer::start(&text(key));
        balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
        balancer
    };
    let is_hit = |balancer: &Balancer, target| {
        let mut client = balancer.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
        client.response().field("cache-status").starts_with("evenkeel; hit")
    };
    let purge = |balancer: &Balancer| {
        let purged = balancer.command(&["purge", "--hard", &format!("http://shop.example{PURGED}")]);
        assert_eq!(purged.0, Some(0));
    };
    let stop = |mut balancer: Balancer| {
        balancer.signal(Signal::TERM);
        balancer.wait_for_exit();
    };
    let written = || {
        wait_until("they are written", || {
            let files = super::disk::files(&folder);
            files.len() == 2 && files.iter().all(|path| path.extension().is_none())
        });
    };
    let balancer = start("");
    assert!(!is_hit(&balancer, PURGED) && !is_hit(&balancer, KEPT));
    written();
    stop(balancer);
    let balancer = start("query: []");
    purge(&balancer);
    stop(balancer);
    let mut balancer = start("");
    assert!(!is_hit(&balancer, PURGED) && is_hit(&balancer, PURGED) && is_hit(&balancer, KEPT), "restarts");
    written();
    // The next process has other keys, and a reload brings those of before back.
    balancer.write(&text("host: false"));
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    purge(&balancer);
    balancer.wait_for_exit();
    balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
    balancer.write(&text(""));
    assert_eq!(balancer.command(&["reload"]).0, Some(0));
    assert!(!is_hit(&balancer, PURGED) && is_hit(&balancer, KEPT), "an upgrade");
    next.end();
}

#[test]
fn a_change_on_its_way_over_a_reload_reaches_what_was_kept_by_the_keys_before_and_after() {
    for (before, after) in OTHERS.iter().flat_map(|other| [("", *other), (*other, "")]) {
        let latch = Latch::default();
        let held = latch.clone();
        let app = App::new(move |request, stream| {
            if request.method == "POST" {
                held.wait();
            }
            send(stream, "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 4\r\n\r\npage")
        });
        let shop = Ways::start("routes: shop", &with_key(&app, before));
        std::thread::scope(|scope| {
            let change = scope.spawn(|| {
                shop.ask(Way::Http11, Asked { method: "POST", ..Asked::get(PURGED) });
            });
            wait_until("the change is on its way", || app.hits() == 1);
            is_hit(&shop, PURGED);
            assert!(is_hit(&shop, PURGED), "{before} {after}");
            reload(&shop, &with_key(&app, after));
            is_hit(&shop, PURGED);
            assert!(is_hit(&shop, PURGED), "{before} {after}");
            latch.open();
            change.join().expect("it is answered");
        });
        assert!(!is_hit(&shop, PURGED), "{before} {after}");
        reload(&shop, &with_key(&app, before));
        assert!(!is_hit(&shop, PURGED), "{before} {after}");
    }
}
