//! What is kept of servers' responses.

use super::super::keys;
use super::super::plan::PathPattern;
use super::super::plan::cache::{CachePlan, DiskPlan, PurgeNodePlan, QueryKey, StorePlan};
use super::writer::SectionWriter;
use super::{duration, named, path, size, text, texts};
use serde_yaml::Value;

pub(super) fn store(store: &StorePlan) -> Value {
    SectionWriter::new(keys::STORE)
        .set("memory", size(store.memory))
        .set_or_null("disk", store.disk.as_ref().map(disk))
        .set("max_object", size(store.max_object))
        .set("purge_from", texts(store.purge_from.items()))
        .set("purge_nodes", Value::Sequence(store.purge_nodes.iter().map(purge_node).collect()))
        .end()
}

fn disk(disk: &DiskPlan) -> Value {
    SectionWriter::new(keys::DISK)
        .set("path", disk.path.display().to_string())
        .set("size", size(disk.size))
        .set("min_object", size(disk.min_object))
        .end()
}

fn purge_node(node: &PurgeNodePlan) -> Value {
    SectionWriter::new(keys::PURGE_NODE)
        .set("address", text(&node.address))
        .set_or_null("token_file", node.token_file.as_deref().map(path))
        .end()
}

pub(super) fn cache(cache: &CachePlan) -> Value {
    let by_status: Vec<_> =
        cache.ttl_by_status.iter().map(|(status, ttl)| (status.to_string(), duration(*ttl))).collect();
    let key = SectionWriter::new(keys::CACHE_KEY)
        .set("host", cache.key.host)
        .set(
            "query",
            match &cache.key.query {
                QueryKey::All => "all".into(),
                QueryKey::Some(names) => texts(names),
            },
        )
        .set("ignore_query", texts(&cache.key.ignore_query))
        .set("sort_query", cache.key.sort_query)
        .set("headers", texts(&cache.key.headers))
        .set("cookies", texts(&cache.key.cookies))
        .set("device", cache.key.device)
        .set("methods", texts(&cache.key.methods))
        .end();
    let tags = SectionWriter::new(keys::CACHE_TAGS)
        .set("fields", texts(&cache.tags.fields))
        .set("send", cache.tags.send)
        .end();
    let bypass = SectionWriter::new(keys::CACHE_BYPASS)
        .set("cookies", texts(&cache.bypass.cookies))
        .set("headers", texts(&cache.bypass.headers))
        .set("paths", texts(cache.bypass.paths.iter().map(pattern)))
        .end();
    SectionWriter::new(keys::CACHE)
        .set_or_null("ttl", cache.ttl.map(duration))
        .set("ttl_by_status", named(by_status.iter().map(|(status, ttl)| (&**status, ttl.clone()))))
        .set_or_null("force_ttl", cache.force_ttl.map(duration))
        .set_or_null("heuristic", cache.heuristic.map(|share| share.to_string()))
        .set("stale_while_revalidate", duration(cache.stale_while_revalidate))
        .set("stale_if_error", duration(cache.stale_if_error))
        .set("obey_client", cache.obey_client)
        .set("targeted", texts(&cache.targeted))
        .set("key", key)
        .set("bypass", bypass)
        .set("drop_set_cookie", cache.drop_set_cookie)
        .set("tags", tags)
        .set("coalesce", duration(cache.coalesce))
        .set("uncacheable_for", duration(cache.uncacheable_for))
        .set("min_uses", cache.min_uses)
        .set("status_field", cache.status_field)
        .end()
}

fn pattern(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(prefix) => format!("{prefix}*"),
    }
}
