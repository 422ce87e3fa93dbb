//! Whether any request could find what lies under a key, by other rules than those that it was kept by.

use super::key::query;
use crate::config::plan::cache::KeyPlan;
use std::collections::HashMap;

/// The keys that rules look for.
#[derive(Debug)]
pub(crate) struct Reachable<'a>(HashMap<u64, Vec<&'a KeyPlan>>);

impl<'a> Reachable<'a> {
    /// Of rules with these scopes, which say what else than its query tells responses apart.
    pub(crate) fn new(rules: impl Iterator<Item = (u64, &'a KeyPlan)>) -> Self {
        let mut plans: HashMap<u64, Vec<&KeyPlan>> = HashMap::new();
        rules.for_each(|(scope, plan)| plans.entry(scope).or_default().push(plan));
        Self(plans)
    }

    /// Whether some request has this key. The query in it has to be as the rule would leave it.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        let Some((scope, own_query)) = parts(key) else { return false };
        let plans = self.0.get(&scope).map_or(&[][..], Vec::as_slice);
        plans.iter().any(|plan| query(plan, own_query) == own_query)
    }
}

/// The scope and the query of a key: see `key`.
fn parts(key: &[u8]) -> Option<(u64, &str)> {
    let (scope, rest) = key.split_first_chunk()?;
    let (_is_secure, rest) = rest.split_first()?;
    let (_host, rest) = part(rest)?;
    let (_other_host, rest) = part(rest)?;
    let (_path, rest) = part(rest)?;
    let (query, _) = part(rest)?;
    Some((u64::from_le_bytes(*scope), std::str::from_utf8(query).ok()?))
}

fn part(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = key.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::super::{Keyed, key};
    use super::*;
    use crate::config::plan::cache::QueryKey;
    use crate::fields::FieldList;
    use http::HeaderMap;

    #[test]
    fn a_key_is_found_by_rules_that_leave_its_query_as_it_is() {
        let (fields, usual) = (HeaderMap::new(), plan().key);
        let of = |query: &str| {
            let keyed = Keyed {
                scope: 7,
                is_secure: false,
                host: "a.example",
                other_host: None,
                path: "/p?q",
                query,
                fields: FieldList::Map(&fields),
                way: b"",
            };
            key(&usual, &keyed, None)
        };
        let ignores = KeyPlan { ignore_query: vec!["sort".to_owned()], ..plan().key };
        let only = KeyPlan { query: QueryKey::Some(vec!["page".to_owned()]), ..plan().key };
        for (rules, query, is_found) in [
            (vec![(7, &usual)], "page=1&sort=up", true),
            (vec![(8, &usual)], "page=1", false),
            (vec![], "page=1", false),
            (vec![(7, &ignores)], "page=1&sort=up", false),
            (vec![(7, &ignores)], "page=1", true),
            (vec![(7, &only)], "page=1", true),
            (vec![(7, &only)], "id=1", false),
            (vec![(7, &only), (7, &usual)], "id=1", true),
            (vec![(7, &only)], "", true),
        ] {
            let reachable = Reachable::new(rules.clone().into_iter());
            assert_eq!(reachable.has(&of(query)), is_found, "{query} {}", rules.len());
        }
        let reachable = Reachable::new([(7, &usual)].into_iter());
        let whole = of("page=1");
        assert!((0..whole.len()).all(|cut| !reachable.has(&whole[..cut])));
    }
}
