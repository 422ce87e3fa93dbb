//! The JSON Schema of the configuration: it is what the program prints, takes the files in conf/, refuses typical
//! mistakes, and manual pages and completions know every command.

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use support::balancer::evenkeel;

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

fn schema() -> Value {
    serde_json::from_str(&committed()).expect("the schema is JSON")
}

/// What is wrong with `value`, for the few keywords that our schema has; any other is a fault of the test. A crate that
/// knows them all would bring forty others.
fn problems(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let good = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" => true,
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is_a(value, kind)),
                kind => is_a(value, kind),
            },
            "enum" => rule.as_array().is_some_and(|all| all.contains(value)),
            "pattern" => value.as_str().is_none_or(|text| has_pattern(text, rule)),
            "minimum" => value.as_u64().is_none_or(|number| Some(number) >= rule.as_u64()),
            "maximum" => value.as_u64().is_none_or(|number| Some(number) <= rule.as_u64()),
            "required" => value.as_object().is_none_or(|section| {
                rule.as_array().is_some_and(|names| {
                    names.iter().all(|name| name.as_str().is_some_and(|name| section.contains_key(name)))
                })
            }),
            "anyOf" => {
                rule.as_array().is_some_and(|ways| ways.iter().any(|way| problems(way, value, at).is_empty()))
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(problems(rule, item, &format!("{at}[{index}]")));
                }
                true
            }
            "properties" | "additionalProperties" => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{name}");
                    let is_known = schema["properties"].get(name).is_some();
                    match (keyword.as_str(), is_known, rule) {
                        ("properties", true, _) => found.extend(problems(&rule[name], item, &at)),
                        ("additionalProperties", false, Value::Bool(false)) => {
                            found.push(format!("{at} is unknown"));
                        }
                        ("additionalProperties", false, rule) => found.extend(problems(rule, item, &at)),
                        _ => {}
                    }
                }
                true
            }
            other => panic!("{at}: the test does not know `{other}`"),
        };
        if !good {
            found.push(format!("{at}: {keyword} {rule} refuses {value}"));
        }
    }
    found
}

fn is_a(value: &Value, kind: &Value) -> bool {
    match kind.as_str().expect("a type is a text") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no type: {other}"),
    }
}

/// Digits and one of several units: the only pattern there is.
fn has_pattern(text: &str, pattern: &Value) -> bool {
    let units = pattern.as_str().and_then(|pattern| pattern.strip_prefix("^[0-9]+ ?(")?.strip_suffix(")$"));
    let mut units = units.expect("a pattern the test knows").split('|');
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit = text[digits..].strip_prefix(' ').unwrap_or(&text[digits..]);
    digits > 0 && units.any(|known| known == unit)
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
    assert!(printed == committed(), "renew it: UPDATE_FIXTURES=1 cargo nextest run --test schema");
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
        let problems = problems(&schema, &yaml(&text), "");
        assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
    }
    assert!(files >= 4, "{files} files");
}

#[test]
fn typical_mistakes_are_refused() {
    let good = "{ listeners: { web: { address: '0.0.0.0:80', pool: app } }, pools: { app: { servers: ['10.0.0.1:80'], \
                timeouts: { connect: 3s }, health: { http: /healthz } } } }";
    let schema = schema();
    assert_eq!(problems(&schema, &yaml(good), ""), Vec::<String>::new());
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
        assert!(!problems(&schema, &yaml(&text), "").is_empty(), "{wrong} is taken");
    }
}

/// The commands that `evenkeel --help` lists.
fn commands() -> Vec<String> {
    let (_, help) = output(&["--help"]);
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<String> =
        listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
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
