//! What a pool's new settings mean for those who wait, who come back and who are ejected.

use crate::pool::Pool;
use crate::pool::outlier::{ceiling, told_allowance};
use crate::text::span;

pub(super) fn of(old: Option<&Pool>, new: &Pool) -> Vec<String> {
    [
        of_queue(old, new),
        of_ramps(old, new),
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
        _ => None,
    }
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
