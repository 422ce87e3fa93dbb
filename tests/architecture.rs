//! Holds the code to the table of rooms in ARCHITECTURE.md: a file uses only its own room and those above it,
//! and the pure rooms touch nothing but their arguments. Nor are there circles of files but those listed here.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/source.rs"]
mod source;

use circles::circles;
use source::Source;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rooms where Pingora may be named.
const WITH_PINGORA: [&str; 2] = ["probe", "edge"];

/// What a pure room never names: the world, the clock, chance.
const IMPURE: [&str; 17] = [
    "tokio",
    "pingora",
    "fastrand",
    "rand",
    "socket2",
    "rustix",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::env",
    "std::io",
    "std::process",
    "thread::spawn",
    "thread::sleep",
    "TcpStream",
    "TcpListener",
    "UnixStream",
];

/// Circles of files that stand, each with its reason.
const CIRCLES: [(&[&str], &str); 0] = [];

/// A row's room.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Room {
    /// `pool`, or `config::plan` for a room of one file in another.
    name: String,
    is_pure: bool,
}

/// The rooms of the table, from the top down; those of one row from left to right.
fn rooms(page: &str) -> Vec<Room> {
    let rows = page.lines().skip_while(|line| !line.starts_with("| room |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .flat_map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let is_pure = cells.last() == Some(&"pure");
            cells[0]
                .split(',')
                .map(move |name| Room { name: name.trim().trim_matches('`').to_owned(), is_pure })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The innermost room of a path.
fn room_of(rooms: &[Room], path: &str) -> Option<usize> {
    let holds = |room: &&Room| path == room.name || path.starts_with(&format!("{}::", room.name));
    let room = rooms.iter().filter(holds).max_by_key(|room| room.name.len())?;
    rooms.iter().position(|other| other == room)
}

/// Whether `text` names `word`, and not just something that contains it.
fn names(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// Everything that is against the table.
fn violations(rooms: &[Room], sources: &[Source]) -> Vec<String> {
    let tests: BTreeSet<_> = sources.iter().flat_map(Source::test_modules).collect();
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !tests.contains(&source.path())) {
        let path = source.path();
        let Some(own) = room_of(rooms, &path) else {
            found.push(format!("{path} is in no room"));
            continue;
        };
        for used in source.uses() {
            match room_of(rooms, &used) {
                Some(room) if room > own => found.push(format!("{path} uses {used} from below")),
                Some(_) => {}
                None => found.push(format!("{path} uses {used}, which is in no room")),
            }
        }
        let room = &rooms[own];
        if room.is_pure {
            let impure = IMPURE.iter().filter(|word| names(&source.text, word));
            found.extend(impure.map(|word| format!("{path} is pure and names {word}")));
        }
        if !WITH_PINGORA.contains(&room.name.as_str()) && names(&source.text, "pingora") {
            found.push(format!("{path} names pingora"));
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> Vec<Room> {
    rooms(&std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("there is ARCHITECTURE.md"))
}

fn rust_files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("src can be read") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let sources: Vec<_> = files
        .iter()
        .filter(|file| file.as_path() != src.join("lib.rs"))
        .map(|file| {
            let path = file.strip_prefix(&src).expect("it is below src").display().to_string();
            Source::new(&path, &std::fs::read_to_string(file).expect("a source can be read"))
        })
        .collect();
    assert!(sources.len() > 50, "only {} sources", sources.len());
    sources
}

#[test]
fn each_file_uses_only_the_rooms_above_it() {
    let found = violations(&table(), &sources());
    assert!(found.is_empty(), "against ARCHITECTURE.md:\n{}", found.join("\n"));
}

#[test]
fn files_use_each_other_in_no_circle_but_those_listed() {
    let listed: BTreeSet<Vec<_>> =
        CIRCLES.iter().map(|(files, _)| files.iter().map(|file| (*file).to_owned()).collect()).collect();
    let found = against_list(&circles(&sources()), &listed);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What differs between the circles that there are and those that are listed.
fn against_list(found: &BTreeSet<Vec<String>>, listed: &BTreeSet<Vec<String>>) -> Vec<String> {
    let new =
        found.difference(listed).map(|files| format!("{} use each other in a circle", files.join(", ")));
    let gone = listed.difference(found).map(|files| format!("{} are no circle any more", files.join(", ")));
    new.chain(gone).collect()
}

#[test]
fn the_table_has_the_rooms_we_think_it_has() {
    let rooms = table();
    let pure: Vec<_> = rooms.iter().filter(|room| room.is_pure).map(|room| room.name.as_str()).collect();
    let expected = [
        "units",
        "text",
        "cookie",
        "sticky",
        "limit",
        "networks",
        "geo",
        "template",
        "config::plan",
        "client_hello",
        "fields",
        "host",
        "origination",
        "pool",
        "select",
        "history",
        "api",
        "events",
        "guard",
        "operate",
        "route",
        "proxy_header",
        "websocket",
        "wire",
        "compress",
        "cache",
        "store",
        "policy",
        "config",
        "snapshot",
        "explain",
        "preview",
        "top",
        "purge_nodes::backlog",
        "discover::found",
        "discover::membership",
        "discover::schedule",
        "discover::dns_answer",
        "disk::places",
        "disk::format",
        "disk::record",
        "disk::entry",
        "disk::order",
        "disk::index",
        "disk::arrived",
        "disk::repeated",
        "filter",
        "acme::schedule",
    ];
    assert_eq!(pure, expected);
    let others: Vec<_> = rooms.iter().filter(|room| !room.is_pure).map(|room| room.name.as_str()).collect();
    let expected = [
        "files",
        "log",
        "token",
        "token_files",
        "purge_nodes",
        "sticky_files",
        "network_files",
        "geo_files",
        "page_files",
        "disk",
        "memory",
        "tls",
        "discover",
        "dial",
        "probe",
        "access_log",
        "metrics",
        "acme",
        "edge",
        "control",
        "serve",
        "admin",
        "server",
        "cli",
        "main",
    ];
    assert_eq!(others, expected);
}

/// The checker itself: what it says of one file.
fn check(path: &str, text: &str, expected: &[&str]) {
    assert_eq!(violations(&table(), &[Source::new(path, text)]), expected, "{path}: {text}");
}

#[test]
fn a_file_that_uses_what_is_below_it_is_found() {
    check("pool/choose.rs", "use crate::units::Weight;\nuse super::slot_table::SlotTable;\n", &[]);
    check("pool/choose.rs", "use crate::select::build;\n", &["pool::choose uses select::build from below"]);
    check(
        "pool/mod.rs",
        "fn f() { crate::control::Live::new() }\n",
        &["pool uses control::Live::new from below"],
    );
    check("units.rs", "use super::route::Table;\n", &["units uses route::Table from below"]);
    check("edge/gate.rs", "use super::super::serve::Proxy;\n", &["edge::gate uses serve::Proxy from below"]);
    check("nowhere.rs", "", &["nowhere is in no room"]);
    check("pool/mod.rs", "use crate::nowhere::N;\n", &["pool uses nowhere::N, which is in no room"]);
}

#[test]
fn nested_imports_are_found() {
    let text = "use crate::{units, pool::{self, Lease},\n    serve::{http::Proxy as P, key}};\n";
    check(
        "route.rs",
        text,
        &["route uses serve::http::Proxy from below", "route uses serve::key from below"],
    );
    // The plan stands above the room it lies in.
    check(
        "pool/mod.rs",
        "use crate::config::{plan::Name, Problem};\n",
        &["pool uses config::Problem from below"],
    );
    check("config/plan.rs", "use crate::pool::Lease;\n", &["config::plan uses pool::Lease from below"]);
}

#[test]
fn a_pure_room_that_looks_at_the_world_is_found() {
    check(
        "select/mod.rs",
        "fn f() { let now = Instant::now(); }\n",
        &["select is pure and names Instant::now"],
    );
    check("snapshot.rs", "fn f() { fastrand::u64(..) }\n", &["snapshot is pure and names fastrand"]);
    check("config/mod.rs", "use std::fs;\n", &["config is pure and names std::fs"]);
    check(
        "route.rs",
        "use tokio::net::TcpStream;\n",
        &["route is pure and names tokio", "route is pure and names TcpStream"],
    );
    check("edge/worker.rs", "use tokio::net::TcpStream;\nfn f() { Instant::now() }\n", &[]);
}

#[test]
fn pingora_is_found_where_it_does_not_belong() {
    check("admin/mod.rs", "use pingora::Error;\n", &["admin names pingora"]);
    check("probe/http.rs", "use pingora::Error;\n", &[]);
}

#[test]
fn comments_and_tests_are_not_code() {
    check("select/mod.rs", "// crate::serve and Instant::now\n/// pingora\n", &[]);
    check("select/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::serve::X;\n}\n", &[]);
    let sources = [
        Source::new("pool/mod.rs", "#[cfg(test)]\npub(crate) mod sample;\n"),
        Source::new("pool/sample.rs", "use crate::snapshot::Snapshot;\n"),
    ];
    assert!(violations(&table(), &sources).is_empty());
}

/// The checker of circles: what it finds among some files.
fn check_circles(files: &[(&str, &str)], expected: &[&[&str]]) {
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    assert_eq!(circles(&sources).into_iter().collect::<Vec<_>>(), expected, "{files:?}");
}

#[test]
fn files_that_use_each_other_are_found() {
    check_circles(
        &[
            ("pool/choose.rs", "use super::slot_table::SlotTable;"),
            ("pool/slot_table.rs", "use super::choose::Tried;"),
        ],
        &[&["pool::choose", "pool::slot_table"]],
    );
    check_circles(
        &[("pool/choose.rs", "use super::slot_table::SlotTable;"), ("pool/slot_table.rs", "")],
        &[],
    );
    // Written out, over three files and three rooms.
    check_circles(
        &[
            ("edge/a.rs", "fn f() { crate::pool::b::f() }"),
            ("pool/b.rs", "use crate::{text, units::{Weight as W, c as d}};\nfn f() { d::make::<u8>() }"),
            ("units/c.rs", "use crate::edge::a::{\n    f,\n    g,\n};"),
            ("text.rs", "use super::edge;\nfn f() { edge::a::f() }"),
        ],
        &[&["edge::a", "pool::b", "units::c"]],
    );
}

#[test]
fn the_list_of_circles_is_neither_too_short_nor_too_long() {
    let circles = |names: &[&[&str]]| -> BTreeSet<Vec<String>> {
        names.iter().map(|files| files.iter().map(|file| (*file).to_owned()).collect()).collect()
    };
    let (one, other): (&[&str], &[&str]) = (&["pool::a", "pool::b"], &["edge::c", "edge::d"]);
    assert!(against_list(&circles(&[one]), &circles(&[one])).is_empty());
    assert_eq!(
        against_list(&circles(&[one]), &circles(&[other])),
        ["pool::a, pool::b use each other in a circle", "edge::c, edge::d are no circle any more"]
    );
}

#[test]
fn a_name_is_followed_to_the_file_that_defines_it() {
    let passing = "mod front;\nmod socket;\npub(super) use socket::{bind as open, Arrival};\n";
    let listen = ("edge/listen.rs", "use super::udp;\nfn f() { udp::open() }");
    let socket = ("edge/udp/socket.rs", "use crate::edge::Bound;");
    let front = ("edge/udp/front.rs", "use super::super::listen::Bound;");
    let files = [("edge/mod.rs", "pub(crate) use listen::Bound;"), listen, socket, front];
    check_circles(
        &[("edge/udp/mod.rs", passing), files[0], files[1], files[2], files[3]],
        &[&["edge::listen", "edge::udp::socket"]],
    );
}

#[test]
fn what_a_room_shares_in_its_own_module_makes_no_circle() {
    let control = "mod live;\nfn f() { live::start() }\npub(crate) struct Control;\n";
    check_circles(&[("control/mod.rs", control), ("control/live.rs", "use super::Control;")], &[]);
    // Neither does what it passes on, nor what only tests use.
    let udp = "mod front;\npub(super) use front::Front;\n";
    check_circles(&[("edge/udp/mod.rs", udp), ("edge/udp/front.rs", "use super::Front;")], &[]);
    let tests = [
        ("pool/mod.rs", "#[cfg(test)]\nmod sample;\n"),
        ("pool/sample.rs", "use super::slot_table::SlotTable;"),
        ("pool/slot_table.rs", "use super::sample::pool;"),
    ];
    check_circles(&tests, &[]);
}

/// What the page names in backticks: files by the end of their path, and items as `a::b`.
#[test]
fn the_page_names_only_what_there_is() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("there is ARCHITECTURE.md");
    let mut files = Vec::new();
    for directory in ["src", "tests", "benches", "fuzz/properties"] {
        rust_files(&root().join(directory), &mut files);
    }
    let texts: Vec<_> =
        files.iter().map(|file| std::fs::read_to_string(file).expect("it can be read")).collect();
    let is_file = |name: &str| files.iter().any(|file| file.ends_with(name));
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut missing = Vec::new();
    for named in page.split('`').skip(1).step_by(2) {
        let is_known = match named.rsplit_once("::") {
            _ if named.ends_with(".rs") => is_file(named),
            Some((_, item)) if item.chars().all(is_word) && !item.is_empty() => {
                texts.iter().any(|text| names(text, item))
            }
            _ => true,
        };
        if !is_known {
            missing.push(named);
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");
}
