//! One task for each source: ask, judge, report, wait. What control has of each is the set that is in force.

use super::found_sets::{BeginsWith, FoundSet};
use super::{Control, ControlMessage, LedgerEntry, Live, sticky_key};
use crate::api::EventKind;
use crate::config::plan::{DnsPlan, Name, Plan, SourcePlan};
use crate::discover::found::FoundServer;
use crate::discover::membership::{AdoptedFrom, Held, Membership, SourceReply};
use crate::discover::schedule::RefreshSchedule;
use crate::discover::{self, DiscoverySource, SharedNames, SourceAnswer};
use crate::metrics::{QueryResult, SourceSeries};
use crate::text;
use futures_util::FutureExt;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// A pool's servers change no more often than this; the first change is made at once.
const BETWEEN_CHANGES: Duration = Duration::from_millis(200);
/// Whatever a source says of itself, it is not asked more often.
const BETWEEN_QUERIES: Duration = Duration::from_millis(100);

/// Another set of one source.
#[derive(Debug)]
pub(crate) struct FoundMembers {
    pool: Name,
    /// The task's number.
    source: u64,
    set: Vec<FoundServer>,
    /// Who said so.
    summary: String,
}

/// All sources.
#[derive(Debug)]
pub(super) struct Discovering {
    by_pool: HashMap<Name, Vec<RunningSource>>,
    next: u64,
    changes: mpsc::UnboundedSender<ControlMessage>,
    live: Arc<Live>,
    /// Open while a source without servers has not been asked once.
    first: TaskTracker,
    due: HashMap<Name, PendingChange>,
}

/// A source that is asked.
#[derive(Debug)]
struct RunningSource {
    id: u64,
    plan: Arc<SourcePlan>,
    dns: DnsPlan,
    names: SharedNames,
    task: CancellationToken,
}

/// What waits to be put in force in one pool.
#[derive(Debug, Default)]
struct PendingChange {
    changed_at: Option<Instant>,
    evidence: Vec<String>,
    /// Servers that are listed and found, as was told last.
    told: Vec<Name>,
}

impl Discovering {
    pub(super) fn new(live: Arc<Live>, changes: mpsc::UnboundedSender<ControlMessage>) -> Self {
        let (by_pool, due, first) = (HashMap::new(), HashMap::new(), TaskTracker::new());
        Self { by_pool, next: 0, changes, live, first, due }
    }

    /// Has the sources of a plan asked, and those that are gone no longer.
    pub(super) fn follow(&mut self, plan: &Plan) {
        let (mut next, mut sets, mut listed) = (HashMap::new(), HashMap::new(), HashMap::new());
        for pool in &plan.pools {
            let begins = self.live.found.begin_with(pool);
            let own = pool.servers.iter().cloned().map(FoundServer::from);
            listed.insert(pool.name.clone(), own.collect());
            if pool.sources.is_empty() {
                continue;
            }
            let mut before = self.by_pool.remove(&pool.name).unwrap_or_default();
            let (mut sources, mut found) = (Vec::new(), Vec::new());
            for (source, begins) in pool.sources.iter().zip(begins) {
                let set = FoundSet {
                    id: 0,
                    plan: Arc::clone(source),
                    servers: begins.servers.clone(),
                    from: begins.from,
                    since: Instant::now().checked_sub(begins.age).unwrap_or_else(Instant::now),
                };
                let same =
                    before.iter().position(|running| running.plan == *source && running.dns == plan.dns);
                let running = match same {
                    Some(place) => before.swap_remove(place),
                    None => {
                        let asked_before =
                            before.iter().find(|running| running.plan.label() == source.label());
                        let names = asked_before.map(|running| running.names.clone()).unwrap_or_default();
                        self.start(&pool.name, source, &plan.dns, begins, names)
                    }
                };
                found.push(FoundSet { id: running.id, ..set });
                sources.push(running);
            }
            before.into_iter().for_each(|gone| gone.task.cancel());
            next.insert(pool.name.clone(), sources);
            sets.insert(pool.name.clone(), found);
        }
        self.live.found.replace(sets, listed);
        for gone in std::mem::replace(&mut self.by_pool, next).into_values().flatten() {
            gone.task.cancel();
        }
        self.due.retain(|pool, _| self.by_pool.contains_key(pool));
        let is_configured = |pool: &Name, label: &Name| {
            let sources = self.by_pool.get(pool).into_iter().flatten();
            sources.into_iter().any(|running| *running.plan.label() == **label)
        };
        self.live.metrics.discovery.keep(is_configured);
    }

