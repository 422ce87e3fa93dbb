//! What sources have named and is in force, pool by pool: what fills a plan before it becomes a snapshot or a preview.

use crate::config::plan::{Name, Plan, PoolPlan, SourcePlan};
use crate::discover::found::{self, FoundServer};
use crate::discover::membership::AdoptedFrom;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The sets of all sources.
#[derive(Debug, Default)]
pub(crate) struct FoundSets {
    by_pool: Mutex<HashMap<Name, Vec<FoundSet>>>,
    /// What an earlier process knew, until this one has begun to ask.
    recalled: Mutex<RecalledSets>,
}

/// One source's set.
#[derive(Clone, Debug)]
pub(super) struct FoundSet {
    /// The number of the task that asks.
    pub(super) id: u64,
    pub(super) plan: Arc<SourcePlan>,
    pub(super) servers: Vec<FoundServer>,
    /// When the source said so.
    pub(super) since: Instant,
}

/// A set of an earlier process, and how old it is.
#[derive(Clone, Debug)]
pub(super) struct RecalledSet {
    pub(super) servers: Vec<FoundServer>,
    pub(super) age: Duration,
}

/// By pool and source.
pub(super) type RecalledSets = HashMap<(Name, String), RecalledSet>;

/// What a source begins with.
#[derive(Clone, Debug)]
pub(super) struct BeginsWith {
    pub(super) servers: Vec<FoundServer>,
    pub(super) from: AdoptedFrom,
    pub(super) age: Duration,
}

impl FoundSets {
    /// Adds the servers that are known of each pool's sources.
    pub(super) fn fill(&self, plan: &mut Plan) {
        for pool in plan.pools.iter_mut().filter(|pool| !pool.sources.is_empty()) {
            self.fill_pool(Arc::make_mut(pool));
        }
    }

    /// The servers of a pool that are listed and named by a source as well: what is listed counts. `pool` is as the
    /// configuration has it.
    pub(super) fn listed_and_found(&self, pool: &PoolPlan) -> Vec<Name> {
        let listed: HashSet<&Name> = pool.servers.iter().map(|server| &server.name).collect();
        let begins = self.begin_with(pool);
        let found = begins.iter().flat_map(|begins| &begins.servers).map(|server| &server.name);
        let mut both: Vec<_> = found.filter(|name| listed.contains(name)).cloned().collect();
        both.sort_unstable();
        both.dedup();
        both
    }

    pub(super) fn fill_pool(&self, pool: &mut PoolPlan) {
        let begins: Vec<_> = self.begin_with(pool).into_iter().map(|begins| begins.servers).collect();
        found::fill(pool, &begins);
    }

    /// What each of a pool's sources begins with: what is in force of the same one, or else of one that is no longer
    /// configured.
    pub(super) fn begin_with(&self, pool: &PoolPlan) -> Vec<BeginsWith> {
        let (known, recalled) = (self.lock(), self.recalled.lock().unwrap_or_else(PoisonError::into_inner));
        let known = known.get(&pool.name).map_or(&[][..], Vec::as_slice);
        let same = |source: &SourcePlan| known.iter().find(|known| known.plan.label() == source.label());
        let kept: HashSet<u64> = pool.sources.iter().filter_map(|source| Some(same(source)?.id)).collect();
        let mut orphans = known.iter().filter(|known| !kept.contains(&known.id));
        let mut begin = |source: &Arc<SourcePlan>| {
            let (found, from) = match same(source) {
                Some(same) => (Some(same), AdoptedFrom::SameSource),
                None => (orphans.next(), AdoptedFrom::OtherSource),
            };
            if found.is_none()
                && let Some(RecalledSet { servers, age }) =
                    recalled.get(&(pool.name.clone(), source.label())).cloned()
            {
                return BeginsWith { servers, from: AdoptedFrom::SameSource, age };
            }
            BeginsWith {
                servers: found.map(|found| found.servers.clone()).unwrap_or_default(),
                from,
                age: found.map_or(Duration::ZERO, |found| found.since.elapsed()),
            }
        };
        pool.sources.iter().map(&mut begin).collect()
    }

    /// Whom a source has named, by which a pool begins.
    pub(super) fn known_of(&self, pool: &PoolPlan, source: &SourcePlan) -> Vec<FoundServer> {
        let place = pool.sources.iter().position(|known| known.label() == source.label());
        place.map(|place| self.begin_with(pool).swap_remove(place).servers).unwrap_or_default()
    }

    /// The sets of the sources that are asked now, and of no others.
    pub(super) fn replace(&self, sets: HashMap<Name, Vec<FoundSet>>) {
        *self.lock() = sets;
        self.recall(RecalledSets::new());
    }

    /// Takes over what an earlier process knew.
    pub(super) fn recall(&self, recalled: RecalledSets) {
        *self.recalled.lock().unwrap_or_else(PoisonError::into_inner) = recalled;
    }

