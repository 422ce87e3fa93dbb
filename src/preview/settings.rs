//! A plan's settings as an operator writes them: each key with its value, so that two plans can be compared.

use super::report::KeyChange;
use crate::config::keys::spell_size;
use crate::config::plan::cache::PurgeNodePlan;
use crate::config::plan::policy::Page;
use crate::config::plan::{
    self, AccessLogPlan, Balance, HashKey, HealthPlan, HostPattern, Match, NewConnectionLimit, PathPattern,
    Plan, Priority, ProbePlan, RuleTargetPlan, TargetPlan, ValueMatch,
};
use crate::config::write_policy;
use crate::networks::NetworksSource;
use serde_yaml::Value;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

/// Keys with their values; one that is `null` is left out.
#[derive(Debug, Default)]
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    fn set(&mut self, key: &str, value: impl Display) {
        self.0.insert(key.to_owned(), value.to_string());
    }

    fn set_some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// The keys whose values differ.
    pub(super) fn changes_to(&self, new: &Self) -> Vec<KeyChange> {
        let added = new.0.keys().filter(|key| !self.0.contains_key(*key));
        let mut keys: Vec<_> = self.0.keys().chain(added).collect();
        keys.sort_unstable();
        let change = |key: &String| {
            let (old, new) = (self.0.get(key).cloned(), new.0.get(key).cloned());
            (old != new).then(|| KeyChange { key: key.clone(), old, new })
        };
        keys.into_iter().filter_map(change).collect()
    }
}

