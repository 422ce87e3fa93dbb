//! Whose requests a server fails, and whose it takes long for. Where clients are bound to servers, by a cookie or a hash, one of them alone may meet all the
//! failures of a server, and be their cause: a page that always fails, or takes long, asked for again and again, must not empty a pool.
//! Where requests gather at the server that is quickest, so do one client's that come at once; there the others tell, if they
//! have served that client (`outlier/clients.rs`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What has to be known of where requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgedBy {
    Client,
    ClientElsewhere,
}

/// Where a request has come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    client: u32,
    /// What its server was chosen by, if that is something else.
    key: Option<u32>,
    /// Any server may serve its client.
    is_anywhere: bool,
}

impl Source {
    /// `hash` is that of the client's network, `key` that of what its server was chosen by.
    pub fn new(hash: u64, key: Option<u64>) -> Self {
        Self { client: tag(hash), key: key.map(tag), is_anywhere: false }
    }

    /// The same where any server may serve its client.
    pub fn served_anywhere(self) -> Self {
        Self { is_anywhere: true, ..self }
    }

    /// The client, where any server may serve it.
    pub fn anywhere(self) -> Option<u32> {
        self.is_anywhere.then_some(self.client)
    }
}

/// A client may have a whole /64 of IPv6 to itself.
pub fn network_of(client: IpAddr) -> [u8; 8] {
    let mut network = [0; 8];
    match client {
        IpAddr::V4(address) => network[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => network.copy_from_slice(&address.octets()[..8]),
    }
    network
}

/// Of a hash so much as is remembered; 0 is nobody.
fn tag(hash: u64) -> u32 {
    hash as u32 | 1
}

/// Whose requests have failed last, or had their time taken: the last two clients, and the last two keys.
#[derive(Debug, Default)]
pub struct LastSources {
    clients: LastTwo,
    keys: LastTwo,
}

impl LastSources {
    /// Whether what comes from there is more of the same: its client, or its key, was one of the last two.
    pub fn knows(&self, source: Source) -> bool {
        let knows_client = self.clients.remember(source.client);
        let knows_key = source.key.is_some_and(|key| self.keys.remember(key));
        knows_client || knows_key
    }
}

/// The older one in the upper half.
#[derive(Debug, Default)]
struct LastTwo(AtomicU64);

impl LastTwo {
    /// Whether it is one of them; it is from then on.
    fn remember(&self, tag: u32) -> bool {
        let last = self.0.load(Relaxed);
        let is_known = [last as u32, (last >> 32) as u32].contains(&tag);
        if !is_known {
            self.0.store(last << 32 | u64::from(tag), Relaxed);
        }
        is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_three_to_be_heard_again_and_again() {
        let heard = |clients: &[u64]| {
            let failing = LastSources::default();
            clients.iter().filter(|client| !failing.knows(Source::new(**client << 8, None))).count()
        };
        assert_eq!(heard(&[1; 100]), 1);
        assert_eq!(heard(&[1, 2].repeat(50)), 2);
        assert_eq!(heard(&[1, 2, 3].repeat(50)), 150);
    }

    #[test]
    fn one_key_that_all_clients_ask_for_is_one() {
        let failing = LastSources::default();
        let heard = (0..100).filter(|client| !failing.knows(Source::new(client << 8, Some(7)))).count();
        assert_eq!(heard, 1);
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let network = |text: &str| network_of(text.parse().expect("an address"));
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:3::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
