//! How fast clients open connections, one by one.

use crate::config::plan::NewConnectionLimit;
use crate::limit::{KeyHasher, LimitSecret, RateTable, RateVerdict};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Instant;

/// Clients that owe something at once; more share their debts. 16 bytes each, where there is a limit at all.
const MOST: usize = 1 << 20;

/// What the clients of a listener owe for connections that they have opened.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(OnceLock<(RateTable, LimitSecret)>);

impl Arrivals {
    /// Whether a client may open another connection now.
    pub(crate) fn admit(&self, client: IpAddr, limit: NewConnectionLimit, now: Instant) -> bool {
        let (table, secret) = self.0.get_or_init(|| (RateTable::new(MOST, now), LimitSecret::new()));
        let key = KeyHasher::new(secret, 0).client(Some(client), limit.prefix).finish();
        matches!(table.take(key, limit.rate, now), RateVerdict::Passes { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{ClientPrefix, Rate};
    use std::num::NonZeroU32;
    use std::time::Duration;

    #[test]
    fn a_client_opens_no_more_than_its_rate_and_its_burst() {
        let rate = Rate::new(NonZeroU32::new(2).expect("not zero"), Duration::from_secs(1), None);
        let limit = NewConnectionLimit { rate, prefix: ClientPrefix::default() };
        let (arrivals, now) = (Arrivals::default(), Instant::now());
        let opens = |client: &str, ms: u64| {
            arrivals.admit(client.parse().expect("an address"), limit, now + Duration::from_millis(ms))
        };
        let opened = [0, 1, 2, 499, 600, 601].map(|ms| opens("192.0.2.1", ms));
        assert_eq!(opened, [true, true, false, false, true, false]);
        assert!(opens("192.0.2.2", 2), "another client has its own");
        assert!(
            opens("2001:db8::1", 0) && opens("2001:db8::2", 0) && !opens("2001:db8::3", 0),
            "a /64 is one"
        );
    }
}
