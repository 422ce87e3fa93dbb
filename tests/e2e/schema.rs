//! The JSON Schema of the configuration: it is what the program prints, takes the files in conf/, refuses typical
//! mistakes, and manual pages and completions know every command.

use crate::support::balancer::evenkeel;
use jsonschema::Validator;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn output(arguments: &[&str]) -> (Option<i32>, String) {
    let output = evenkeel().args(arguments).output().expect("the binary starts");
    (output.status.code(), String::from_utf8(output.stdout).expect("output is UTF-8"))
}

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")
}

fn committed() -> String {
    std::fs::read_to_string(conf().join("evenkeel.schema.json")).expect("conf/evenkeel.schema.json is there")
}

fn schema() -> Validator {
    let schema = serde_json::from_str(&committed()).expect("the schema is JSON");
    jsonschema::draft202012::new(&schema).expect("the schema is one")
}

/// What is wrong with `value`.
fn problems(schema: &Validator, value: &Value) -> Vec<String> {
    schema.iter_errors(value).map(|problem| format!("{}: {problem}", problem.instance_path())).collect()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).expect("the text is YAML")
}

#[test]
fn the_committed_schema_is_what_the_command_prints() {
    let (code, printed) = output(&["schema"]);
    assert_eq!(code, Some(0));
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(conf().join("evenkeel.schema.json"), &printed).expect("the file can be written");
    }
    assert!(printed == committed(), "renew it: UPDATE_FIXTURES=1 cargo nextest run --test e2e schema");
}

#[test]
fn every_file_in_conf_names_the_schema_and_keeps_to_it() {
    let schema = schema();
    let mut files = 0;
    for entry in std::fs::read_dir(conf()).expect("conf is there") {
        let path = entry.expect("conf can be read").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let first = text.lines().next();
        assert_eq!(first, Some("# yaml-language-server: $schema=evenkeel.schema.json"), "{}", path.display());
        let problems = problems(&schema, &yaml(&text));
        assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
        let (code, written) = output(&["config", &path.display().to_string()]);
        assert_eq!(code, Some(0));
        let problems = self::problems(&schema, &yaml(&written));
        assert!(problems.is_empty(), "{} with its defaults: {problems:#?}", path.display());
    }
    assert!(files >= 4, "{files} files");
}

#[test]
fn typical_mistakes_are_refused() {
    let good = "{ listeners: { web: { address: '0.0.0.0:80', pool: app } }, pools: { app: { servers: ['10.0.0.1:80'], \
                timeouts: { connect: 3s }, health: { http: /healthz } } } }";
    let schema = schema();
    assert_eq!(problems(&schema, &yaml(good)), Vec::<String>::new());
    for (right, wrong) in [
        ("health:", "helth:"),
        ("connect: 3s", "connect: 3"),
        ("connect: 3s", "connect: 3 seconds"),
        ("pools:", "pool:"),
        ("servers:", "members:"),
        ("servers: ['10.0.0.1:80']", "servers: '10.0.0.1:80'"),
        ("['10.0.0.1:80']", "[{ address: '10.0.0.1:80', weight: 0 }]"),
        ("['10.0.0.1:80']", "[{ address: '10.0.0.1:80', drain: 'no' }]"),
        ("timeouts:", "balance: round_robbin, timeouts:"),
        ("timeouts:", "when_all_unhealthy: maybe, timeouts:"),
        ("timeouts:", "retries: { budget: 20 }, timeouts:"),
        ("timeouts:", "retries: { on: [sometimes] }, timeouts:"),
        ("pool: app", "pool: app, protocol: https"),
        ("pool: app", "pool: app, limits: { request_body: 10MB }"),
    ] {
        let text = good.replacen(right, wrong, 1);
        assert_ne!(text, good, "{wrong}");
        assert!(!problems(&schema, &yaml(&text)).is_empty(), "{wrong} is taken");
    }
}

/// The commands that `evenkeel --help` lists.
fn commands() -> Vec<String> {
    let (_, help) = output(&["--help"]);
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What a command is for may go on in a line of its own, further in.
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    assert!(names.iter().any(|name| name == "run"), "{help}");
    names
}

#[test]
fn each_command_has_a_manual_page() {
    let (code, page) = output(&["man"]);
    assert_eq!(code, Some(0));
    for name in commands() {
        assert!(
            page.contains(&format!("evenkeel\\-{name}(1)")),
            "{name} is not in the program's page: {page}"
        );
        let (code, page) = output(&["man", &name]);
        assert_eq!(code, Some(0), "{name}");
        assert!(page.contains(".SH SYNOPSIS") && page.contains(&name), "{page}");
    }
    let wrong = evenkeel().args(["man", "fly"]).output().expect("the binary starts");
    assert_eq!(wrong.status.code(), Some(2));
    let err = String::from_utf8_lossy(&wrong.stderr);
    assert!(err.contains("no command `fly`") && err.contains("run, check"), "{err}");
}

#[test]
fn each_command_has_a_section_with_its_output() {
    let page = include_str!("../../docs/commands.md");
    let headings: Vec<_> = page.lines().filter(|line| line.starts_with("## ")).collect();
    for name in commands().iter().filter(|name| *name != "help") {
        let quoted = format!("`{name}`");
        assert!(headings.iter().any(|heading| heading.contains(&quoted)), "docs/commands.md has no {quoted}");
    }
}

#[test]
fn help_fits_80_columns() {
    for name in commands() {
        let (_, help) = output(&[&name, "--help"]);
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
            assert!(
                !line.starts_with("/") && !line.starts_with("evenkeel"),
                "{name}: an example is broken: {line}"
            );
        }
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script) = output(&["completions", shell]);
        assert_eq!(code, Some(0));
        for name in commands() {
            assert!(script.contains(&name), "{shell} does not know {name}");
        }
    }
    assert_eq!(output(&["completions", "ksh"]).0, Some(2));
}
