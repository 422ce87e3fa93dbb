//! The page Prometheus reads: the snapshot's servers and pools as they are now, and what was counted.

use super::family::Family;
use super::listener::ListenerReading;
use super::{Metrics, RequestLabels, lock};
use crate::access_log::{Action, Why};
use crate::api::cache::PurgeNodeStatus;
use crate::config::plan::Balance;
use crate::disk::DiskUse;
use crate::limit::Limiter;
use crate::pool::stats::RetryReason;
use crate::pool::{HealthState, Member, Membership, Operator, Pool, QueueResult, Server, StickyResult};
use crate::snapshot::Snapshot;
use crate::store::StoreUse;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Connections to servers, over all pools.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerConnections {
    pub open: u32,
    /// What there are files for.
    pub limit: u32,
    /// How often one was waited for.
    pub waits: u64,
}

/// What is needed to write the page.
#[derive(Debug)]
pub struct MetricsPage<'a> {
    pub metrics: &'a Metrics,
    pub snapshot: &'a Snapshot,
    pub limiter: Option<&'a Limiter>,
    /// What is in the cache, if there is one.
    pub store: Option<StoreUse>,
    /// What is on its disk.
    pub disk: Option<DiskUse>,
    /// Other nodes that are told what is purged of it.
    pub purge_nodes: Vec<PurgeNodeStatus>,
    pub listeners: &'a [ListenerReading],
    pub access_log_dropped: u64,
    pub server_connections: ServerConnections,
    /// Lines of the process's own log that were lost.
    pub log_dropped: u64,
    /// Events of the ledger by kind.
    pub events: &'a [(&'static str, u64)],
    /// Events that the ledger's file has not got.
    pub events_lost: u64,
}