    /// All there are, to be written down.
    pub(super) fn all(&self) -> HashMap<Name, Vec<FoundSet>> {
        self.lock().clone()
    }

    /// Sources of a plan that are not asked yet while servers of others wait for their first answer.
    pub(super) fn warnings(&self, plan: &Plan) -> Vec<String> {
        let mut warnings = Vec::new();
        for pool in plan.pools.iter().filter(|pool| !pool.sources.is_empty()) {
            for (source, begins) in pool.sources.iter().zip(self.begin_with(pool)) {
                if begins.from == AdoptedFrom::OtherSource && !begins.servers.is_empty() {
                    warnings.push(format!(
                        "pools.{}: {} servers of its source before stay until {} has answered",
                        pool.name,
                        begins.servers.len(),
                        source.label()
                    ));
                }
            }
        }
        warnings
    }

    /// Another set of one source; the old one's and the new one's size, and what the source is called. `None` if it is not
    /// asked any more.
    pub(super) fn set(
        &self,
        pool: &Name,
        id: u64,
        servers: Vec<FoundServer>,
        now: Instant,
    ) -> Option<(usize, usize, String)> {
        let mut known = self.lock();
        let known = known.get_mut(pool)?.iter_mut().find(|known| known.id == id)?;
        let (before, after) = (known.servers.len(), servers.len());
        (known.servers, known.since) = (servers, now);
        Some((before, after, known.plan.label()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Vec<FoundSet>>> {
        self.by_pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::units::Address;

    fn plan(pool: &str) -> Plan {
        let text = format!(
            "listeners: {{ web: {{ address: '127.0.0.1:80', pool: app }} }}\npools: {{ app: {pool} }}\n"
        );
        match parse(&text) {
            Ok((plan, _)) => plan,
            Err(problems) => panic!("{}", problems.render("test", &text, false)),
        }
    }

    fn found(last: u8) -> FoundServer {
        let address = ([10, 0, 0, last], 80).into();
        FoundServer::new(format!("10.0.0.{last}:80").into(), Address::Inet(address))
    }

    /// What is known when this pool's sources, in their order, have named these servers.
    fn known(pool: &str, sets: &[&[u8]]) -> FoundSets {
        let plan = plan(pool);
        let set = |(id, (source, set)): (usize, (&Arc<SourcePlan>, &&[u8]))| FoundSet {
            id: id as u64,
            plan: Arc::clone(source),
            servers: set.iter().map(|last| found(*last)).collect(),
            since: Instant::now(),
        };
        let sets = plan.pools[0].sources.iter().zip(sets).enumerate().map(set).collect();
        let known = FoundSets::default();
        known.replace(HashMap::from([(Name::from("app"), sets)]));
        known
    }

    #[track_caller]
    fn check(known: &FoundSets, pool: &str, expected: &str) {
        let mut plan = plan(pool);
        known.fill(&mut plan);
        let server =
            |server: &crate::config::plan::ServerPlan| format!("{}={}", server.name, server.weight.get());
        let servers: Vec<_> = plan.pools[0].servers.iter().map(server).collect();
        assert_eq!(servers.join(" "), expected);
    }

    const TWO: &str =
        "{ servers: ['10.0.0.9:80', 'a.internal:80', { address: 'b.internal:80', weight: 7 }] }";

    #[test]
    fn a_plan_gets_what_its_sources_have_named() {
        let known = known(TWO, &[&[1, 2], &[3]]);
        check(&known, TWO, "10.0.0.9:80=100 10.0.0.1:80=100 10.0.0.2:80=100 10.0.0.3:80=7");
        check(&known, "{ servers: [{ address: 'b.internal:80', weight: 9 }] }", "10.0.0.3:80=9");
        check(&known, "{ servers: ['10.0.0.9:80'] }", "10.0.0.9:80=100");
    }

    #[test]
    fn of_two_with_one_name_the_configurations_own_counts() {
        let known = known(TWO, &[&[9, 2], &[2, 3]]);
        check(&known, TWO, "10.0.0.9:80=100 10.0.0.2:80=100 10.0.0.3:80=7");
    }

    #[test]
    fn who_is_listed_and_found_is_told() {
        let known = known(TWO, &[&[9, 2], &[9, 3]]);
        assert_eq!(known.listed_and_found(&plan(TWO).pools[0]), [Name::from("10.0.0.9:80")]);
        let other = plan("{ servers: ['10.0.0.8:80', 'a.internal:80'] }");
        assert!(known.listed_and_found(&other.pools[0]).is_empty());
    }

    #[test]
    fn a_source_that_is_replaced_leaves_its_servers_to_the_next() {
        let known = known("{ discover: { dns: 'a.internal:80' } }", &[&[1, 2]]);
        check(&known, "{ discover: { dns: 'b.internal:80' } }", "10.0.0.1:80=100 10.0.0.2:80=100");
        check(&known, "{ servers: ['b.internal:80', 'a.internal:80'] }", "10.0.0.1:80=100 10.0.0.2:80=100");
    }
}
