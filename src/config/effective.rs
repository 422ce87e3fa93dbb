//! A plan as a file that leaves nothing to defaults. Reading it again gives the same plan.
//!
//! Keys stand in the order of their table, and each is either written or left out by name: a new one cannot be forgotten.

mod limits;
mod policy;
mod writer;

pub(crate) use policy::policy;

use self::limits::rate;
use super::keys::{self, spell, spell_size};
use super::listener::{
    CLIENT_FINS, ENCODED_SLASHES, FOR_HTTP, FOR_STREAMS, LIMITS_FOR_HTTP, PROTOCOLS, TIMEOUTS_FOR_HTTP,
    TIMEOUTS_FOR_SILENCE, TIMEOUTS_FOR_STREAMS,
};
use super::plan::{
    AccessLogPlan, AcmePlan, AdminPlan, Balance, Certificate, ClientCa, DnsPlan, EventsPlan, ExternalAccount,
    HashKey, HealthPlan, HostPattern, Http2Plan, HttpProbe, ListenerLimits, ListenerPlan, ListenerTimeouts,
    Log, Match, OutcomeHeader, OutlierPlan, PathPattern, Plan, PoolPlan, PoolTimeouts, ProbePlan,
    ProcessPlan, Protocol, QueuePlan, Retries, RoutesPlan, RulePlan, RuleTargetPlan, ServerPlan, ServerTls,
    SlowStart, SourceKind, SourcePlan, StickyPlan, TargetPlan, Tls, UdpProbe, ValueMatch,
};
use super::tree::Scalar;
use super::{acme, discover, health, names, pool, process, route, sticky, tls};
use crate::geo::{Geo, GeoDatabase};
use crate::limit::ClientPrefix;
use crate::networks::{NamedNetworks, Networks, NetworksSource};
use policy::say;
use serde_yaml::Value;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use writer::SectionWriter;

/// The text of the file.
pub fn write(plan: &Plan) -> String {
    let mut file = file(plan);
    let mut escaped = Vec::new();
    hold_back(&mut file, &mut escaped);
    let mut text = serde_yaml::to_string(&file).expect("a tree of texts and numbers can be written");
    for (index, escaped) in escaped.iter().enumerate() {
        text = text.replacen(&format!("\"{MARK}{index}\""), escaped, 1);
    }
    text
}

/// How serde_yaml writes U+0001, before the number of a text that is held back.
const MARK: &str = "\\x01";

/// Has places kept for the texts that serde_yaml writes by YAML 1.1, in which three characters more end a line: one who
/// reads by 1.2 would see other texts. Those that look like such a place are among them.
fn hold_back(value: &mut Value, escaped: &mut Vec<String>) {
    match value {
        Value::String(text)
            if text.contains(['\u{1}', '\u{85}', '\u{2028}', '\u{2029}']) || text.contains(MARK) =>
        {
            let place = format!("\u{1}{}", escaped.len());
            escaped.push(escape(&std::mem::replace(text, place)));
        }
        Value::Sequence(items) => items.iter_mut().for_each(|item| hold_back(item, escaped)),
        Value::Mapping(entries) => entries.values_mut().for_each(|value| hold_back(value, escaped)),
        _ => {}
    }
}

/// A text in double quotes, where escapes stand for whatever is not plain.
fn escape(text: &str) -> String {
    let character = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        _ => format!("\\U{:08x}", u32::from(c)),
    };
    format!("\"{}\"", text.chars().map(character).collect::<String>())
}

/// One of a table's words.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> Value {
    let found = words.iter().find(|(_, meaning)| meaning == value);
    found.expect("every value of a choice has its word").0.into()
}

fn text(value: &impl Display) -> Value {
    value.to_string().into()
}

fn texts<T: Display>(values: impl IntoIterator<Item = T>) -> Value {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().into()
}

fn path(path: &Path) -> Value {
    text(&path.display())
}

fn duration(duration: Duration) -> Value {
    spell(duration).into()
}

fn size(bytes: u64) -> Value {
    spell_size(bytes).into()
}

/// Sections under the names that the operator chose.
fn named<'a>(sections: impl Iterator<Item = (&'a str, Value)>) -> Value {
    Value::Mapping(sections.map(|(name, section)| (name.into(), section)).collect())
}

