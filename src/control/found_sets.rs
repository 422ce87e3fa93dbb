//! What sources have named and is in force, pool by pool: what fills a plan before it becomes a snapshot or a preview.

use crate::config::plan::{Name, Plan, PoolPlan, SourcePlan};
use crate::discover::found::{self, FoundServer};
use crate::discover::membership::AdoptedFrom;
use crate::text;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The sets of all sources.
#[derive(Debug, Default)]
pub(crate) struct FoundSets {
    by_pool: Mutex<HashMap<Name, Vec<FoundSet>>>,
    /// Servers of pools in force that no source has named: a source that takes their place begins with them.
    listed: Mutex<HashMap<Name, Vec<FoundServer>>>,
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
    /// Whether some are there because another source had named them, until this one has answered.
    pub(super) from: AdoptedFrom,
    /// When the source last said so.
    pub(super) since: Instant,
}

/// A set of an earlier process, and how old it is.
#[derive(Clone, Debug)]
pub(super) struct RecalledSet {
    pub(super) servers: Vec<FoundServer>,
    pub(super) from: AdoptedFrom,
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

    /// What each of a pool's sources begins with: what is in force of the same one. One that is new takes the place of whatever
    /// named servers before and does no longer, so it begins with all of those: whose they are its first answer says.
    pub(super) fn begin_with(&self, pool: &PoolPlan) -> Vec<BeginsWith> {
        let (known, recalled) = (self.lock(), self.recalled.lock().unwrap_or_else(PoisonError::into_inner));
        let known = known.get(&pool.name).map_or(&[][..], Vec::as_slice);
        let same = |source: &SourcePlan| known.iter().find(|known| known.plan.label() == source.label());
        let begin = |source: &Arc<SourcePlan>| {
            if let Some(same) = same(source) {
                let (servers, age) = (same.servers.clone(), same.since.elapsed());
                return BeginsWith { servers, from: same.from, age };
            }
            if let Some(RecalledSet { servers, from, age }) =
                recalled.get(&(pool.name.clone(), source.label())).cloned()
            {
                return BeginsWith { servers, from, age };
            }
            let servers = self.orphans(pool, known);
            BeginsWith { servers, from: AdoptedFrom::OtherSource, age: Duration::ZERO }
        };
        pool.sources.iter().map(begin).collect()
    }

    /// Servers in force that neither the list nor a source of this pool names as far as is known.
    fn orphans(&self, pool: &PoolPlan, known: &[FoundSet]) -> Vec<FoundServer> {
        let is_kept = |set: &FoundSet| pool.sources.iter().any(|source| source.label() == set.plan.label());
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = known.iter().filter(|set| !is_kept(set)).flat_map(|set| &set.servers);
        let mut taken: HashSet<&Name> = pool.servers.iter().map(|server| &server.name).collect();
        let of_kept = known.iter().filter(|set| is_kept(set)).flat_map(|set| &set.servers);
        taken.extend(of_kept.map(|server| &server.name));
        let all = gone.chain(listed.get(&pool.name).into_iter().flatten());
        all.filter(|server| taken.insert(&server.name)).cloned().collect()
    }

    /// Whom a source has named, by which a pool begins.
    pub(super) fn known_of(&self, pool: &PoolPlan, source: &SourcePlan) -> Vec<FoundServer> {
        let place = pool.sources.iter().position(|known| known.label() == source.label());
        place.map(|place| self.begin_with(pool).swap_remove(place).servers).unwrap_or_default()
    }