    fn start(
        &mut self,
        pool: &Name,
        plan: &Arc<SourcePlan>,
        dns: &DnsPlan,
        begins: BeginsWith,
        names: SharedNames,
    ) -> RunningSource {
        let (id, now, token) = (self.next, Instant::now(), CancellationToken::new());
        self.next += 1;
        let series = self.live.metrics.discovery.source(pool, &plan.label().into());
        let mut membership = Membership::new(plan.rules.clone(), now);
        let mut source = discover::build(plan, dns, names.clone());
        if begins.from == AdoptedFrom::SameSource {
            source.recall(&begins.servers);
        }
        let n_servers = begins.servers.len();
        let said_at =
            (begins.from == AdoptedFrom::SameSource).then(|| OffsetDateTime::now_utc() - begins.age);
        membership.adopt(begins.servers, begins.from, begins.age, now);
        series.set_state(|state| {
            state.servers = n_servers;
            if state.is_up.is_none() && n_servers > 0 {
                state.held = Some(Held::Stale);
                state.last_success = said_at;
            }
        });
        let task = SourceTask {
            id,
            pool: pool.clone(),
            label: plan.label(),
            source,
            membership,
            schedule: RefreshSchedule::new(dns.min_refresh, dns.max_refresh),
            series,
            is_held: None,
            // A source before this one may have left marks.
            marks_missing: true,
            changes: self.changes.clone(),
            live: Arc::clone(&self.live),
        };
        let first = (n_servers == 0).then(|| self.first.token());
        let ends = token.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = ends.cancelled() => {}
                () = task.run(first) => {}
            }
        });
        RunningSource { id, plan: Arc::clone(plan), dns: dns.clone(), names, task: token }
    }

    /// Waits until each source that no server is known of has been asked.
    pub(super) async fn first_answers(&self) {
        self.first.close();
        self.first.wait().await;
        self.first.reopen();
    }

    /// The longest that a source is to be waited for at the start.
    pub(super) fn longest_start_wait(&self) -> Duration {
        let sources = self.by_pool.values().flatten();
        sources.map(|running| running.plan.start_wait).max().unwrap_or_default()
    }

    /// Every source with how long the start waits for it.
    pub(super) fn start_waits(&self) -> Vec<(Instant, Arc<SourceSeries>)> {
        let now = Instant::now();
        let series = |(pool, running): (&Name, &RunningSource)| {
            let series = self.live.metrics.discovery.source(pool, &running.plan.label().into());
            (now + running.plan.start_wait, series)
        };
        let of_pool = |(pool, sources)| std::iter::repeat(pool).zip(sources);
        self.by_pool.iter().flat_map(of_pool).map(series).collect()
    }

    /// Asks no more.
    pub(super) fn stop(&mut self) {
        self.by_pool.drain().flat_map(|(_, sources)| sources).for_each(|running| running.task.cancel());
        self.due.clear();
    }

    /// Takes note of another set; true if the pool is to have it now.
    fn note(&mut self, found: FoundMembers, now: Instant) -> bool {
        let FoundMembers { pool, source, set, summary } = found;
        // It may have been replaced while this was on its way.
        let Some((before, after, label)) = self.live.found.set(&pool, source, set, now) else { return false };
        let due = self.due.entry(pool).or_default();
        due.evidence.push(format!("{label}: {before} → {} ({summary})", text::servers(after)));
        due.is_due(now)
    }

    /// Pools whose turn has come.
    fn due(&self, now: Instant) -> Vec<Name> {
        let due = self.due.iter().filter(|(_, due)| !due.evidence.is_empty() && due.is_due(now));
        due.map(|(pool, _)| pool.clone()).collect()
    }

    /// Whether it is news that these servers of a pool are listed and found.
    fn tells_anew(&mut self, pool: &Name, both: &[Name]) -> bool {
        let due = self.due.entry(pool.clone()).or_default();
        let is_news = !both.is_empty() && due.told != both;
        due.told = both.to_vec();
        is_news
    }

    /// What speaks for a pool's change, which is made now.
    fn take(&mut self, pool: &Name, now: Instant) -> String {
        let due = self.due.entry(pool.clone()).or_default();
        due.changed_at = Some(now);
        std::mem::take(&mut due.evidence).join("; ")
    }
}

impl PendingChange {
    fn is_due(&self, now: Instant) -> bool {
        self.changed_at.is_none_or(|at| now.duration_since(at) >= BETWEEN_CHANGES)
    }
}

