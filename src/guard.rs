//! Whether a reload has made things worse: a pool's errors, connections that fail, silence and healthy servers, against
//! those of the generation before; and one of its servers, against what it did before and the others do.

use std::fmt;
use std::time::Duration;

/// How much worse is too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardLimits {
    /// By how much the share of requests that fail may rise (0.02 is two percentage points); of those whose connection
    /// fails likewise.
    pub error_rise: f64,
    /// Fewer requests of a pool say nothing.
    pub min_requests: u64,
    /// How many healthy servers a pool may lose.
    pub servers_lost: usize,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self { error_rise: 0.02, min_requests: 20, servers_lost: 0 }
    }
}

/// A pool before the reload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolBefore {
    /// Of its requests, in the time that is remembered.
    pub error_share: f64,
    pub connect_share: f64,
    /// Of its connections and sessions, those that had nothing from a server; none if there were too few to say. Where
    /// nothing is ever answered (a log's receivers), silence is no sign.
    pub unanswered_share: Option<f64>,
    /// Connections and sessions that had something from a server.
    pub answered_per_second: f64,
    /// Whether anything came from its servers.
    pub answered: bool,
    /// What 99 % of its responses took no longer than to begin.
    pub p99: Option<Duration>,
    /// Whether responses came to their end.
    pub completed: bool,
    /// What 99 % of its requests took no longer than, to their end.
    pub p99_whole: Option<Duration>,
    /// Servers that took requests, being healthy.
    pub up: usize,
    /// How its exchanges came out just before.
    pub record: ServerRecord,
}

/// The same pool since the reload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolAfter {
    pub requests: u64,
    pub errors: u64,
    pub connect_failures: u64,
    pub unanswered: u64,
    /// Whether anything has come from its servers.
    pub answered: bool,
    /// Whether a response has come to its end.
    pub completed: bool,
    /// In flight, beyond what was at the reload: connections that are open and idle are none of the new ones.
    pub waiting: u32,
    /// Clients that have left, or given their calls up, without waiting any longer.
    pub left: u64,
    pub elapsed: Duration,
    /// For how long half as many have waited or left as it takes to say something.
    pub awaited: Duration,
    pub up: usize,
    /// Not decided yet.
    pub probing: usize,
    /// Servers that nobody drains.
    pub wanted: usize,
}

/// How exchanges with a server have come out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerRecord {
    /// It has answered, and they have not failed.
    pub served: u64,
    /// They have failed, or their clients had waited for it when they left.
    pub lost: u64,
}

impl ServerRecord {
    /// The same of several.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { served: self.served + other.served, lost: self.lost + other.lost }
    }

    fn all(self) -> u64 {
        self.served + self.lost
    }

    /// Whether at least half of enough to say were served.
    fn is_fair(self, enough: u64) -> bool {
        self.all() >= enough && self.lost <= self.served
    }

    /// How many more are lost than were to be expected after these.
    fn lost_beyond(self, before: Self) -> f64 {
        let share = before.lost as f64 / before.all().max(1) as f64;
        self.lost as f64 - share * self.all() as f64
    }
}

/// A server since the reload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServerAfter {
    pub record: ServerRecord,
    /// The same as of a while ago: [`patience`].
    pub earlier: ServerRecord,
    /// Requests in flight since then, of a server that has answered none.
    pub unanswered: u64,
    /// The other servers of its pool.
    pub others: ServerRecord,
    /// How all of them did before the reload, where each client keeps to one: those whose requests fail may just have another now.
    pub pool_before: Option<ServerRecord>,
}

