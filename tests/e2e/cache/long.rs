//! What is too long for memory goes to the disk as it comes.

use super::disk::{SmallDisk, files};
use crate::support::app::{App, Latch, Then, send};
use crate::support::balancer::{Balancer, Directory, Next, Reloaded};
use crate::support::client::{Client, Response};
use crate::support::h2::{Connection, DATA, RST_STREAM, WINDOW_UPDATE};
use crate::support::wait_until;
use rustix::process::Signal;
use std::io::Write;

const LENGTH: usize = 1_500_000;
/// More than sockets hold.
const HUGE: usize = 20 * LENGTH;

/// Bytes that say where they are.
fn body() -> String {
    (0..LENGTH / 10).map(|n| format!("{n:09}\n")).collect()
}

/// An app whose `/cut` breaks off, whose `/chunked` does not say how long it is, and whose `/held` waits in the middle.
fn app(latch: &Latch) -> App {
    let held = latch.clone();
    App::new(move |request, stream| {
        let (body, head) = (body(), "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nETag: \"x\"");
        if request.field("if-none-match") == "\"x\"" {
            return send(
                stream,
                "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nCache-Control: max-age=600\r\n\r\n",
            );
        }
        // It may be used for long, and has nothing by which it could be asked about.
        let stale = "HTTP/1.1 200 OK\r\nCache-Control: max-age=0, stale-while-revalidate=600";
        let head = if request.target == "/stale" { stale } else { head };
        let range = request.field("range");
        if !range.is_empty() && !range.starts_with("bytes=0-") || range.contains(',') {
            return send(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/9\r\nContent-Length: 4\r\n\r\npart",
            );
        }
        match (&*request.target, range.strip_prefix("bytes=0-")) {
            (_, Some(end)) => {
                let end: usize = end.parse().expect("a number");
                let part = &body[..=end];
                send(
                    stream,
                    &format!(
                        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-{end}/{LENGTH}\r\nContent-Length: {}\r\n\r\n{part}",
                        part.len()
                    ),
                )
            }
            ("/dies", _) => {
                let _ = write!(stream, "{head}\r\nContent-Length: {LENGTH}\r\n\r\n{}", &body[..LENGTH / 2]);
                held.wait();
                Then::Reset
            }
            ("/huge", _) => {
                send(stream, &format!("{head}\r\nContent-Length: {HUGE}\r\n\r\n"));
                (0..HUGE / LENGTH).map(|_| send(stream, &body)).last().unwrap_or(Then::Keep)
            }
            ("/chunked", _) => send(
                stream,
                &format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{LENGTH:x}\r\n{body}\r\n0\r\n\r\n"),
            ),
            ("/cut", _) => {
                send(stream, &format!("{head}\r\nContent-Length: {LENGTH}\r\n\r\n{}", &body[..LENGTH - 9]));
                Then::Close
            }
            (target, _) if target.starts_with("/held") => {
                let _ = write!(stream, "{head}\r\nContent-Length: {LENGTH}\r\n\r\n{}", &body[..LENGTH / 2]);
                held.wait();
                send(stream, &body[LENGTH / 2..])
            }
            _ => send(stream, &format!("{head}\r\nContent-Length: {LENGTH}\r\n\r\n{body}")),
        }
    })
}

fn text(app: &App, folder: &Directory, cache: &str) -> String {
    let disk = format!("memory: 2MiB, disk: {{ path: {}, size: 256MiB }}", folder.0.join("cache").display());
    text_with(app, &disk, cache)
}

fn text_with(app: &App, disk: &str, cache: &str) -> String {
    format!(
        "cache: {{ max_object: 32MiB, {disk} }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, routes: shop }} }}\n\
         routes: {{ shop: [{{ name: all, cache: {cache}, pool: app }}] }}\n\
         pools: {{ app: {{ servers: ['{}'], retries: {{ max: 0 }} }} }}\n",
        app.address
    )
}

#[track_caller]
fn start(app: &App, folder: &Directory, cache: &str) -> Balancer {
    let balancer = Balancer::start(&text(app, folder, cache));
    balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
    balancer
}

fn on_disk(balancer: &Balancer, responses: f64) {
    balancer.wait_for_metric("evenkeel_cache_objects", &[("tier", "disk")], responses);
}

fn ask(balancer: &Balancer, target: &str, fields: &str) -> Response {
    let mut client = balancer.client();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n"));
    client.response()
}