struct SourceTask {
    id: u64,
    pool: Name,
    label: String,
    source: Box<dyn DiscoverySource>,
    membership: Membership,
    schedule: RefreshSchedule,
    series: Arc<SourceSeries>,
    is_held: Option<Held>,
    /// Whether servers are marked as missing.
    marks_missing: bool,
    changes: mpsc::UnboundedSender<ControlMessage>,
    live: Arc<Live>,
}

impl SourceTask {
    async fn run<T>(mut self, first: T) {
        let mut first = Some(first);
        loop {
            // A fault must not end the asking: nobody would find out.
            let asked = AssertUnwindSafe(self.source.ask()).catch_unwind().await;
            let answer = asked.unwrap_or_else(|_| {
                SourceAnswer::failed("it ended by a fault of evenkeel's".to_owned(), Vec::new())
            });
            let after = self.take(answer);
            drop(first.take());
            tokio::time::sleep(BETWEEN_QUERIES).await;
            // Nor must one in what would say that it is time: then it is time.
            let changed = AssertUnwindSafe(self.source.changed()).catch_unwind();
            let _ = tokio::time::timeout(after - BETWEEN_QUERIES, changed).await;
        }
    }

    /// Judges an answer, reports what it changes, and says after what time to ask again.
    fn take(&mut self, answer: SourceAnswer) -> Duration {
        let SourceAnswer { reply, validity, summary, mut problem, .. } = answer.bounded();
        let (now, wall) = (Instant::now(), OffsetDateTime::now_utc());
        let result = match &reply {
            SourceReply::Failed => QueryResult::Failed,
            SourceReply::Servers(servers) if servers.is_empty() => QueryResult::Empty,
            SourceReply::Servers(_) => QueryResult::Success,
        };
        self.series.count(result);
        let verdict = match problem {
            None => self.membership.observe(reply, now),
            Some(_) => self.membership.observe_part(reply, now),
        };
        let mut after = self.schedule.next(validity, fastrand::u64(..));
        after = verdict.ask_within.map_or(after, |within| within.min(after)).max(BETWEEN_QUERIES);
        if verdict.held == Some(Held::TooMany) {
            problem = Some(self.membership.too_many(&summary));
        }
        let is_up = result != QueryResult::Failed && verdict.held != Some(Held::TooMany);
        let was_up = self.series.state().is_up;
        let (servers, missing) = (self.membership.len(), self.membership.n_missing());
        self.mark_missing(missing > 0);
        self.series.set_state(|state| {
            state.is_up = Some(is_up);
            if is_up {
                state.last_success = Some(wall);
            }
            state.last_answer = Some(summary.clone());
            state.problem = problem.clone();
            state.held = verdict.held;
            state.next_query = Some(wall + after);
            (state.servers, state.missing) = (servers, missing);
        });
        self.live.found.confirm(&self.pool, self.id, self.membership.answered(), self.membership.from());
        self.tell(was_up, is_up, verdict.held, &summary);
        if let Some(set) = verdict.set {
            self.series.changed();
            let found = FoundMembers { pool: self.pool.clone(), source: self.id, set, summary };
            let _ = self.changes.send(ControlMessage::Members(found));
        }
        after
    }

    /// Has servers know whether the source still names them.
    fn mark_missing(&mut self, are_some: bool) {
        if !are_some && !self.marks_missing {
            return;
        }
        self.marks_missing = are_some;
        let snapshot = self.live.snapshot();
        let Some(pool) = snapshot.pool(&self.pool) else { return };
        let others = self.live.found.named_by_others(&self.pool, self.id);
        let known: HashMap<_, _> =
            self.membership.absences().map(|(found, is_missing)| (&found.name, is_missing)).collect();
        for member in &pool.members {
            if let Some(is_missing) = known.get(member.server.name()) {
                member.server.set_missing(*is_missing && !others.contains(member.server.name()));
            }
        }
    }