/// What has become worse.
#[derive(Clone, Debug, PartialEq)]
pub enum Worse {
    Errors {
        before: f64,
        after: f64,
        requests: u64,
    },
    Connections {
        before: f64,
        after: f64,
        requests: u64,
    },
    Unanswered {
        before: f64,
        after: f64,
        requests: u64,
    },
    Silent {
        waiting: u64,
        elapsed: Duration,
    },
    Stalled {
        waiting: u64,
        elapsed: Duration,
    },
    Servers {
        expected: usize,
        up: usize,
    },
    /// With one server.
    Server {
        own: ServerRecord,
        others: ServerRecord,
    },
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
            Self::Unanswered { before, after, requests } => write!(
                f,
                "{:.1}% of {requests} connections had nothing from a server, before it were {:.1}%",
                percent(after),
                percent(before)
            ),
            Self::Silent { waiting, elapsed } => {
                write!(
                    f,
                    "nothing has come from the servers in {:.1} s, and {waiting} wait or have left",
                    elapsed.as_secs_f64()
                )
            }
            Self::Stalled { waiting, elapsed } => write!(
                f,
                "no response has come to its end in {:.1} s, and {waiting} wait or have left",
                elapsed.as_secs_f64()
            ),
            Self::Servers { expected, up } => {
                write!(f, "healthy servers: {up}, where {expected} should be")
            }
            Self::Server { own, others } => write!(
                f,
                "{} of {} requests failed or were waited for in vain, against {} of {} at the pool's other servers",
                own.lost,
                own.all(),
                others.lost,
                others.all()
            ),
        }
    }
}

/// Servers that have said nothing for less are not silent.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a server of a pool like that is given to answer.
pub fn patience(before: Option<&PoolBefore>) -> Duration {
    let p99 = before.and_then(|before| before.p99).unwrap_or_default();
    (p99 * 2).max(SILENCE)
}

/// Of so many exchanges that are lost one may be served, and the server is no better than one that serves none.
const LOST_FOR_EACH_SERVED: u64 = 20;

/// Whether a server serves next to nothing that it is given, where the others of its pool serve theirs. One that was there
/// before the reload must have served it then (`before`). Clients often leave by themselves: so the others' must not, it takes as many
/// as say something of a pool, and they must not have come all at once, as those of one page do.
pub fn judge_server(
    before: Option<&ServerRecord>,
    after: &ServerAfter,
    limits: &GuardLimits,
) -> Option<Worse> {
    let ServerAfter { record, earlier, unanswered, others, pool_before } = *after;
    let enough = limits.min_requests.max(1);
    let own = ServerRecord { lost: record.lost + unanswered, ..record };
    let recent = record.lost.saturating_sub(earlier.lost);
    let goes_on = (earlier.lost + unanswered) * 2 >= enough && (recent + unanswered) * 2 >= enough;
    let is_worse = own.lost >= enough && own.served * LOST_FOR_EACH_SERVED <= own.lost && goes_on;
    let others_do_better = others.is_fair(enough) && before.is_none_or(|before| before.is_fair(1));
    let is_more = |before| own.and(others).lost_beyond(before) >= enough as f64;
    let is_new = pool_before.is_none_or(is_more);
    (is_worse && others_do_better && is_new).then_some(Worse::Server { own, others })
}

