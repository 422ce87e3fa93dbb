//! Whose a limit's count is: a hash of the limit and of what it counts by. The secret is this process's own and that of those
//! that take over from it, so that nobody can choose clients whose counts fall together.

use siphasher::sip::SipHasher13;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What keys are hashed with (SipHash-1-3), the same by every version.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LimitSecret([u64; 2]);

impl LimitSecret {
    /// One that nobody knows.
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        // Of what the system gives the hash tables of this process.
        Self([0, 1].map(|n| RandomState::new().hash_one(n)))
    }

    /// The one that another process has had.
    pub fn from_words(words: [u64; 2]) -> Self {
        Self(words)
    }

    pub fn words(self) -> [u64; 2] {
        self.0
    }
}

impl fmt::Debug for LimitSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LimitSecret(..)")
    }
}

/// How much of an address stands for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientPrefix {
    pub v4: u8,
    pub v6: u8,
}

impl Default for ClientPrefix {
    /// An address, and what a site or a home has of IPv6 (RFC 6177).
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

impl ClientPrefix {
    /// The address with what is not the client's own set to zero.
    pub fn of(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let kept = u32::MAX.checked_shl(32 - u32::from(self.v4)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(address) & kept))
            }
            IpAddr::V6(address) => {
                let kept = u128::MAX.checked_shl(128 - u32::from(self.v6)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(address) & kept))
            }
        }
    }
}

/// A key that is being made.
#[derive(Debug)]
pub struct KeyHasher(SipHasher13);

impl KeyHasher {
    /// Of a limit, by what makes it itself.
    pub fn new(secret: &LimitSecret, limit: u64) -> Self {
        let mut hasher = SipHasher13::new_with_keys(secret.0[0], secret.0[1]);
        hasher.write_u64(limit);
        Self(hasher)
    }

    /// By the client, or nobody's in particular.
    #[must_use]
    pub fn client(mut self, address: Option<IpAddr>, prefix: ClientPrefix) -> Self {
        match address.map(|address| prefix.of(address)) {
            Some(IpAddr::V4(address)) => self.0.write_u32(address.into()),
            Some(IpAddr::V6(address)) => self.0.write_u128(address.into()),
            None => self.0.write_u8(0),
        }
        self
    }

    /// By a text of the request, or by having none.
    #[must_use]
    pub fn text(mut self, text: Option<&[u8]>) -> Self {
        // What has a length is told from what is absent, and two texts in a row from another two.
        self.0.write_u64(text.map_or(u64::MAX, |text| text.len() as u64));
        self.0.write(text.unwrap_or_default());
        self
    }

    pub fn finish(self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_as_much_of_its_address_as_is_its_own() {
        for (prefix, address, client) in [
            ((32, 64), "192.0.2.7", "192.0.2.7"),
            ((24, 64), "192.0.2.7", "192.0.2.0"),
            ((0, 0), "192.0.2.7", "0.0.0.0"),
            ((32, 64), "2001:db8::1:2:3:4", "2001:db8::"),
            ((32, 128), "2001:db8::4", "2001:db8::4"),
            ((32, 0), "2001:db8::4", "::"),
            ((32, 64), "::ffff:192.0.2.7", "192.0.2.7"),
        ] {
            let prefix = ClientPrefix { v4: prefix.0, v6: prefix.1 };
            assert_eq!(prefix.of(address.parse().unwrap()).to_string(), client, "{address}");
        }
    }

    #[test]
    fn a_process_that_has_anothers_secret_has_its_keys() {
        let (secret, client) = (LimitSecret::new(), "2001:db8::1".parse().unwrap());
        let key = |secret| {
            let key = KeyHasher::new(&secret, 1).client(Some(client), ClientPrefix::default());
            key.text(Some(b"a")).text(None).finish()
        };
        assert_eq!(key(LimitSecret::from_words(secret.words())), key(secret));
        assert_ne!(key(LimitSecret::new()), key(secret));
        // Debts are handed from one version to the next by these.
        assert_eq!(key(LimitSecret::from_words([1, 2])), 1_261_096_439_649_794_181);
    }

    #[test]
    fn keys_differ_by_limit_client_and_text() {
        let (secret, prefix) = (LimitSecret::new(), ClientPrefix { v4: 32, v6: 64 });
        let key = |limit, client: Option<&str>, text: Option<&str>| {
            let client = client.map(|client| client.parse().unwrap());
            KeyHasher::new(&secret, limit).client(client, prefix).text(text.map(str::as_bytes)).finish()
        };
        let one = key(1, Some("192.0.2.7"), Some("a"));
        assert_eq!(one, key(1, Some("192.0.2.7"), Some("a")));
        for other in [
            key(2, Some("192.0.2.7"), Some("a")),
            key(1, Some("192.0.2.8"), Some("a")),
            key(1, None, Some("a")),
            key(1, Some("192.0.2.7"), Some("")),
            key(1, Some("192.0.2.7"), None),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(key(1, Some("2001:db8::1"), None), key(1, Some("2001:db8::2"), None), "one network's");
    }
}