#[test]
fn what_is_too_long_for_memory_is_on_the_disk_and_served_from_there() {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    let balancer = start(&app, &folder, "{}");
    let miss = ask(&balancer, "/a", "");
    assert_eq!(miss.field("cache-status"), "evenkeel; fwd=uri-miss; stored");
    assert!(miss.complete && miss.text() == body());
    on_disk(&balancer, 1.0);
    let taken = balancer.metric("evenkeel_cache_bytes", &[("tier", "disk")]);
    assert!(taken >= LENGTH as f64 && taken < (LENGTH + 65_536) as f64, "{taken}");
    for _ in 0..3 {
        let hit = ask(&balancer, "/a", "");
        assert!(hit.field("cache-status").starts_with("evenkeel; hit"), "{}", hit.field("cache-status"));
        assert!(hit.complete && hit.text() == body());
    }
    let part = ask(&balancer, "/a", "Range: bytes=700000-1399999\r\n");
    assert_eq!((part.status, part.text() == body()[700_000..1_400_000]), (206, true));
    assert_eq!(ask(&balancer, "/a", "If-None-Match: \"x\"\r\n").status, 304);
    assert_eq!(app.hits(), 1);
    assert!(balancer.metric("evenkeel_cache_bytes", &[("tier", "memory")]) < 100_000.0);
    assert_eq!(balancer.metric("evenkeel_cache_filling_bytes", &[]), 0.0);
    // It holds still, and its head alone is written anew.
    let written =
        || files(&folder.0.join("cache")).iter().map(std::fs::read).collect::<Result<Vec<_>, _>>().ok();
    let before = written();
    assert_eq!(balancer.command(&["purge", "http://shop.example/a"]).0, Some(0));
    let renewed = ask(&balancer, "/a", "");
    assert!(renewed.field("cache-status").contains("fwd-status=304") && renewed.text() == body());
    wait_until("its head is written, beside that", || written() != before);
    assert!(ask(&balancer, "/a", "").text() == body());
    assert_eq!(app.hits(), 2);
    // What is purged is gone.
    assert_eq!(balancer.command(&["purge", "http://shop.example/a", "--hard"]).0, Some(0));
    assert!(ask(&balancer, "/a", "").text() == body());
    assert_eq!(app.hits(), 3);
}

#[test]
fn what_does_not_come_whole_or_says_no_length_is_not_there() {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    let balancer = start(&app, &folder, "{}");
    for _ in 0..2 {
        assert!(!ask(&balancer, "/cut", "").complete);
        assert!(ask(&balancer, "/chunked", "").text() == body());
    }
    assert_eq!(app.hits(), 4);
    // A part comes as it is asked for, without all that is before.
    let part = ask(&balancer, "/part", "Range: bytes=0-9\r\n");
    assert_eq!((part.status, part.text().as_str()), (206, "000000000\n"));
    ask(&balancer, "/last", "");
    on_disk(&balancer, 1.0);
    assert_eq!(files(&folder.0.join("cache")).len(), 1, "nothing is left of what broke off");
}

