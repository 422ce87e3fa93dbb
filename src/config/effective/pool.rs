//! Pools as they are written.

use super::super::plan::{
    Balance, HashKey, OutcomeHeader, OutlierPlan, PoolPlan, PoolTimeouts, QueuePlan, Retries, ServerPlan,
    ServerTls, SlowStart, SourceKind, SourcePlan, StickyPlan,
};
use super::super::{discover, keys, pool, sticky};
use super::health::health;
use super::route::written_name;
use super::writer::SectionWriter;
use super::{duration, path, text, texts, word};
use serde_yaml::Value;
use std::time::Duration;

pub(super) fn pool(pool: &PoolPlan) -> Value {
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
