//! Servers from elsewhere than the configuration: a list whose items are as in a pool's `servers`, or groups of targets as
//! Prometheus's `http_sd` has them. JSON is read as the YAML that it is.

use super::address;
use super::keys;
use super::names::{Once, word};
use super::place::At;
use super::plan::{Name, ServerPlan};
use super::pool::{Entry, entry};
use super::problem::{Fault, Problems, quoted};
use super::tree::Scalar;
use super::yaml;
use crate::units::Weight;
use std::borrow::Cow;
use std::cell::RefCell;

/// Reads such a list, which says of every server where it is. Each problem has its place in `text`.
///
/// # Errors
/// All that is wrong; nothing is used of a list that is not right.
pub fn parse_servers(text: &str) -> Result<Vec<ServerPlan>, Problems> {
    let found = RefCell::new(Problems::default());
    let text = with_whole_characters(text);
    let root = yaml::read(&text, &found);
    let servers = root.and_then(|root| servers(At::root(&root, &found)));
    let mut problems = found.into_inner();
    problems.sort();
    match servers {
        Some(servers) if !problems.has_errors() => Ok(servers),
        _ => Err(problems),
    }
}

/// JSON may write a character in two halves (RFC 8259 section 7), and YAML does not know that.
fn with_whole_characters(text: &str) -> Cow<'_, str> {
    let is_json = text.trim_start().starts_with(['[', '{']);
    if !is_json || !text.contains("\\u") {
        return Cow::Borrowed(text);
    }
    let (mut whole, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        whole.push_str(before);
        let character = [half(escape), escape.get(6..).and_then(half)];
        let [taken, left] = match character {
            [Some(high), Some(low)] => match char::decode_utf16([high, low]).next() {
                Some(Ok(character)) if character.len_utf16() == 2 => {
                    whole.push(character);
                    ["", &escape[12..]]
                }
                _ => [&escape[..6], &escape[6..]],
            },
            // The mark, and what it is for: that may be another mark.
            _ => {
                let end = escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end);
                [&escape[..end], &escape[end..]]
            }
        };
        whole.push_str(taken);
        rest = left;
    }
    whole.push_str(rest);
    Cow::Owned(whole)
}