#[test]
fn one_fetches_it_and_a_client_that_leaves_does_not_end_that() {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    let balancer = start(&app, &folder, "{ coalesce: 60s }");
    let mut first = Client::connect(balancer.address("web"));
    first.send("GET /held HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    // Who leaves before there is a head to keep ends it.
    assert_eq!(first.head().map(|head| head.status), Some(200));
    let mut others: Vec<_> = (0..4).map(|_| balancer.client()).collect();
    for client in &mut others {
        client.send("GET /held HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    }
    drop(first);
    latch.open();
    for client in &mut others {
        assert!(client.response().text() == body());
    }
    assert_eq!(app.hits(), 1);
}

#[test]
fn what_is_asked_for_in_parts_is_renewed_whole() {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    let balancer = start(&app, &folder, "{}");
    assert!(ask(&balancer, "/stale", "").text() == body());
    on_disk(&balancer, 1.0);
    for fetched in 2..4 {
        let part = ask(&balancer, "/stale", "Range: bytes=0-9\r\n");
        assert_eq!((part.status, part.text().as_str()), (206, "000000000\n"));
        assert!(part.field("cache-status").starts_with("evenkeel; hit"), "{}", part.field("cache-status"));
        wait_until("it is fetched beside that", || app.hits() == fetched);
        assert!(!app.last().has("range"));
        balancer.wait_for_metric("evenkeel_cache_fills", &[], 0.0);
        on_disk(&balancer, 1.0);
    }
}

/// What the log has of the cache's part in a request with this path, and why it ended.
#[track_caller]
fn told(balancer: &Balancer, path: &str) -> (String, String, String) {
    let record = balancer.record(path);
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    (text("cache"), text("cache_reason"), text("why"))
}

fn explained(balancer: &Balancer, path: &str) -> String {
    let url = format!("http://shop.example{path}");
    let report = balancer.command_json(&["explain", &url, "--listener", "web"]);
    report["cache"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn check_told(balancer: &Balancer, path: &str, expected: (&str, &str, &str)) {
    let (cache, reason, why) = told(balancer, path);
    assert_eq!((&*cache, &*reason, &*why), expected, "{path}");
}

#[test]
fn why_what_is_long_was_not_kept_is_said_as_it_was() {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    let balancer = start(&app, &folder, "{}");
    ask(&balancer, "/cut", "");
    check_told(&balancer, "/cut", ("miss", "server_reset", "server_reset"));
    assert_eq!(explained(&balancer, "/cut"), "", "the next may be kept");
    ask(&balancer, "/chunked", "");
    check_told(&balancer, "/chunked", ("uncacheable", "memory", "ok"));
    assert_eq!(explained(&balancer, "/chunked"), "memory");
    ask(&balancer, "/part", "Range: bytes=0-9\r\n");
    check_told(&balancer, "/part", ("uncacheable", "range", "ok"));
    assert_eq!(explained(&balancer, "/part"), "range");
    // The room for what is on its way is for one of them.
    let mut first = balancer.client();
    first.send("GET /held HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(first.head().map(|head| head.status), Some(200));
    assert!(ask(&balancer, "/second", "").text() == body());
    check_told(&balancer, "/second", ("uncacheable", "memory", "ok"));
    assert_eq!(explained(&balancer, "/second"), "", "the next may be kept");
    assert_eq!(balancer.command(&["purge", "http://shop.example/held"]).0, Some(0));
    latch.open();
    assert!(first.bytes(LENGTH) == body().as_bytes());
    check_told(&balancer, "/held", ("miss", "purged", "ok"));
    // One whose client has left is kept all the same.
    let mut leaves = balancer.client();
    leaves.send("GET /huge HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(leaves.head().map(|head| head.status), Some(200));
    leaves.reset();
    check_told(&balancer, "/huge", ("miss", "", "client_aborted"));
    on_disk(&balancer, 1.0);
    let uncacheable = [("result", "uncacheable")];
    balancer.wait_for_metric("evenkeel_cache_requests_total", &uncacheable, 3.0);
}

#[test]
fn a_disk_that_is_not_in_use_is_why_what_is_long_is_not_kept() {
    let (folder, latch) = (Directory::new(), Latch::default());
    std::fs::write(folder.0.join("cache"), b"a file").expect("it can be written");
    let app = app(&latch);
    let balancer = Balancer::start(&text(&app, &folder, "{}"));
    balancer.log.wait_for("the cache's disk has failed");
    assert!(ask(&balancer, "/a", "").text() == body());
    check_told(&balancer, "/a", ("uncacheable", "disk", "ok"));
    assert_eq!(explained(&balancer, "/a"), "disk");
}

/// Clients that have asked for the same and have the first half of it.
fn halfway(balancer: &Balancer, target: &str, count: usize) -> Vec<Client> {
    let mut all: Vec<_> = (0..count).map(|_| balancer.client()).collect();
    for client in &mut all {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
    }
    for client in &mut all {
        assert_eq!(client.head().map(|head| head.status), Some(200));
        assert!(client.bytes(LENGTH / 2) == body().as_bytes()[..LENGTH / 2]);
    }
    all
}

#[test]
fn who_waits_for_what_goes_to_the_disk_has_it_as_it_comes() {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    let balancer = start(&app, &folder, "{ coalesce: 60s }");
    let mut all = halfway(&balancer, "/held", 4);
    // And those who come only now.
    all.extend(halfway(&balancer, "/held", 3));
    let early = ask(&balancer, "/held", "Range: bytes=100000-699999\r\n");
    assert_eq!((early.status, early.text() == body()[100_000..700_000]), (206, true));
    assert_eq!(app.hits(), 1);
    // What is purged as it comes goes on to those who have it, and to nobody else.
    assert_eq!(balancer.command(&["purge", "http://shop.example/held"]).0, Some(0));
    latch.open();
    for client in &mut all {
        assert!(client.bytes(LENGTH - LENGTH / 2) == body().as_bytes()[LENGTH / 2..]);
    }
    assert_eq!(app.hits(), 1);
    balancer.wait_for_metric("evenkeel_cache_filling_bytes", &[], 0.0);
    assert!(ask(&balancer, "/held", "").text() == body());
    assert_eq!(app.hits(), 2);
    on_disk(&balancer, 1.0);
    wait_until("they are counted", || {
        balancer.metric("evenkeel_cache_requests_total", &[("result", "coalesced")]) == 7.0
    });
}

/// Asks by HTTP/2, and reads no more than a beginning.
fn behind(balancer: &Balancer, target: &str) -> Connection {
    let mut connection = Connection::new(balancer.address("web"));
    connection.fields(
        1,
        &[(":method", "GET"), (":scheme", "http"), (":authority", "shop.example"), (":path", target)],
        true,
    );
    connection
}

/// The body of what a client that was behind has in the end.
fn rest_of(connection: &mut Connection) -> Vec<u8> {
    for stream in [0, 1] {
        connection.frame(WINDOW_UPDATE, 0, stream, &(1_u32 << 24).to_be_bytes());
    }
    let mut body = Vec::new();
    while let Some(frame) = connection.next() {
        assert_ne!(frame.kind, RST_STREAM, "it is whole");
        if frame.kind == DATA {
            body.extend_from_slice(&frame.payload);
            if frame.ends_stream() {
                break;
            }
        }
    }
    body
}

/// Has some clients halfway, the first of them behind the others, does something to the disk, and sees that each has all of it.
#[track_caller]
fn check_followers(change: impl FnOnce(&mut Balancer, &App, &Directory)) {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    let mut balancer = start(&app, &folder, "{ coalesce: 60s }");
    let mut first = behind(&balancer, "/held");
    let mut all = halfway(&balancer, "/held", 3);
    change(&mut balancer, &app, &folder);
    latch.open();
    for client in &mut all {
        assert!(client.bytes(LENGTH - LENGTH / 2) == body().as_bytes()[LENGTH / 2..]);
    }
    assert!(rest_of(&mut first) == body().as_bytes());
    assert_eq!(app.hits(), 1);
}

#[test]
fn an_upgrade_cuts_nobody_who_follows_what_goes_to_the_disk() {
    let mut next = None;
    check_followers(|balancer, _, folder| {
        balancer.signal(Signal::USR2);
        next = Some(Next::of(balancer));
        wait_until("the next process has the folder", || {
            balancer.metric("evenkeel_cache_disk_up", &[]) == 1.0 && unfinished(folder) == 0
        });
    });
    next.iter().for_each(Next::end);
}

#[test]
fn a_reload_to_another_disk_or_none_cuts_nobody_who_follows_what_goes_to_the_one_before() {
    for is_another in [true, false] {
        check_followers(|balancer, app, folder| {
            let other = folder.0.join("other");
            let disk = format!("memory: 2MiB, disk: {{ path: {}, size: 256MiB }}", other.display());
            let text = text_with(app, if is_another { &disk } else { "memory: 2MiB" }, "{ coalesce: 60s }");
            assert_eq!(balancer.reload(&text), Reloaded::Taken);
            wait_until("the folder is given up", || !folder.0.join("cache/purges").exists());
        });
    }
}

/// Files that are not in their place yet.
fn unfinished(folder: &Directory) -> usize {
    files(&folder.0.join("cache")).iter().filter(|path| path.extension().is_some()).count()
}

#[test]
fn a_full_disk_cuts_nobody_who_follows_what_has_its_room_there_and_has_the_others_ask_servers() {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    let path = folder.0.join("cache");
    let disk = SmallDisk::mount(&path);
    let section = format!("memory: 4MiB, disk: {{ path: {}, size: 256MiB }}", path.display());
    let balancer = Balancer::start(&text_with(&app, &section, "{ coalesce: 60s }"));
    balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
    // Longer than an eighth of the memory.
    let mut all = halfway(&balancer, "/held/long", 3);
    wait_until("the disk has begun it", || unfinished(&folder) == 1);
    if disk.0.is_none() {
        // As good: where other shelves should be are files.
        for shelf in 0..256 {
            let _ = std::fs::write(path.join(format!("objects/{shelf:02x}")), b"");
        }
    }
    let hits = app.hits();
    let mut others: Vec<_> = (0..3).map(|_| balancer.client()).collect();
    for client in &mut others {
        client.send("GET /held/other HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    }
    balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 0.0);
    for client in &mut others {
        assert_eq!(client.head().map(|head| head.status), Some(200));
        assert!(client.bytes(LENGTH / 2) == body().as_bytes()[..LENGTH / 2]);
    }
    assert_eq!((hits, app.hits()), (1, 4), "each asks for itself");
    latch.open();
    for client in all.iter_mut().chain(&mut others) {
        assert!(client.bytes(LENGTH - LENGTH / 2) == body().as_bytes()[LENGTH / 2..]);
    }
}

#[test]
fn a_part_that_has_not_come_yet_is_fetched_without_waiting_for_what_is_before_it() {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    for memory in ["2MiB", "64MiB"] {
        let disk =
            format!("memory: {memory}, disk: {{ path: {}, size: 256MiB }}", folder.0.join(memory).display());
        let balancer = Balancer::start(&text_with(&app, &disk, "{ coalesce: 60s }"));
        balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
        let all = halfway(&balancer, "/held", 2);
        let hits = app.hits();
        for range in ["1000000-1000009", "1400000-", "-100000", "0-9,1400000-1400009"] {
            let part = ask(&balancer, "/held", &format!("Range: bytes={range}\r\n"));
            assert_eq!(part.status, 206, "{range}");
            assert_eq!(part.field("cache-status"), "evenkeel; fwd=partial; detail=\"range\"", "{range}");
            assert_eq!(app.last().field("range"), format!("bytes={range}"));
        }
        check_told(&balancer, "/held", ("uncacheable", "range", "ok"));
        assert_eq!(app.hits(), hits + 4);
        // What has come is there, and what comes goes on.
        for range in ["0-9", "100000-699999", "0-9,100000-100009"] {
            let part = ask(&balancer, "/held", &format!("Range: bytes={range}\r\n"));
            assert_eq!(part.status, 206, "{range}");
            assert!(part.field("cache-status").contains("collapsed"), "{}", part.field("cache-status"));
        }
        assert_eq!(app.hits(), hits + 4);
        drop((balancer, all));
    }
}

#[test]
fn what_goes_to_the_disk_and_breaks_off_is_whole_to_nobody() {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    let balancer = start(&app, &folder, "{ coalesce: 60s }");
    let mut all = halfway(&balancer, "/dies", 4);
    let mut connection = Connection::new(balancer.address("web"));
    connection.fields(
        1,
        &[(":method", "GET"), (":scheme", "http"), (":authority", "shop.example"), (":path", "/dies")],
        true,
    );
    // It takes all that comes.
    for stream in [0, 1] {
        connection.frame(WINDOW_UPDATE, 0, stream, &(1_u32 << 24).to_be_bytes());
    }
    while connection.next().expect("its response").kind != DATA {}
    assert_eq!(app.hits(), 1);
    latch.open();
    for client in &mut all {
        let (rest, _) = client.read_to_end();
        assert!(rest.len() < LENGTH - LENGTH / 2, "{}", rest.len());
    }
    let last = std::iter::from_fn(|| connection.next())
        .find(|frame| frame.kind == RST_STREAM || frame.ends_stream());
    assert!(last.is_some_and(|frame| frame.kind == RST_STREAM));
    balancer.wait_for_metric("evenkeel_http_failures_total", &[("why", "server_reset")], 5.0);
    wait_until("nothing is left of it", || {
        balancer.metric("evenkeel_cache_bytes", &[("tier", "disk")]) < 65_536.0
    });
    on_disk(&balancer, 0.0);
}

#[test]
fn a_client_that_does_not_read_what_goes_to_the_disk_holds_up_nobody_else() {
    let (folder, latch) = (Directory::new(), Latch::default());
    let app = app(&latch);
    let balancer = start(&app, &folder, "{ coalesce: 60s }");
    let mut first = balancer.client();
    first.send("GET /huge HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(first.head().map(|head| head.status), Some(200));
    // It reads no more, and what it has is far from all.
    for _ in 0..2 {
        let other = ask(&balancer, "/huge", "");
        assert!(other.complete && other.body.len() == HUGE && other.body.ends_with(body().as_bytes()));
    }
    assert_eq!(app.hits(), 1);
    let rest = first.bytes(HUGE);
    assert!(rest.chunks(LENGTH).all(|part| part == body().as_bytes()));
}
