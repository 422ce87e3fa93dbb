//! The reference and the documented file say what the code does: every key, its range and its default, and
//! no key that does not exist.

use evenkeel::config::keys::{Key, KeyKind, each_section};
use serde_yaml::Value;
use std::collections::BTreeMap;

const REFERENCE: &str = include_str!("../docs/configuration.md");
const DOCUMENTED: &str = include_str!("../conf/evenkeel.yaml");

/// Sections by path, the top level under an empty one.
fn sections() -> BTreeMap<String, &'static [Key]> {
    let mut sections = BTreeMap::new();
    each_section(&mut |path, keys| _ = sections.insert(path.to_owned(), keys));
    sections
}

/// One row of a table of the reference.
struct Row<'a> {
    key: &'a str,
    value: &'a str,
    default: &'a str,
}

/// The tables of the reference by the path in the heading above each.
fn tables(reference: &str) -> BTreeMap<String, Vec<Row<'_>>> {
    let mut tables = BTreeMap::new();
    let mut path = None;
    for line in reference.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            path = match heading {
                "The file" => Some(String::new()),
                _ => heading.strip_prefix('`').and_then(|path| path.strip_suffix('`')).map(str::to_owned),
            };
            if let Some(path) = &path {
                tables.insert(path.clone(), Vec::new());
            }
        }
        let cells: Vec<_> = line.split(" | ").collect();
        let (Some(path), [key, value, default, _]) = (&path, &cells[..]) else { continue };
        let Some(key) = key.strip_prefix("| `").and_then(|key| key.strip_suffix('`')) else { continue };
        tables.entry(path.clone()).or_default().push(Row { key, value, default });
    }
    tables
}

/// What the reference gets wrong.
fn faults_of_reference(reference: &str) -> Vec<String> {
    let (sections, tables) = (sections(), tables(reference));
    let mut faults = Vec::new();
    for path in tables.keys().filter(|path| !sections.contains_key(*path)) {
        faults.push(format!("{path}: there is no such section"));
    }
    for (path, keys) in sections {
        let Some(rows) = tables.get(&path) else {
            faults.push(format!("{path}: not documented"));
            continue;
        };
        for row in rows.iter().filter(|row| !keys.iter().any(|key| key.name == row.key)) {
            faults.push(format!("{path}.{}: there is no such key", row.key));
        }
        for key in keys {
            let Some(row) = rows.iter().find(|row| row.key == key.name) else {
                faults.push(format!("{path}.{}: not documented", key.name));
                continue;
            };
            let null = if key.nullable { ", or `null`" } else { "" };
            let value = format!("{}{null}", key.kind);
            if row.value != value {
                faults.push(format!("{path}.{}: takes {value}, documented is {}", key.name, row.value));
            }
            let documented = row.default.strip_prefix('`').and_then(|default| default.strip_suffix('`'));
            if documented != key.default {
                faults.push(format!(
                    "{path}.{}: default is {:?}, documented is {}",
                    key.name, key.default, row.default
                ));
            }
        }
    }
    faults
}

/// Everything that stands in a file at a path like `pools.NAME.servers[]`.
fn at_path<'a>(file: &'a Value, path: &str) -> Vec<&'a Value> {
    let steps = path.replace("[]", ".[]");
    let mut found = vec![file];
    for step in steps.split('.').filter(|step| !step.is_empty()) {
        found = found
            .into_iter()
            .flat_map(|value| match (step, value) {
                ("[]", Value::Sequence(items)) => items.iter().collect(),
                ("NAME", Value::Mapping(named)) => named.values().collect(),
                _ => value.get(step).into_iter().collect::<Vec<_>>(),
            })
            .collect();
    }
    found
}