fn file(plan: &Plan) -> Value {
    SectionWriter::new(keys::FILE)
        .set("process", process(&plan.process))
        .set("admin", admin(&plan.admin))
        .set("log", log(&plan.log))
        .set("access_log", access_log(plan.access_log.as_ref()))
        .set("events", events(&plan.events))
        .set("dns", dns(&plan.dns))
        .set_or_null("acme", plan.acme.as_ref().map(acme))
        .set("geo", geo(&plan.geo))
        .set("networks", named(plan.networks.iter().map(|one| (&*one.name, networks(one)))))
        .set("listeners", named(plan.listeners.iter().map(|one| (&*one.name, listener(plan, one)))))
        .set("policies", named(plan.policies.iter().map(|one| (&*one.name, policy(&one.policy)))))
        .set("routes", named(plan.routes.iter().map(|one| (&*one.name, routes(plan, one)))))
        .set("pools", named(plan.pools.iter().map(|one| (&*one.name, pool(one)))))
        .end()
}

fn process(process: &ProcessPlan) -> Value {
    let threads = process.threads.map_or_else(|| "auto".into(), Value::from);
    let ClientPrefix { v4, v6 } = process.client_prefix;
    let prefix = SectionWriter::new(keys::CLIENT_PREFIX).set("v4", v4).set("v6", v6).end();
    SectionWriter::new(keys::PROCESS)
        .set("threads", threads)
        .set("max_connections", process.max_connections)
        .set("shutdown_timeout", duration(process.shutdown_timeout))
        .set("client_prefix", prefix)
        .set("limit_keys", process.limit_keys)
        .set("max_tarpits", process.max_tarpits)
        .set("compressors", process.compressors)
        .end()
}

fn admin(admin: &AdminPlan) -> Value {
    SectionWriter::new(keys::ADMIN)
        .set_or_null("socket", admin.socket.as_deref().map(path))
        .set_or_null("address", admin.address.as_ref().map(text))
        .set_or_null("token_file", admin.token_file.as_deref().map(path))
        .set_or_null("state_file", admin.state_file.as_deref().map(path))
        .end()
}

fn log(log: &Log) -> Value {
    SectionWriter::new(keys::LOG)
        .set("level", word(&process::LOG_LEVELS, &log.level))
        .set("format", word(&process::LOG_FORMATS, &log.format))
        .end()
}

fn access_log(access_log: Option<&AccessLogPlan>) -> Value {
    let Some(access_log) = access_log else { return "off".into() };
    SectionWriter::new(keys::ACCESS_LOG)
        .set("path", text(&access_log.path))
        .set("format", word(&process::ACCESS_LOG_FORMATS, &access_log.format))
        .end()
}

fn events(events: &EventsPlan) -> Value {
    SectionWriter::new(keys::EVENTS)
        .set_or_null("path", events.path.as_deref().map(path))
        .set("keep", events.keep)
        .end()
}

fn acme(acme: &AcmePlan) -> Value {
    let account = |account: &ExternalAccount| {
        SectionWriter::new(keys::EXTERNAL_ACCOUNT)
            .set("key_id", text(&account.key_id))
            .set("hmac_key_file", path(&account.hmac_key_file))
            .end()
    };
    SectionWriter::new(keys::ACME)
        .set("directory", text(&acme.directory))
        .set("accept_terms", true)
        .set("contact", texts(&acme.contact))
        .set("challenge", word(&acme::CHALLENGES, &acme.challenge))
        .set("storage", path(&acme.storage))
        .set_or_null("ca", acme.ca.as_deref().map(path))
        .set_or_null("external_account", acme.external_account.as_ref().map(account))
        .end()
}

fn dns(dns: &DnsPlan) -> Value {
    SectionWriter::new(keys::DNS)
        .set("resolvers", dns.resolvers.as_ref().map_or("system".into(), texts))
        .set("timeout", duration(dns.timeout))
        .set("min_refresh", duration(dns.min_refresh))
        .set("max_refresh", duration(dns.max_refresh))
        .end()
}

