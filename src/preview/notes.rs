//! What a pool's new settings mean for those who wait, who come back and who are ejected, and for what was learned of servers.

use crate::config::plan::{Balance, SuccessRatePlan};
use crate::pool::outlier::{ceiling, told_allowance};
use crate::pool::success_watch::FEWEST;
use crate::pool::{Member, Pool};
use crate::text::span;
use std::cmp::Ordering;

pub(super) fn of(old: Option<&Pool>, new: &Pool) -> Vec<String> {
    [
        of_queue(old, new),
        of_limits(old, new),
        of_ramps(old, new),
        of_newcomers(old, new),
        of_learned(old, new),
        of_max_life(old, new),
        of_bound(old, new),
        of_ejected(old, new),
        of_durations(old, new),
        of_ceiling(old, new),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn of_queue(old: Option<&Pool>, new: &Pool) -> Option<String> {
    match (&old?.plan.queue, &new.plan.queue) {
        (Some(_), None) => {
            Some("nobody waits any more: who finds every server full is answered with 503 at once".to_owned())
        }
        (None, Some(queue)) => Some(format!(
            "who finds every server full waits, up to {}, rather than being answered with 503 at once",
            span(queue.timeout)
        )),
        (Some(before), Some(after)) if after.timeout != before.timeout => Some(format!(
            "who comes from now on waits up to {}; who waits already, up to {} as before",
            span(after.timeout),
            span(before.timeout)
        )),
        _ => None,
    }
}

fn of_limits(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let old = old?;
    let had_none = |member: &&Member| {
        let is_same = |before: &&Member| before.server.id() == member.server.id();
        old.members.iter().find(is_same).is_some_and(|before| before.max_connections.is_none())
    };
    let limited: Vec<_> =
        new.members.iter().filter(|member| member.max_connections.is_some()).filter(had_none).collect();
    let mut limits: Vec<_> =
        limited.iter().filter_map(|member| member.max_connections).map(|limit| limit.to_string()).collect();
    limits.dedup();
    let beyond = match &new.plan.queue {
        Some(queue) => format!("waits, up to {}", span(queue.timeout)),
        None => "is answered with 503".to_owned(),
    };
    (!limited.is_empty()).then(|| {
        format!(
            "{} had no limit and take {} at once from now on; who finds every server full {beyond}",
            names(&limited),
            limits.join(", ")
        )
    })
}

fn of_ramps(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let had_one = old?.plan.slow_start.is_some();
    let told =
        "servers that come back get their full share at once, and so do those that are coming back now";
    (had_one && new.plan.slow_start.is_none()).then(|| told.to_owned())
}

fn names(members: &[&Member]) -> String {
    let names: Vec<_> = members.iter().map(|member| member.server.name().to_string()).collect();
    names.join(", ")
}

/// Those who join a pool that serves come in slowly; those of a new one do not (`Delta::settle`).
fn of_newcomers(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let old = old.filter(|old| !old.members.is_empty())?;
    let slow_start = new.plan.slow_start.as_ref()?;
    let is_new = |member: &&Member| {
        !member.drain && old.members.iter().all(|before| before.server.id() != member.server.id())
    };
    let joined: Vec<_> = new.members.iter().filter(is_new).collect();
    (!joined.is_empty()).then(|| {
        format!(
            "slow_start: {} take {}% of their share once they are up, and all of it {} later",
            names(&joined),
            slow_start.from.0,
            span(slow_start.over)
        )
    })
}

/// What algorithms know of servers.
fn of_learned(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let old = old?;
    match (&old.plan.balance, &new.plan.balance) {
        (Balance::SuccessRate(before), Balance::SuccessRate(after)) => of_window(before, after),
        (Balance::SuccessRate(_), _) => {
            let is_worse = |member: &&Member| member.server.success().is_worse();
            let worse: Vec<_> = new.members.iter().filter(is_worse).collect();
            let told = "how often servers succeed has no say any more, and is forgotten";
            Some(match worse.is_empty() {
                true => told.to_owned(),
                false => {
                    format!("{told}: those that were worse ({}) serve like the others at once", names(&worse))
                }
            })
        }
        (_, Balance::SuccessRate(after)) => Some(format!(
            "how often servers succeed is counted from now on; none is worse than another before {} outcomes say so",
            after.window.get().min(FEWEST)
        )),
        (before, Balance::PeakEwma) if *before != Balance::PeakEwma => {
            Some("how long servers take is learned from now on".to_owned())
        }
        (Balance::PeakEwma, after) if *after != Balance::PeakEwma => {
            Some("how long servers take has no say any more".to_owned())
        }
        _ => None,
    }
}

fn of_window(before: &SuccessRatePlan, after: &SuccessRatePlan) -> Option<String> {
    let (was, is) = (before.window, after.window);
    if before.outcome != after.outcome {
        return Some(format!(
            "what is a success is another thing from now on: up to {} outcomes of each server were counted by what it was before, \
             until others have taken their place",
            was.min(is)
        ));
    }
    match is.cmp(&was) {
        Ordering::Less => {
            Some(format!("only the last {is} outcomes of each server count from now on; before, {was}"))
        }
        Ordering::Greater => Some(format!(
            "the last {is} outcomes of each server count from now on, of which {was} are known at most"
        )),
        Ordering::Equal => None,
    }
}

fn of_max_life(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let (before, after) = (old?.plan.sticky.as_ref()?.max_life, new.plan.sticky.as_ref()?.max_life);
    match (before, after) {
        (before, Some(after)) if before.is_none_or(|before| before > after) => Some(format!(
            "clients that have been bound for {} or longer are bound to servers anew with their next request",
            span(after)
        )),
        _ => None,
    }
}

/// Where clients are bound to servers that go.
fn of_bound(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let old = old.filter(|old| old.plan.sticky.is_some() && new.plan.sticky.is_some())?;
    // A cookie holds a server's name, whatever its address is.
    let is_gone =
        |member: &&Member| new.members.iter().all(|after| after.server.name() != member.server.name());
    let gone: Vec<_> = old.members.iter().filter(is_gone).collect();
    (!gone.is_empty()).then(|| {
        format!("clients that are bound to {} are bound to others with their next request", names(&gone))
    })
}

fn of_ejected(old: Option<&Pool>, new: &Pool) -> Option<String> {
    if old?.plan.outlier.is_none() || new.plan.outlier.is_some() {
        return None;
    }
    let ejected = new.members.iter().map(|member| &member.server).filter(|server| server.is_ejected());
    let names: Vec<_> = ejected.map(|server| server.name().to_string()).collect();
    Some(match names.is_empty() {
        true => "nobody is ejected any more".to_owned(),
        false => format!("nobody is ejected any more: {} serve again at once", names.join(", ")),
    })
}

/// Where they are others than before.
fn of_durations(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let of = |pool: &Pool| pool.plan.outlier.map(|outlier| (outlier.base_ejection, outlier.max_ejection));
    let (before, (base, most)) = (of(old?)?, of(new)?);
    let told = format!(
        "ejections last {} and, one after the other, up to {} from the next one on; who is ejected now keeps its time",
        span(base),
        span(most.max(base))
    );
    (before != (base, most)).then_some(told)
}

/// Where it is another than before, with those that are out already.
fn of_ceiling(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let of = |pool: &Pool| pool.plan.outlier.as_ref().map(|outlier| ceiling(pool, outlier));
    let (before, (most, of)) = (old.and_then(of), of(new)?);
    let told = format!("outlier: {}", told_allowance(most, of));
    let out = new.members.iter().filter(|member| member.server.is_ejected()).count();
    let beyond = match out > most {
        true => format!("; {out} are ejected now, and stay so until they have been tried out"),
        false => String::new(),
    };
    match before {
        Some(before) if before == (most, of) => None,
        Some((most, of)) => Some(format!("{told}; before, {most} of {of}{beyond}")),
        None => Some(told),
    }
}
