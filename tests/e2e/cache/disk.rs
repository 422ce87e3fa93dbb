//! What is kept on a disk: it outlives the process, and whatever becomes of it, nobody is served anything but what its server has said.

use crate::support::app::{App, Request, Then, send};
use crate::support::balancer::{Balancer, Directory, Next, Reloaded};
use crate::support::client::{self, Client};
use crate::support::ways::{Asked, Way, Ways};
use crate::support::{wait_for, wait_until};
use rustix::process::Signal;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// The body of a target that ends with its length: it says throughout what it is of.
fn body(target: &str) -> String {
    let length = target.rsplit('/').next().and_then(|length| length.parse().ok()).unwrap_or(0);
    let line = format!("{target}\n");
    line.repeat(length / line.len() + 1)[..length].to_owned()
}

fn app() -> App {
    App::new(answer)
}

fn answer(request: &Request, stream: &mut TcpStream) -> Then {
    let (etag, body) = (format!("\"{}\"", request.target), body(&request.target));
    if request.field("if-none-match") == etag {
        return send(stream, &format!("HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n"));
    }
    let length = body.len();
    let body = if request.method == "HEAD" { "" } else { &body };
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nCache-Tag: all";
    send(stream, &format!("{head}\r\nETag: {etag}\r\nContent-Length: {length}\r\n\r\n{body}"))
}

fn sections(app: &App, disk: &str) -> String {
    format!(
        "cache: {{ memory: 8MiB, max_object: 1MiB, purge_from: [127.0.0.1], disk: {{ {disk} }} }}\n\
         routes: {{ shop: [{{ name: all, cache: {{}}, pool: app }}] }}\n\
         pools: {{ app: {{ servers: ['{}'], retries: {{ max: 0 }} }} }}\n",
        app.address
    )
}

fn text(app: &App, disk: &str) -> String {
    format!("listeners: {{ web: {{ address: 127.0.0.1:0, routes: shop }} }}\n{}", sections(app, disk))
}

fn at(folder: &Path, more: &str) -> String {
    format!("path: {}, {more}", folder.display())
}

#[track_caller]
fn start(app: &App, folder: &Path, more: &str) -> Balancer {
    let balancer = Balancer::start(&text(app, &at(folder, more)));
    balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
    balancer
}

#[track_caller]
fn stop(mut balancer: Balancer) {
    balancer.signal(Signal::TERM);
    balancer.wait_for_exit();
}

#[track_caller]
fn on_disk(balancer: &Balancer, responses: f64) {
    balancer.wait_for_metric("evenkeel_cache_objects", &[("tier", "disk")], responses);
    // They are counted as they begin to be written.
    wait_until("they are written", || {
        files(&balancer.path("cache")).iter().all(|path| path.extension().is_none())
    });
}

pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let below = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|file| file.path());
    below(folder.join("objects")).flat_map(below).collect()
}

/// Waits until so many responses have their files. What the disk is too far behind with is not kept: who wants all of what is long
/// kept waits after each.
#[track_caller]
fn written(folder: &Path, count: usize) {
    wait_until("they are written", || {
        let files = files(folder);
        files.len() == count && files.iter().all(|path| path.extension().is_none())
    });
}

