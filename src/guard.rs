//! Whether a reload has made things worse: a pool's errors, connections that fail and healthy servers, against those of
//! the generation before.

use std::fmt;

/// How much worse is too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// By how much the share of requests that fail may rise (0.02 is two percentage points); of those whose connection
    /// fails likewise.
    pub error_rise: f64,
    /// Fewer requests of a pool say nothing.
    pub min_requests: u64,
    /// How many healthy servers a pool may lose.
    pub servers_lost: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { error_rise: 0.02, min_requests: 20, servers_lost: 0 }
    }
}

/// A pool before the reload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Before {
    /// Of its requests, in the time that is remembered.
    pub error_share: f64,
    pub connect_share: f64,
    /// Servers that took requests, being healthy.
    pub up: usize,
}

/// The same pool since the reload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct After {
    pub requests: u64,
    pub errors: u64,
    pub connect_failures: u64,
    pub up: usize,
    /// Not decided yet.
    pub probing: usize,
    /// Servers that nobody drains.
    pub wanted: usize,
}

/// What has become worse.
#[derive(Clone, Debug, PartialEq)]
pub enum Worse {
    Errors { before: f64, after: f64, requests: u64 },
    Connections { before: f64, after: f64, requests: u64 },
    Servers { expected: usize, up: usize },
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: &f64| share * 100.0;
        match self {
            Self::Errors { before, after, requests } => write!(
                f,
                "{:.1}% of {requests} requests failed, before it were {:.1}%",
                percent(after),
                percent(before)
            ),
            Self::Connections { before, after, requests } => write!(
                f,
                "connections failed for {:.1}% of {requests} requests, before it were {:.1}%",
                percent(after),
                percent(before)
            ),
            Self::Servers { expected, up } => {
                write!(f, "healthy servers: {up}, where {expected} should be")
            }
        }
    }
}

/// What has become worse with a pool. `before` is none for a new one. At the end of the guard's time servers must have
/// passed their probes; until then those that are still probed count as healthy.
pub fn judge(before: Option<&Before>, after: &After, limits: &Limits, is_over: bool) -> Option<Worse> {
    let known = before.copied().unwrap_or_default();
    let share = |count: u64| count as f64 / after.requests.max(1) as f64;
    if after.requests >= limits.min_requests {
        let (errors, failures) = (share(after.errors), share(after.connect_failures));
        if errors > known.error_share + limits.error_rise {
            return Some(Worse::Errors {
                before: known.error_share,
                after: errors,
                requests: after.requests,
            });
        }
        if failures > known.connect_share + limits.error_rise {
            return Some(Worse::Connections {
                before: known.connect_share,
                after: failures,
                requests: after.requests,
            });
        }
    }
    // What the new configuration has not, it cannot lose; of a new pool one server must work.
    let expected = match before {
        Some(before) => before.up.min(after.wanted).saturating_sub(limits.servers_lost),
        None => after.wanted.min(1),
    };
    let up = if is_over { after.up } else { after.up + after.probing };
    (up < expected).then_some(Worse::Servers { expected, up: after.up })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Before = Before { error_share: 0.01, connect_share: 0.0, up: 3 };
    const WELL: After =
        After { requests: 1000, errors: 10, connect_failures: 0, up: 3, probing: 0, wanted: 3 };

    #[track_caller]
    fn check(before: Option<&Before>, after: After, is_over: bool, expected: &str) {
        let worse = judge(before, &after, &Limits::default(), is_over);
        assert_eq!(worse.map_or_else(String::new, |worse| worse.to_string()), expected, "{after:?}");
    }

    #[test]
    fn what_stays_as_it_was_is_not_worse() {
        check(Some(&BEFORE), WELL, true, "");
        check(Some(&BEFORE), After { errors: 30, ..WELL }, true, "");
        check(Some(&BEFORE), After { requests: 19, errors: 19, ..WELL }, true, "");
        check(Some(&Before { error_share: 0.5, ..BEFORE }), After { errors: 510, ..WELL }, true, "");
    }

    #[test]
    fn more_errors_and_failed_connections_are_worse() {
        let errors = "5.0% of 1000 requests failed, before it were 1.0%";
        check(Some(&BEFORE), After { errors: 50, ..WELL }, false, errors);
        let failures = "connections failed for 10.0% of 1000 requests, before it were 0.0%";
        check(Some(&BEFORE), After { connect_failures: 100, ..WELL }, false, failures);
    }

    #[test]
    fn servers_must_stay_healthy_and_new_ones_become_so_in_time() {
        let lost = "healthy servers: 2, where 3 should be";
        check(Some(&BEFORE), After { up: 2, ..WELL }, false, lost);
        check(Some(&BEFORE), After { up: 2, probing: 1, ..WELL }, false, "");
        check(Some(&BEFORE), After { up: 2, probing: 1, ..WELL }, true, lost);
        check(Some(&BEFORE), After { up: 2, wanted: 2, ..WELL }, true, "");
        check(Some(&Before { up: 1, ..BEFORE }), After { up: 1, ..WELL }, true, "");
    }

    #[test]
    fn of_a_new_pool_one_server_must_work() {
        check(None, After { requests: 0, errors: 0, up: 1, ..WELL }, true, "");
        check(None, After { requests: 0, errors: 0, up: 0, probing: 3, ..WELL }, false, "");
        check(
            None,
            After { requests: 0, errors: 0, up: 0, probing: 3, ..WELL },
            true,
            "healthy servers: 0, where 1 should be",
        );
    }
}
