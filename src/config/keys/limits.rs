//! Who may ask, and how often.

use super::kind::{ASNS, COUNTRIES, DAY, Key, KeyKind, MS, NETWORK_LIST, SECOND, given, key, nullable};

/// What a limit counts apart, in one word.
const PER: &str = "`client` or `route`";

pub(in crate::config) const RATE_LIMIT: &[Key] = &[
    key("per", KeyKind::EitherOrList(PER, LIMIT_PER), "client"),
    key("requests", KeyKind::Text("a rate, like `50/s`, `100/m` or `1000/h`"), "50/s"),
    nullable("burst", KeyKind::Count(1, 1_000_000), "null"),
    key("count", KeyKind::Either("`all`", LIMIT_COUNT), "all"),
    key("over", KeyKind::Either("`reject` or `log`", LIMIT_OVER), "reject"),
    key("except", NETWORK_LIST, "[]"),
    key("fields", KeyKind::Flag, "false"),
];

pub(in crate::config) const LIMIT_PER: &[Key] = &[
    given("header", KeyKind::Text("the name of a header field")),
    given("cookie", KeyKind::Text("the name of a cookie")),
    given("query", KeyKind::Text("the name of a query parameter")),
];

pub(in crate::config) const LIMIT_COUNT: &[Key] =
    &[given("status", KeyKind::List("statuses and ranges, like `401` or `500-599`"))];

pub(in crate::config) const LIMIT_OVER: &[Key] =
    &[given("delay", KeyKind::Duration(MS, SECOND.saturating_mul(60)))];

pub(in crate::config) const CONCURRENCY: &[Key] = &[
    key("per", KeyKind::EitherOrList(PER, LIMIT_PER), "client"),
    key("requests", KeyKind::Count(1, 1_000_000), "50"),
    key("tunnels", KeyKind::Flag, "false"),
];

pub(in crate::config) const COUNTRY_LISTS: &[Key] =
    &[key("allow", COUNTRIES, "[]"), key("deny", COUNTRIES, "[]")];

pub(in crate::config) const ASN_LISTS: &[Key] = &[key("allow", ASNS, "[]"), key("deny", ASNS, "[]")];

pub(in crate::config) const ACCESS: &[Key] = &[
    key("allow", NETWORK_LIST, "[]"),
    key("deny", NETWORK_LIST, "[]"),
    key("countries", KeyKind::Section(COUNTRY_LISTS), "{}"),
    key("asns", KeyKind::Section(ASN_LISTS), "{}"),
    key("answer", KeyKind::Either("a status from 400 to 499, or `close`", ACCESS_ANSWER), "403"),
];

pub(in crate::config) const ACCESS_ANSWER: &[Key] =
    &[given("tarpit", KeyKind::Duration(MS, SECOND.saturating_mul(60)))];

pub(in crate::config) const BAN: &[Key] = &[
    key("after", KeyKind::Text("a number in a time, like `20/1m`"), "20/1m"),
    key("status", KeyKind::List("statuses and ranges, like `401` or `500-599`"), "[401, 403, 429]"),
    key("for", KeyKind::Duration(SECOND, DAY.saturating_mul(30)), "10m"),
    key("except", NETWORK_LIST, "[]"),
];