#[test]
fn a_restart_begins_with_what_was_kept_before_by_every_way() {
    let (app, folder) = (app(), Directory::new());
    let folder = folder.0.join("cache");
    let targets = ["/a/16384", "/b/300000", "/c/1000000"];
    let ask = |shop: &Ways, way, target: &str, fields: &[(&str, &str)]| {
        shop.ask(way, Asked { fields, ..Asked::get(target) })
    };
    let kept = {
        let shop = Ways::start("routes: shop", &sections(&app, &at(&folder, "size: 64MiB")));
        shop.balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
        // Once by each scheme, which is part of the key.
        let by_scheme = |target| [Way::Http11, Way::H2Tls].map(|way| (way, target));
        for (n, (way, target)) in targets.into_iter().flat_map(by_scheme).enumerate() {
            assert!(ask(&shop, way, target, &[]).text() == body(target));
            written(&folder, n + 1);
        }
        for (way, target) in by_scheme("/small/16383") {
            assert!(ask(&shop, way, target, &[]).text() == body(target));
        }
        written(&folder, 6);
        let kept = shop.balancer.metric("evenkeel_cache_bytes", &[("tier", "disk")]);
        stop(shop.balancer);
        kept
    };
    assert!(kept > 2_600_000.0 && kept < 2_800_000.0, "{kept}");
    let hits = app.hits();
    let shop = Ways::start("routes: shop", &sections(&app, &at(&folder, "size: 64MiB")));
    shop.balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
    assert_eq!(shop.balancer.metric("evenkeel_cache_objects", &[("tier", "memory")]), 0.0);
    for (target, result) in [("/c/1000000", "disk"), ("/small/16383", "miss")] {
        let url = format!("http://shop.example{target}");
        let told = shop.balancer.command_json(&["explain", &url, "--listener", "web"]);
        assert_eq!(told["cache"]["result"], result, "{target}");
    }
    let tiers = shop.balancer.command_json(&["status"])["cache"]["tiers"].clone();
    assert_eq!((&tiers[1]["tier"], &tiers[1]["limit"]), (&"disk".into(), &(64 << 20).into()), "{tiers}");
    assert_eq!(tiers[1]["bytes"].as_f64(), Some(kept), "{tiers}");
    for way in Way::ALL {
        for target in targets {
            let whole = ask(&shop, way, target, &[]);
            assert!(whole.complete && whole.text() == body(target), "{way:?} {target}");
            assert!(whole.field("cache-status").starts_with("evenkeel; hit"), "{way:?} {target}");
            let head = shop.ask(way, Asked { method: "HEAD", ..Asked::get(target) });
            assert_eq!(head.field("content-length"), body(target).len().to_string(), "{way:?} {target}");
            let etag = format!("\"{target}\"");
            assert_eq!(ask(&shop, way, target, &[("if-none-match", &etag)]).status, 304, "{way:?} {target}");
            for (range, part) in [("bytes=10-16000", 10..16001), ("bytes=65530-65540", 65_530..65_541)] {
                let Some(expected) = body(target).get(part).map(str::to_owned) else { continue };
                let part = ask(&shop, way, target, &[("range", range)]);
                assert_eq!((part.status, part.text() == expected), (206, true), "{way:?} {target} {range}");
            }
            let parts = ask(&shop, way, target, &[("range", "bytes=0-9,-9")]);
            let last = &body(target)[body(target).len() - 9..];
            assert!(parts.text().contains(&body(target)[..10]) && parts.text().contains(last), "{way:?}");
        }
    }
    assert_eq!(app.hits(), hits);
    // The shortest has gone with the memory.
    assert!(ask(&shop, Way::Http11, "/small/16383", &[]).text() == body("/small/16383"));
    assert_eq!(app.hits(), hits + 1);
    let objects = shop.balancer.metric("evenkeel_cache_objects", &[("tier", "memory")]);
    assert_eq!(objects, 3.0, "short ones are in memory again, by either scheme");
    assert_eq!(shop.balancer.metric("evenkeel_cache_disk_errors_total", &[]), 0.0);
}

#[test]
fn a_process_killed_in_the_middle_of_writing_leaves_nothing_wrong() {
    let (app, folder) = (app(), Directory::new());
    let folder = folder.0.join("cache");
    let mut found = 0.0;
    for round in 0..4_usize {
        let mut balancer = start(&app, &folder, "size: 24MiB, min_object: 0B");
        found += balancer.metric("evenkeel_cache_objects", &[("tier", "disk")]);
        let (address, stop) = (balancer.address("web"), AtomicBool::new(false));
        let served = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for client in 0..4_usize {
                let (stop, served) = (&stop, &served);
                scope.spawn(move || {
                    // Others each round, and some that an earlier one has left.
                    for n in (0..).take_while(|_| !stop.load(Relaxed)) {
                        let number = (round * 20 + n * 7 + client) % 120;
                        let target = format!("/{number}/{}", 5000 * (number + 1));
                        let Ok(stream) = TcpStream::connect(address) else { continue };
                        let Some(response) = Client::over(stream).try_get(&target) else { continue };
                        assert!(response.text() == body(&target) || !response.complete, "{target}");
                        served.fetch_add(usize::from(response.complete), Relaxed);
                    }
                });
            }
            wait_until("it writes", || {
                let whole = || files(&folder).iter().filter(|path| path.extension().is_none()).count();
                served.load(Relaxed) > 150 && whole() > 5
            });
            balancer.signal(Signal::KILL);
            balancer.wait_for_exit();
            stop.store(true, Relaxed);
        });
        let bytes: u64 =
            files(&folder).iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum();
        assert!(bytes <= 24 << 20, "{bytes}");
    }
    assert!(found > 10.0, "{found}");
    let hits = app.hits();
    let balancer = start(&app, &folder, "size: 24MiB, min_object: 0B");
    for number in 0..120 {
        let target = format!("/{number}/{}", 5000 * (number + 1));
        assert!(balancer.get(&target).text() == body(&target), "{target}");
    }
    assert!(app.hits() < hits + 115, "some were there");
}

