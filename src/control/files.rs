//! What the open-file limit is spent on: clients, servers, and a reserve for everything else, so that none of them can take
//! what another cannot do without. Pure.

use crate::config::plan::{PROBES_AT_ONCE, Plan};

/// For listeners, logs, the admin endpoint and what has just been accepted.
const OURS: u64 = 256;
/// The reserve is no less than this where there is room.
const RESERVE: u64 = 512;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileBudget {
    /// With clients.
    pub(crate) connections: u32,
    /// With servers. One for each of clients at least; more for those whose clients ask for several things at once.
    pub(crate) server_connections: u32,
}

impl FileBudget {
    pub(crate) fn of(plan: &Plan, files: u64) -> Self {
        let left = files.saturating_sub(reserve(plan).min(files / 2));
        let connections = u64::from(plan.process.max_connections).min(left / 2).max(1);
        let number = |files: u64| u32::try_from(files.max(1)).unwrap_or(u32::MAX);
        Self {
            connections: number(connections),
            server_connections: number(left.saturating_sub(connections)),
        }
    }

    /// Files that `max_connections` needs.
    pub(crate) fn needed(plan: &Plan) -> u64 {
        u64::from(plan.process.max_connections) * 2 + reserve(plan)
    }
}

/// Probes take no file from anybody.
fn reserve(plan: &Plan) -> u64 {
    let probed = plan.pools.iter().filter(|pool| pool.health.is_some());
    let probes: usize = probed.map(|pool| pool.servers.len().min(PROBES_AT_ONCE)).sum();
    (OURS + probes as u64).max(RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connections: u32, servers: usize) -> Plan {
        let servers = (0..servers).map(|n| format!("10.0.{}.{}:80", n / 250, n % 250)).collect::<Vec<_>>();
        let text = format!(
            "process: {{ max_connections: {connections} }}\n\
             listeners: {{ web: {{ address: 127.0.0.1:80, pool: app }} }}\n\
             pools: {{ app: {{ servers: [{}], health: {{ tcp: {{}} }} }} }}",
            servers.join(", ")
        );
        crate::config::parse(&text).expect("a good configuration").0
    }

    #[test]
    fn files_are_shared_out_and_a_reserve_stays() {
        for (connections, servers, files, expected) in [
            (200, 2, 1024, (200, 312)),
            (20_000, 2, 1024, (256, 256)),
            (20_000, 2, 1 << 20, (20_000, (1 << 20) - 20_512)),
            (200, 250, 1024, (200, 312)),
            (200, 300, 4096, (200, 4096 - 200 - 512)),
            (100, 1, 64, (16, 16)),
            (100, 1, 0, (1, 1)),
        ] {
            let FileBudget { connections, server_connections } =
                FileBudget::of(&plan(connections, servers), files);
            assert_eq!((connections, server_connections), expected, "{files} files");
        }
    }
}