fn listener(plan: &Plan, listener: &ListenerPlan) -> Value {
    let (is_http, is_udp) = (listener.protocol == Protocol::Http, listener.protocol == Protocol::Udp);
    let (pool, routes) = match listener.target {
        TargetPlan::Pool(pool) => (Some(&*plan.pools[pool].name), None),
        TargetPlan::Routes(routes) => (None, Some(&*plan.routes[routes].name)),
        TargetPlan::RedirectToHttps => (None, None),
    };
    let (one, several) = match &listener.addresses[..] {
        [one] => (Some(text(one)), None),
        several => (None, Some(texts(several))),
    };
    let proxies = |proxies: &Networks| {
        SectionWriter::new(keys::PROXY_PROTOCOL).set("from", texts(proxies.items())).end()
    };
    SectionWriter::new(keys::LISTENER)
        .set_if_any("address", one)
        .set_if_any("addresses", several)
        .set("protocol", word(&PROTOCOLS, &listener.protocol))
        .set_if_any("pool", pool)
        .set_if_any("routes", routes)
        .set("redirect_to_https", listener.target == TargetPlan::RedirectToHttps)
        .set_or_null("tls", listener.tls.as_ref().map(tls))
        .set_or_null("proxy_protocol", Some(&listener.proxies).filter(|all| !all.is_empty()).map(proxies))
        .set("trusted_proxies", texts(listener.trusted_proxies.items()))
        .set_or_null("policy", listener.policy.map(|policy| &*plan.policies[policy].name))
        .set("client_fin", word(&CLIENT_FINS, &listener.client_fin))
        .set("http2", http2(&listener.http2))
        .set("limits", limits(&listener.limits, is_http))
        .set("timeouts", listener_timeouts(&listener.timeouts, is_http, is_udp))
        .leave_out(if is_http { &[] } else { &FOR_HTTP })
        .leave_out(if is_udp { &FOR_STREAMS } else { &[] })
        .end()
}

fn geo(geo: &Geo) -> Value {
    let file = |database: &Option<Arc<GeoDatabase>>| database.as_ref().map(|database| path(&database.file));
    SectionWriter::new(keys::GEO)
        .set_or_null("country", file(&geo.country))
        .set_or_null("asn", file(&geo.asn))
        .end()
}

fn networks(named: &NamedNetworks) -> Value {
    match &named.source {
        NetworksSource::Listed(networks) => texts(networks),
        NetworksSource::File(file) => SectionWriter::new(keys::NETWORKS).set("file", path(file)).end(),
    }
}

fn tls(tls: &Tls) -> Value {
    let certificate = |certificate: &Certificate| {
        SectionWriter::new(keys::CERTIFICATE)
            .set("cert", path(&certificate.cert))
            .set("key", path(&certificate.key))
            .set_or_null("ocsp", certificate.ocsp.as_deref().map(path))
            .end()
    };
    let names = |names| SectionWriter::new(keys::ACME_NAMES).set("names", texts(names)).end();
    let client_ca = |ca: &ClientCa| {
        SectionWriter::new(keys::CLIENT_CA).set("file", path(&ca.file)).set("required", ca.is_required).end()
    };
    let certificates: Vec<_> = tls.certificates.iter().map(certificate).collect();
    SectionWriter::new(keys::TLS)
        .set_if_any("certificates", Some(certificates).filter(|all| !all.is_empty()))
        .set_or_null("acme", Some(&tls.acme).filter(|all| !all.is_empty()).map(names))
        .set("min_version", word(&tls::TLS_VERSIONS, &tls.min_version))
        .set_or_null("client_ca", tls.client_ca.as_ref().map(client_ca))
        .set_or_null("hsts", tls.hsts.as_deref().map(hsts))
        .end()
}

/// From the field's value, which is what a plan has of it.
fn hsts(value: &str) -> Value {
    let has = |directive: &str| value.split("; ").any(|part| part == directive);
    let seconds = value.split("; ").find_map(|part| part.strip_prefix("max-age=")?.parse().ok());
    SectionWriter::new(keys::HSTS)
        .set("max_age", duration(Duration::from_secs(seconds.unwrap_or_default())))
        .set("include_subdomains", has("includeSubDomains"))
        .set("preload", has("preload"))
        .end()
}