#[test]
fn what_was_purged_or_changed_does_not_come_back_with_a_restart() {
    let target = "/page/20000";
    let url = format!("http://shop.example{target}");
    for purge in
        [&["--tag", "all"][..], &["--all", "--hard"], &[url.as_str()], &["--prefix", "shop.example/p"]]
    {
        check_purge(target, |balancer| {
            assert_eq!(balancer.command(&[&["purge"], purge].concat()).0, Some(0), "{purge:?}");
        });
    }
    for (method, status) in [("PURGE", 200), ("POST", 200)] {
        check_purge(target, |balancer| {
            let log = balancer.path("cache/purges");
            let length = || fs::metadata(&log).map_or(0, |log| log.len());
            let before = length();
            let mut client = balancer.client();
            client.send(format!(
                "{method} {target} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n"
            ));
            assert_eq!(client.response().status, status, "{method}");
            if method == "POST" {
                // It is noted beside its way.
                wait_until("it is noted", || length() > before);
            }
        });
    }
}

#[track_caller]
fn check_purge(target: &str, purge: impl Fn(&Balancer)) {
    let app = app();
    let kept = Directory::new();
    let folder = kept.0.join("cache");
    let ask = |balancer: &Balancer| {
        let mut client = balancer.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
        client.response().text() == body(target)
    };
    let balancer = Balancer::start(&text(&app, "path: DIR/cache, size: 8MiB"));
    balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
    assert!(ask(&balancer));
    on_disk(&balancer, 1.0);
    written(&balancer.path("cache"), 1);
    purge(&balancer);
    let hits = app.hits();
    fs::create_dir_all(&folder).expect("a folder");
    copy(&balancer.path("cache"), &folder);
    stop(balancer);
    let balancer = start(&app, &folder, "size: 8MiB");
    assert!(ask(&balancer));
    assert_eq!(app.hits(), hits + 1, "its server was asked");
    assert!(ask(&balancer));
    assert_eq!(app.hits(), hits + 1, "and it is good again");
}

/// What a process would leave that was killed now.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp runs");
    assert!(status.success());
}

/// A small file system, if this user may have one.
pub(super) struct SmallDisk<'a>(pub(super) Option<&'a Path>);

impl<'a> SmallDisk<'a> {
    pub(super) fn mount(folder: &'a Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder).output();
        Self(mounted.is_ok_and(|mounted| mounted.status.success()).then_some(folder))
    }

    fn grow(&self) {
        if let Some(folder) = self.0 {
            let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(folder).status();
            assert!(grown.expect("mount runs").success());
        }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        if let Some(folder) = self.0 {
            let _ = Command::new("umount").arg("-l").arg(folder).status();
        }
    }
}

