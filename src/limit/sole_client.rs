//! Whether all requests come from one address, as they do behind a proxy that nobody has named.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The one address that was seen, as long as there is no other.
#[derive(Debug, Default)]
pub struct SoleClient {
    first: OnceLock<IpAddr>,
    /// Requests so far; `OVER` once there is nothing more to be found out.
    requests: AtomicU32,
}

/// So many of one address, and none of another, are hardly one client's.
const ENOUGH: u32 = 10_000;
const OVER: u32 = u32::MAX;

impl SoleClient {
    /// Notes a request's client. True once: when it is plain that there is but one.
    pub fn note(&self, client: IpAddr) -> bool {
        let requests = self.requests.load(Relaxed);
        if requests == OVER {
            return false;
        }
        if *self.first.get_or_init(|| client) != client {
            self.requests.store(OVER, Relaxed);
            return false;
        }
        let next = if requests + 1 >= ENOUGH { OVER } else { requests + 1 };
        // Lost to another core it counts the next time.
        self.requests.compare_exchange(requests, next, Relaxed, Relaxed).is_ok() && next == OVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_alone_is_told_of_once() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let sole = SoleClient::default();
        let told: Vec<u32> = (1..=2 * ENOUGH).filter(|_| sole.note(address("10.0.0.1"))).collect();
        assert_eq!(told, [ENOUGH]);
        assert!(!sole.note(address("10.0.0.2")));

        let several = SoleClient::default();
        assert!(!several.note(address("10.0.0.1")) && !several.note(address("10.0.0.2")));
        assert!((0..2 * ENOUGH).all(|_| !several.note(address("10.0.0.1"))), "another was seen");
    }
}