fn http2(http2: &Http2Plan) -> Value {
    // Without a word of its own it may be larger than what can be written.
    let connection_window =
        Some(http2.connection_window).filter(|window| *window <= keys::MOST_CONNECTION_WINDOW);
    SectionWriter::new(keys::HTTP2)
        .set("max_concurrent_streams", http2.max_concurrent_streams)
        .set("stream_window", size(http2.stream_window))
        .set_or_null("connection_window", connection_window.map(size))
        .set_or_null("max_age", http2.max_age.map(duration))
        .set_or_null("max_requests", http2.max_requests.map(u32::from))
        .end()
}

fn limits(limits: &ListenerLimits, is_http: bool) -> Value {
    SectionWriter::new(keys::LIMITS)
        .set_or_null("connections", limits.connections.map(u32::from))
        .set_or_null("connections_per_client", limits.connections_per_client.map(u32::from))
        .set_or_null("new_connections_per_client", limits.new_connections.map(|limit| rate(limit.rate)))
        .set_or_null("handshakes", limits.handshakes.map(u32::from))
        .set("request_headers", size(limits.request_headers))
        .set("request_body", size(limits.request_body))
        .set("uri", size(limits.uri))
        .set("header_count", limits.header_count)
        .set("header_line", size(limits.header_line))
        .set("encoded_slash", word(&ENCODED_SLASHES, &limits.encoded_slash))
        .leave_out(if is_http { &[] } else { &LIMITS_FOR_HTTP })
        .end()
}

fn listener_timeouts(timeouts: &ListenerTimeouts, is_http: bool, is_udp: bool) -> Value {
    SectionWriter::new(keys::LISTENER_TIMEOUTS)
        .set("request_header", duration(timeouts.request_header))
        .set("request_body", duration(timeouts.request_body))
        .set("idle", duration(timeouts.idle))
        .set("tls_handshake", duration(timeouts.tls_handshake))
        .leave_out(if is_http { &[] } else { &TIMEOUTS_FOR_HTTP })
        .leave_out(if is_http || is_udp { &[] } else { &TIMEOUTS_FOR_SILENCE })
        .leave_out(if is_udp { &TIMEOUTS_FOR_STREAMS } else { &[] })
        .end()
}

fn routes(plan: &Plan, routes: &RoutesPlan) -> Value {
    routes.rules.iter().map(|one| rule(plan, one)).collect()
}

fn rule(plan: &Plan, rule: &RulePlan) -> Value {
    let upgrades = rule.upgrades.as_ref().map_or_else(|| texts(["websocket"]), texts);
    let (redirect, respond) = match &rule.target {
        RuleTargetPlan::Pool(_) => (None, None),
        RuleTargetPlan::Redirect(redirect) => (Some(policy::redirect(redirect)), None),
        RuleTargetPlan::Respond(respond) => (None, Some(policy::respond(respond))),
    };
    let written = SectionWriter::new(keys::RULE)
        .set_if_any("name", written_name(&rule.name))
        .set("match", matcher(&rule.matcher))
        .set_if_any("pool", rule.pool().map(|pool| &*plan.pools[pool].name))
        .set_or_null("redirect", redirect)
        .set_or_null("respond", respond)
        .set("upgrades", upgrades)
        .set("priority", word(&route::PRIORITIES, &rule.priority))
        .set_or_null("policy", rule.policy.map(|policy| &*plan.policies[policy].name));
    say(&rule.own_policy, written).end()
}

/// A name, unless it is one that only comes about by default: those can be longer than what can be written, and of other
/// characters.
fn written_name(name: &str) -> Option<&str> {
    names::word(&Scalar::plain(name)).is_ok().then_some(name)
}

fn matcher(matcher: &Match) -> Value {
    let below = |matcher: &Match| conditions(SectionWriter::new(keys::MATCH_BELOW), matcher).end();
    conditions(SectionWriter::new(keys::MATCH), matcher)
        .set_or_null("not", matcher.not.as_deref().map(below))
        .set("any", matcher.any.iter().map(below).collect::<Vec<_>>())
        .set("alpn", texts(&matcher.alpn))
        .end()
}