    /// The sets of the sources that are asked now, and of no others; and the servers in force that are listed.
    pub(super) fn replace(
        &self,
        sets: HashMap<Name, Vec<FoundSet>>,
        listed: HashMap<Name, Vec<FoundServer>>,
    ) {
        *self.lock() = sets;
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = listed;
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
                        "pools.{}: {} of before {} until {} has answered",
                        pool.name,
                        text::servers(begins.servers.len()),
                        if begins.servers.len() == 1 { "stays" } else { "stay" },
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

    /// Servers of a pool that are there by another's word than this source's: the list's, or another source's.
    pub(super) fn named_by_others(&self, pool: &Name, id: u64) -> HashSet<Name> {
        let (known, listed) = (self.lock(), self.listed.lock().unwrap_or_else(PoisonError::into_inner));
        let others = known.get(pool).into_iter().flatten().filter(|set| set.id != id);
        let found = others.flat_map(|set| &set.servers).chain(listed.get(pool).into_iter().flatten());
        found.map(|server| server.name.clone()).collect()
    }

    /// A source has said once more what is in force.
    pub(super) fn confirm(&self, pool: &Name, id: u64, at: Instant, from: AdoptedFrom) {
        let mut known = self.lock();
        if let Some(known) = known.get_mut(pool).and_then(|sets| sets.iter_mut().find(|known| known.id == id))
        {
            (known.since, known.from) = (at, from);
        }
    }

    /// Whether what was written down then is too old to go by after a restart: a set that is good for a time only must not
    /// look older than it is by much of that.
    pub(super) fn is_outdated(&self, written: Instant) -> bool {
        let is_newer = |set: &FoundSet| {
            let keep_stale = set.plan.rules.keep_stale;
            keep_stale.is_some_and(|keep| set.since.saturating_duration_since(written) > keep / 10)
        };
        self.lock().values().flatten().any(is_newer)
    }

    /// Whether a source has said anything since that is good for a time only.
    pub(super) fn is_newer(&self, written: Instant) -> bool {
        self.lock().values().flatten().any(|set| set.plan.rules.keep_stale.is_some() && set.since > written)
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
            from: AdoptedFrom::SameSource,
            since: Instant::now(),
        };
        let sets = plan.pools[0].sources.iter().zip(sets).enumerate().map(set).collect();
        let known = FoundSets::default();
        known.replace(HashMap::from([(Name::from("app"), sets)]), HashMap::new());
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

    #[test]
    fn sources_that_become_one_leave_all_their_servers_to_it() {
        let known = known("{ servers: ['a.internal:80', 'b.internal:80'] }", &[&[1, 2], &[3]]);
        let all = "10.0.0.1:80=100 10.0.0.2:80=100 10.0.0.3:80=100";
        check(&known, "{ discover: { dns: 'c.internal:80' } }", all);
        check(
            &known,
            "{ servers: ['10.0.0.3:80', 'c.internal:80'] }",
            "10.0.0.3:80=100 10.0.0.1:80=100 10.0.0.2:80=100",
        );
    }

    #[test]
    fn a_source_in_place_of_a_list_begins_with_what_was_listed() {
        let known = FoundSets::default();
        known.replace(HashMap::new(), HashMap::from([(Name::from("app"), vec![found(1), found(2)])]));
        check(&known, "{ servers: ['app.internal:80'] }", "10.0.0.1:80=100 10.0.0.2:80=100");
        check(&known, "{ servers: ['10.0.0.2:80', 'app.internal:80'] }", "10.0.0.2:80=100 10.0.0.1:80=100");
        check(&known, "{ servers: ['10.0.0.2:80'] }", "10.0.0.2:80=100");
        let warnings = known.warnings(&plan("{ servers: ['app.internal:80'] }"));
        assert_eq!(warnings, ["pools.app: 2 servers of before stay until dns:app.internal:80 has answered"]);
    }

    #[test]
    fn what_is_good_for_a_time_is_written_down_before_it_looks_old() {
        let pool = "{ discover: { dns: 'a.internal:80', keep_stale: 100s, when_empty: remove } }";
        let known = known(pool, &[&[1]]);
        let now = Instant::now();
        known.confirm(&"app".into(), 0, now + Duration::from_secs(9), AdoptedFrom::SameSource);
        assert!(!known.is_outdated(now));
        known.confirm(&"app".into(), 0, now + Duration::from_secs(11), AdoptedFrom::SameSource);
        assert!(known.is_outdated(now));
    }
}
