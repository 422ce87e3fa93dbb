//! Some of those that limits have refused or held back, for people. Nobody waits for the list: who finds it taken is not in it.

use super::RateTable;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const MOST: usize = 1_000;

/// Whose request a limit was too much for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debtor {
    pub limit: String,
    /// The client, as much of its address as is its own.
    pub client: Option<IpAddr>,
    /// What the limit tells apart.
    pub counted_by: String,
}

/// Debtors by key.
#[derive(Debug, Default)]
pub struct Debtors(Mutex<HashMap<u64, Debtor>>);

impl Debtors {
    /// Notes a key, unless the list is full or somebody else has it just now.
    pub fn note(&self, key: u64, debtor: impl FnOnce() -> Debtor) {
        let Ok(mut list) = self.0.try_lock() else { return };
        if list.len() < MOST {
            list.entry(key).or_insert_with(debtor);
        }
    }

    /// Those that are in debt still, the deepest first. The others are forgotten.
    pub fn deepest(&self, table: &RateTable, now: Instant) -> Vec<(Debtor, Duration)> {
        let mut list = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        list.retain(|key, _| table.debt(*key, now) > Duration::ZERO);
        let mut all: Vec<_> =
            list.iter().map(|(key, debtor)| (debtor.clone(), table.debt(*key, now))).collect();
        all.sort_by_key(|(_, debt)| std::cmp::Reverse(*debt));
        all
    }
}