fn conditions(section: SectionWriter, matcher: &Match) -> SectionWriter {
    let host = |host: &HostPattern| match host {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
    };
    let path = |path: &PathPattern| match path {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(prefix) => format!("{prefix}*"),
    };
    let headers = matcher.headers.iter();
    let headers = headers.map(|header| (header.name.as_str(), header.value.as_deref().unwrap_or("*").into()));
    section
        .set_or_null("host", matcher.host.as_ref().map(host))
        .set_or_null("path", matcher.path.as_ref().map(path))
        .set_or_null("path_regex", matcher.path_regex.as_ref().map(|regex| regex.0.as_str()))
        .set("methods", texts(&matcher.methods))
        .set("headers", named(headers))
        .set("query", values(&matcher.query))
        .set("cookies", values(&matcher.cookies))
        .set("client", texts(matcher.client.items()))
        .set("country", texts(&matcher.country))
        .set("asn", texts(&matcher.asn))
}

fn values(values: &[ValueMatch]) -> Value {
    named(values.iter().map(|one| (&*one.name, one.value.as_deref().unwrap_or("*").into())))
}

fn pool(pool: &PoolPlan) -> Value {
    let servers = pool.servers.iter().map(server);
    let entries = pool.sources.iter().filter(|source| source.is_entry).map(|source| entry(source));
    let mut discovered = pool.sources.iter().filter(|source| !source.is_entry).map(|source| &**source);
    SectionWriter::new(keys::POOL)
        .set("balance", balance(&pool.balance))
        .set("servers", servers.chain(entries).collect::<Vec<_>>())
        .set_or_null("discover", discovered.next().map(discover))
        .set_or_null("health", pool.health.as_ref().map(health))
        .set("when_all_unhealthy", word(&pool::WHEN_ALL_UNHEALTHY, &pool.when_all_unhealthy))
        .set_or_null("max_connections", pool.max_connections.map(u32::from))
        .set_or_null("queue", pool.queue.as_ref().map(queue))
        .set("slow_start", pool.slow_start.as_ref().map_or_else(|| duration(Duration::ZERO), slow_start))
        .set_or_null("outlier", pool.outlier.as_ref().map(outlier))
        .set_or_null("fallback", pool.fallback.as_deref())
        .set_or_null("sticky", pool.sticky.as_ref().map(sticky))
        .set("retries", retries(&pool.retries))
        .set("timeouts", pool_timeouts(&pool.timeouts))
        .set("drain_timeout", duration(pool.drain_timeout))
        .set_or_null(
            "proxy_protocol",
            pool.proxy_protocol.map(|version| word(&pool::PROXY_VERSIONS, &version)),
        )
        .set_or_null("tls", pool.tls.as_ref().map(server_tls))
        .set("protocol", word(&pool::SERVER_PROTOCOLS, &pool.protocol))
        .end()
}

fn sticky(sticky: &StickyPlan) -> Value {
    SectionWriter::new(keys::STICKY)
        .set("cookie", text(&sticky.cookie))
        .set("mode", word(&sticky::STICKY_MODES, &sticky.mode))
        .set("wait", duration(sticky.wait))
        .set_or_null("max_age", sticky.max_age.map(duration))
        .set_or_null("max_life", sticky.max_life.map(duration))
        .set_or_null("key_file", sticky.key_file.as_deref().map(path))
        .set("same_site", word(&sticky::SAME_SITES, &sticky.same_site))
        .set_or_null("domain", sticky.domain.as_ref().map(text))
        .set("path", text(&sticky.path))
        .end()
}

fn queue(queue: &QueuePlan) -> Value {
    SectionWriter::new(keys::QUEUE)
        .set("max", queue.max.get())
        .set("timeout", duration(queue.timeout))
        .set("order", word(&pool::QUEUE_ORDERS, &queue.order))
        .end()
}

fn outlier(outlier: &OutlierPlan) -> Value {
    SectionWriter::new(keys::OUTLIER)
        .set_or_null("consecutive_errors", outlier.consecutive_errors.map(u32::from))
        .set_or_null("worse_by", outlier.worse_by.as_ref().map(text))
        .set_or_null("slower_than", outlier.slower_than.as_ref().map(text))
        .set("window", duration(outlier.window))
        .set("base_ejection", duration(outlier.base_ejection))
        .set("max_ejection", duration(outlier.max_ejection))
        .set("max_ejected", text(&outlier.max_ejected))
        .end()
}

fn slow_start(ramp: &SlowStart) -> Value {
    SectionWriter::new(keys::SLOW_START).set("over", duration(ramp.over)).set("from", text(&ramp.from)).end()
}

