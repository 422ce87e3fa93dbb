//! What a reload did, as whoever asked for it, the log and the ledger are told.

use super::Control;
use super::reading::ReloadRefused;
use super::ready::AppliedReload;
use crate::api::{ChangeCounts, HealthKept, Receipt, ReloadOutcome};
use crate::config::plan::Name;
use crate::pool::Server;
use crate::snapshot::Changes;
use std::sync::Arc;
use time::OffsetDateTime;
use tracing::info;

impl Control {
    pub(super) fn receipt(&self, actor: &str, taken: Result<AppliedReload, ReloadRefused>) -> Receipt {
        let generation = self.live.snapshot().generation;
        let receipt = |outcome| Receipt {
            configuration: self.source.name(),
            ..Receipt::new(outcome, generation, OffsetDateTime::now_utc(), actor)
        };
        match taken {
            Ok(AppliedReload { delta, warnings, settings, ended }) => {
                let names = |names: &Vec<Name>| names.iter().map(ToString::to_string).collect();
                let servers =
                    |servers: &Vec<Arc<Server>>| servers.iter().map(|server| full_name(server)).collect();
                let unsettled = delta.recounted().len() + delta.unprobed().len();
                Receipt {
                    listeners: counted(&delta.listeners, names),
                    routes: counted(&delta.routes, names),
                    pools: counted(&delta.pools, names),
                    servers: counted(&delta.servers, servers),
                    health: HealthKept {
                        kept: (delta.servers.kept.len() + delta.servers.changed.len())
                            .saturating_sub(unsettled),
                        counts_reset: delta.recounted().iter().map(|server| full_name(server)).collect(),
                        assumed_up: delta.unprobed().iter().map(|server| full_name(server)).collect(),
                    },
                    operator_states_ended: ended,
                    settings,
                    warnings,
                    ..receipt(ReloadOutcome::InForce)
                }
            }
            Err(refused) => {
                let problems = refused.to_string().lines().map(str::to_owned).collect();
                let warnings = match refused {
                    ReloadRefused::Problems { warnings, .. } => warnings,
                    _ => Vec::new(),
                };
                Receipt { problems, warnings, ..receipt(ReloadOutcome::Refused) }
            }
        }
    }
}

/// How events and receipts call a server.
fn full_name(server: &Server) -> String {
    format!("{}/{}", server.pool(), server.name())
}

fn counted<T>(changes: &Changes<T>, names: impl Fn(&Vec<T>) -> Vec<String>) -> ChangeCounts {
    ChangeCounts {
        added: names(&changes.added),
        removed: names(&changes.removed),
        changed: names(&changes.changed),
        kept: changes.kept.len(),
    }
}

pub(super) fn log_taken(receipt: &Receipt) {
    info!(
        generation = receipt.generation,
        listeners = receipt.listeners.in_short(),
        routes = receipt.routes.in_short(),
        pools = receipt.pools.in_short(),
        servers = receipt.servers.in_short(),
        settings = receipt.settings.len(),
        health_kept = receipt.health.kept,
        counts_reset = receipt.health.counts_reset.len(),
        fingerprint = receipt.fingerprint.as_deref().unwrap_or_default().get(..12).unwrap_or_default(),
        took_ms = receipt.took_ms,
        "reloaded (+added -removed ~changed =kept)"
    );
}

/// A receipt in one line.
pub(super) fn cause(receipt: &Receipt) -> String {
    match receipt.outcome {
        ReloadOutcome::InForce => {
            let all = [
                ("listeners", &receipt.listeners),
                ("routes", &receipt.routes),
                ("pools", &receipt.pools),
                ("servers", &receipt.servers),
            ];
            let settings = match receipt.settings.as_slice() {
                [] => None,
                settings => Some(settings.join(", ")),
            };
            let changed = all.iter().filter(|(_, counted)| !counted.is_none());
            let told: Vec<_> = changed
                .map(|(what, counted)| format!("{what}: {}", counted.in_words()))
                .chain(settings)
                .collect();
            match told.is_empty() {
                true => "in force, with the same listeners, routes, pools and servers".to_owned(),
                false => format!("in force; {}", told.join("; ")),
            }
        }
        ReloadOutcome::Refused => format!("refused: {}", receipt.problems.join("; ")),
        ReloadOutcome::RolledBack => format!("rolled back: {}", receipt.problems.join("; ")),
    }
}
