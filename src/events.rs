//! The health ledger: the last events, in memory.

use crate::api::{Event, EventKind, EventList};
use std::collections::VecDeque;
use time::OffsetDateTime;

/// The last events, oldest first.
#[derive(Debug, Default)]
pub struct Ledger {
    events: VecDeque<Event>,
    keep: usize,
    next: u64,
    forgotten: u64,
}

/// Which events are wanted; what is not set excludes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub pool: Option<String>,
    pub server: Option<String>,
    pub kind: Option<EventKind>,
    pub since: Option<OffsetDateTime>,
    /// Only events after this one.
    pub after: Option<u64>,
    /// The newest so many.
    pub limit: Option<usize>,
}

impl EventFilter {
    fn takes(&self, event: &Event) -> bool {
        let same = |wanted: &Option<String>, have: &Option<String>| wanted.is_none() || wanted == have;
        same(&self.pool, &event.pool)
            && same(&self.server, &event.server)
            && self.kind.is_none_or(|kind| kind == event.kind)
            && self.since.is_none_or(|since| since <= event.at)
            && self.after.is_none_or(|after| after < event.id)
    }
}

impl Ledger {
    /// Keeps this many from now on.
    pub fn keep(&mut self, keep: usize) {
        self.keep = keep;
        self.shorten();
    }

    /// Numbers an event and keeps it.
    pub fn record(&mut self, mut event: Event) -> Event {
        event.id = self.next;
        self.push(event.clone());
        event
    }

    /// The number of the next event.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Leaves out the numbers before this one.
    pub fn go_on_at(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Takes over an event of an earlier process with its number.
    pub fn recall(&mut self, event: Event) {
        self.push(event);
    }

    fn push(&mut self, event: Event) {
        self.next = self.next.max(event.id.saturating_add(1));
        self.events.push_back(event);
        self.shorten();
    }

    fn shorten(&mut self) {
        while self.events.len() > self.keep {
            self.events.pop_front();
            self.forgotten += 1;
        }
    }

    /// Those that are wanted, oldest first.
    pub fn find(&self, wanted: &EventFilter) -> EventList {
        let newest_first = self.events.iter().rev().filter(|event| wanted.takes(event));
        let mut events: Vec<Event> = newest_first.take(wanted.limit.unwrap_or(usize::MAX)).cloned().collect();
        events.reverse();
        EventList { events, forgotten: self.forgotten }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(pool: &str, server: &str, kind: EventKind, second: i64) -> Event {
        Event {
            id: 0,
            at: OffsetDateTime::from_unix_timestamp(second).unwrap(),
            kind,
            generation: 1,
            pool: Some(pool.to_owned()),
            server: Some(server.to_owned()),
            from: None,
            to: None,
            actor: "probe".to_owned(),
            cause: String::new(),
            evidence: None,
        }
    }

    fn ids(ledger: &Ledger, wanted: &EventFilter) -> Vec<u64> {
        ledger.find(wanted).events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn events_are_found_by_pool_server_kind_and_time() {
        let mut ledger = Ledger::default();
        ledger.keep(100);
        ledger.record(event("app", "a", EventKind::Health, 10));
        ledger.record(event("app", "b", EventKind::Operator, 20));
        ledger.record(event("static", "a", EventKind::Health, 30));
        let of = |text: &str| Some(text.to_owned());
        let all = EventFilter::default();
        assert_eq!(ids(&ledger, &all), [0, 1, 2]);
        assert_eq!(ids(&ledger, &EventFilter { pool: of("app"), ..all.clone() }), [0, 1]);
        assert_eq!(ids(&ledger, &EventFilter { pool: of("app"), server: of("b"), ..all.clone() }), [1]);
        assert_eq!(ids(&ledger, &EventFilter { kind: Some(EventKind::Health), ..all.clone() }), [0, 2]);
        let since = OffsetDateTime::from_unix_timestamp(20).ok();
        assert_eq!(ids(&ledger, &EventFilter { since, ..all.clone() }), [1, 2]);
        assert_eq!(ids(&ledger, &EventFilter { after: Some(1), ..all.clone() }), [2]);
        assert_eq!(ids(&ledger, &EventFilter { limit: Some(2), ..all }), [1, 2]);
    }

    #[test]
    fn the_oldest_are_forgotten_first_and_counted() {
        let mut ledger = Ledger::default();
        ledger.keep(2);
        for second in 0..5 {
            ledger.record(event("app", "a", EventKind::Health, second));
        }
        assert_eq!(ids(&ledger, &EventFilter::default()), [3, 4]);
        assert_eq!(ledger.find(&EventFilter::default()).forgotten, 3);
    }

    #[test]
    fn numbers_go_on_after_those_of_an_earlier_process() {
        let mut ledger = Ledger::default();
        ledger.keep(9);
        ledger.recall(Event { id: 41, ..event("app", "a", EventKind::Health, 1) });
        assert_eq!(ledger.record(event("app", "a", EventKind::Health, 2)).id, 42);
    }
}