fn server_tls(tls: &ServerTls) -> Value {
    let (cert, key) = tls.identity.as_ref().map(|(cert, key)| (path(cert), path(key))).unzip();
    SectionWriter::new(keys::SERVER_TLS)
        .set_or_null("server_name", tls.server_name.as_deref())
        .set_or_null("ca", tls.ca.as_deref().map(path))
        .set_or_null("cert", cert)
        .set_or_null("key", key)
        .set("verify", tls.verify)
        .end()
}

fn balance(balance: &Balance) -> Value {
    let settings = match balance {
        Balance::RoundRobin | Balance::LeastConnections | Balance::RandomTwo | Balance::PeakEwma => {
            return balance.word().into();
        }
        Balance::ConsistentHash { key, bounded_load } => SectionWriter::new(keys::CONSISTENT_HASH)
            .set("key", hash_key(key))
            .set_or_null("bounded_load", bounded_load.as_ref().map(text))
            .end(),
        Balance::Maglev { key } => SectionWriter::new(keys::MAGLEV).set("key", hash_key(key)).end(),
        Balance::SuccessRate(plan) => SectionWriter::new(keys::SUCCESS_RATE)
            .set("window", plan.window.get())
            .set("explore", text(&plan.explore))
            .set_or_null("outcome", plan.outcome.as_ref().map(outcome_header))
            .end(),
    };
    let others = keys::BALANCE.iter().map(|key| key.name).collect::<Vec<_>>();
    SectionWriter::new(keys::BALANCE).leave_out(&others).set(balance.word(), settings).end()
}

fn outcome_header(outcome: &OutcomeHeader) -> Value {
    SectionWriter::new(keys::OUTCOME)
        .set("header", outcome.name.as_str())
        .set("success", texts(&outcome.success))
        .set("failure", texts(&outcome.failure))
        .end()
}

fn hash_key(key: &HashKey) -> Value {
    let (kind, name) = match key {
        HashKey::ClientIp => return "client_ip".into(),
        HashKey::Path => return "path".into(),
        HashKey::Uri => return "uri".into(),
        HashKey::Header(name) => ("header", name.as_str()),
        HashKey::Cookie(name) => ("cookie", &**name),
        HashKey::Query(name) => ("query", &**name),
    };
    SectionWriter::new(keys::HASH_KEY).leave_out(&["header", "cookie", "query"]).set(kind, name).end()
}

fn server(server: &ServerPlan) -> Value {
    let (name, address) = match written_name(&server.name) {
        Some(name) => (Some(name), text(&server.address)),
        // The name is the address as it was written.
        None => (None, text(&server.name)),
    };
    SectionWriter::new(keys::SERVER)
        .set_if_any("name", name)
        .set("address", address)
        .set("weight", server.weight.get())
        .set_or_null("max_connections", server.max_connections.map(u32::from))
        .set("drain", server.drain)
        .set("backup", server.backup)
        .end()
}

/// A host name among the servers.
fn entry(source: &SourcePlan) -> Value {
    // Its place is what it is called, but for the kind.
    let place = source.label().trim_start_matches("dns:").to_owned();
    let template = &source.template;
    SectionWriter::new(keys::SERVER)
        .leave_out(&["name"])
        .set("address", place)
        .set("weight", template.weight.get())
        .set_or_null("max_connections", template.max_connections.map(u32::from))
        .set("drain", template.drain)
        .set("backup", template.backup)
        .end()
}

fn discover(source: &SourcePlan) -> Value {
    let rules = &source.rules;
    let (kind, settings) = match &source.kind {
        SourceKind::Dns(host) => (
            "dns",
            SectionWriter::new(keys::DNS_SOURCE)
                .set("name", &*host.name)
                .set("port", host.port)
                .set("family", word(&discover::ADDRESS_FAMILIES, &host.family))
                .end(),
        ),
        SourceKind::DnsSrv(name) => ("dns_srv", text(name)),
        SourceKind::File(file) => ("file", path(file)),
        SourceKind::Http(http) => (
            "http",
            SectionWriter::new(keys::HTTP_SOURCE)
                .set("url", &*http.url)
                .set("interval", duration(http.interval))
                .set("timeout", duration(http.timeout))
                .set_or_null("ca", http.ca.as_deref().map(path))
                .set_or_null("token_file", http.token_file.as_deref().map(path))
                .end(),
        ),
    };
    SectionWriter::new(keys::DISCOVER)
        .leave_out(&keys::SOURCES)
        .set(kind, settings)
        .set("when_empty", word(&discover::WHEN_EMPTY, &rules.when_empty))
        .set("keep_stale", rules.keep_stale.map_or("forever".into(), duration))
        .set("leave_after", duration(rules.leave_after))
        .set_or_null("large_change", rules.large_change.as_ref().map(text))
        .set("max_servers", rules.max_servers)
        .set("start_wait", duration(source.start_wait))
        .end()
}

