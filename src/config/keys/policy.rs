//! What a policy may say. All of it may stand in a rule as well.

use super::cache::CACHE;
use super::kind::{DAY, Key, KeyKind, MINUTE, NETWORK_LIST, SECOND, given, key, nullable};
use super::limits::{ACCESS, BAN, CONCURRENCY, RATE_LIMIT};
use std::time::Duration;

pub(in crate::config) const POLICY: &[Key] = &[
    nullable("access", KeyKind::Section(ACCESS), "null"),
    nullable("rate_limit", KeyKind::Sections(RATE_LIMIT), "null"),
    nullable("concurrency", KeyKind::Section(CONCURRENCY), "null"),
    nullable("ban", KeyKind::Section(BAN), "null"),
    nullable("request_headers", KeyKind::Section(FIELD_RULES), "{}"),
    nullable("response_headers", KeyKind::Section(FIELD_RULES), "{}"),
    nullable("rewrite", KeyKind::Section(REWRITE), "null"),
    nullable("canonical", KeyKind::Section(CANONICAL), "null"),
    nullable("maintenance", KeyKind::Section(MAINTENANCE), "null"),
    nullable("errors", KeyKind::NamedBeside(ERROR_PAGE, ERRORS), "null"),
    nullable("cors", KeyKind::Section(CORS), "null"),
    nullable("security_headers", KeyKind::Choice(&["standard"]), "null"),
    nullable("fault", KeyKind::Section(FAULT), "null"),
    nullable("early_hints", KeyKind::Section(EARLY_HINTS), "{}"),
    nullable("buffer", KeyKind::Section(BUFFER), "{}"),
    nullable("cache", KeyKind::Section(CACHE), "null"),
    nullable("compress", KeyKind::Section(COMPRESS), "null"),
    nullable("bandwidth", KeyKind::Section(BANDWIDTH), "null"),
];

pub(in crate::config) const BANDWIDTH: &[Key] = &[
    key("per", KeyKind::Choice(&["response", "client"]), "response"),
    key("rate", KeyKind::Text("bytes in a second, like `1MiB/s`"), "1MiB/s"),
    key("after", KeyKind::Size(0, 1 << 40), "10MiB"),
];

pub(in crate::config) const BUFFER: &[Key] = &[key("request", KeyKind::Size(0, 64 << 20), "0B")];

pub(in crate::config) const COMPRESS: &[Key] = &[
    key(
        "encodings",
        KeyKind::List("`zstd`, `br` and `gzip`, in the order of preference"),
        "[zstd, br, gzip]",
    ),
    key("min", KeyKind::Size(0, 1 << 30), "1KiB"),
    key(
        "types",
        KeyKind::List("media types, like `text/html` or `text/*`"),
        "[text/*, application/json, application/javascript, application/xml, image/svg+xml]",
    ),
    key("level", KeyKind::Section(COMPRESS_LEVEL), "{}"),
    key("streams", KeyKind::Flag, "false"),
];

/// As hard as a response may be worked on that somebody waits for; beyond its sixth level Brotli takes 9 MiB and more for each.
pub(in crate::config) const COMPRESS_LEVEL: &[Key] = &[
    key("gzip", KeyKind::Count(1, 9), "4"),
    key("br", KeyKind::Count(1, 6), "4"),
    key("zstd", KeyKind::Count(1, 12), "3"),
];

pub(in crate::config) const REWRITE: &[Key] = &[
    nullable("strip_prefix", KeyKind::Text("a path, like `/api`"), "null"),
    nullable("add_prefix", KeyKind::Text("a path, like `/v1`"), "null"),
    nullable("regex", KeyKind::Text("a regular expression, like `^/item/(?P<id>[0-9]+)$`"), "null"),
    nullable("to", KeyKind::Text("a path, which may have variables, like `/shop/{path.id}`"), "null"),
    nullable("host", KeyKind::Text("a host, which may have variables, like `shop.internal`"), "null"),
];

pub(in crate::config) const CANONICAL: &[Key] = &[
    key("https", KeyKind::Flag, "false"),
    nullable("www", KeyKind::Choice(&["add", "remove"]), "null"),
    nullable("trailing_slash", KeyKind::Choice(&["add", "remove"]), "null"),
];

pub(in crate::config) const MAINTENANCE: &[Key] = &[
    key("enabled", KeyKind::Flag, "false"),
    nullable("file", KeyKind::Text("the path of a file, which is read with the configuration"), "null"),
    key("retry_after", KeyKind::Duration(SECOND, DAY), "5m"),
    key("except", NETWORK_LIST, "[]"),
];

/// What stands beside the statuses.
pub(in crate::config) const ERRORS: &[Key] =
    &[key("intercept", KeyKind::List("statuses of servers, like `502`"), "[]")];

pub(in crate::config) const ERROR_PAGE: &[Key] = &[
    nullable("html", KeyKind::Text("the path of a file, which is read with the configuration"), "null"),
    nullable("json", KeyKind::Text("the path of a file, which is read with the configuration"), "null"),
];

pub(in crate::config) const CORS: &[Key] = &[
    given(
        "origins",
        KeyKind::List("origins, like `https://shop.example`, `https://*.shop.example` or `\"*\"`"),
    ),
    key("methods", KeyKind::List("HTTP methods in capitals"), "[GET]"),
    key("headers", KeyKind::List("names of fields that requests may have, or `\"*\"`"), "[]"),
    key("credentials", KeyKind::Flag, "false"),
    key("max_age", KeyKind::Duration(Duration::ZERO, DAY), "10m"),
];

pub(in crate::config) const FAULT: &[Key] = &[
    key("share", KeyKind::Percent(1, 100), "1%"),
    key("delay", KeyKind::Duration(Duration::ZERO, MINUTE), "0s"),
    nullable("status", KeyKind::Count(400, 599), "null"),
    nullable("only_with", KeyKind::Text("the name of a field"), "X-Fault"),
];

pub(in crate::config) const EARLY_HINTS: &[Key] = &[key("pass", KeyKind::Flag, "true")];

pub(in crate::config) const FIELD_RULES: &[Key] = &[
    key("set", KeyKind::TextsOrNull("the value, which may have variables like `{client}`"), "{}"),
    key("add", KeyKind::TextsOrNull("the value, which may have variables"), "{}"),
    key("default", KeyKind::TextsOrNull("the value, which may have variables"), "{}"),
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