/// What `\uXXXX` at the beginning says.
fn half(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

fn servers(at: At<'_>) -> Option<Vec<ServerPlan>> {
    if at.is_null() {
        // A file that is being written begins so.
        at.refuse_key(Fault::new("there is nothing in it", "write `[]` if there are no servers"));
        return None;
    }
    let mut servers = Vec::new();
    let mut taken = Once::default();
    for item in at.items()? {
        let before = servers.len();
        if item.has_key("targets") {
            // Registries list a target twice, which says nothing else.
            let targets = group(item).unwrap_or_default();
            for target in targets {
                if !servers.contains(&target) {
                    servers.push(target);
                }
            }
        } else {
            match entry(item) {
                Some(Entry::Server(server)) => servers.push(server),
                Some(Entry::Source(_)) => item.refuse(Fault::new(
                    "is a host name, and here servers have addresses",
                    "write IP addresses, or have the name looked up by `discover: { dns: ... }`",
                )),
                None => {}
            }
        }
        for server in &servers[before..] {
            if let Some(line) = taken.seen(server.name.clone(), item.line()) {
                item.refuse(Fault::new(
                    format!("another server here is named {}", quoted(&server.name)),
                    format!("see line {line}; remove one, or give it a `name` of its own"),
                ));
            }
        }
    }
    Some(servers)
}

/// Targets with labels in common.
fn group(at: At<'_>) -> Option<Vec<ServerPlan>> {
    let section = at.section(keys::TARGET_GROUP)?;
    let (mut name, mut weight, mut drain) = (None, Weight::default(), false);
    let labels = section.get("labels").filter(|labels| !labels.is_null());
    for (label, at) in labels.iter().filter_map(At::names).flatten() {
        // Others are for Prometheus.
        match label {
            "name" => name = at.scalar(&"a text without spaces", word),
            "weight" => weight = at.scalar(&"1 to 256", label_weight).unwrap_or_default(),
            "drain" => drain = at.scalar(&"`true` or `false`", label_flag).unwrap_or_default(),
            _ => {}
        }
    }
    let targets = section.get("targets")?;
    let mut servers = Vec::new();
    for target in targets.items()? {
        let address = target.scalar(&"an address like `10.0.0.11:8080`", |scalar| {
            Ok((Name::from(&*scalar.text), address::to_connect(scalar)?))
        });
        let Some((as_written, address)) = address else { continue };
        servers.push(ServerPlan {
            name: as_written,
            address,
            weight,
            max_connections: None,
            drain,
            backup: false,
            host: None,
        });
    }
    match (&mut servers[..], name) {
        ([], _) => {}
        ([only], Some(name)) => only.name = name.into(),
        (_, Some(_)) => targets.refuse_key(Fault::new(
            "has not one target, and the label `name` is for one",
            "give each target a group of its own, or remove the label",
        )),
        (_, None) => {}
    }
    Some(servers)
}

/// Labels are texts, whatever they say.
fn label_weight(scalar: &Scalar<'_>) -> Result<Weight, Fault> {
    let weight = scalar.text.parse().ok().and_then(Weight::new);
    weight.ok_or_else(|| Fault::new(format!("{} is not a weight", quoted(&scalar.text)), "use 1 to 256"))
}

fn label_flag(scalar: &Scalar<'_>) -> Result<bool, Fault> {
    match &*scalar.text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => {
            Err(Fault::new(format!("{} is not true or false", quoted(other)), "write `true` or `false`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_servers;

    /// Servers as `name=address weight drain`, or what is wrong.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let said = match parse_servers(text) {
            Ok(servers) => servers
                .iter()
                .map(|server| {
                    let drain = if server.drain { " drain" } else { "" };
                    format!("{}={} {}{drain}", server.name, server.address, server.weight.get())
                })
                .collect::<Vec<_>>(),
            Err(problems) => problems.iter().map(|problem| problem.sentence()).collect(),
        };
        assert_eq!(said, expected, "{text}");
    }

    #[test]
    fn a_list_has_items_as_in_servers_or_groups_of_targets() {
        check(
            "- 10.0.0.1:80\n- { name: b, address: 10.0.0.2:80, weight: 7, drain: true }\n",
            &["10.0.0.1:80=10.0.0.1:80 100", "b=10.0.0.2:80 7 drain"],
        );
        check(
            r#"[{"targets": ["10.0.0.1:80", "[::1]:80"], "labels": {"job": "x", "weight": "7", "__meta_a": "\/"}},
                {"targets": ["10.0.0.3:80"], "labels": {"name": "c", "drain": "true"}}, {"targets": []}]"#,
            &["10.0.0.1:80=10.0.0.1:80 7", "[::1]:80=[::1]:80 7", "c=10.0.0.3:80 100 drain"],
        );
        check("[]", &[]);
        check(
            r#"[{"targets": [], "labels": {"name": "x"}}, {"targets": ["10.0.0.1:80"]}]"#,
            &["10.0.0.1:80=10.0.0.1:80 100"],
        );
        check(
            r#"[{"targets": ["10.0.0.1:80", "10.0.0.1:80"]}, {"targets": ["10.0.0.1:80"]}]"#,
            &["10.0.0.1:80=10.0.0.1:80 100"],
        );
    }

    #[test]
    fn characters_are_written_as_json_has_them() {
        for label in [
            r"\ud83d\ude00",
            r"\uD83D\uDE00 \u007f",
            r"\ufffe",
            r"a\\ud83d",
            r"\n\ud83d\ude00\t",
            "\u{1f600}",
        ] {
            let text = format!(r#"[{{"targets": ["10.0.0.1:80"], "labels": {{"__meta": "{label}"}}}}]"#);
            check(&text, &["10.0.0.1:80=10.0.0.1:80 100"]);
        }
        let named = r#"[{"targets": ["10.0.0.1:80"], "labels": {"name": "a\ud83d\ude00\u0062"}}]"#;
        check(named, &["a\u{1f600}b=10.0.0.1:80 100"]);
        let half = r#"[{"targets": ["10.0.0.1:80"], "labels": {"name": "\ud83d"}}]"#;
        assert!(parse_servers(half).is_err());
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let nothing = "there is nothing in it; write `[]` if there are no servers";
        for text in ["", "# only a comment\n"] {
            let Err(problems) = parse_servers(text) else { panic!("{text:?} is refused") };
            assert!(problems.iter().any(|problem| problem.sentence().contains(nothing)), "{text:?}");
        }
        for (text, part) in [
            ("app.internal:80", "is not a list"),
            ("- app.internal:80\n", "[0]: is a host name, and here servers have addresses"),
            ("[10.0.0.1:80, 10.0.0.1:80]", "another server here is named `10.0.0.1:80`"),
            ("<html><body>", ""),
            ("{\"a\": 1}", "is a section"),
            (
                r#"[{"targets": ["10.0.0.1:80"], "labels": {"weight": "0"}}]"#,
                "labels.weight: `0` is not a weight",
            ),
            (r#"[{"targets": ["10.0.0.1:80", "10.0.0.2:80"], "labels": {"name": "a"}}]"#, "is for one"),
            (r#"[{"targets": ["app:80"]}]"#, "is not an address"),
        ] {
            let Err(problems) = parse_servers(text) else { panic!("{text} is refused") };
            assert!(problems.iter().any(|problem| problem.sentence().contains(part)), "{text}");
        }
    }
}