#[test]
fn a_full_disk_is_left_out_and_nobody_notices_until_a_reload_tries_it_again() {
    let (app, kept) = (app(), Directory::new());
    let folder = kept.0.join("cache");
    let disk = SmallDisk::mount(&folder);
    let balancer = start(&app, &folder, "size: 32MiB");
    if disk.0.is_none() {
        // As good: where a shelf should be is a file.
        for shelf in 0..256 {
            fs::write(folder.join(format!("objects/{shelf:02x}")), b"").expect("it can be written");
        }
    }
    let ask_all = || {
        for number in 0..10 {
            let (target, before) = (format!("/{number}/500000"), files(&folder));
            assert!(balancer.get(&target).text() == body(&target), "{target}");
            let is_new = |path: &PathBuf| path.extension().is_none() && !before.contains(path);
            wait_until("it is written, or nothing is", || {
                files(&folder).iter().any(is_new) || balancer.metric("evenkeel_cache_disk_up", &[]) == 0.0
            });
        }
    };
    ask_all();
    balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 0.0);
    assert!(balancer.metric("evenkeel_cache_disk_errors_total", &[("doing", "write")]) >= 1.0);
    // It is out of use before the log has it.
    let said = balancer.log.wait_for("the cache's disk has failed");
    let help = if disk.0.is_some() { "free some room there" } else { "name a folder of its own" };
    assert!(said.contains(help) && said.contains("`evenkeel reload`"), "{said}");
    ask_all();
    assert_eq!(balancer.command(&["purge", "--all", "--hard"]).0, Some(0));
    disk.grow();
    if disk.0.is_none() {
        fs::remove_dir_all(folder.join("objects")).expect("it can be removed");
    }
    assert_eq!(balancer.reload(&text(&app, &at(&folder, "size: 32MiB"))), Reloaded::Taken);
    balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
    let hits = app.hits();
    ask_all();
    assert_eq!(app.hits(), hits + 10, "what was purged meanwhile is purged");
    balancer.wait_for_metric("evenkeel_cache_objects", &[("tier", "disk")], 10.0);
}

