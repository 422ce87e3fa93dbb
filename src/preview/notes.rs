//! What a pool's new settings mean for those who wait, who come back and who are ejected.

use crate::pool::Pool;
use crate::pool::outlier::{ceiling, told_allowance};

pub(super) fn of(old: Option<&Pool>, new: &Pool) -> Vec<String> {
    [of_queue(old, new), of_ramps(old, new), of_ejected(old, new), of_ceiling(old, new)]
        .into_iter()
        .flatten()
        .collect()
}

fn of_queue(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let had_one = old?.plan.queue.is_some();
    let told = "nobody waits any more: who finds every server full is answered with 503 at once";
    (had_one && new.plan.queue.is_none()).then(|| told.to_owned())
}

fn of_ramps(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let had_one = old?.plan.slow_start.is_some();
    let told =
        "servers that come back get their full share at once, and so do those that are coming back now";
    (had_one && new.plan.slow_start.is_none()).then(|| told.to_owned())
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

/// Where it is another than before.
fn of_ceiling(old: Option<&Pool>, new: &Pool) -> Option<String> {
    let of = |pool: &Pool| pool.plan.outlier.as_ref().map(|outlier| ceiling(pool, outlier));
    let (before, (most, of)) = (old.and_then(of), of(new)?);
    let told = format!("outlier: {}", told_allowance(most, of));
    match before {
        Some(before) if before == (most, of) => None,
        Some((most, of)) => Some(format!("{told}; before, {most} of {of}")),
        None => Some(told),
    }
}