/// What the documented file leaves out or shows with another value than the default.
fn faults_of_file(text: &str) -> Vec<String> {
    let file: Value = serde_yaml::from_str(text).expect("valid YAML");
    let mut faults = Vec::new();
    for (path, keys) in sections() {
        // One of three, of which a comment shows the others.
        if path.ends_with("consistent_hash.key") || path.ends_with("maglev.key") || path.ends_with(".per") {
            continue;
        }
        for key in keys {
            let shown: Vec<_> =
                at_path(&file, &path).into_iter().filter_map(|section| section.get(key.name)).collect();
            if shown.is_empty() {
                faults.push(format!("{path}.{}: not shown", key.name));
            }
            let sections = matches!(
                key.kind,
                KeyKind::Section(_) | KeyKind::Named(_) | KeyKind::NamedLists(_) | KeyKind::NamedListsOr(..)
            )                // There is one place for it, which shows what may stand in it.
                || matches!(key.name, "access_log" | "purge_nodes");
            if let Some(default) = key.default.filter(|_| !sections) {
                let default: Value = serde_yaml::from_str(default).expect("valid YAML");
                if !shown.contains(&&default) {
                    faults.push(format!("{path}.{}: its default is not shown", key.name));
                }
            }
            let has_range = matches!(
                key.kind,
                KeyKind::Duration(..) | KeyKind::Size(..) | KeyKind::Count(..) | KeyKind::Percent(..)
            );
            let (name, range) = (format!(" {}:", key.name), key.kind.to_string());
            if has_range && !text.lines().any(|line| line.contains(&name) && line.contains(&range)) {
                faults.push(format!("{path}.{}: its range {range} is not in its comment", key.name));
            }
        }
    }
    faults
}

#[test]
fn the_reference_documents_every_key_as_it_is() {
    let faults = faults_of_reference(REFERENCE);
    assert!(faults.is_empty(), "docs/configuration.md:\n{}", faults.join("\n"));
}

#[test]
fn the_documented_file_shows_every_key_with_its_default() {
    let faults = faults_of_file(DOCUMENTED);
    assert!(faults.is_empty(), "conf/evenkeel.yaml:\n{}", faults.join("\n"));
}

#[test]
fn a_reference_that_is_wrong_is_found_out() {
    let row = "| `fall` | 1 to 100 | `3` | failed";
    for (wrong, fault) in [
        ("| failed", "pools.NAME.health.fall: not documented"),
        ("| `fail` | 1 to 100 | `3` | failed", "pools.NAME.health.fail: there is no such key"),
        (
            "| `fall` | 1 to 100 | `4` | failed",
            "pools.NAME.health.fall: default is Some(\"3\"), documented is `4`",
        ),
        (
            "| `fall` | 1 to 10 | `3` | failed",
            "pools.NAME.health.fall: takes 1 to 100, documented is 1 to 10",
        ),
    ] {
        assert!(REFERENCE.contains(row));
        let faults = faults_of_reference(&REFERENCE.replace(row, wrong));
        assert!(faults.iter().any(|found| found == fault), "{wrong}: {faults:?}");
    }
    let faults = faults_of_file(&DOCUMENTED.replace("fall: 3 ", "fall: 4 "));
    assert_eq!(faults, ["pools.NAME.health.fall: its default is not shown"]);
    let faults = faults_of_file(&DOCUMENTED.replace("rise: 2 ", "ryse: 2 "));
    assert_eq!(faults[0], "pools.NAME.health.rise: not shown");
}

/// The blocks of YAML in the reference, each as a whole file.
#[test]
fn every_example_of_the_reference_is_accepted() {
    let mut parts = REFERENCE.split("\n## ");
    let intro = parts.next().expect("the beginning");
    let mut checked = 0;
    let examples = parts.map(|part| part.split_once('\n').expect("a heading")).chain([("The file", intro)]);
    for (heading, part) in examples {
        let Some((_, rest)) = part.split_once("```yaml\n") else { continue };
        let (example, _) = rest.split_once("```").expect("a closed block");
        let file = whole(heading.trim_matches('`'), example);
        let plan = match evenkeel::config::parse(&file) {
            Ok((plan, _)) => plan,
            Err(problems) => panic!("{heading}:\n{}", problems.render("example", &file, false)),
        };
        let written = evenkeel::config::write(&plan);
        let again = evenkeel::config::parse(&written).map(|(plan, _)| plan);
        assert_eq!(again, Ok(plan), "{heading}, as `evenkeel config` prints it:\n{written}");
        checked += 1;
    }
    assert!(checked >= 18, "only {checked} examples");
}

