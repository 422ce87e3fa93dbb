//! What clients owe and who is banned, which one process tells the next: an upgrade gives nobody a fresh burst, and bans stay.

use crate::limit::{Ban, LimitSecret, Limiter};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// A debt's key, and for how many nanoseconds it lasts.
const DEBT_BYTES: usize = 16;

/// What is told. Fields may be added; a reader takes what it knows.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct KnownLimits {
    /// What keys were hashed with: by another, debts are nobody's.
    secret: [u64; 2],
    /// In base64, for there may be a million.
    debts: String,
    /// Bans that there may be, listed or not.
    bans: usize,
    listed: Vec<KnownBan>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KnownBan {
    scope: u64,
    client: IpAddr,
    seconds: f64,
    by: String,
}

impl KnownLimits {
    pub(super) fn of(limiter: &Limiter, now: Instant) -> Self {
        let words = |(key, debt): (u64, Duration)| {
            [key, u64::try_from(debt.as_nanos()).unwrap_or(u64::MAX)].map(u64::to_le_bytes)
        };
        let bytes: Vec<u8> = limiter.rates.debts(now).flat_map(words).flatten().collect();
        let known = |ban: Ban| KnownBan {
            scope: ban.scope,
            client: ban.client,
            seconds: ban.until.saturating_duration_since(now).as_secs_f64(),
            by: ban.by,
        };
        Self {
            secret: limiter.secret.words(),
            debts: BASE64.encode(&bytes),
            bans: limiter.bans.count(),
            listed: limiter.bans.listed(now).into_iter().map(known).collect(),
        }
    }

    /// Whether somebody may be banned.
    pub(super) fn has_bans(&self) -> bool {
        self.bans > 0
    }

    /// Has them count here, if limits are counted by the same keys.
    pub(super) fn recall(self, limiter: &Limiter) {
        if limiter.secret != LimitSecret::from_words(self.secret) {
            // The first limit has come after the new process was started.
            warn!("what clients owed to the process before this one is forgotten");
            return;
        }
        let Ok(bytes) = BASE64.decode(self.debts.as_bytes()) else {
            warn!("what clients owed to the process before this one cannot be read");
            return;
        };
        let now = Instant::now();
        let (debts, _) = bytes.as_chunks::<DEBT_BYTES>();
        let is_kept = |debt: &&[u8; DEBT_BYTES]| {
            let (words, _) = debt.as_chunks::<8>();
            let [key, nanos] = [words[0], words[1]].map(u64::from_le_bytes);
            limiter.rates.recall(key, Duration::from_nanos(nanos), now)
        };
        let kept = debts.iter().filter(is_kept).count();
        let ban = |known: KnownBan| Ban {
            scope: known.scope,
            client: known.client,
            until: Duration::try_from_secs_f64(known.seconds)
                .ok()
                .and_then(|left| now.checked_add(left))
                .unwrap_or(now),
            by: known.by,
        };
        limiter.bans.recall(self.bans, self.listed.into_iter().map(ban));
        info!(
            clients = kept,
            without_room = debts.len() - kept,
            "what clients owed to the process before this one is known"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{ClientPrefix, Rate};
    use std::num::NonZeroU32;

    fn told(limiter: &Limiter, now: Instant) -> KnownLimits {
        let json = serde_json::to_string(&KnownLimits::of(limiter, now)).expect("it can be told");
        serde_json::from_str(&json).expect("it can be heard")
    }

    fn limiter(secret: LimitSecret) -> Limiter {
        Limiter::new(secret, 64, Instant::now())
    }

    fn once_an_hour() -> Rate {
        Rate::new(NonZeroU32::MIN, Duration::from_secs(3600), None)
    }

    #[test]
    fn the_next_process_has_the_debts_and_bans() {
        let secret = LimitSecret::new();
        let (before, after, now) = (limiter(secret), limiter(secret), Instant::now());
        before.rates.take(7, once_an_hour(), now);
        before.rates.take(8, Rate::new(NonZeroU32::MAX, Duration::from_secs(1), None), now);
        let client: IpAddr = "192.0.2.7".parse().unwrap();
        let key = Ban::key(&secret, Ban::EVERYWHERE, client, ClientPrefix::default());
        let until = now + Duration::from_secs(60);
        let ban = Ban { scope: Ban::EVERYWHERE, client, until, by: "anna".to_owned() };
        assert!(before.bans.ban(&before.rates, key, ban, now));

        let known = told(&before, now + Duration::from_secs(1));
        assert!(known.has_bans());
        known.recall(&after);
        let minutes = |key| after.rates.debt(key, Instant::now()).as_secs_f64() / 60.0;
        assert!((59.0..60.0).contains(&minutes(7)), "{}", minutes(7));
        assert_eq!(minutes(8), 0.0);
        let left = after.bans.left(&after.rates, || key, Instant::now()).expect("it is banned");
        assert!(left > Duration::from_secs(50), "{left:?}");
        let listed = after.bans.listed(Instant::now());
        assert_eq!((listed.len(), listed[0].client, &*listed[0].by), (1, client, "anna"));
    }

    #[test]
    fn by_other_keys_nobody_owes_anything() {
        let (before, after) = (limiter(LimitSecret::new()), limiter(LimitSecret::new()));
        before.rates.take(7, once_an_hour(), Instant::now());
        told(&before, Instant::now()).recall(&after);
        assert_eq!(after.rates.in_debt(Instant::now()), 0);
    }
}
