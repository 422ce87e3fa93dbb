//! What a policy may say. All of it may stand in a rule as well.

use super::kind::{Key, KeyKind, given, key, nullable};

pub(in crate::config) const POLICY: &[Key] = &[
    nullable("request_headers", KeyKind::Section(FIELD_RULES), "{}"),
    nullable("response_headers", KeyKind::Section(FIELD_RULES), "{}"),
];

pub(in crate::config) const FIELD_RULES: &[Key] = &[
    key("set", KeyKind::Texts("the value, which may have variables like `{client}`"), "{}"),
    key("add", KeyKind::Texts("the value, which may have variables"), "{}"),
    key("default", KeyKind::Texts("the value, which may have variables"), "{}"),
    key("remove", KeyKind::List("names of fields"), "[]"),
];

pub(in crate::config) const REDIRECT: &[Key] = &[
    given("to", KeyKind::Text("a URL or a path, which may have variables, like `https://{host}/new{path}`")),
    key("status", KeyKind::Choice(&["301", "302", "303", "307", "308"]), "308"),
    key("keep_query", KeyKind::Flag, "true"),
];

pub(in crate::config) const RESPOND: &[Key] = &[
    key("status", KeyKind::Count(200, 599), "200"),
    nullable("body", KeyKind::Text("a text"), "null"),
    nullable("file", KeyKind::Text("the path of a file, which is read with the configuration"), "null"),
    key("headers", KeyKind::Texts("the value, which may have variables"), "{}"),
];
