//! Whether any request could find what lies under a key, by other rules than those that it was kept by.

use super::key::query;
use crate::config::plan::cache::KeyPlan;
use std::collections::HashMap;

/// The keys that rules look for, each of which is told by a `T`.
#[derive(Debug)]
pub(crate) struct Reachable<'a, T>(HashMap<u64, Vec<(&'a KeyPlan, T)>>);

/// What of a request is in its key, and in its rule's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyedPlace<'a> {
    /// Nothing where hosts share what is kept.
    pub(crate) host: Option<&'a str>,
    /// As servers get it.
    pub(crate) path: &'a str,
}

impl<'a, T> Reachable<'a, T> {
    /// Of rules with these scopes, which say what else than its query tells responses apart.
    pub(crate) fn new(rules: impl Iterator<Item = (u64, &'a KeyPlan, T)>) -> Self {
        let mut plans: HashMap<u64, Vec<_>> = HashMap::new();
        rules.for_each(|(scope, plan, rule)| plans.entry(scope).or_default().push((plan, rule)));
        Self(plans)
    }

    /// Whether some request has this key. The query in it has to be as the rule would leave it, and the rule has to get such requests.
    pub(crate) fn has(&self, key: &[u8], gets: impl Fn(&T, KeyedPlace<'_>) -> bool) -> bool {
        let Some(parts) = parts(key) else { return false };
        let rules = self.0.get(&parts.scope).map_or(&[][..], Vec::as_slice);
        rules.iter().any(|(plan, rule)| {
            let place = KeyedPlace { host: Some(parts.host).filter(|_| plan.host), path: parts.path };
            query(plan, parts.query) == parts.query && gets(rule, place)
        })
    }
}

struct KeyParts<'a> {
    scope: u64,
    host: &'a str,
    path: &'a str,
    query: &'a str,
}

/// What of a key is looked at: see `key`.
fn parts(key: &[u8]) -> Option<KeyParts<'_>> {
    let (scope, rest) = key.split_first_chunk()?;
    let (_is_secure, rest) = rest.split_first()?;
    let (host, rest) = part(rest)?;
    let (_other_host, rest) = part(rest)?;
    let (path, rest) = part(rest)?;
    let (query, _) = part(rest)?;
    let text = |part| std::str::from_utf8(part).ok();
    Some(KeyParts {
        scope: u64::from_le_bytes(*scope),
        host: text(host)?,
        path: text(path)?,
        query: text(query)?,
    })
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
            let reachable = Reachable::new(rules.iter().map(|(scope, plan)| (*scope, *plan, ())));
            assert_eq!(reachable.has(&of(query), |(), _| true), is_found, "{query} {}", rules.len());
            assert!(!reachable.has(&of(query), |(), _| false));
        }
        let reachable = Reachable::new([(7, &usual, "rule")].into_iter());
        let whole = of("page=1");
        assert!((0..whole.len()).all(|cut| !reachable.has(&whole[..cut], |_, _| true)));
        let place = KeyedPlace { host: Some("a.example"), path: "/p?q" };
        assert!(reachable.has(&whole, |rule, asked| *rule == "rule" && asked == place));
    }
}