    /// Says in the log and the ledger what has become of the source.
    fn tell(&mut self, was_up: Option<bool>, is_up: bool, held: Option<Held>, summary: &str) {
        let (pool, source, servers) = (&self.pool, &self.label, self.membership.len());
        let record = |from: &str, to: &str, cause: String| {
            let entry = LedgerEntry::new(EventKind::Discovery, "discovery", cause);
            self.live.record(entry.of_pool(pool).change(from, to));
        };
        if was_up != Some(is_up) && (!is_up || was_up.is_some()) {
            let [from, to] = if is_up { ["failing", "answering"] } else { ["answering", "failing"] };
            if is_up {
                info!(%pool, source, summary, "the source answers again");
            } else {
                warn!(%pool, source, summary, servers, "the source says nothing of use; the servers it has named stay as long as keep_stale says");
            }
            record(from, to, format!("{source}: {summary}; {} in force", text::servers(servers)));
        }
        let is_new = held != self.is_held && held != Some(Held::Stale);
        if let Some(held) = held.filter(|_| is_new) {
            let reason = held.word();
            warn!(%pool, source, summary, servers, reason, "what the source says is held back");
            record(
                "followed",
                "held",
                format!("{source}: {reason}: {summary}; {} held", text::servers(servers)),
            );
        }
        self.is_held = held;
    }
}

impl Control {
    /// The configuration in force with the servers that its sources have named, without what operators have said.
    pub(super) fn planned(&self) -> Option<Plan> {
        let mut plan = self.loaded.as_ref()?.plan.clone();
        self.live.found.fill(&mut plan);
        sticky_key::fill(&mut plan, self.live.sticky_key.load().as_deref());
        Some(plan)
    }

    /// Takes another set of a source into account.
    pub(super) fn take_members(&mut self, found: FoundMembers) {
        let (pool, now) = (found.pool.clone(), Instant::now());
        if self.discovering.note(found, now) {
            self.change_members(&pool);
        }
    }

    /// Puts in force what waits for its turn.
    pub(super) fn change_members_due(&mut self) {
        for pool in self.discovering.due(Instant::now()) {
            self.change_members(&pool);
        }
    }

    /// The same without waiting for anybody's turn: nothing is served yet.
    pub(super) fn change_members_at_once(&mut self) {
        for pool in self.discovering.due(Instant::now() + BETWEEN_CHANGES) {
            self.change_members(&pool);
        }
    }

    fn change_members(&mut self, name: &Name) {
        let began = Instant::now();
        let evidence = self.discovering.take(name, Instant::now());
        let planned = self
            .loaded
            .as_ref()
            .and_then(|loaded| loaded.plan.pools.iter().find(|planned| planned.name == *name).cloned());
        let Some(mut planned) = planned else { return };
        let planned = Arc::make_mut(&mut planned);
        let both = self.live.found.listed_and_found(planned);
        if self.discovering.tells_anew(name, &both) {
            let named = both.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
            warn!(pool = %name, servers = named, "a source names servers that are listed as well; what is listed counts");
            let cause = format!("listed as well, and what is listed counts: {named}");
            self.live.record(LedgerEntry::new(EventKind::Discovery, "discovery", cause).of_pool(name));
        }
        self.live.found.fill_pool(planned);
        let overrides = self.live.overrides.load_full();
        overrides.weigh_pool(planned);
        let current = self.live.snapshot();
        let servers = std::mem::take(&mut planned.servers);
        let Some((next, delta)) = current.evolve_pool(name, servers, Instant::now()) else { return };
        if delta.servers.none() {
            return;
        }
        for server in &delta.servers.added {
            server.set_operator(overrides.operator(server));
        }
        let next = Arc::new(next);
        self.live.put_in_force(Arc::clone(&next));
        for server in &delta.probes_stopped {
            self.probing.stop(*server);
        }
        delta.settle(Instant::now(), Instant::now);
        self.live.review_idle();
        self.look_at_ramps();
        for task in delta.probes_started.iter().filter(|task| Control::is_probed_now(task)) {
            let origination = next.pool(name).map(|pool| Arc::clone(&pool.origination));
            self.probing.start(task.clone(), origination.unwrap_or_default());
        }
        self.servers_unsaved = true;
        self.note_presence(&next, name);
        let entry = LedgerEntry::new(EventKind::Discovery, "discovery", evidence.clone());
        self.live.record(entry.of_pool(name));
        if !self.is_starting() {
            self.record_members(&delta, "discovery");
        }
        delta.servers.removed.iter().for_each(|server| self.keep_leaving(server, "discovery"));
        info!(pool = %name, generation = next.generation, joined = delta.servers.added.len(),
            leaving = delta.servers.removed.len(), took_us = began.elapsed().as_micros(), evidence, "servers changed");
    }

    /// A source's trouble must not keep the process from its other pools: who asks whether it is ready hears of it
    /// for as long as the configuration says.
    pub(super) fn await_sources(&self) {
        self.live.awaited.store(Arc::new(self.discovering.start_waits()));
    }
}