impl MetricsPage<'_> {
    /// The page in Prometheus's text format.
    ///
    /// # Errors
    /// The encoder's; none is known to be possible with the metrics written here.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut families = Vec::new();
        families.extend(self.requests());
        families.extend(self.connections());
        families.extend(super::udp::families(self.metrics));
        families.extend(super::listener::families(self.listeners));
        families.extend(self.metrics.acme.families());
        families.extend(self.metrics.discovery.families());
        families.extend(self.metrics.limits.families(self.limiter));
        families.extend(super::maintenance::families(self.snapshot));
        families.extend(self.metrics.compression.families());
        families.extend(super::cache::families(self.metrics, self.store, self.disk, &self.purge_nodes));
        families.extend(super::networks::families(&self.snapshot.plan.networks));
        families.extend(super::geo::families(&self.snapshot.plan.geo));
        families.extend(self.pools());
        families.extend(self.servers());
        families.extend(self.successes());
        families.extend(super::outlier::families(self.snapshot));
        families.extend(self.server_connections());
        families.extend(super::admin::families(self.metrics, self.events, self.events_lost));
        families.extend(self.process());
        let mut page = Vec::new();
        TextEncoder::new().encode(&families, &mut page)?;
        Ok(page)
    }

    fn requests(&self) -> Vec<MetricFamily> {
        let mut requests = Family::counter(
            "evenkeel_http_requests_total",
            "HTTP requests answered, by class of status; labels without a value were not decided yet.",
        );
        let mut failed = Family::counter(
            "evenkeel_http_requests_failed_total",
            "HTTP requests that failed by the server's fault, for want of one, or by ours, gRPC calls included.",
        );
        let mut failures = Family::counter(
            "evenkeel_http_failures_total",
            "Requests that did not end in a complete response of a server, by the access log's `why`.",
        );
        let (mut actions, mut dropped) = (BTreeMap::new(), BTreeMap::new());
        let (mut faults, mut paced) = (BTreeMap::new(), BTreeMap::new());
        for (labels, series) in lock(&self.metrics.requests).iter() {
            let of_route = labels.route.as_deref().unwrap_or("").to_owned();
            for (action, count) in Action::ALL.into_iter().zip(&series.actions) {
                *actions.entry((of_route.clone(), action.label())).or_insert(0) += count.load(Relaxed);
            }
            *faults.entry(of_route.clone()).or_insert(0) += series.faults.load(Relaxed);
            *paced.entry(of_route.clone()).or_insert(0) += series.paced.load(Relaxed);
            *dropped.entry(of_route).or_insert(0) += series.dropped_fields.load(Relaxed);
            let RequestLabels { listener, route, pool, server } = labels;
            let [route, pool] = [route, pool].map(|name| name.as_deref().unwrap_or(""));
            let server = server.as_ref().map_or("", |(_, name)| name);
            let place = [("listener", &**listener), ("route", route), ("pool", pool), ("server", server)];
            let add = |family: &mut Family, more: Option<(&'static str, &'static str)>, count: &AtomicU64| {
                let count = count.load(Relaxed);
                if count > 0 {
                    let labels: Vec<_> = place.into_iter().chain(more).collect();
                    family.add(&labels, count as f64);
                }
            };
            for (code, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&series.classes) {
                add(&mut requests, Some(("code", code)), count);
            }
            add(&mut failed, None, &series.failed);
            for (why, count) in Why::ALL.into_iter().zip(&series.ended) {
                add(&mut failures, Some(("why", why.as_str())), count);
            }
        }
        let mut generated = Family::counter(
            "evenkeel_responses_generated_total",
            "Responses that a rule's policy made instead of a server, by what it did.",
        );
        for ((route, kind), count) in actions.iter().filter(|(_, count)| **count > 0) {
            generated.add(&[("route", route), ("kind", kind)], *count as f64);
        }
        let mut fields = Family::counter(
            "evenkeel_fields_dropped_total",
            "Fields that a policy has and that were left out, since no field may have such a value.",
        );
        for (route, count) in dropped.iter().filter(|(_, count)| **count > 0) {
            fields.add(&[("route", route)], *count as f64);
        }
        let mut made = Family::counter(
            "evenkeel_faults_total",
            "Requests that were delayed or failed on purpose, as a policy's `fault` has it.",
        );
        for (route, count) in faults.iter().filter(|(_, count)| **count > 0) {
            made.add(&[("route", route)], *count as f64);
        }
        let mut held = Family::counter(
            "evenkeel_bandwidth_paced_total",
            "Responses that were held back, as a policy's `bandwidth` has it.",
        );
        for (route, count) in paced.iter().filter(|(_, count)| **count > 0) {
            held.add(&[("route", route)], *count as f64);
        }
        [requests, failed, failures, generated, fields, made, held]
            .into_iter()
            .filter_map(Family::finish)
            .collect()
    }

    fn connections(&self) -> Vec<MetricFamily> {
        let mut connections = Family::counter(
            "evenkeel_tcp_connections_total",
            "Connections passed on as they are that have ended, by the access log's `why`.",
        );
        let mut bytes = Family::counter(
            "evenkeel_tcp_bytes_total",
            "Bytes of connections passed on as they are: `in` from clients, `out` from servers.",
        );
        for (labels, series) in lock(&self.metrics.connections).iter() {
            let RequestLabels { listener, route, pool, server } = labels;
            let [route, pool] = [route, pool].map(|name| name.as_deref().unwrap_or(""));
            let server = server.as_ref().map_or("", |(_, name)| name);
            let [listener, route, pool, server] =
                [("listener", &**listener), ("route", route), ("pool", pool), ("server", server)];
            for why in Why::ALL {
                let count = series.ended[why as usize].load(Relaxed);
                if count > 0 {
                    connections.add(&[listener, route, pool, server, ("why", why.as_str())], count as f64);
                }
            }
            for (direction, count) in [("in", &series.received), ("out", &series.sent)] {
                let count = count.load(Relaxed);
                if count > 0 {
                    bytes.add(&[listener, route, pool, server, ("direction", direction)], count as f64);
                }
            }
        }
        [connections, bytes].into_iter().filter_map(Family::finish).collect()
    }

    fn pools(&self) -> Vec<MetricFamily> {
        let mut duration = Family::histogram(
            "evenkeel_http_request_duration_seconds",
            "From a request's head to the end of its response.",
        );
        let mut first_byte = Family::histogram(
            "evenkeel_http_time_to_first_byte_seconds",
            "From a request's head to the head of its response.",
        );
        let mut probe_duration = Family::histogram(
            "evenkeel_probe_duration_seconds",
            "How long probes took, whatever their result.",
        );
        let mut probe_wait = Family::histogram(
            "evenkeel_probe_wait_seconds",
            "How long probes that were due waited because so many of their pool were under way.",
        );
        let mut servers = Family::gauge("evenkeel_pool_servers", "Servers of a pool by state.");
        let mut fail_open = Family::gauge(
            "evenkeel_pool_fail_open",
            "1 while a pool sends to unhealthy servers because no healthy one is left.",
        );
        let mut grpc =
            Family::counter("evenkeel_grpc_requests_total", "gRPC calls by the status they ended with.");
        let mut retries = Family::counter("evenkeel_retries_total", "Requests tried again, by reason.");
        let mut queue_length = Family::gauge(
            "evenkeel_pool_queue_length",
            "Requests and connections that wait because every usable server is full.",
        );
        let mut queue_wait = Family::histogram(
            "evenkeel_pool_queue_wait_seconds",
            "How long those waited that did, however it ended.",
        );
        let mut queue_total = Family::counter(
            "evenkeel_pool_queue_total",
            "How waiting has ended: served, full (it never began), shed, timeout, left or no_server.",
        );
        let mut fallbacks = Family::counter(
            "evenkeel_pool_fallback_total",
            "Requests, connections and sessions that another pool served, as this one had nothing usable.",
        );
        let mut sticky = Family::counter(
            "evenkeel_sticky_total",
            "Requests of sticky pools by what became of their client's bond: new, kept, waited, moved or none.",
        );
        for pool in self.snapshot.pools() {
            let name = &*pool.name;
            let labels = [("pool", name)];
            duration.add_histogram(&labels, &pool.stats.request_duration);
            first_byte.add_histogram(&labels, &pool.stats.time_to_first_byte);
            fail_open.add(&labels, f64::from(u8::from(pool.failing_open())));
            let counts = pool.counts();
            for (state, count) in [
                ("up", counts.up),
                ("down", counts.down),
                ("probing", counts.probing),
                ("ejected", counts.ejected),
                ("drain", counts.drain),
                ("maint", counts.maint),
            ] {
                servers.add(&[("pool", name), ("state", state)], count as f64);
            }
            for (status, count) in pool.stats.grpc() {
                grpc.add(&[("pool", name), ("status", status)], count as f64);
            }
            let stats = pool.queue.stats();
            let limited = pool.members.iter().any(|member| member.max_connections.is_some());
            // Without a limit nobody waits.
            if limited && pool.plan.queue.is_some() || stats.wait.read().count > 0 {
                queue_length.add(&labels, pool.queue.waiting() as f64);
                queue_wait.add_histogram(&labels, &stats.wait);
            }
            for result in QueueResult::ALL {
                let count = stats.of(result);
                if count > 0 {
                    queue_total.add(&[("pool", name), ("result", result.label())], count as f64);
                }
            }
            for result in StickyResult::ALL {
                let count = pool.stats.sticky(result);
                if pool.plan.sticky.is_some() || count > 0 {
                    sticky.add(&[("pool", name), ("result", result.label())], count as f64);
                }
            }
            if let Some(fallback) = &pool.plan.fallback {
                let labels = [("pool", name), ("fallback", &**fallback)];
                fallbacks.add(&labels, pool.stats.fallbacks() as f64);
            }
            for reason in RetryReason::ALL {
                let count = pool.stats.retries(reason);
                if count > 0 {
                    retries.add(&[("pool", name), ("reason", reason.label())], count as f64);
                }
            }
        }
        for (pool, durations) in lock(&self.metrics.probe_durations).iter() {
            probe_duration.add_histogram(&[("pool", pool)], durations);
        }
        for (pool, waits) in lock(&self.metrics.probe_waits).iter() {
            probe_wait.add_histogram(&[("pool", pool)], waits);
        }
        let of_queues = [queue_length, queue_wait, queue_total, sticky, fallbacks];
        [duration, first_byte, probe_duration, probe_wait, servers, fail_open, grpc, retries]
            .into_iter()
            .chain(of_queues)
            .filter_map(Family::finish)
            .collect()
    }

    fn servers(&self) -> Vec<MetricFamily> {
        let mut in_flight =
            Family::gauge("evenkeel_server_in_flight", "Requests and tunnels a server has open.");
        let mut up = Family::gauge("evenkeel_server_up", "1 while the server's health is up.");
        let mut state = Family::gauge(
            "evenkeel_server_state",
            "1 for the state a server is in: up, down, probing, ejected, drain, maint or leaving.",
        );
        let mut weight = Family::gauge("evenkeel_server_weight", "The server's weight.");
        let mut limit = Family::gauge(
            "evenkeel_server_limit",
            "What the server may have open at once: its max_connections.",
        );
        let mut probes = Family::counter("evenkeel_probes_total", "Probes by result.");
        let mut transitions =
            Family::counter("evenkeel_health_transitions_total", "Changes of a server's health.");
        let mut certificate = Family::gauge(
            "evenkeel_tls_certificate_expiry_timestamp_seconds",
            "Until when the certificate holds that a server has shown to a tls probe.",
        );
        let series = lock(&self.metrics.servers);
        let mut write = |server: &Server, drained: bool, member: Option<&Member>| {
            let labels = [("pool", &**server.pool()), ("server", &**server.name())];
            let now = server.state();
            in_flight.add(&labels, f64::from(server.in_flight()));
            up.add(&labels, f64::from(u8::from(now.health == HealthState::Up)));
            let name = state_name(server, drained);
            state.add(&[labels[0], labels[1], ("state", name)], 1.0);
            if let Some(member) = member {
                weight.add(&labels, f64::from(member.weight.get()));
                if let Some(most) = member.max_connections {
                    limit.add(&labels, f64::from(most.get()));
                }
            }
            let Some(series) = series.get(&server.id()) else { return };
            for (result, count) in lock(&series.probes).iter() {
                probes.add(&[labels[0], labels[1], ("result", result)], *count as f64);
            }
            let expires = series.certificate_expires.load(Relaxed);
            if expires != 0 {
                certificate.add(&labels, expires as f64);
            }
            for (to, count) in [("up", &series.up), ("down", &series.down)] {
                let count = count.load(Relaxed);
                if count > 0 {
                    transitions.add(&[labels[0], labels[1], ("to", to)], count as f64);
                }
            }
        };
        for pool in self.snapshot.pools() {
            for member in &pool.members {
                write(&member.server, member.drain, Some(member));
            }
        }
        for server in self.snapshot.retiring() {
            // One of the same name may be there again, at another address.
            let replaced = self
                .snapshot
                .pool(server.pool())
                .is_some_and(|pool| pool.members.iter().any(|member| member.server.name() == server.name()));
            if server.in_flight() > 0 && !replaced {
                write(server, false, None);
            }
        }
        drop(series);
        [in_flight, up, state, weight, limit, probes, transitions, certificate]
            .into_iter()
            .filter_map(Family::finish)
            .collect()
    }

    /// Of pools that balance by success, what the last look has come to.
    fn successes(&self) -> Vec<MetricFamily> {
        let mut ratio = Family::gauge(
            "evenkeel_server_success_ratio",
            "Between which bounds the share of a server's successes lies, of pools that balance by it.",
        );
        let mut share = Family::gauge(
            "evenkeel_server_share",
            "The share of its pool's picks that a server has by that.",
        );
        let by_success = |pool: &&Arc<Pool>| matches!(pool.plan.balance, Balance::SuccessRate(_));
        for pool in self.snapshot.pools().iter().filter(by_success) {
            for member in &pool.members {
                let labels = [("pool", &*pool.name), ("server", &**member.server.name())];
                let standing = member.server.success().standing();
                for (bound, value) in [("lower", standing.low), ("upper", standing.high)] {
                    ratio.add(&[labels[0], labels[1], ("bound", bound)], f64::from(value));
                }
                share.add(&labels, f64::from(standing.share));
            }
        }
        [ratio, share].into_iter().filter_map(Family::finish).collect()
    }

    fn server_connections(&self) -> Vec<MetricFamily> {
        let ServerConnections { open, limit, waits } = self.server_connections;
        let mut is_open = Family::gauge(
            "evenkeel_server_connections",
            "Connections to servers that are open or being opened, idle ones included.",
        );
        is_open.add(&[], f64::from(open));
        let mut most = Family::gauge(
            "evenkeel_server_connections_limit",
            "As many connections to servers as the open-file limit has room for.",
        );
        most.add(&[], f64::from(limit));
        let mut waited = Family::counter(
            "evenkeel_server_connection_waits_total",
            "How often a request or connection waited for a place among the connections to servers.",
        );
        waited.add(&[], waits as f64);
        [is_open, most, waited].into_iter().filter_map(Family::finish).collect()
    }

    fn process(&self) -> Vec<MetricFamily> {
        let mut generation =
            Family::gauge("evenkeel_config_generation", "The number of the configuration in force.");
        generation.add(&[], self.snapshot.generation as f64);
        let reloads = &self.metrics.reloads;
        let mut successful = Family::gauge(
            "evenkeel_config_last_reload_successful",
            "1 if the last reload was taken over, 0 if its file was refused.",
        );
        successful.add(&[], f64::from(u8::from(reloads.last.load(Relaxed) != 1)));
        let mut timestamp = Family::gauge(
            "evenkeel_config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken over.",
        );
        timestamp.add(&[], reloads.last_success.load(Relaxed) as f64);
        let mut total = Family::counter("evenkeel_config_reloads_total", "Reloads by result.");
        total.add(&[("result", "success")], reloads.succeeded.load(Relaxed) as f64);
        total.add(&[("result", "refused")], reloads.refused.load(Relaxed) as f64);
        total.add(&[("result", "rolled_back")], reloads.rolled_back.load(Relaxed) as f64);
        total.add(&[("result", "rollback_failed")], reloads.rollback_failed.load(Relaxed) as f64);
        let mut dropped = Family::counter(
            "evenkeel_access_log_dropped_total",
            "Access log records lost because the output could not keep up.",
        );
        dropped.add(&[], self.access_log_dropped as f64);
        let mut log_dropped = Family::counter(
            "evenkeel_log_dropped_total",
            "Lines of the process's own log that were lost because nobody read standard error.",
        );
        log_dropped.add(&[], self.log_dropped as f64);
        let mut panics = Family::counter("evenkeel_panics_total", "Faults of our own that ended one task.");
        panics.add(&[], self.metrics.panics.load(Relaxed) as f64);
        let mut upgrades = Family::counter(
            "evenkeel_upgrade_failures_total",
            "Upgrades after which this process went on because the new one did not become ready.",
        );
        upgrades.add(&[], self.metrics.failed_upgrades.load(Relaxed) as f64);
        let mut build = Family::gauge("evenkeel_build_info", "1; the label says which version runs.");
        build.add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let mut families: Vec<_> =
            [generation, successful, timestamp, total, dropped, log_dropped, panics, upgrades, build]
                .into_iter()
                .filter_map(Family::finish)
                .collect();
        families.extend(ProcessCollector::for_self().collect());
        families
    }
}

/// The one word for a server's state: what keeps it from requests first.
fn state_name(server: &Server, drained: bool) -> &'static str {
    let state = server.state();
    match (state.membership, state.admin, state.health) {
        (Membership::Leaving, ..) => "leaving",
        (_, Operator::Maint, _) => "maint",
        (_, Operator::Drain, _) => "drain",
        _ if drained => "drain",
        (.., HealthState::Down) => "down",
        (.., HealthState::Probing) => "probing",
        (.., HealthState::Up) if server.is_ejected() => "ejected",
        (.., HealthState::Up) => "up",
    }
}