fn health(health: &HealthPlan) -> Value {
    let (kind, probe) = match &health.probe {
        ProbePlan::Http(probe) => ("http", http_probe(probe)),
        ProbePlan::Tcp(probe) => (
            "tcp",
            SectionWriter::new(keys::TCP_PROBE)
                .set_or_null("send", probe.send.as_deref())
                .set_or_null("expect", probe.expect.as_deref())
                .end(),
        ),
        ProbePlan::Tls(probe) => (
            "tls",
            SectionWriter::new(keys::TLS_PROBE)
                .set_or_null("server_name", probe.server_name.as_deref())
                .set("verify", probe.verify)
                .end(),
        ),
        ProbePlan::Grpc(probe) => (
            "grpc",
            SectionWriter::new(keys::GRPC_PROBE).set_or_null("service", probe.service.as_deref()).end(),
        ),
        ProbePlan::Udp(probe) => ("udp", udp_probe(probe)),
    };
    SectionWriter::new(keys::HEALTH)
        .leave_out(&["http", "tcp", "tls", "grpc", "udp"])
        .set(kind, probe)
        .set_or_null("port", health.port)
        .set("interval", duration(health.interval))
        .set("timeout", duration(health.timeout))
        .set("fall", health.fall.get())
        .set("rise", health.rise.get())
        .set("jitter", text(&health.jitter))
        .set("initial", word(&health::INITIALS, &health.initial))
        .end()
}

fn http_probe(probe: &HttpProbe) -> Value {
    let statuses = probe.expect_status.iter().map(|range| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    });
    SectionWriter::new(keys::HTTP_PROBE)
        .set("path", text(&probe.path))
        .set("method", probe.method.as_str())
        .set_or_null("host", probe.host.as_deref())
        .set("expect_status", statuses.collect::<Vec<_>>().join(","))
        .set_or_null("expect_body", probe.expect_body.as_deref())
        .end()
}

fn udp_probe(probe: &UdpProbe) -> Value {
    let (send, send_hex) = text_or_hex(&probe.send);
    let (expect, expect_hex) = probe.expect.as_deref().map(text_or_hex).unwrap_or_default();
    SectionWriter::new(keys::UDP_PROBE)
        .set_if_any("send", send)
        .set_if_any("send_hex", send_hex)
        .set_if_any("expect", expect)
        .set_if_any("expect_hex", expect_hex)
        .end()
}

/// Bytes as the text they are, or else in hexadecimal digits.
fn text_or_hex(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => (Some(text), None),
        _ => (None, Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())),
    }
}

fn retries(retries: &Retries) -> Value {
    let on = &retries.on;
    let words = [(on.connect, "connect"), (on.reset, "reset"), (on.timeout, "timeout")];
    let words = words.into_iter().filter(|(is_on, _)| *is_on).map(|(_, word)| Value::from(word));
    SectionWriter::new(keys::RETRIES)
        .set("max", retries.max)
        .set("budget", text(&retries.budget))
        .set("on", words.chain(on.statuses.iter().map(|status| Value::from(*status))).collect::<Vec<_>>())
        .set_or_null("per_try", retries.per_try.map(duration))
        .end()
}

fn pool_timeouts(timeouts: &PoolTimeouts) -> Value {
    SectionWriter::new(keys::POOL_TIMEOUTS)
        .set("connect", duration(timeouts.connect))
        .set("response_header", duration(timeouts.response_header))
        .set("stream_idle", duration(timeouts.stream_idle))
        .set("tunnel_idle", duration(timeouts.tunnel_idle))
        .set("request", duration(timeouts.request))
        .set("keepalive", duration(timeouts.keepalive))
        .end()
}

#[cfg(test)]
mod tests;
