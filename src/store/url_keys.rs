//! By what URLs are told apart, now and before. What is kept has the number and the place that its rule gave it then: if another
//! configuration is in force when its URL is purged or changes, and the one of before comes back, it would be found as if nothing had been.
//! So purges and changes go by each way that something may have been kept by.

use crate::config::plan::cache::KeyPlan;
use std::sync::{Arc, PoisonError, RwLock};

/// So many that are not in force are known.
const MOST: usize = 256;

/// The ways, those in force last.
#[derive(Debug, Default)]
pub(crate) struct UrlKeys(RwLock<Arc<[KeyPlan]>>);

/// What is new of what was said.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct NewKeys {
    pub(crate) keys: Vec<KeyPlan>,
    /// Some were too many, and are known no more: what was kept by them is not to be used again.
    pub(crate) has_forgotten: bool,
}

impl UrlKeys {
    /// All that is known.
    pub(crate) fn known(&self) -> Arc<[KeyPlan]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something may be kept by these from now on. The half of the others that left first goes when there are too many.
    pub(crate) fn put_in_force(&self, in_force: &[KeyPlan]) -> NewKeys {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.ends_with(in_force) {
            return NewKeys::default();
        }
        let keys = in_force.iter().filter(|key| !known.contains(key)).cloned().collect();
        let others = known.iter().filter(|key| !in_force.contains(key));
        let too_many = match others.clone().count() {
            count if count > MOST => count - MOST / 2,
            _ => 0,
        };
        *known = others.skip(too_many).chain(in_force).cloned().collect();
        NewKeys { keys, has_forgotten: too_many > 0 }
    }

    /// Something was kept by these before.
    pub(crate) fn recall(&self, before: Vec<KeyPlan>) -> NewKeys {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<KeyPlan> = Vec::new();
        for key in before {
            if !known.contains(&key) && !keys.contains(&key) {
                keys.push(key);
            }
        }
        let too_many = keys.len().saturating_sub(MOST);
        if !keys.is_empty() {
            *known = keys[too_many..].iter().chain(&**known).cloned().collect();
        }
        NewKeys { keys, has_forgotten: too_many > 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> KeyPlan {
        KeyPlan { ignore_query: vec![name.to_owned()], ..KeyPlan::of_urls() }
    }

    #[test]
    fn what_was_in_force_stays_known_and_is_new_once() {
        let keys = UrlKeys::default();
        assert_eq!(keys.put_in_force(&[key("a"), key("b")]).keys, [key("a"), key("b")]);
        assert_eq!(keys.put_in_force(&[key("b"), key("c")]).keys, [key("c")]);
        assert_eq!(*keys.known(), [key("a"), key("b"), key("c")]);
        for back in [[key("b"), key("c")], [key("a"), key("b")]] {
            assert_eq!(keys.put_in_force(&back), NewKeys::default());
            assert!(keys.known().len() == 3 && keys.known().ends_with(&back));
        }
        assert_eq!(keys.recall(vec![key("d"), key("a"), key("d")]).keys, [key("d")]);
        assert_eq!(*keys.known(), [key("d"), key("c"), key("a"), key("b")]);
        assert_eq!(keys.recall(vec![key("d")]), NewKeys::default());
        assert!(keys.put_in_force(&[]).keys.is_empty() && keys.known().len() == 4);
    }

    #[test]
    fn too_many_are_forgotten_by_halves_but_for_those_in_force() {
        let keys = UrlKeys::default();
        let forgotten = (0..=2 * MOST).filter(|n| keys.put_in_force(&[key(&n.to_string())]).has_forgotten);
        assert_eq!(forgotten.collect::<Vec<_>>(), [MOST + 1, MOST + 1 + MOST / 2 + 1]);
        assert!(keys.known().len() <= MOST + 1 && keys.known().ends_with(&[key(&(2 * MOST).to_string())]));
        let many: Vec<_> = (0..2 * MOST).map(|n| key(&format!("many{n}"))).collect();
        assert!(!keys.put_in_force(&many).has_forgotten && keys.known().ends_with(&many));
        assert!(keys.put_in_force(&[key("few")]).has_forgotten);
        assert_eq!(keys.known().len(), 1 + MOST / 2);
        let recalled = keys.recall((0..=MOST).map(|n| key(&format!("old{n}"))).collect());
        assert!(recalled.has_forgotten && !keys.known().contains(&key("old0")));
        assert!(keys.known().contains(&key(&format!("old{MOST}"))));
    }
}