/// What has become worse with a pool. `before` is none for a new one. At the end of the guard's time servers must have
/// passed their probes; until then those that are still probed count as healthy.
pub fn judge(
    before: Option<&PoolBefore>,
    after: &PoolAfter,
    limits: &GuardLimits,
    is_over: bool,
) -> Option<Worse> {
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
        let unanswered = share(after.unanswered);
        // Strangers can add to those that nobody answers, but take nothing from the others.
        let answered = after.requests.saturating_sub(after.unanswered) as f64;
        let fell = answered < known.answered_per_second * after.elapsed.as_secs_f64() / 2.0;
        let is_worse = |before: &f64| fell && unanswered > before + limits.error_rise;
        if let Some(before) = known.unanswered_share.filter(is_worse) {
            return Some(Worse::Unanswered { before, after: unanswered, requests: after.requests });
        }
    }
    // Requests that never end are in no share. Servers may have taken as long before, and who has just come has not waited.
    let waits_in_vain = known.answered && !after.answered && after.awaited >= patience(before);
    let waiting = u64::from(after.waiting) + after.left;
    if waits_in_vain && waiting >= limits.min_requests {
        return Some(Worse::Silent { waiting, elapsed: after.elapsed });
    }
    // Nor are responses that begin and never end.
    let patience = known.p99_whole.unwrap_or_default() * 2;
    let ends_in_vain = known.completed && !after.completed && after.awaited >= patience.max(SILENCE);
    if ends_in_vain && waiting >= limits.min_requests {
        return Some(Worse::Stalled { waiting, elapsed: after.elapsed });
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

    const BEFORE: PoolBefore = PoolBefore {
        error_share: 0.01,
        connect_share: 0.0,
        unanswered_share: Some(0.1),
        answered_per_second: 450.0,
        answered: true,
        p99: Some(Duration::from_secs(1)),
        completed: true,
        p99_whole: Some(Duration::from_secs(2)),
        up: 3,
        record: ServerRecord { served: 980, lost: 20 },
    };
    const WELL: PoolAfter = PoolAfter {
        requests: 1000,
        errors: 10,
        connect_failures: 0,
        unanswered: 100,
        answered: true,
        completed: true,
        waiting: 15,
        left: 5,
        elapsed: Duration::from_secs(2),
        awaited: Duration::from_secs(2),
        up: 3,
        probing: 0,
        wanted: 3,
    };
    const NOTHING: PoolAfter = PoolAfter { requests: 0, errors: 0, unanswered: 0, ..WELL };

    #[track_caller]
    fn check(before: Option<&PoolBefore>, after: PoolAfter, is_over: bool, expected: &str) {
        let worse = judge(before, &after, &GuardLimits::default(), is_over);
        assert_eq!(worse.map_or_else(String::new, |worse| worse.to_string()), expected, "{after:?}");
    }

    #[test]
    fn what_stays_as_it_was_is_not_worse() {
        check(Some(&BEFORE), WELL, true, "");
        check(Some(&BEFORE), PoolAfter { errors: 30, ..WELL }, true, "");
        check(Some(&BEFORE), PoolAfter { requests: 19, errors: 19, ..WELL }, true, "");
        check(Some(&PoolBefore { error_share: 0.5, ..BEFORE }), PoolAfter { errors: 510, ..WELL }, true, "");
    }

    #[test]
    fn more_errors_and_failed_connections_are_worse() {
        let errors = "5.0% of 1000 requests failed, before it were 1.0%";
        check(Some(&BEFORE), PoolAfter { errors: 50, ..WELL }, false, errors);
        let failures = "connections failed for 10.0% of 1000 requests, before it were 0.0%";
        check(Some(&BEFORE), PoolAfter { connect_failures: 100, ..WELL }, false, failures);
    }

    #[test]
    fn connections_that_get_nothing_are_worse_where_they_got_something_before() {
        let unanswered = "60.0% of 1000 connections had nothing from a server, before it were 10.0%";
        let after = PoolAfter { unanswered: 600, ..WELL };
        let strangers = PoolAfter { requests: 3000, unanswered: 2100, ..WELL };
        check(Some(&BEFORE), strangers, false, "");
        check(Some(&BEFORE), after, false, unanswered);
        check(Some(&PoolBefore { unanswered_share: Some(0.99), ..BEFORE }), after, false, "");
        check(Some(&PoolBefore { unanswered_share: None, ..BEFORE }), after, false, "");
        check(None, PoolAfter { errors: 0, ..after }, false, "");
    }

    #[test]
    fn servers_that_say_nothing_any_more_are_worse_once_they_would_have_answered() {
        let silent = PoolAfter { answered: false, ..NOTHING };
        check(
            Some(&BEFORE),
            silent,
            false,
            "nothing has come from the servers in 2.0 s, and 20 wait or have left",
        );
        check(Some(&BEFORE), NOTHING, false, "");
        check(Some(&BEFORE), PoolAfter { awaited: Duration::from_millis(1900), ..silent }, false, "");
        check(Some(&BEFORE), PoolAfter { waiting: 14, ..silent }, false, "");
        check(Some(&PoolBefore { answered: false, ..BEFORE }), silent, false, "");
        check(None, silent, false, "");
        let quick = PoolBefore { p99: None, ..BEFORE };
        check(Some(&quick), PoolAfter { awaited: Duration::from_millis(900), ..silent }, false, "");
        check(
            Some(&quick),
            PoolAfter { awaited: Duration::from_secs(1), ..silent },
            false,
            "nothing has come from the servers in 2.0 s, and 20 wait or have left",
        );
    }

    #[test]
    fn responses_that_do_not_end_any_more_are_worse_once_they_would_have_ended() {
        let four = Duration::from_secs(4);
        let stalled = PoolAfter { completed: false, elapsed: four, awaited: four, ..NOTHING };
        let worse = "no response has come to its end in 4.0 s, and 20 wait or have left";
        check(Some(&BEFORE), stalled, false, worse);
        check(Some(&BEFORE), PoolAfter { awaited: Duration::from_millis(3900), ..stalled }, false, "");
        check(Some(&BEFORE), PoolAfter { waiting: 14, ..stalled }, false, "");
        // Streams that never end did not end before either.
        check(Some(&PoolBefore { completed: false, ..BEFORE }), stalled, false, "");
        check(None, stalled, false, "");
    }

    #[test]
    fn a_server_that_serves_nothing_is_worse_where_the_others_serve() {
        let (none, well) = (ServerRecord::default(), ServerRecord { served: 90, lost: 10 });
        let lost = |lost| ServerRecord { served: 0, lost };
        let record = |served, lost| ServerRecord { served, lost };
        let bad = ServerAfter { record: lost(20), earlier: lost(10), others: well, ..ServerAfter::default() };
        let stuck = ServerAfter { unanswered: 20, others: well, ..ServerAfter::default() };
        for (before, after, is_worse) in [
            (None, bad, true),
            (Some(well), bad, true),
            (None, stuck, true),
            (None, ServerAfter { record: lost(12), earlier: lost(4), unanswered: 8, ..bad }, true),
            (None, ServerAfter { record: record(2, 40), ..bad }, true),
            // One that serves some.
            (None, ServerAfter { record: record(2, 39), ..bad }, false),
            // It did not serve before, or nothing is known of that.
            (Some(record(4, 6)), bad, false),
            (Some(none), bad, false),
            // Clients leave the others, too; or they are not asked.
            (None, ServerAfter { others: record(49, 51), ..bad }, false),
            (None, ServerAfter { others: record(19, 0), ..bad }, false),
            (None, ServerAfter { others: none, ..stuck }, false),
            // The client whose requests fail at all times has another server now.
            (None, ServerAfter { pool_before: Some(record(75, 25)), ..bad }, false),
            (None, ServerAfter { pool_before: Some(record(90, 10)), ..bad }, false),
            (None, ServerAfter { pool_before: Some(record(92, 8)), ..bad }, true),
            (None, ServerAfter { pool_before: Some(none), ..bad }, true),
            // Too few; all at once; and over.
            (None, ServerAfter { record: lost(19), ..bad }, false),
            (None, ServerAfter { unanswered: 19, ..stuck }, false),
            (None, ServerAfter { record: lost(200), earlier: lost(9), ..bad }, false),
            (None, ServerAfter { record: lost(200), earlier: lost(191), ..bad }, false),
        ] {
            let worse = judge_server(before.as_ref(), &after, &GuardLimits::default());
            assert_eq!(worse.is_some(), is_worse, "{before:?} {after:?}: {worse:?}");
        }
        let worse = judge_server(None, &bad, &GuardLimits::default()).map(|worse| worse.to_string());
        let said = "20 of 20 requests failed or were waited for in vain, against 10 of 100 at the pool's other servers";
        assert_eq!(worse.as_deref(), Some(said));
    }

    #[test]
    fn servers_must_stay_healthy_and_new_ones_become_so_in_time() {
        let lost = "healthy servers: 2, where 3 should be";
        check(Some(&BEFORE), PoolAfter { up: 2, ..WELL }, false, lost);
        check(Some(&BEFORE), PoolAfter { up: 2, probing: 1, ..WELL }, false, "");
        check(Some(&BEFORE), PoolAfter { up: 2, probing: 1, ..WELL }, true, lost);
        check(Some(&BEFORE), PoolAfter { up: 2, wanted: 2, ..WELL }, true, "");
        check(Some(&PoolBefore { up: 1, ..BEFORE }), PoolAfter { up: 1, ..WELL }, true, "");
    }

    #[test]
    fn of_a_new_pool_one_server_must_work() {
        check(None, PoolAfter { up: 1, ..NOTHING }, true, "");
        check(None, PoolAfter { up: 0, probing: 3, ..NOTHING }, false, "");
        check(
            None,
            PoolAfter { up: 0, probing: 3, ..NOTHING },
            true,
            "healthy servers: 0, where 1 should be",
        );
    }
}
