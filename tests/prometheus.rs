//! The alert rules and the dashboard name no metric that the page cannot have. `./dev prometheus` tries what they say.

use std::collections::BTreeSet;
use std::path::Path;

/// What the process collector of the prometheus crate brings.
const OF_THE_PROCESS: [&str; 7] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Words that look like metrics.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_name(c));
    words.filter(|word| word.starts_with("evenkeel_") || word.starts_with("process_")).collect()
}

/// The families that src/metrics writes.
fn families() -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics");
    let mut all: BTreeSet<String> = OF_THE_PROCESS.map(str::to_owned).into();
    for entry in std::fs::read_dir(directory).expect("src/metrics is there") {
        let text = std::fs::read_to_string(entry.expect("it can be read").path()).expect("it is text");
        // A name is a string of its own, so each second piece between quotation marks is one.
        let strings = text.split('"').filter(|piece| piece.starts_with("evenkeel_"));
        all.extend(strings.map(str::to_owned));
    }
    all
}

fn unknown<'a>(text: &'a str, families: &BTreeSet<String>) -> Vec<&'a str> {
    let is_known = |name: &&str| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        families.contains(*name) || family.is_some_and(|family| families.contains(family))
    };
    metrics_in(text).into_iter().filter(|name| !is_known(name)).collect()
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_there_are() {
    let families = families();
    assert!(families.len() > 40, "{families:?}");
    for file in ["alerts.yml", "alerts.test.yml", "dashboard.json"] {
        let text = read(&format!("packaging/prometheus/{file}"));
        assert!(metrics_in(&text).len() > 10, "{file} names hardly any metric");
        assert_eq!(unknown(&text, &families), Vec::<&str>::new(), "in {file}");
    }
    assert_eq!(unknown("rate(evenkeel_requests_total[5m])", &families), ["evenkeel_requests_total"]);
}

#[test]
fn each_alert_has_a_runbook_and_both_tests() {
    let rules = read("packaging/prometheus/alerts.yml");
    let tests = read("packaging/prometheus/alerts.test.yml");
    let names: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 15, "{names:?}");
    assert_eq!(rules.matches(" runbook: ").count(), names.len());
    for name in names {
        for what in ["fires", "is silent"] {
            assert!(tests.contains(&format!("- name: {name} {what}\n")), "no test that {name} {what}");
        }
    }
}

#[test]
fn the_dashboard_has_its_rows_and_asks_the_chosen_source() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("packaging/prometheus/dashboard.json")).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("there are panels");
    let rows: Vec<_> = panels
        .iter()
        .filter(|panel| panel["type"] == "row")
        .filter_map(|row| row["title"].as_str())
        .collect();
    let expected = [
        "Traffic",
        "Errors",
        "Latency",
        "Servers",
        "Queues, ejections and sessions",
        "Cache",
        "Probes",
        "TLS",
        "Reloads",
        "Process",
    ];
    assert_eq!(rows, expected);
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
    }
}
