//! What binds a request's client to a server, in words.

use crate::config::plan::{QueuePlan, StickyMode, StickyPlan};
use crate::cookie;
use crate::fields::Fields;
use crate::pool::Pool;
use crate::sticky::Binding;
use http::{HeaderMap, header};

/// A client's bond with a server.
pub(super) struct ExplainedSession {
    /// The place of the server that it goes to.
    pub(super) place: Option<usize>,
    pub(super) said: String,
}

/// What the request's cookies say; `None` if the pool does not ask.
pub(super) fn of(pool: &Pool, fields: &HeaderMap, minute: u32) -> Option<ExplainedSession> {
    let plan = pool.plan.sticky.as_ref()?;
    let name = &plan.cookie;
    let nothing = |said| Some(ExplainedSession { place: None, said });
    let Some(binding) = pool.binding(fields) else {
        let has_any = cookie::values(fields.all(&header::COOKIE), name).next().is_some();
        return nothing(match has_any {
            true => format!("cookie {name} is none of ours, or of a key that is gone: as none"),
            false => format!("no cookie {name}: {}", when_bound(plan)),
        });
    };
    let Some(place) = binding.server else {
        return nothing(format!("cookie {name} means a server that the pool has not any more"));
    };
    let server = &pool.members[place].server;
    if pool.is_over(&binding, minute) {
        return nothing(format!("cookie {name} means {}, and is older than `max_life`", server.name()));
    }
    if !pool.keeps_sessions_of(server) {
        return nothing(format!("cookie {name} means {}, which is of no use now", server.name()));
    }
    let bound = format!("cookie {name} means {}{}", server.name(), since(&binding, minute));
    match (pool.has_room(place), &pool.plan.queue) {
        (true, _) => Some(ExplainedSession { place: Some(place), said: bound }),
        (false, Some(queue)) if !plan.wait.is_zero() && pool.queue.waiting() < queue.max.get() as usize => {
            Some(ExplainedSession {
                place: Some(place),
                said: format!("{bound}; that is full: {}", waits(plan, queue)),
            })
        }
        (false, _) => nothing(format!("{bound}; that is full, and nobody waits for it")),
    }
}

/// Who is still waiting for its own server when the queue's time is over is answered; no other is asked.
fn waits(plan: &StickyPlan, queue: &QueuePlan) -> String {
    match plan.wait < queue.timeout {
        true => format!("it waits up to {:?}, then any will do", plan.wait),
        false => format!("it waits up to {:?} (`queue.timeout`), then the answer is 503", queue.timeout),
    }
}

fn when_bound(plan: &StickyPlan) -> &'static str {
    match plan.mode {
        StickyMode::Insert => "the client is bound to the server that answers",
        StickyMode::Suffix => "the client is bound once the application sets it",
    }
}

/// `, for 90 minutes`
fn since(binding: &Binding, minute: u32) -> String {
    match minute.saturating_sub(binding.minute) {
        0 => String::new(),
        1 => ", for a minute".to_owned(),
        minutes @ 2..=119 => format!(", for {minutes} minutes"),
        minutes => format!(", for {} hours", minutes / 60),
    }
}
