//! Every key of the configuration with its kind, range and default. The reader takes its defaults and
//! ranges from this table and knows no key that is not in it, so what is documented is what happens.

mod cache;
mod kind;
mod limits;
mod policy;

pub(super) use cache::*;
pub(super) use kind::spell;
pub(crate) use kind::spell_size;
pub use kind::{Key, KeyKind};
pub(super) use limits::*;
pub(super) use policy::*;

use kind::{ASNS, COUNTRIES, DAY, HOUR, MINUTE, MS, NETWORK_LIST, SECOND, given, key, nullable};
use std::time::Duration;

/// The top level of the file.
pub const FILE: &[Key] = &[
    key("process", KeyKind::Section(PROCESS), "{}"),
    key("admin", KeyKind::Section(ADMIN), "{}"),
    key("log", KeyKind::Section(LOG), "{}"),
    key("access_log", KeyKind::Either("`off`", ACCESS_LOG), "{}"),
    key("events", KeyKind::Section(EVENTS), "{}"),
    nullable("acme", KeyKind::Section(ACME), "null"),
    key("dns", KeyKind::Section(DNS), "{}"),
    key("cache", KeyKind::Section(STORE), "{}"),
    key("networks", KeyKind::NamedListsOr("networks or IP addresses", NETWORKS), "{}"),
    key("geo", KeyKind::Section(GEO), "{}"),
    given("listeners", KeyKind::Named(LISTENER)),
    key("policies", KeyKind::Named(POLICY), "{}"),
    key("routes", KeyKind::NamedLists(RULE), "{}"),
    given("pools", KeyKind::Named(POOL)),
];

pub(super) const GEO: &[Key] = &[
    nullable("country", KeyKind::Text("the path of an `.mmdb` file"), "null"),
    nullable("asn", KeyKind::Text("the path of an `.mmdb` file"), "null"),
];

pub(super) const PROCESS: &[Key] = &[
    key("threads", KeyKind::Text("`auto` (one per core) or 1 to 256"), "auto"),
    key("max_connections", KeyKind::Count(1, 1_000_000), "20000"),
    key("shutdown_timeout", KeyKind::Duration(MS, DAY), "60s"),
    key("client_prefix", KeyKind::Section(CLIENT_PREFIX), "{}"),
    key("limit_keys", KeyKind::Count(1000, 100_000_000), "1000000"),
    key("max_tarpits", KeyKind::Count(0, 1_000_000), "1000"),
    key("compressors", KeyKind::Count(0, 1_000_000), "256"),
];

pub(super) const CLIENT_PREFIX: &[Key] =
    &[key("v4", KeyKind::Count(8, 32), "32"), key("v6", KeyKind::Count(16, 128), "64")];

pub(super) const ADMIN: &[Key] = &[
    nullable("socket", KeyKind::Text("the path of a unix socket"), "/run/evenkeel/admin.sock"),
    nullable("address", KeyKind::Text("an IP address with a port, like `127.0.0.1:9900`"), "127.0.0.1:9900"),
    nullable("token_file", KeyKind::Text("the path of a file"), "null"),
    nullable("state_file", KeyKind::Text("the path of a file"), super::DEFAULT_STATE_FILE),
];

pub(super) const EVENTS: &[Key] = &[
    nullable("path", KeyKind::Text("the path of a file"), "null"),
    key("keep", KeyKind::Count(100, 1_000_000), "10000"),
];

pub(super) const LOG: &[Key] = &[
    key("level", KeyKind::Choice(&["error", "warn", "info", "debug", "trace"]), "info"),
    key("format", KeyKind::Choice(&["text", "json"]), "text"),
];

pub(super) const ACCESS_LOG: &[Key] = &[
    key("path", KeyKind::Text("`stdout` or the path of a file"), "stdout"),
    key("format", KeyKind::Choice(&["json", "combined"]), "json"),
];

