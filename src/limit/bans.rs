//! Who is banned until when. That requests are refused is in a table of rates, which has room for all; a list beside it, for
//! people, is bounded.

use super::{ClientPrefix, KeyHasher, LimitSecret, RateTable};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bans that are listed at most.
const MOST_LISTED: usize = 10_000;

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The limit that it is of, by its number; or everywhere.
    pub scope: u64,
    /// The client, as much of its address as is its own.
    pub client: IpAddr,
    pub until: Instant,
    /// Who or what has banned it.
    pub by: String,
}

impl Ban {
    /// Of no limit's own.
    pub const EVERYWHERE: u64 = 0;

    /// What a client's ban is found by.
    pub fn key(secret: &LimitSecret, scope: u64, client: IpAddr, prefix: ClientPrefix) -> u64 {
        KeyHasher::new(secret, scope).client(Some(client), prefix).finish()
    }
}

/// Bans in force.
#[derive(Debug, Default)]
pub struct Bans {
    /// How many there may be: while there are none requests look no further.
    count: AtomicUsize,
    list: Mutex<BTreeMap<(IpAddr, u64), Ban>>,
}

impl Bans {
    fn list(&self) -> MutexGuard<'_, BTreeMap<(IpAddr, u64), Ban>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bans a client, whose key is this. False if it was banned already, until no sooner.
    pub fn ban(&self, table: &RateTable, key: u64, ban: Ban, now: Instant) -> bool {
        if table.debt(key, now) >= ban.until.saturating_duration_since(now) {
            return false;
        }
        self.count.fetch_add(1, Relaxed);
        table.put(key, ban.until, now);
        let mut list = self.list();
        let place = (ban.client, ban.scope);
        if list.len() >= MOST_LISTED && !list.contains_key(&place) {
            list.retain(|_, ban| ban.until > now);
        }
        if list.len() < MOST_LISTED || list.contains_key(&place) {
            list.insert(place, ban);
        }
        true
    }

    /// Ends a client's ban; false if there is none.
    pub fn unban(&self, table: &RateTable, key: u64, (client, scope): (IpAddr, u64), now: Instant) -> bool {
        let was_banned = table.debt(key, now) > Duration::ZERO;
        table.forgive(key);
        self.list().remove(&(client, scope));
        was_banned
    }

    /// How long a client is banned yet.
    pub fn left(&self, table: &RateTable, key: impl FnOnce() -> u64, now: Instant) -> Option<Duration> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        Some(table.debt(key(), now)).filter(|left| *left > Duration::ZERO)
    }

    /// How many there may be.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Goes on with those of another process, whose debts are in the table: so many, of which these were listed.
    pub fn recall(&self, count: usize, listed: impl IntoIterator<Item = Ban>) {
        self.count.fetch_add(count, Relaxed);
        let listed = listed.into_iter().take(MOST_LISTED);
        self.list().extend(listed.map(|ban| ((ban.client, ban.scope), ban)));
    }

    /// Those that are listed, by client. What is over is forgotten.
    pub fn listed(&self, now: Instant) -> Vec<Ban> {
        let mut list = self.list();
        list.retain(|_, ban| ban.until > now);
        list.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_lasts_until_it_is_over_or_ended() {
        let now = Instant::now();
        let (table, bans) = (RateTable::new(64, now), Bans::default());
        let client: IpAddr = "192.0.2.7".parse().unwrap();
        let ban = |seconds| Ban {
            client,
            scope: 1,
            until: now + Duration::from_secs(seconds),
            by: "rule".to_owned(),
        };
        let left =
            |seconds| bans.left(&table, || 7, now + Duration::from_secs(seconds)).map(|left| left.as_secs());
        assert_eq!(left(0), None);
        assert!(bans.ban(&table, 7, ban(60), now));
        assert!(!bans.ban(&table, 7, ban(30), now), "a shorter one changes nothing");
        assert_eq!((left(10), left(60)), (Some(50), None));
        assert!(bans.ban(&table, 7, ban(90), now));
        assert_eq!(left(60), Some(30));
        assert_eq!(bans.listed(now).len(), 1);
        assert!(bans.unban(&table, 7, (client, 1), now) && !bans.unban(&table, 7, (client, 1), now));
        assert_eq!((left(1), bans.listed(now).len()), (None, 0));
    }
}
