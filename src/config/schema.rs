//! The table of keys as a JSON Schema, so that editors know the file: names, kinds, ranges and defaults. What takes more than
//! one key to judge (references, one of several) is left to `evenkeel check`.

use super::keys::{FILE, Key, KeyKind};
use serde_json::{Map, Value, json};

/// The schema (JSON Schema, draft 2020-12) of the whole file.
pub fn schema() -> Value {
    let mut file = section(FILE);
    let about = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "evenkeel",
        "description": "The configuration of evenkeel. `evenkeel check FILE` finds what a schema cannot.",
        "required": ["listeners", "pools"],
    });
    merge(&mut file, about);
    file
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

fn section(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let mut section = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    // Of several keys without a default one may do, which the table does not say; a single one must be there.
    let given: Vec<_> = keys.iter().filter(|key| key.default.is_none()).map(|key| key.name).collect();
    if let [only] = given[..] {
        let instead = INSTEAD.iter().find(|(key, _)| *key == only).map(|(_, other)| other);
        merge(
            &mut section,
            match instead {
                Some(other) => json!({ "anyOf": [{ "required": [only] }, { "required": [other] }] }),
                None => json!({ "required": [only] }),
            },
        );
    }
    section
}

/// A key without a default, and the one with a default that does as well.
const INSTEAD: [(&str, &str); 1] = [("certificates", "acme")];

fn property(key: &Key) -> Value {
    let mut property = value(&key.kind);
    // `process:` with nothing below is a section without keys.
    if key.nullable || matches!(key.default, Some("{}")) {
        property = json!({ "anyOf": [property, { "type": "null" }] });
    }
    merge(&mut property, json!({ "description": key.kind.to_string() }));
    if let Some(default) = key.default {
        merge(&mut property, json!({ "default": default_of(&key.kind, default) }));
    }
    property
}

fn value(kind: &KeyKind) -> Value {
    match kind {
        KeyKind::Duration(..) => json!({ "type": "string", "pattern": "^[0-9]+ ?(ms|s|m|h|d)$" }),
        KeyKind::Size(..) => json!({ "type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$" }),
        KeyKind::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        KeyKind::Percent(..) => json!({ "type": "string", "pattern": "^[0-9]+ ?(%)$" }),
        KeyKind::Flag => json!({ "type": "boolean" }),
        KeyKind::Choice(names) => choice(names),
        KeyKind::Text(what) => word(what),
        KeyKind::List(what) => json!({ "type": "array", "items": word(what) }),
        KeyKind::WordOrList(only, what) => {
            json!({ "anyOf": [choice(&[only]), { "type": "array", "items": word(what) }] })
        }
        KeyKind::Texts(what) => json!({ "type": "object", "additionalProperties": word(what) }),
        KeyKind::TextsOrNull(what) => {
            let text = json!({ "anyOf": [word(what), { "type": "null" }] });
            json!({ "type": "object", "additionalProperties": text })
        }
        KeyKind::Section(keys) => section(keys),
        KeyKind::Named(keys) => json!({ "type": "object", "additionalProperties": section(keys) }),
        KeyKind::NamedListsOr(what, keys) => {
            let list = json!({ "type": "array", "items": word(what) });
            json!({ "type": "object", "additionalProperties": { "anyOf": [list, section(keys)] } })
        }
        KeyKind::NamedBeside(named, own) => {
            let mut both = section(own);
            merge(&mut both, json!({ "additionalProperties": section(named) }));
            both
        }
        KeyKind::NamedLists(keys) => {
            json!({ "type": "object", "additionalProperties": { "type": "array", "items": section(keys) } })
        }
        KeyKind::Sections(keys) => json!({ "type": "array", "items": section(keys) }),
        KeyKind::Either(short, keys) => json!({ "anyOf": [word(short), section(keys)] }),
        KeyKind::EitherOrList(short, keys) => {
            let one = json!({ "anyOf": [word(short), section(keys)] });
            json!({ "anyOf": [one, { "type": "array", "items": one }] })
        }
        KeyKind::ListOfEither(short, keys) => {
            json!({ "type": "array", "items": { "anyOf": [word(short), section(keys)] } })
        }
    }
}

/// One of `names`. YAML reads `1.2` as a number, and so may the operator write it.
fn choice(names: &[&str]) -> Value {
    let numbers = names.iter().filter_map(|name| serde_json::from_str::<serde_json::Number>(name).ok());
    let all: Vec<Value> = names.iter().map(|name| json!(name)).chain(numbers.map(Value::Number)).collect();
    json!({ "enum": all })
}

/// One word: one of those in `what` if it names nothing else, or any.
fn word(what: &str) -> Value {
    match closed(what) {
        Some(words) => choice(&words),
        None => json!({ "type": ["string", "number", "boolean"] }),
    }
}

/// The words between backticks, if there is nothing else but what joins them.
fn closed(what: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    for (index, part) in what.strip_prefix("any of ").unwrap_or(what).split('`').enumerate() {
        if index % 2 == 1 {
            words.push(part);
        } else if !["", ", ", " or "].contains(&part) {
            return None;
        }
    }
    (!words.is_empty()).then_some(words)
}

fn default_of(kind: &KeyKind, text: &str) -> Value {
    let is_plain = matches!(kind, KeyKind::Flag | KeyKind::Count(..)) || ["null", "{}", "[]"].contains(&text);
    if is_plain && let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(items) => items.split(", ").collect(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::closed;

    #[test]
    fn only_a_text_of_nothing_but_words_is_a_choice() {
        assert_eq!(closed("`a`, `b` or `c`"), Some(vec!["a", "b", "c"]));
        assert_eq!(closed("any of `a`, `b`"), Some(vec!["a", "b"]));
        assert_eq!(closed("`off`"), Some(vec!["off"]));
        for open in ["`auto` (one per core) or 1 to 256", "`/exact`, or `/prefix/*` below", "an address"] {
            assert_eq!(closed(open), None, "{open}");
        }
    }
}