pub(super) const ACME: &[Key] = &[
    key(
        "directory",
        KeyKind::Text("the URL of an authority's directory"),
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    given("accept_terms", KeyKind::Flag),
    key("contact", KeyKind::List("`mailto:` addresses"), "[]"),
    key("challenge", KeyKind::Choice(&["tls_alpn_01", "http_01"]), "tls_alpn_01"),
    key("storage", KeyKind::Text("the path of a directory"), "/var/lib/evenkeel/acme"),
    nullable(
        "ca",
        KeyKind::Text("the path of a PEM file: the authorities to know the directory's server by"),
        "null",
    ),
    nullable("external_account", KeyKind::Section(EXTERNAL_ACCOUNT), "null"),
];

pub(super) const EXTERNAL_ACCOUNT: &[Key] = &[
    given("key_id", KeyKind::Text("the key's name, as the authority gave it")),
    given(
        "hmac_key_file",
        KeyKind::Text("the path of a file: the key, in the base64 that the authority gave it in"),
    ),
];

pub(super) const DNS: &[Key] = &[
    key(
        "resolvers",
        KeyKind::WordOrList("system", "IP addresses, like `10.0.0.2`, with a port or without"),
        "system",
    ),
    key("timeout", KeyKind::Duration(Duration::from_millis(10), MINUTE), "1s"),
    key("min_refresh", KeyKind::Duration(Duration::from_millis(10), HOUR), "1s"),
    key("max_refresh", KeyKind::Duration(SECOND, DAY), "60s"),
];

pub(super) const NETWORKS: &[Key] =
    &[given("file", KeyKind::Text("the path of a file: a network or an IP address on each line"))];

pub(super) const LISTENER: &[Key] = &[
    given(
        "address",
        KeyKind::Text("an IP address with a port (`0.0.0.0:80`, `\"[::]:80\"`) or `unix:/path`"),
    ),
    given("addresses", KeyKind::List("several of what `address` takes")),
    key("protocol", KeyKind::Choice(&["http", "tcp", "tls_passthrough", "udp"]), "http"),
    given("pool", KeyKind::Text("the name of a pool")),
    given("routes", KeyKind::Text("the name of a list under `routes`")),
    key("redirect_to_https", KeyKind::Flag, "false"),
    nullable("tls", KeyKind::Section(TLS), "null"),
    nullable("proxy_protocol", KeyKind::Section(PROXY_PROTOCOL), "null"),
    key("trusted_proxies", NETWORK_LIST, "[]"),
    nullable("policy", KeyKind::Text("the name of a policy"), "null"),
    key("client_fin", KeyKind::Choice(&["cancel", "serve", "close"]), "cancel"),
    key("http2", KeyKind::Section(HTTP2), "{}"),
    key("limits", KeyKind::Section(LIMITS), "{}"),
    key("timeouts", KeyKind::Section(LISTENER_TIMEOUTS), "{}"),
];

pub(super) const TLS: &[Key] = &[
    given("certificates", KeyKind::Sections(CERTIFICATE)),
    nullable("acme", KeyKind::Section(ACME_NAMES), "null"),
    key("min_version", KeyKind::Choice(&["1.2", "1.3"]), "1.2"),
    nullable("client_ca", KeyKind::Either("the path of a PEM file", CLIENT_CA), "null"),
    nullable("hsts", KeyKind::Either("a duration, like `365d`", HSTS), "null"),
];

pub(super) const CERTIFICATE: &[Key] = &[
    given(
        "cert",
        KeyKind::Text("the path of a PEM file: the certificate, then those that lead to its authority"),
    ),
    given("key", KeyKind::Text("the path of a PEM file: the certificate's private key, not encrypted")),
    nullable("ocsp", KeyKind::Text("the path of a DER file: the authority's OCSP response"), "null"),
];

pub(super) const ACME_NAMES: &[Key] = &[given("names", KeyKind::List("host names, like `shop.example`"))];

pub(super) const CLIENT_CA: &[Key] = &[
    given(
        "file",
        KeyKind::Text(
            "the path of a PEM file: the certificates of the authorities that clients have theirs from",
        ),
    ),
    key("required", KeyKind::Flag, "true"),
];

pub(super) const HSTS: &[Key] = &[
    key("max_age", HSTS_MAX_AGE, "365d"),
    key("include_subdomains", KeyKind::Flag, "false"),
    key("preload", KeyKind::Flag, "false"),
];

pub(super) const HSTS_MAX_AGE: KeyKind = KeyKind::Duration(Duration::ZERO, DAY.saturating_mul(3650));

pub(super) const PROXY_PROTOCOL: &[Key] = &[given("from", NETWORK_LIST)];

pub(super) const HTTP2: &[Key] = &[
    key("max_concurrent_streams", KeyKind::Count(1, 10_000), "128"),
    key("stream_window", KeyKind::Size(1 << 10, 1 << 30), "64KiB"),
    nullable("connection_window", KeyKind::Size(64 << 10, MOST_CONNECTION_WINDOW), "null"),
    nullable("max_age", KeyKind::Duration(SECOND, DAY), "null"),
    nullable("max_requests", KeyKind::Count(1, 1_000_000_000), "null"),
];

pub(super) const MOST_CONNECTION_WINDOW: u64 = 1 << 30;

pub(super) const LIMITS: &[Key] = &[
    nullable("connections", KeyKind::Count(1, 1_000_000), "10000"),
    nullable("connections_per_client", KeyKind::Count(1, 1_000_000), "null"),
    nullable("new_connections_per_client", KeyKind::Text("a rate, like `50/s`, `100/m` or `1000/h`"), "null"),
    nullable("handshakes", KeyKind::Count(1, 1_000_000), "2000"),
    key("request_headers", KeyKind::Size(1 << 10, 256 << 10), "32KiB"),
    key("request_body", KeyKind::Size(1, 1 << 40), "100MiB"),
    key("uri", KeyKind::Size(64, 256 << 10), "8KiB"),
    key("header_count", KeyKind::Count(1, 256), "100"),
    key("header_line", KeyKind::Size(64, 256 << 10), "16KiB"),
    key("encoded_slash", KeyKind::Choice(&["keep", "refuse"]), "keep"),
];

pub(super) const LISTENER_TIMEOUTS: &[Key] = &[
    key("request_header", KeyKind::Duration(MS, HOUR), "10s"),
    key("request_body", KeyKind::Duration(MS, HOUR), "60s"),
    key("idle", KeyKind::Duration(MS, DAY), "60s"),
    key("tls_handshake", KeyKind::Duration(MS, HOUR), "5s"),
];

/// A rule, with what a policy may say.
pub(super) const RULE: &[Key] = &kind::joined::<{ OF_RULE.len() + POLICY.len() }>(OF_RULE, POLICY);

pub(super) const OF_RULE: &[Key] = &[
    given("name", KeyKind::Text("a text without spaces")),
    key("match", KeyKind::Section(MATCH), "{}"),
    given("pool", KeyKind::Text("the name of a pool")),
    nullable("redirect", KeyKind::Either("where to, like `https://{host}/new{path}`", REDIRECT), "null"),
    nullable("respond", KeyKind::Section(RESPOND), "null"),
    key(
        "upgrades",
        KeyKind::List("protocols that a connection may switch to, like `websocket` or `SPDY/3.1`"),
        "[websocket]",
    ),
    key("priority", KeyKind::Choice(&["high", "normal", "low"]), "normal"),
    nullable("policy", KeyKind::Text("the name of a policy"), "null"),
];

/// What a rule matches, with what may stand below `not` and `any`.
pub(super) const MATCH: &[Key] =
    &kind::joined::<{ MATCH_BELOW.len() + OF_MATCH.len() }>(MATCH_BELOW, OF_MATCH);

const OF_MATCH: &[Key] = &[
    nullable("not", KeyKind::Section(MATCH_BELOW), "null"),
    key("any", KeyKind::Sections(MATCH_BELOW), "[]"),
    key("alpn", KeyKind::List("protocols that TLS clients offer, like `h2` or `http/1.1`"), "[]"),
];

pub(super) const MATCH_BELOW: &[Key] = &[
    nullable("host", KeyKind::Text("a host name, or `\"*.shop.example\"` for every name below it"), "null"),
    nullable("path", KeyKind::Text("`/exact`, or `/prefix/*` for everything below it"), "null"),
    nullable("path_regex", KeyKind::Text("a regular expression, like `^/item/(?P<id>[0-9]+)$`"), "null"),
    key("methods", KeyKind::List("HTTP methods in capitals, like `GET`"), "[]"),
    key("headers", KeyKind::Texts("the field's exact value, or `\"*\"` for any"), "{}"),
    key("query", KeyKind::Texts("the parameter's exact value, or `\"*\"` for any"), "{}"),
    key("cookies", KeyKind::Texts("the cookie's exact value, or `\"*\"` for any"), "{}"),
    key("client", NETWORK_LIST, "[]"),
    key("country", COUNTRIES, "[]"),
    key("asn", ASNS, "[]"),
];

pub(super) const POOL: &[Key] = &[
    key(
        "balance",
        KeyKind::Either(
            "`round_robin`, `least_connections`, `random_two`, `peak_ewma`, `consistent_hash`, `maglev` or `success_rate`",
            BALANCE,
        ),
        "least_connections",
    ),
    key("servers", KeyKind::ListOfEither("an address", SERVER), "[]"),
    nullable("discover", KeyKind::Section(DISCOVER), "null"),
    nullable("health", KeyKind::Section(HEALTH), "null"),
    key("when_all_unhealthy", KeyKind::Choice(&["use_all", "refuse"]), "use_all"),
    nullable("max_connections", KeyKind::Count(1, 1_000_000), "null"),
    nullable("queue", KeyKind::Section(QUEUE), "{}"),
    key("slow_start", KeyKind::Either("a duration up to 1h, like `30s`", SLOW_START), "0s"),
    nullable("outlier", KeyKind::Section(OUTLIER), "null"),
    nullable("fallback", KeyKind::Text("the name of a pool"), "null"),
    nullable("sticky", KeyKind::Section(STICKY), "null"),
    key("retries", KeyKind::Section(RETRIES), "{}"),
    key("timeouts", KeyKind::Section(POOL_TIMEOUTS), "{}"),
    key("drain_timeout", KeyKind::Duration(Duration::ZERO, DAY), "60s"),
    nullable("proxy_protocol", KeyKind::Choice(&["v1", "v2"]), "null"),
    nullable("tls", KeyKind::Section(SERVER_TLS), "null"),
    key("protocol", KeyKind::Choice(&["http1", "h2", "auto"]), "http1"),
];

pub(super) const QUEUE: &[Key] = &[
    key("max", KeyKind::Count(1, 1_000_000), "1000"),
    key("timeout", KeyKind::Duration(MS, HOUR), "5s"),
    key("order", KeyKind::Choice(&["adaptive", "fifo"]), "adaptive"),
];

pub(super) const OUTLIER: &[Key] = &[
    nullable("consecutive_errors", KeyKind::Count(1, 60), "5"),
    nullable("worse_by", KeyKind::Percent(1, 99), "5%"),
    nullable("slower_than", KeyKind::Text("a factor from 1.1x to 1000x, like `5x`"), "null"),
    key("window", KeyKind::Duration(SECOND, Duration::from_secs(300)), "10s"),
    key("base_ejection", KeyKind::Duration(Duration::from_millis(100), HOUR), "30s"),
    key("max_ejection", KeyKind::Duration(Duration::from_millis(100), DAY), "300s"),
    key("max_ejected", KeyKind::Percent(1, 99), "50%"),
];

pub(super) const STICKY: &[Key] = &[
    given("cookie", KeyKind::Text("the name of a cookie")),
    key("mode", KeyKind::Choice(&["insert", "suffix"]), "insert"),
    key("wait", KeyKind::Duration(Duration::ZERO, HOUR), "2s"),
    nullable("max_age", KeyKind::Duration(SECOND, LONGEST_COOKIE), "null"),
    nullable("max_life", KeyKind::Duration(MINUTE, LONGEST_COOKIE), "null"),
    nullable("key_file", KeyKind::Text("the path of a file: a key on each line, the first signs"), "null"),
    key("same_site", KeyKind::Choice(&["lax", "strict", "none"]), "lax"),
    nullable("domain", KeyKind::Text("a host name, like `shop.example`"), "null"),
    key("path", KeyKind::Text("a path, like `/shop`"), "/"),
];

/// Browsers keep none longer.
const LONGEST_COOKIE: Duration = DAY.saturating_mul(400);

pub(super) const SLOW_START: &[Key] =
    &[key("over", KeyKind::Duration(MS, HOUR), "30s"), key("from", KeyKind::Percent(1, 100), "10%")];

/// In one word it may be none.
pub(super) const SLOW_START_SHORT: KeyKind = KeyKind::Duration(Duration::ZERO, HOUR);

pub(super) const SERVER_TLS: &[Key] = &[
    nullable("server_name", KeyKind::Text("a host name, without scheme and port"), "null"),
    nullable("ca", KeyKind::Text("the path of a PEM file"), "null"),
    nullable("cert", KeyKind::Text("the path of a PEM file"), "null"),
    nullable("key", KeyKind::Text("the path of a PEM file"), "null"),
    key("verify", KeyKind::Flag, "true"),
];

pub(super) const BALANCE: &[Key] = &[
    given("consistent_hash", KeyKind::Section(CONSISTENT_HASH)),
    given("maglev", KeyKind::Section(MAGLEV)),
    given("success_rate", KeyKind::Section(SUCCESS_RATE)),
];

pub(super) const CONSISTENT_HASH: &[Key] = &[
    key("key", KeyKind::Either("`client_ip`, `path` or `uri`", HASH_KEY), "client_ip"),
    nullable("bounded_load", KeyKind::Percent(101, 1000), "null"),
];

pub(super) const MAGLEV: &[Key] =
    &[key("key", KeyKind::Either("`client_ip`, `path` or `uri`", HASH_KEY), "client_ip")];

pub(super) const SUCCESS_RATE: &[Key] = &[
    key("window", KeyKind::Count(20, 1000), "200"),
    key("explore", KeyKind::Percent(1, 50), "5%"),
    nullable("outcome", KeyKind::Section(OUTCOME), "null"),
];

pub(super) const OUTCOME: &[Key] = &[
    given("header", KeyKind::Text("the name of a header field")),
    key("success", KeyKind::List("values of the field"), "[]"),
    key("failure", KeyKind::List("values of the field"), "[]"),
];

pub(super) const HASH_KEY: &[Key] = &[
    given("header", KeyKind::Text("the name of a header field")),
    given("cookie", KeyKind::Text("the name of a cookie")),
    given("query", KeyKind::Text("the name of a query parameter")),
];

pub(super) const SERVER: &[Key] = &[
    given("name", KeyKind::Text("a text without spaces")),
    given("address", KeyKind::Text("an IP address or a host name with a port, or `unix:/path`")),
    key("weight", KeyKind::Count(1, 256), "100"),
    nullable("max_connections", KeyKind::Count(1, 1_000_000), "null"),
    key("drain", KeyKind::Flag, "false"),
    key("backup", KeyKind::Flag, "false"),
];

pub(super) const DISCOVER: &[Key] = &[
    given("dns", KeyKind::Either("a host name with a port, like `app.internal:8080`", DNS_SOURCE)),
    given("dns_srv", KeyKind::Text("a service's name, like `_http._tcp.app.internal`")),
    given("file", KeyKind::Text("the path of a file: a list as in `servers`, or http_sd JSON")),
    given("http", KeyKind::Section(HTTP_SOURCE)),
    given("when_empty", KeyKind::Choice(&["keep", "remove"])),
    key("keep_stale", KeyKind::Text("`forever`, or a duration up to 30d"), "forever"),
    given("leave_after", KeyKind::Duration(Duration::ZERO, HOUR)),
    Key { name: "large_change", kind: KeyKind::Percent(0, 100), default: None, nullable: true },
    key("max_servers", KeyKind::Count(1, 10_000), "1000"),
    key("start_wait", KeyKind::Duration(Duration::ZERO, HOUR), "5s"),
];

/// Of those keys the ones that are sources.
pub(super) const SOURCES: [&str; 4] = ["dns", "dns_srv", "file", "http"];

pub(super) const DNS_SOURCE: &[Key] = &[
    given("name", KeyKind::Text("a host name, like `app.internal`")),
    given("port", KeyKind::Count(1, 65_535)),
    key("family", KeyKind::Choice(&["any", "ipv4", "ipv6"]), "any"),
];

pub(super) const HTTP_SOURCE: &[Key] = &[
    given("url", KeyKind::Text("an `http` or `https` URL")),
    key("interval", KeyKind::Duration(SECOND, DAY), "30s"),
    key("timeout", KeyKind::Duration(Duration::from_millis(10), MINUTE), "5s"),
    nullable("ca", KeyKind::Text("the path of a PEM file"), "null"),
    nullable("token_file", KeyKind::Text("the path of a file"), "null"),
];

/// A group of a file or an answer in http_sd's JSON, which is no part of the configuration.
pub(super) const TARGET_GROUP: &[Key] =
    &[given("targets", KeyKind::List("addresses")), key("labels", KeyKind::Texts("labels"), "{}")];

pub(super) const HEALTH: &[Key] = &[
    given("http", KeyKind::Either("the path", HTTP_PROBE)),
    given("tcp", KeyKind::Section(TCP_PROBE)),
    given("tls", KeyKind::Section(TLS_PROBE)),
    given("grpc", KeyKind::Section(GRPC_PROBE)),
    given("udp", KeyKind::Section(UDP_PROBE)),
    nullable("port", KeyKind::Count(1, 65_535), "null"),
    key("interval", KeyKind::Duration(Duration::from_millis(10), HOUR), "2s"),
    key("timeout", KeyKind::Duration(MS, HOUR), "1s"),
    key("fall", KeyKind::Count(1, 100), "3"),
    key("rise", KeyKind::Count(1, 100), "2"),
    key("jitter", KeyKind::Percent(0, 90), "10%"),
    key("initial", KeyKind::Choice(&["probing", "up"]), "probing"),
];

pub(super) const GRPC_PROBE: &[Key] =
    &[nullable("service", KeyKind::Text("the name of a service, like `shop.Cart`"), "null")];

pub(super) const HTTP_PROBE: &[Key] = &[
    given("path", KeyKind::Text("a path that begins with `/`")),
    key("method", KeyKind::Choice(&["GET", "HEAD", "OPTIONS", "POST"]), "GET"),
    nullable("host", KeyKind::Text("the Host field's value"), "null"),
    key(
        "expect_status",
        KeyKind::Text("statuses and ranges from 100 to 599 that reach 200, like `200-299` or `200,204`"),
        "200-299",
    ),
    nullable("expect_body", KeyKind::Text("a text that the body must contain"), "null"),
];

pub(super) const TCP_PROBE: &[Key] = &[
    nullable("send", KeyKind::Text("a text to send, like `\"PING\\r\\n\"`"), "null"),
    nullable("expect", KeyKind::Text("a text that the reply must contain"), "null"),
];

pub(super) const TLS_PROBE: &[Key] = &[
    nullable("server_name", KeyKind::Text("the name to ask for"), "null"),
    key("verify", KeyKind::Flag, "false"),
];

pub(super) const UDP_PROBE: &[Key] = &[
    given("send", KeyKind::Text("the datagram, as text")),
    given("send_hex", KeyKind::Text("the datagram, in hexadecimal digits, like `abcd 0100`")),
    given("expect", KeyKind::Text("a text that the answer must contain")),
    given("expect_hex", KeyKind::Text("bytes that the answer must contain, in hexadecimal digits")),
];

pub(super) const RETRIES: &[Key] = &[
    key("max", KeyKind::Count(0, 10), "1"),
    key("budget", KeyKind::Percent(0, 100), "20%"),
    key(
        "on",
        KeyKind::List("any of `connect`, `reset`, `timeout`, `502`, `503`, `504`"),
        "[connect, reset, 502, 503, 504]",
    ),
    nullable("per_try", KeyKind::Duration(MS, DAY), "null"),
];

pub(super) const POOL_TIMEOUTS: &[Key] = &[
    key("connect", KeyKind::Duration(MS, HOUR), "3s"),
    key("response_header", KeyKind::Duration(MS, DAY), "30s"),
    key("stream_idle", KeyKind::Duration(MS, DAY), "60s"),
    key("tunnel_idle", KeyKind::Duration(SECOND, DAY), "1h"),
    key("request", KeyKind::Duration(MS, DAY), "60s"),
    key("keepalive", KeyKind::Duration(MS, DAY), "30s"),
];

/// Calls `visit` for every section with its path, the top level (an empty path) first.
pub fn each_section(visit: &mut impl FnMut(&str, &'static [Key])) {
    fn walk(path: &str, keys: &'static [Key], visit: &mut impl FnMut(&str, &'static [Key])) {
        visit(path, keys);
        for key in keys {
            let Some((between, below)) = key.kind.below() else { continue };
            if let KeyKind::NamedBeside(_, own) = key.kind {
                visit(&format!("{path}.{}", key.name), own);
            }
            // What a rule has of a policy is told of once.
            let below = if path.is_empty() && key.name == "routes" { OF_RULE } else { below };
            // These have the keys of the section that they stand in.
            if path.ends_with(".match") && matches!(key.name, "not" | "any") {
                continue;
            }
            let dot = if path.is_empty() { "" } else { "." };
            walk(&format!("{path}{dot}{}{between}", key.name), below, visit);
        }
    }
    walk("", FILE, visit);
}