/// The recipes for kinds of sites, each as a whole file that nothing is to be said of but what the recipe leaves out.
#[test]
fn every_recipe_of_the_cache_is_accepted() {
    let recipes = include_str!("../docs/caching.md").split("```yaml\n").skip(1);
    let mut checked = 0;
    for recipe in recipes {
        let (recipe, _) = recipe.split_once("```").expect("a closed block");
        let (_, rest) = recipe.split_once("routes:\n  ").expect("rules");
        let (name, _) = rest.split_once(':').expect("a name");
        let file = format!(
            "listeners: {{ web: {{ address: 0.0.0.0:80, routes: {name} }} }}\n{recipe}pools: {{ app: {{ servers: [10.0.0.1:80] }} }}\n"
        );
        match evenkeel::config::parse(&file) {
            Ok((_, problems)) => assert!(problems.is_empty(), "{}", problems.render(name, &file, false)),
            Err(problems) => panic!("{}", problems.render(name, &file, false)),
        }
        checked += 1;
    }
    assert!(checked >= 6, "only {checked} recipes");
}

/// An example of one section, with what else a file needs around it.
fn whole(section: &str, example: &str) -> String {
    let listeners = "listeners: { web: { address: 0.0.0.0:80, pool: app } }\n";
    let pools = "pools:\n  app: { servers: [10.0.0.1:80] }\n  checkout: { servers: [10.0.0.2:80] }\n";
    let routes = "routes: { shop: [{ pool: app }] }\n";
    let indented =
        |by: usize| -> String { example.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect() };
    match section {
        "The file" | "policies.NAME" | "policies.NAME.rate_limit[]" => example.to_owned(),
        "listeners.NAME" => format!("{example}{routes}{pools}"),
        "pools.NAME" => format!("{listeners}{example}"),
        "pools.NAME.servers[]" => format!("{listeners}pools:\n  app:\n{}", indented(4)),
        _ if section.starts_with("policies.NAME.") => format!("{listeners}{example}{pools}"),
        "routes.NAME[]" | "routes.NAME[].redirect" | "routes.NAME[].respond" => {
            format!("{listeners}{example}{pools}")
        }
        "routes.NAME[].match" => {
            format!("{listeners}routes:\n  shop:\n    - pool: app\n{}{pools}", indented(6))
        }
        "pools.NAME.balance.consistent_hash"
        | "pools.NAME.balance.maglev"
        | "pools.NAME.balance.success_rate" => {
            format!("{listeners}pools:\n  app:\n    servers: [10.0.0.1:80]\n    balance:\n{}", indented(6))
        }
        "pools.NAME.balance.consistent_hash.key" => {
            let above = "    balance:\n      consistent_hash:\n";
            format!("{listeners}pools:\n  app:\n    servers: [10.0.0.1:80]\n{above}{}", indented(8))
        }
        "pools.NAME.balance.success_rate.outcome" => {
            let above = "    balance:\n      success_rate:\n";
            format!("{listeners}pools:\n  app:\n    servers: [10.0.0.1:80]\n{above}{}", indented(8))
        }
        "pools.NAME.balance.maglev.key" => {
            let above = "    balance:\n      maglev:\n";
            format!("{listeners}pools:\n  app:\n    servers: [10.0.0.1:80]\n{above}{}", indented(8))
        }
        "pools.NAME.health.http"
        | "pools.NAME.health.tcp"
        | "pools.NAME.health.tls"
        | "pools.NAME.health.grpc"
        | "pools.NAME.health.udp" => {
            format!("{listeners}pools:\n  app:\n    servers: [10.0.0.1:80]\n    health:\n{}", indented(6))
        }
        "listeners.NAME.tls.acme" => {
            let above =
                "acme: { accept_terms: true }\nlisteners:\n  web:\n    address: 0.0.0.0:443\n    pool: app\n";
            format!("{above}{}{pools}", indented(4))
        }
        _ if section.starts_with("listeners.NAME.") => {
            format!("listeners:\n  web:\n    address: 0.0.0.0:80\n    pool: app\n{}{pools}", indented(4))
        }
        _ if section.starts_with("pools.NAME.") => {
            format!("{listeners}pools:\n  app:\n    servers: [10.0.0.1:80]\n{}", indented(4))
        }
        _ => format!("{example}{listeners}{pools}"),
    }
}