#[test]
fn an_upgrade_under_load_keeps_the_disk_and_its_bound() {
    const SIZE: u64 = 6 << 20;
    let (app, kept) = (app(), Directory::new());
    let folder = kept.0.join("cache");
    let mut balancer = start(&app, &folder, "size: 6MiB");
    let (address, stop) = (balancer.address("web"), Arc::new(AtomicBool::new(false)));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..3_usize)
        .map(|client| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                for n in (0..).take_while(|_| !stop.load(Relaxed)) {
                    let number = (n * 13 + client * 5) % 60;
                    let target = format!("/{number}/{}", 17_000 + 5000 * number);
                    assert!(client::get(address, &target).text() == body(&target), "{target}");
                    served.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    let bytes = || -> u64 {
        let lengths = files(&folder).into_iter().filter_map(|path| fs::metadata(path).ok());
        lengths.map(|file| file.len()).sum()
    };
    wait_until("the disk is full", || bytes() > SIZE / 2);
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    balancer.wait_for_exit();
    wait_until("the next process has it", || {
        assert!(bytes() <= SIZE, "{}", bytes());
        balancer.metric("evenkeel_cache_disk_up", &[]) == 1.0
    });
    let before = served.load(Relaxed);
    wait_until("it writes", || {
        assert!(bytes() <= SIZE, "{}", bytes());
        served.load(Relaxed) > before + 100
            && balancer.metric("evenkeel_cache_evictions_total", &[("tier", "disk")]) > 0.0
    });
    stop.store(true, Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("each was served what it is"));
    assert_eq!(balancer.metric("evenkeel_cache_disk_errors_total", &[]), 0.0);
    next.end();
}

#[test]
fn a_reload_tells_of_another_folder_or_size_and_follows_it() {
    let (app, kept) = (app(), Directory::new());
    let balancer = start(&app, &kept.0.join("a"), "size: 32MiB");
    for number in 0..8 {
        balancer.get(&format!("/{number}/500000"));
        written(&kept.0.join("a"), number + 1);
    }
    balancer.wait_for_metric("evenkeel_cache_objects", &[("tier", "disk")], 8.0);
    written(&kept.0.join("a"), 8);
    let smaller = text(&app, &at(&kept.0.join("a"), "size: 3MiB, min_object: 1KiB"));
    balancer.write(&smaller);
    let told = balancer.command(&["plan"]).1;
    assert!(told.contains("cache.disk.size") && told.contains("cache.disk.min_object"), "{told}");
    assert_eq!(balancer.reload(&smaller), Reloaded::Taken);
    wait_until("it is smaller", || {
        balancer.metric("evenkeel_cache_bytes", &[("tier", "disk")]) <= 3_145_728.0
    });
    let elsewhere = text(&app, &at(&kept.0.join("b"), "size: 32MiB"));
    balancer.write(&elsewhere);
    let told = balancer.command(&["plan"]).1;
    assert!(told.contains("cache.disk.path"), "{told}");
    assert!(told.contains("the cache's disk begins with nothing"), "{told}");
    assert_eq!(balancer.reload(&elsewhere), Reloaded::Taken);
    wait_for("the other folder", || {
        let is_up = balancer.metric("evenkeel_cache_disk_up", &[]) == 1.0;
        (is_up && balancer.metric("evenkeel_cache_objects", &[("tier", "disk")]) == 0.0).then_some(())
    });
    wait_until("the first is forgotten", || !kept.0.join("a/purges").exists());
    assert_eq!(balancer.reload(&text(&app, &at(&kept.0.join("a"), "size: 32MiB"))), Reloaded::Taken);
    wait_until("what is there is of no use", || files(&kept.0.join("a")).is_empty());
}

#[test]
fn a_file_that_is_broken_in_the_middle_is_never_whole_to_a_client_and_is_forgotten_and_said() {
    let (app, kept) = (app(), Directory::new());
    let folder = kept.0.join("cache");
    let begin = || {
        let shop = Ways::start("routes: shop", &sections(&app, &at(&folder, "size: 64MiB")));
        shop.balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
        shop
    };
    let targets: Vec<_> = (0..Way::ALL.len()).map(|n| format!("/{n}/1000000")).collect();
    let shop = begin();
    for (n, (way, target)) in Way::ALL.into_iter().zip(&targets).enumerate() {
        assert!(shop.ask(way, Asked::get(target)).text() == body(target), "{way:?}");
        written(&folder, n + 1);
    }
    stop(shop.balancer);
    for path in files(&folder) {
        let mut bytes = fs::read(&path).expect("it is there");
        let middle = bytes.len() - 300_000;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("it can be written");
    }
    let (shop, hits) = (begin(), app.hits());
    for (n, (way, target)) in Way::ALL.into_iter().zip(&targets).enumerate() {
        let broken = shop.ask(way, Asked::get(target));
        assert_eq!((broken.status, broken.complete), (200, false), "{way:?}");
        assert!(broken.body.len() < 1_000_000, "{way:?} {}", broken.body.len());
        assert!(body(target).as_bytes().starts_with(&broken.body), "{way:?}");
        let errors = [("doing", "broken")];
        shop.balancer.wait_for_metric("evenkeel_cache_disk_errors_total", &errors, (n + 1) as f64);
        assert_eq!(app.hits(), hits + n, "{way:?}");
        let again = shop.ask(way, Asked::get(target));
        assert!(again.complete && again.text() == body(target), "{way:?}");
        assert_eq!(app.hits(), hits + n + 1, "{way:?}");
    }
    let said = shop.balancer.log.wait_for("a file of the cache's disk is broken");
    assert!(
        said.contains("a piece of its body is not what was written") && said.contains("objects/"),
        "{said}"
    );
    let record = shop.balancer.record_where("of what was broken", |record| record["why"] == "internal");
    assert_eq!(record["detail"], "the rest of it could not be read from the cache's disk");
}

#[test]
fn a_folder_that_somebody_removes_is_noticed_and_begun_anew_and_nobody_is_served_anything_else() {
    let (app, kept) = (app(), Directory::new());
    let folder = kept.0.join("cache");
    let balancer = start(&app, &folder, "size: 64MiB");
    let gone = || balancer.metric("evenkeel_cache_disk_errors_total", &[("doing", "gone")]);
    let ask = |number: usize| {
        let target = format!("/{number}/500000");
        assert!(balancer.get(&target).text() == body(&target), "{target}");
    };
    let ask_all = || (0..20).for_each(ask);
    // Of what comes faster than a busy disk writes some is left out.
    ask_all();
    wait_until("some are written", || files(&folder).len() > 1);
    // All at once, whoever writes there just now.
    fs::rename(&folder, kept.0.join("elsewhere")).expect("it can be moved");
    ask_all();
    wait_until("it is noticed", || gone() >= 1.0);
    let said = balancer.log.wait_for("the cache's folder was removed or emptied by somebody else");
    assert!(said.contains("keep others out of the folder"), "{said}");
    balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
    assert_eq!(balancer.command_json(&["status"])["cache"]["tiers"][1]["tier"], "disk");
    let before = files(&folder).len();
    let mut others = 20..;
    wait_until("others are written there", || {
        others.by_ref().take(1).for_each(ask);
        files(&folder).len() > before + 5
    });
    let hits = app.hits();
    (20..others.start).for_each(ask);
    assert!(app.hits() < hits + others.start - 20, "some are there");
    assert!(folder.join("lock").exists() && folder.join("purges").exists());
}

#[test]
fn a_plan_says_what_has_no_room_any_more() {
    let (app, folder) = (app(), Directory::new());
    let [folder, other] = ["cache", "other"].map(|name| folder.0.join(name));
    let whole = at(&folder, "size: 64MiB");
    let shop = Ways::start("routes: shop", &sections(&app, &whole));
    shop.balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
    for page in 0..300 {
        assert!(shop.ask(Way::Http11, Asked::get(&format!("/{page}/8000"))).complete);
    }
    for page in 0..12 {
        assert!(shop.ask(Way::Http11, Asked::get(&format!("/{page}/1000000"))).complete);
        written(&folder, page + 1);
    }
    let planned = |sections: &str| {
        let file = shop.balancer.path("new.yaml");
        fs::write(&file, shop.configuration("routes: shop", sections)).expect("it can be written");
        let file = file.display().to_string();
        let (_, json, _) = shop.balancer.command(&["plan", &file, "--json"]);
        let told: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        let (_, text, _) = shop.balancer.command(&["plan", &file]);
        let room = |place: &str| ["bytes", "over"].map(|key| told["cache"][place][key].as_u64());
        let [memory, disk] = ["memory", "disk"].map(|place| room(place).map(Option::unwrap_or_default));
        (memory, disk, text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let ([memory, over], [disk, over_on_disk], text) = planned(&sections(&app, &whole));
    assert_eq!((over, over_on_disk, text.contains("cache:")), (0, 0, false), "{text}");
    assert!(memory > 300 * 8000 && disk > 12_000_000, "{memory} {disk}");
    let less = sections(&app, &whole).replace("memory: 8MiB", "memory: 4MiB");
    let none = sections(&app, &whole).replace("memory: 8MiB", "memory: 0B");
    let off = sections(&app, &whole).replace("cache: {}, ", "");
    let no_disk = sections(&app, &whole).replace(&format!(", disk: {{ {whole} }}"), "");
    for (sections, all_in_memory, all_on_disk) in [
        (less.clone(), Some(false), None),
        (none, Some(true), None),
        (sections(&app, &at(&folder, "size: 8MiB")), None, Some(false)),
        (sections(&app, &at(&other, "size: 64MiB")), None, Some(true)),
        (no_disk, None, Some(true)),
        (off, Some(true), Some(true)),
    ] {
        let ([in_memory, over], [on_disk, over_on_disk], text) = planned(&sections);
        assert_eq!((in_memory, on_disk), (memory, disk));
        for (all, bytes, over, place) in
            [(all_in_memory, memory, over, "in memory"), (all_on_disk, disk, over_on_disk, "on the disk")]
        {
            match all {
                None => assert!(over == 0 && !text.contains(place), "{sections} {over} {text}"),
                Some(false) => {
                    assert!(over > 0 && over < bytes, "{sections} {over} of {bytes}");
                    assert!(text.contains(&format!("kept {place} have no room there any more")), "{text}");
                }
                Some(true) => {
                    assert_eq!(over, bytes, "{sections}");
                    assert!(text.contains(&format!("cache: all that is kept {place} (")), "{text}");
                }
            }
        }
    }
    // It comes as was said.
    let [_, over] = planned(&less).0;
    assert_eq!(shop.balancer.reload(&shop.configuration("routes: shop", &less)), Reloaded::Taken);
    let left = shop.balancer.metric("evenkeel_cache_bytes", &[("tier", "memory")]);
    assert!(left > 0.0 && left <= (memory - over) as f64, "{left} of {memory}, {over} over");
}
