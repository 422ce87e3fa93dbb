//! Which of a pool's servers a cookie means, and the cookies that mean them.

use super::keys::{KeyId, StickyKeys};
use super::token::{ServerTag, Token, server_tag};
use aws_lc_rs::hmac::Key;

/// A pool's servers as cookies name them. Made once for each change of the servers or the keys.
#[derive(Debug)]
pub struct StickyTable {
    /// The first signs.
    keys: Box<[PoolKey]>,
}

#[derive(Debug)]
struct PoolKey {
    id: KeyId,
    key: Key,
    /// In the order of the servers.
    tags: Box<[ServerTag]>,
    /// Places in `tags`, in the order of what is there.
    sorted: Box<[u32]>,
}

/// What a cookie of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The place of the server that it means, if the pool still has it.
    pub server: Option<usize>,
    /// When it was issued, in minutes since 1970.
    pub minute: u32,
    /// Whether it is signed by the first key.
    pub is_current: bool,
}

impl StickyTable {
    /// A table of servers by their names.
    pub fn new<'a>(keys: &StickyKeys, pool: &str, servers: impl Iterator<Item = &'a str> + Clone) -> Self {
        let of = |secret: &super::Secret| {
            let key = secret.for_pool(pool);
            let tags: Box<[ServerTag]> = servers.clone().map(|server| server_tag(&key, server)).collect();
            let mut sorted: Box<[u32]> = (0..tags.len() as u32).collect();
            sorted.sort_unstable_by_key(|place| tags[*place as usize]);
            PoolKey { id: secret.id(), key, tags, sorted }
        };
        Self { keys: keys.each().iter().map(of).collect() }
    }

    /// What this cookie says; `None` of one that is not ours, or for another pool.
    pub fn find(&self, value: &[u8]) -> Option<Binding> {
        let token = Token::parse(value)?;
        // Keys that share an id are told apart by what they have signed.
        let mut known = self.keys.iter().enumerate().filter(|(_, key)| key.id == token.key_id());
        let (place, key) = known.find(|(_, key)| token.is_signed_by(&key.key))?;
        let tag = token.server();
        let found = key.sorted.binary_search_by_key(&tag, |place| key.tags[*place as usize]);
        Some(Binding {
            server: found.ok().map(|at| key.sorted[at] as usize),
            minute: token.minute(),
            is_current: place == 0,
        })
    }

    /// A cookie for this server; none as long as there is no key.
    pub fn issue(&self, server: usize, minute: u32) -> Option<String> {
        let key = self.keys.first()?;
        Some(Token::issue(key.id, &key.key, key.tags.get(server)?, minute).text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sticky::token::{LENGTH, has_form};
    use proptest::prelude::*;

    fn keys(lines: &[&str]) -> StickyKeys {
        let lines: Vec<_> = lines.iter().map(|line| format!("{line:x<32}")).collect();
        StickyKeys::parse(&lines.join("\n")).expect("good keys")
    }

    fn table(lines: &[&str], pool: &str, servers: &str) -> StickyTable {
        StickyTable::new(&keys(lines), pool, servers.split(' '))
    }

    fn issued(table: &StickyTable, server: usize) -> String {
        table.issue(server, 29_000_000).expect("there is a key")
    }

    fn server(table: &StickyTable, cookie: &str) -> Option<Option<usize>> {
        table.find(cookie.as_bytes()).map(|binding| binding.server)
    }

    #[test]
    fn a_cookie_is_the_same_for_ever() {
        let cookie = issued(&table(&["key"], "app", "app1 app2"), 0);
        // Another value here means that an upgrade moves every client.
        assert_eq!(cookie, "AUp-6uDJ-AeOtQRbejsQblgB0TYzAbqBQMDr3MRiMxfpPhp_vgH-l4k");
    }

    #[test]
    fn nodes_with_the_same_keys_agree_whatever_the_order_of_their_servers() {
        let (one, other) = (table(&["k1", "k2"], "app", "a b c"), table(&["k2", "k1"], "app", "c x a"));
        for (index, there) in [Some(2), None, Some(0)].into_iter().enumerate() {
            let found = other.find(issued(&one, index).as_bytes());
            assert_eq!(found, Some(Binding { server: there, minute: 29_000_000, is_current: false }));
        }
    }

    #[test]
    fn what_is_foreign_is_as_none() {
        let one = table(&["k1"], "app", "a b");
        let cookie = issued(&one, 1);
        assert_eq!(server(&one, &cookie), Some(Some(1)));
        assert_eq!(server(&table(&["k2"], "app", "a b"), &cookie), None, "another key");
        assert_eq!(server(&table(&["k1"], "shop", "a b"), &cookie), None, "another pool");
        assert_eq!(
            server(&StickyTable::new(&StickyKeys::default(), "app", ["a"].into_iter()), &cookie),
            None
        );
        for strange in ["", "a", &cookie[1..], &format!("{cookie}A"), &"A".repeat(LENGTH)] {
            assert_eq!(server(&one, strange), None, "{strange}");
        }
        assert!(has_form(cookie.as_bytes()) && !has_form(b"app1"));
    }

    proptest! {
        #[test]
        fn every_cookie_leads_back_to_its_server(
            n in 1usize..40,
            chosen: prop::sample::Index,
            minute: u32,
            n_keys in 1usize..4,
        ) {
            let names: Vec<_> = (0..n).map(|index| format!("s{index}")).collect();
            let lines: Vec<_> = (0..n_keys).map(|key| format!("key{key}")).collect();
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let table = StickyTable::new(&keys(&lines), "app", names.iter().map(String::as_str));
            let server = chosen.index(n);
            let cookie = table.issue(server, minute).expect("there is a key");
            prop_assert_eq!(cookie.len(), LENGTH);
            prop_assert_eq!(
                table.find(cookie.as_bytes()),
                Some(Binding { server: Some(server), minute, is_current: true })
            );
        }

        /// Neither another letter anywhere nor other bytes at all.
        #[test]
        fn no_forged_cookie_is_taken(at: prop::sample::Index, letter in "[A-Za-z0-9_-]", other in prop::collection::vec(any::<u8>(), 0..80)) {
            let table = table(&["k1", "k2"], "app", "a b c");
            let cookie = issued(&table, 2);
            let mut forged = cookie.clone().into_bytes();
            forged[at.index(LENGTH)] = letter.as_bytes()[0];
            prop_assert_eq!(table.find(&forged).is_some(), forged == cookie.as_bytes());
            prop_assert_eq!(table.find(&other), None);
        }
    }
}
