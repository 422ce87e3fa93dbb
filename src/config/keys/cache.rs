//! Where responses are kept, and what a policy says of it.

use super::kind::{DAY, Key, KeyKind, MINUTE, NETWORK_LIST, given, key, nullable};
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

pub(in crate::config) const STORE: &[Key] = &[
    key("memory", KeyKind::Size(0, 1 << 44), "256MiB"),
    nullable("disk", KeyKind::Section(DISK), "null"),
    key("max_object", KeyKind::Size(1 << 10, 1 << 34), "16MiB"),
    key("purge_from", NETWORK_LIST, "[]"),
    key("purge_nodes", KeyKind::ListOfEither("an address like `10.0.0.2:9900`", PURGE_NODE), "[]"),
];

pub(in crate::config) const PURGE_NODE: &[Key] = &[
    given(
        "address",
        KeyKind::Text(
            "a node's admin endpoint: an IP address with a port, like `10.0.0.2:9900`, or `unix:/path`",
        ),
    ),
    nullable("token_file", KeyKind::Text("the path of a file"), "null"),
];

pub(in crate::config) const DISK: &[Key] = &[
    given("path", KeyKind::Text("the path of a folder, like `/var/cache/evenkeel`")),
    key("size", KeyKind::Size(1 << 20, 1 << 50), "10GiB"),
    key("min_object", KeyKind::Size(0, 1 << 34), "16KiB"),
];

pub(in crate::config) const CACHE: &[Key] = &[
    nullable("ttl", KeyKind::Duration(Duration::ZERO, YEAR), "null"),
    key("ttl_by_status", KeyKind::Texts("statuses, each with a duration like `10s`"), "{}"),
    nullable("force_ttl", KeyKind::Duration(Duration::ZERO, YEAR), "null"),
    nullable("heuristic", KeyKind::Percent(1, 100), "null"),
    key("stale_while_revalidate", KeyKind::Duration(Duration::ZERO, YEAR), "0s"),
    key("stale_if_error", KeyKind::Duration(Duration::ZERO, YEAR), "0s"),
    key("obey_client", KeyKind::Flag, "false"),
    key("targeted", KeyKind::List("names of fields like `CDN-Cache-Control`"), "[CDN-Cache-Control]"),
    key("key", KeyKind::Section(CACHE_KEY), "{}"),
    key("bypass", KeyKind::Section(CACHE_BYPASS), "{}"),
    key("drop_set_cookie", KeyKind::Flag, "false"),
    key("tags", KeyKind::Section(CACHE_TAGS), "{}"),
    key("coalesce", KeyKind::Duration(Duration::ZERO, MINUTE), "5s"),
    key("uncacheable_for", KeyKind::Duration(Duration::ZERO, DAY), "120s"),
    key("min_uses", KeyKind::Count(1, 1000), "1"),
    key("status_field", KeyKind::Flag, "true"),
];

pub(in crate::config) const CACHE_KEY: &[Key] = &[
    key("host", KeyKind::Flag, "true"),
    key("query", KeyKind::WordOrList("all", "names of parameters"), "all"),
    key(
        "ignore_query",
        KeyKind::List("names of parameters; one that ends with `*` is a beginning"),
        "[utm_*, gclid, fbclid]",
    ),
    key("sort_query", KeyKind::Flag, "true"),
    key("headers", KeyKind::List("names of fields"), "[]"),
    key("cookies", KeyKind::List("names of cookies"), "[]"),
    key("device", KeyKind::Flag, "false"),
    key("methods", KeyKind::List("`GET`, and `HEAD` beside it"), "[GET, HEAD]"),
];

pub(in crate::config) const CACHE_BYPASS: &[Key] = &[
    key("cookies", KeyKind::List("names of cookies; one that ends with `*` is a beginning"), "[]"),
    key("headers", KeyKind::List("names of fields"), "[]"),
    key("paths", KeyKind::List("paths, like `/checkout/*`"), "[]"),
];

pub(in crate::config) const CACHE_TAGS: &[Key] = &[
    key("fields", KeyKind::List("names of fields"), "[Surrogate-Key, Cache-Tag, X-Magento-Tags]"),
    key("send", KeyKind::Flag, "false"),
];
