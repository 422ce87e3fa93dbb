//! What `check` says about a broken file, word for word: every fault, its place, and what would work.
//! `UPDATE_FIXTURES=1 cargo test --test check_fixtures` writes the files anew; read the difference.

use std::path::{Path, PathBuf};
use std::{env, fs};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/broken");

fn broken() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(FOLDER)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// Compares with the file of that extension, and writes it instead when asked to.
fn compare(yaml: &Path, extension: &str, said: &str) -> Result<(), String> {
    let path = yaml.with_extension(extension);
    if env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, said).expect("writable");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if said == expected {
        return Ok(());
    }
    Err(format!("{} differs.\n--- expected\n{expected}--- said\n{said}", path.display()))
}

fn file_name(yaml: &Path) -> String {
    yaml.file_name().expect("a file").to_string_lossy().into_owned()
}

#[test]
fn every_fault_of_a_broken_file_is_named_at_its_place() {
    let files = broken();
    assert!(files.len() >= 20, "only {} fixtures", files.len());
    let mut differences = Vec::new();
    for yaml in files {
        let (name, text) = (file_name(&yaml), fs::read_to_string(&yaml).expect("readable"));
        let (said, ok) = evenkeel::config::check(&name, &text, false, false);
        assert_eq!(ok, name.starts_with("warnings"), "{name}");
        differences.extend(compare(&yaml, "txt", &said).err());
        if yaml.with_extension("json").exists() {
            let (said, _) = evenkeel::config::check(&name, &text, true, false);
            differences.extend(compare(&yaml, "json", &said).err());
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_problem_begins_with_one_line_that_grep_finds() {
    for yaml in broken() {
        let (name, text) = (file_name(&yaml), fs::read_to_string(&yaml).expect("readable"));
        let (Ok((_, problems)) | Err(problems)) = evenkeel::config::parse(&text);
        let (said, _) = evenkeel::config::check(&name, &text, false, false);
        for problem in &problems {
            let spot = problem.spot;
            let line =
                format!("{}: {name}:{}:{}: {}", problem.severity, spot.line, spot.column, problem.sentence());
            assert!(said.lines().any(|said| said == line), "{line}\nis not in\n{said}");
        }
    }
}

#[test]
fn every_file_in_conf_is_good_and_warns_of_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("conf is there") {
        let path = entry.expect("readable").path();
        // The schema lies beside the files.
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("readable");
        let (said, ok) = evenkeel::config::check(&file_name(&path), &text, false, false);
        // Beside its one line only what its `outlier` comes to, where clients are counted without a proxy, and which pages with
        // sessions are compressed.
        let is_note = |line: &str| {
            line.starts_with("  pools.") && line.contains(".outlier: ")
                || line.starts_with("  listeners.") && line.ends_with("name it in `trusted_proxies`")
                || line.starts_with("  rule ") && line.ends_with("(BREACH)")
        };
        let notes = said.lines().skip(1).all(is_note);
        assert!(ok && notes && said.lines().next().is_some_and(|line| line.contains(": ok: ")), "{said}");
        files += 1;
    }
    assert!(files >= 4, "only {files} files");
}

#[test]
fn a_good_file_is_summed_up_in_one_line_and_one_for_each_outlier() {
    let of = |pool: &str, allowed: u32, count: u32| {
        format!(
            "  pools.{pool}.outlier: at most {allowed} of {count} may be down or ejected for one to be ejected\n"
        )
    };
    let counting =
        "  listeners.shop: clients are those who connect: behind a proxy, name it in `trusted_proxies`\n";
    let sessions = "  rule web/14: clients with sessions get compressed pages: none may have both a secret and what its URL says (BREACH)\n";
    for (file, summary, notes) in [
        ("conf/minimal.yaml", "1 listener, 1 pool, 2 servers", String::new()),
        (
            "conf/evenkeel.yaml",
            "6 listeners, 14 pools, 18 servers, 4 sources",
            of("app", 1, 2) + counting + sessions,
        ),
        ("conf/shop.yaml", "3 listeners, 4 pools, 12 servers", of("app", 2, 4)),
        ("conf/tcp.yaml", "3 listeners, 4 pools, 9 servers", String::new()),
    ] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("readable");
        let (said, ok) = evenkeel::config::check(file, &text, false, false);
        assert_eq!((said, ok), (format!("{file}: ok: {summary}\n{notes}"), true));
    }
}