/// `1500ms`, `60s`.
pub(super) fn span(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

/// `[a, b]`; `None` for none.
fn list<T: Display>(items: impl IntoIterator<Item = T>) -> Option<String> {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    (!items.is_empty()).then(|| format!("[{}]", items.join(", ")))
}

/// The name in YAML of what is written as one word in code: `UseAll` is `use_all`.
fn word(value: impl std::fmt::Debug) -> String {
    let mut word = String::new();
    for (at, letter) in format!("{value:?}").chars().enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// What is neither a listener's, nor a pool's, nor a list of routes.
pub(super) fn process(plan: &Plan) -> Settings {
    let mut settings = Settings::default();
    let threads = plan.process.threads.map_or_else(|| "auto".to_owned(), |threads| threads.to_string());
    settings.set("process.threads", threads);
    settings.set("process.max_connections", plan.process.max_connections);
    settings.set("process.shutdown_timeout", span(plan.process.shutdown_timeout));
    settings.set("process.client_prefix.v4", plan.process.client_prefix.v4);
    settings.set("process.client_prefix.v6", plan.process.client_prefix.v6);
    settings.set("process.limit_keys", plan.process.limit_keys);
    settings.set("process.max_tarpits", plan.process.max_tarpits);
    settings.set("process.compressors", plan.process.compressors);
    settings.set("cache.memory", spell_size(plan.cache.memory));
    if let Some(disk) = &plan.cache.disk {
        settings.set("cache.disk.path", disk.path.display());
        settings.set("cache.disk.size", spell_size(disk.size));
        settings.set("cache.disk.min_object", spell_size(disk.min_object));
    }
    settings.set("cache.max_object", spell_size(plan.cache.max_object));
    settings.set_some("cache.purge_from", list(plan.cache.purge_from.items()));
    let node = |node: &PurgeNodePlan| match &node.token_file {
        Some(file) => format!("{{ address: {}, token_file: {} }}", node.address, file.display()),
        None => node.address.to_string(),
    };
    settings.set_some("cache.purge_nodes", list(plan.cache.purge_nodes.iter().map(node)));
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    settings.set_some("admin.socket", path(&plan.admin.socket));
    settings.set_some("admin.address", plan.admin.address);
    settings.set_some("admin.token_file", path(&plan.admin.token_file));
    settings.set_some("admin.state_file", path(&plan.admin.state_file));
    settings.set("log.level", word(plan.log.level));
    settings.set("log.format", word(plan.log.format));
    match &plan.access_log {
        None => settings.set("access_log", "off"),
        Some(AccessLogPlan { path, format }) => {
            settings.set("access_log.path", path);
            settings.set("access_log.format", word(format));
        }
    }
    let resolvers = plan.dns.resolvers.as_ref().and_then(list);
    settings.set("dns.resolvers", resolvers.unwrap_or_else(|| "system".to_owned()));
    settings.set("dns.timeout", span(plan.dns.timeout));
    settings.set("dns.min_refresh", span(plan.dns.min_refresh));
    settings.set("dns.max_refresh", span(plan.dns.max_refresh));
    for database in plan.geo.databases() {
        settings.set(&format!("geo.{}", database.kind.key()), database.file.display());
    }
    for named in &plan.networks {
        let key = format!("networks.{}", named.name);
        match &named.source {
            NetworksSource::Listed(networks) => {
                settings.set(&key, list(networks).unwrap_or_else(|| "[]".to_owned()));
            }
            NetworksSource::File(file) => settings.set(&format!("{key}.file"), file.display()),
        }
    }
    for named in &plan.policies {
        let said = flat(&format!("policies.{}", named.name), &write_policy(&named.policy));
        said.iter().for_each(|(key, value)| settings.set(key, value));
    }
    settings.set_some("events.path", path(&plan.events.path));
    settings.set("events.keep", plan.events.keep);
    if let Some(acme) = &plan.acme {
        settings.set("acme.directory", &acme.directory);
        settings.set_some("acme.contact", list(&acme.contact));
        settings.set(
            "acme.challenge",
            match acme.challenge {
                plan::AcmeChallenge::TlsAlpn01 => "tls_alpn_01",
                plan::AcmeChallenge::Http01 => "http_01",
            },
        );
        settings.set("acme.storage", acme.storage.display());
        settings.set_some("acme.ca", acme.ca.as_ref().map(|ca| ca.display()));
        if let Some(account) = &acme.external_account {
            settings.set("acme.external_account.key_id", &account.key_id);
            settings.set("acme.external_account.hmac_key_file", account.hmac_key_file.display());
        }
    }
    settings
}

pub(super) fn listener(plan: &Plan, listener: &plan::ListenerPlan) -> Settings {
    let mut settings = Settings::default();
    settings.set_some("addresses", list(&listener.addresses));
    settings.set("protocol", word(listener.protocol));
    match listener.target {
        TargetPlan::Pool(pool) => settings.set("pool", &plan.pools[pool].name),
        TargetPlan::Routes(routes) => settings.set("routes", &plan.routes[routes].name),
        TargetPlan::RedirectToHttps => settings.set("redirect_to_https", true),
    }
    settings.set_some("proxy_protocol.from", list(listener.proxies.items()));
    settings.set_some("trusted_proxies", list(listener.trusted_proxies.items()));
    settings.set_some("policy", listener.policy.map(|policy| &plan.policies[policy].name));
    if listener.protocol == plan::Protocol::Http {
        settings.set("client_fin", word(listener.client_fin));
    }
    if let Some(tls) = &listener.tls {
        let files = |certificate: &plan::Certificate| {
            let ocsp = certificate.ocsp.as_ref().map(|ocsp| format!(" + {}", ocsp.display()));
            let (cert, key) = (certificate.cert.display(), certificate.key.display());
            format!("{cert} + {key}{}", ocsp.unwrap_or_default())
        };
        settings.set_some("tls.certificates", list(tls.certificates.iter().map(files)));
        settings.set_some("tls.acme.names", list(&tls.acme));
        settings.set(
            "tls.min_version",
            match tls.min_version {
                plan::TlsVersion::Tls12 => "1.2",
                plan::TlsVersion::Tls13 => "1.3",
            },
        );
        if let Some(ca) = &tls.client_ca {
            settings.set("tls.client_ca.file", ca.file.display());
            settings.set("tls.client_ca.required", ca.is_required);
        }
        settings.set_some("tls.hsts", tls.hsts.as_ref());
    }
    let http2 = &listener.http2;
    settings.set("http2.max_concurrent_streams", http2.max_concurrent_streams);
    settings.set("http2.stream_window", spell_size(http2.stream_window));
    settings.set("http2.connection_window", spell_size(http2.connection_window));
    settings.set_some("http2.max_age", http2.max_age.map(span));
    settings.set_some("http2.max_requests", http2.max_requests);
    let limits = &listener.limits;
    settings.set_some("limits.connections", limits.connections);
    settings.set_some("limits.connections_per_client", limits.connections_per_client);
    let rate = |limit: NewConnectionLimit| format!("{} in {}", limit.rate.requests, span(limit.rate.per));
    settings.set_some("limits.new_connections_per_client", limits.new_connections.map(rate));
    settings.set_some("limits.handshakes", limits.handshakes);
    settings.set("limits.request_headers", spell_size(limits.request_headers));
    settings.set("limits.uri", spell_size(limits.uri));
    settings.set("limits.header_count", limits.header_count);
    settings.set("limits.header_line", spell_size(limits.header_line));
    settings.set("limits.encoded_slash", word(limits.encoded_slash));
    settings.set("limits.request_body", spell_size(limits.request_body));
    let timeouts = &listener.timeouts;
    settings.set("timeouts.request_header", span(timeouts.request_header));
    settings.set("timeouts.request_body", span(timeouts.request_body));
    settings.set("timeouts.idle", span(timeouts.idle));
    settings.set("timeouts.tls_handshake", span(timeouts.tls_handshake));
    settings
}

fn outlier(outlier: &plan::OutlierPlan, settings: &mut Settings) {
    settings.set_some("outlier.consecutive_errors", outlier.consecutive_errors);
    settings.set_some("outlier.worse_by", outlier.worse_by);
    settings.set_some("outlier.slower_than", outlier.slower_than);
    settings.set("outlier.window", span(outlier.window));
    settings.set("outlier.base_ejection", span(outlier.base_ejection));
    settings.set("outlier.max_ejection", span(outlier.max_ejection));
    settings.set("outlier.max_ejected", outlier.max_ejected);
}

/// Everything of a pool but its servers.
pub(super) fn pool(pool: &plan::PoolPlan) -> Settings {
    let mut settings = Settings::default();
    match &pool.balance {
        Balance::ConsistentHash { key, bounded_load } => {
            settings.set("balance", "consistent_hash");
            settings.set("balance.consistent_hash.key", hash_key(key));
            settings.set_some("balance.consistent_hash.bounded_load", *bounded_load);
        }
        Balance::Maglev { key } => {
            settings.set("balance", "maglev");
            settings.set("balance.maglev.key", hash_key(key));
        }
        Balance::SuccessRate(plan) => {
            settings.set("balance", "success_rate");
            settings.set("balance.success_rate.window", plan.window);
            settings.set("balance.success_rate.explore", plan.explore);
            if let Some(outcome) = &plan.outcome {
                settings.set("balance.success_rate.outcome.header", &outcome.name);
                settings.set_some("balance.success_rate.outcome.success", list(&outcome.success));
                settings.set_some("balance.success_rate.outcome.failure", list(&outcome.failure));
            }
        }
        other => settings.set("balance", word(other)),
    }
    match &pool.health {
        None => {}
        Some(health) => self::health(health, &mut settings),
    }
    settings.set("when_all_unhealthy", word(pool.when_all_unhealthy));
    settings.set_some("max_connections", pool.max_connections);
    match &pool.queue {
        None => {}
        Some(queue) => {
            settings.set("queue.max", queue.max);
            settings.set("queue.timeout", span(queue.timeout));
            settings.set("queue.order", word(queue.order));
        }
    }
    if let Some(outlier) = &pool.outlier {
        self::outlier(outlier, &mut settings);
    }
    if let Some(sticky) = &pool.sticky {
        self::sticky(sticky, &mut settings);
    }
    settings.set_some("fallback", pool.fallback.as_ref());
    match &pool.slow_start {
        None => settings.set("slow_start.over", "0s"),
        Some(ramp) => {
            settings.set("slow_start.over", span(ramp.over));
            settings.set("slow_start.from", ramp.from);
        }
    }
    settings.set("retries.max", pool.retries.max);
    settings.set("retries.budget", pool.retries.budget);
    let on = &pool.retries.on;
    let words = [(on.connect, "connect"), (on.reset, "reset"), (on.timeout, "timeout")];
    let words = words.iter().filter(|(is_on, _)| *is_on).map(|(_, word)| (*word).to_owned());
    let on = list(words.chain(on.statuses.iter().map(u16::to_string)));
    settings.set("retries.on", on.unwrap_or_else(|| "[]".to_owned()));
    settings.set_some("retries.per_try", pool.retries.per_try.map(span));
    let timeouts = &pool.timeouts;
    settings.set("timeouts.connect", span(timeouts.connect));
    settings.set("timeouts.response_header", span(timeouts.response_header));
    settings.set("timeouts.stream_idle", span(timeouts.stream_idle));
    settings.set("timeouts.tunnel_idle", span(timeouts.tunnel_idle));
    settings.set("timeouts.request", span(timeouts.request));
    settings.set("timeouts.keepalive", span(timeouts.keepalive));
    settings.set("drain_timeout", span(pool.drain_timeout));
    settings.set_some("proxy_protocol", pool.proxy_protocol.map(word));
    settings.set("protocol", word(pool.protocol));
    if let Some(tls) = &pool.tls {
        settings.set("tls.verify", tls.verify);
        settings.set_some("tls.server_name", tls.server_name.as_ref());
        settings.set_some("tls.ca", tls.ca.as_ref().map(|ca| ca.display()));
        if let Some((cert, key)) = &tls.identity {
            settings.set("tls.cert", cert.display());
            settings.set("tls.key", key.display());
        }
    }
    for source in &pool.sources {
        self::source(source, &mut settings);
    }
    settings
}

fn sticky(sticky: &plan::StickyPlan, settings: &mut Settings) {
    settings.set("sticky.cookie", &sticky.cookie);
    settings.set("sticky.mode", word(sticky.mode));
    settings.set("sticky.wait", span(sticky.wait));
    settings.set_some("sticky.max_age", sticky.max_age.map(span));
    settings.set_some("sticky.max_life", sticky.max_life.map(span));
    settings.set_some("sticky.key_file", sticky.key_file.as_ref().map(|file| file.display()));
    // Their ids, which tell nothing of the keys.
    settings.set_some("sticky.keys", list(sticky.keys.each().iter().map(|key| key.name())));
    settings.set("sticky.same_site", word(sticky.same_site));
    settings.set_some("sticky.domain", sticky.domain.as_ref());
    settings.set("sticky.path", &sticky.path);
}

fn source(source: &plan::SourcePlan, settings: &mut Settings) {
    if source.is_entry {
        let plan::ServerTemplate { weight, max_connections, drain, backup } = &source.template;
        let most = max_connections.map_or_else(|| "null".to_owned(), |most| most.to_string());
        let value = format!(
            "{{ weight: {}, max_connections: {most}, drain: {drain}, backup: {backup} }}",
            weight.get()
        );
        return settings.set(&format!("servers.{}", source.label()), value);
    }
    match &source.kind {
        plan::SourceKind::Dns(dns) => {
            settings.set("discover.dns.name", &dns.name);
            settings.set("discover.dns.port", dns.port);
            settings.set("discover.dns.family", word(dns.family));
        }
        plan::SourceKind::DnsSrv(name) => settings.set("discover.dns_srv", name),
        plan::SourceKind::File(path) => settings.set("discover.file", path.display()),
        plan::SourceKind::Http(http) => {
            settings.set("discover.http.url", &http.url);
            settings.set("discover.http.interval", span(http.interval));
            settings.set("discover.http.timeout", span(http.timeout));
            settings.set_some("discover.http.ca", http.ca.as_ref().map(|ca| ca.display()));
            let token_file = http.token_file.as_ref().map(|file| file.display());
            settings.set_some("discover.http.token_file", token_file);
        }
    }
    let rules = &source.rules;
    settings.set("discover.when_empty", word(rules.when_empty));
    settings.set("discover.keep_stale", rules.keep_stale.map_or_else(|| "forever".to_owned(), span));
    settings.set("discover.leave_after", span(rules.leave_after));
    settings.set_some("discover.large_change", rules.large_change);
    settings.set("discover.max_servers", rules.max_servers);
    settings.set("discover.start_wait", span(source.start_wait));
}

/// `client_ip`, `{header: X-User}`.
pub(super) fn hash_key(key: &HashKey) -> String {
    match key {
        HashKey::ClientIp => "client_ip".to_owned(),
        HashKey::Path => "path".to_owned(),
        HashKey::Uri => "uri".to_owned(),
        HashKey::Header(name) => format!("{{header: {name}}}"),
        HashKey::Cookie(name) => format!("{{cookie: {name}}}"),
        HashKey::Query(name) => format!("{{query: {name}}}"),
    }
}

fn health(health: &HealthPlan, settings: &mut Settings) {
    match &health.probe {
        ProbePlan::Http(http) => {
            settings.set("health.http.path", &http.path);
            settings.set("health.http.method", &http.method);
            settings.set_some("health.http.host", http.host.as_ref());
            let statuses = http.expect_status.iter().map(|range| match range.start() == range.end() {
                true => range.start().to_string(),
                false => format!("{}-{}", range.start(), range.end()),
            });
            settings.set("health.http.expect_status", statuses.collect::<Vec<_>>().join(","));
            settings.set_some("health.http.expect_body", http.expect_body.as_ref());
        }
        ProbePlan::Tcp(tcp) => {
            settings.set("health.tcp", "{}");
            settings.set_some("health.tcp.send", tcp.send.as_ref().map(|text| text.escape_debug()));
            settings.set_some("health.tcp.expect", tcp.expect.as_ref().map(|text| text.escape_debug()));
        }
        ProbePlan::Tls(tls) => {
            settings.set("health.tls.verify", tls.verify);
            settings.set_some("health.tls.server_name", tls.server_name.as_ref());
        }
        ProbePlan::Grpc(grpc) => {
            settings.set("health.grpc", "{}");
            settings.set_some("health.grpc.service", grpc.service.as_ref());
        }
        ProbePlan::Udp(udp) => {
            settings.set("health.udp.send", udp.send.escape_ascii());
            settings.set_some("health.udp.expect", udp.expect.as_ref().map(|bytes| bytes.escape_ascii()));
        }
    }
    settings.set_some("health.port", health.port);
    settings.set("health.interval", span(health.interval));
    settings.set("health.timeout", span(health.timeout));
    settings.set("health.fall", health.fall);
    settings.set("health.rise", health.rise);
    settings.set("health.jitter", health.jitter);
    settings.set("health.initial", word(health.initial));
}

/// A server that stays is at the same address.
pub(super) fn server(server: &plan::ServerPlan) -> Settings {
    let mut settings = Settings::default();
    settings.set("weight", server.weight.get());
    settings.set_some("max_connections", server.max_connections);
    settings.set("drain", server.drain);
    settings.set("backup", server.backup);
    settings
}

/// A rule's settings, what it matches and where it leads included.
pub(super) fn rule_settings(plan: &Plan, rule: &plan::RulePlan) -> Settings {
    let mut settings = Settings::default();
    settings.set("match", matches(rule));
    let (key, target) = match &rule.target {
        RuleTargetPlan::Pool(pool) => ("pool", plan.pools[*pool].name.to_string()),
        RuleTargetPlan::Redirect(redirect) => {
            ("redirect", format!("{} {}", redirect.status, redirect.to.source()))
        }
        RuleTargetPlan::Respond(respond) => ("respond", format!("{}{}", respond.status, page(&respond.page))),
    };
    settings.set(key, target);
    if let Some(upgrades) = &rule.upgrades {
        settings.set("upgrades", list(upgrades).as_deref().unwrap_or("none"));
    }
    settings.set("priority", rule.priority.label());
    settings.set_some("policy", rule.policy.map(|policy| &plan.policies[policy].name));
    let own = flat("", &write_policy(&rule.own_policy));
    own.iter().for_each(|(key, value)| settings.set(key, value));
    settings
}

/// What a rule matches: `GET /static/*`.
pub(super) fn matches(rule: &plan::RulePlan) -> String {
    matched(&rule.matcher).join(" ")
}

/// `GET,HEAD *.shop.example /static/* x-beta: 1 -> static`
pub(super) fn rule(plan: &Plan, rule: &plan::RulePlan) -> String {
    let parts = matched(&rule.matcher);
    let upgrades = match &rule.upgrades {
        None => String::new(),
        Some(upgrades) => format!(" (upgrades: {})", list(upgrades).as_deref().unwrap_or("none")),
    };
    let priority = match rule.priority {
        Priority::Normal => String::new(),
        other => format!(" (priority: {})", other.label()),
    };
    let named = rule.policy.map(|policy| format!(" (policy: {})", plan.policies[policy].name));
    let own = flat("", &write_policy(&rule.own_policy));
    let own = own.into_iter().map(|(key, value)| format!(" ({key}: {value})")).collect::<String>();
    let target = match &rule.target {
        RuleTargetPlan::Pool(pool) => plan.pools[*pool].name.to_string(),
        RuleTargetPlan::Redirect(redirect) => {
            format!("redirect {} {}", redirect.status, redirect.to.source())
        }
        RuleTargetPlan::Respond(respond) => format!("respond {}{}", respond.status, page(&respond.page)),
    };
    format!("{} -> {target}{upgrades}{priority}{}{own}", parts.join(" "), named.unwrap_or_default())
}

/// What a rule matches, in words.
fn matched(matcher: &Match) -> Vec<String> {
    let mut parts = Vec::new();
    if !matcher.methods.is_empty() {
        parts.push(matcher.methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(","));
    }
    parts.extend(matcher.host.as_ref().map(host));
    parts.extend(matcher.path.as_ref().map(path));
    parts.extend(
        matcher
            .headers
            .iter()
            .map(|header| format!("{}: {}", header.name, header.value.as_deref().unwrap_or("*"))),
    );
    parts.extend(matcher.path_regex.as_ref().map(|regex| format!("~{}", regex.0.as_str())));
    let values = |kind: &'static str, values: &[ValueMatch]| {
        let one = |one: &ValueMatch| format!("{kind} {}={}", one.name, one.value.as_deref().unwrap_or("*"));
        values.iter().map(one).collect::<Vec<_>>()
    };
    parts.extend(values("query", &matcher.query));
    parts.extend(values("cookie", &matcher.cookies));
    parts.extend(list(matcher.client.items()).map(|client| format!("client {client}")));
    parts.extend(matcher.not.as_ref().map(|below| format!("not ({})", matched(below).join(" "))));
    let any: Vec<_> = matcher.any.iter().map(|below| matched(below).join(" ")).collect();
    parts.extend((!any.is_empty()).then(|| format!("any of ({})", any.join(") ("))));
    parts.extend(list(&matcher.alpn).map(|alpn| format!("alpn {alpn}")));
    if parts.is_empty() {
        parts.push("everything".to_owned());
    }
    parts
}

fn page(page: &Page) -> String {
    match page {
        Page::Status => String::new(),
        Page::Text(text) => format!(" {:?}", text.chars().take(40).collect::<String>()),
        Page::File(file) => format!(" {} ({} bytes)", file.path.display(), file.content.len()),
    }
}

/// Each single value of a section with the way to it: `set.X-Tier`.
fn flat(path: &str, value: &Value) -> Vec<(String, String)> {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Mapping(section) => section
            .iter()
            .flat_map(|(name, value)| flat(&below(name.as_str().unwrap_or_default()), value))
            .collect(),
        Value::Sequence(items) if items.iter().any(Value::is_mapping) => items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| flat(&format!("{path}[{index}]"), item))
            .collect(),
        Value::Sequence(items) => {
            list(items.iter().map(shown)).map(|all| (path.to_owned(), all)).into_iter().collect()
        }
        single => vec![(path.to_owned(), shown(single))],
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.escape_debug().to_string(),
        Value::Null => "null".to_owned(),
        other => serde_yaml::to_string(other).unwrap_or_default().trim_end().to_owned(),
    }
}

pub(super) fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
    }
}

pub(super) fn path(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(prefix) => format!("{prefix}*"),
    }
}
