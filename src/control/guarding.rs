//! Watches a reload for a while, and puts the generation before it back if it has made things worse.

use super::handover::{GuardVerdict, TakenBack};
use super::reading::{LoadedConfiguration, ReadConfiguration, ReadPurpose, ReloadRefused};
use super::{Control, LedgerEntry, Live};
use crate::api::receipt::{GuardState, Guarding};
use crate::api::{EventKind, Receipt, ReloadOutcome, to_millisecond};
use crate::config::plan::{Name, Protocol};
use crate::guard::{
    GuardLimits, PoolAfter, PoolBefore, ServerAfter, ServerRecord, judge, judge_server, patience,
};
use crate::history::{Ended, SECONDS, Totals, quantile};
use crate::metrics::{Growth, SeriesTotals, spread};
use crate::operate::Overrides;
use crate::pool::{HealthState, Member, Membership, Operator, Pool, Server};
use crate::snapshot::{Listener, ListenerTarget, Snapshot};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tracing::{error, info, warn};

/// How often a guarded reload is judged.
const EVERY: Duration = Duration::from_millis(200);

/// Judgements that are remembered, and passed on by an upgrade: who waits for one asks every now and then.
const REMEMBERED: usize = 8;

/// How a reload is to be watched.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) time: Duration,
    pub(crate) limits: GuardLimits,
}

/// A reload under watch.
pub(super) struct GuardWatch {
    guard: Guard,
    begun: Instant,
    until: Instant,
    next_look: Instant,
    actor: String,
    generation: u64,
    /// It is being taken back.
    is_judged: bool,
    /// Of the file that is watched.
    fingerprint: Option<String>,
    /// What was in force before.
    before: LoadedConfiguration,
    overrides: Arc<Overrides>,
    pools: HashMap<Name, PoolBefore>,
    /// What had been counted at the reload.
    counted: SeriesTotals,
    in_flight: HashMap<u32, InFlight>,
    /// Since when half as many wait for a pool, or have left it, as it takes to say something.
    awaited: HashMap<Name, Instant>,
    /// How each server did just before it, by its id.
    servers: HashMap<u32, ServerRecord>,
    /// And what it had done some looks ago.
    marks: HashMap<u32, Marks>,
}

/// What a server has in flight.
#[derive(Clone, Copy, Debug, Default)]
struct InFlight {
    all: u32,
    /// Those whose clients are still to send more.
    coming: u32,
}

impl InFlight {
    fn of(server: &Server) -> Self {
        // In this order what begins meanwhile is none that waits.
        let all = server.in_flight();
        Self { all, coming: server.uploads().coming() }
    }
}

/// What a server had done since the reload.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    record: ServerRecord,
    /// Requests that it had been given.
    begun: u64,
}

/// The same as of a while ago.
#[derive(Clone, Copy, Debug)]
struct Marks {
    earlier: Mark,
    later: Mark,
    since: Instant,
}

impl Marks {
    /// What it had done so long ago, or longer, but not twice as long.
    fn earlier(&mut self, now: Instant, patience: Duration, mark: Mark) -> Mark {
        if now.saturating_duration_since(self.since) >= patience {
            *self = Self { earlier: self.later, later: mark, since: now };
        }
        self.earlier
    }
}

/// What there was before a reload, to judge it by.
pub(super) struct Baseline {
    before: LoadedConfiguration,
    overrides: Arc<Overrides>,
    pools: HashMap<Name, PoolBefore>,
    /// By server's id.
    in_flight: HashMap<u32, InFlight>,
    servers: HashMap<u32, ServerRecord>,
}

impl Control {
    /// What there is before a reload; none if nothing is in force that could be put back.
    pub(super) fn baseline(&self, limits: &GuardLimits) -> Option<Baseline> {
        let before = self.loaded.clone()?;
        let snapshot = self.live.snapshot();
        let history = self.live.pool_history();
        let of = |pool: &Arc<Pool>| {
            let window = history.window(&*pool.name, SECONDS);
            let share = |count: u64| count as f64 / window.requests.max(1) as f64;
            let up = servers(pool).up;
            // To the first byte: how long a response takes to the last one is also up to who reads it.
            let p99_ms = quantile(&spread(&pool.stats.time_to_first_byte), 0.99);
            let seconds = |ms: Option<f64>| ms.map(|ms| Duration::from_secs_f64(ms / 1000.0));
            let before = PoolBefore {
                error_share: share(window.errors),
                connect_share: share(window.connect_failures),
                unanswered_share: (window.requests >= limits.min_requests).then(|| share(window.unanswered)),
                answered_per_second: window.requests.saturating_sub(window.unanswered) as f64
                    / history.points(&*pool.name).len().max(1) as f64,
                // The second that is not over yet is in no window.
                answered: window.answers > 0 || has_answered(pool),
                p99: seconds(p99_ms),
                completed: window.whole > 0,
                p99_whole: seconds(quantile(&spread(&pool.stats.request_duration), 0.99)),
                up,
                record: record(&history.recent(&*pool.name).ended()),
            };
            (pool.name.clone(), before)
        };
        let pools = snapshot.pools().iter().map(of).collect();
        let servers = snapshot.pools().iter().flat_map(|pool| &pool.members).map(|member| &member.server);
        let in_flight = servers.clone().map(|server| (server.id(), InFlight::of(server))).collect();
        let history = self.live.server_history();
        let did = |id: u32| (id, record(&history.recent(&id).ended()));
        let servers = servers.map(|server| did(server.id())).collect();
        Some(Baseline { before, overrides: self.live.overrides.load_full(), pools, in_flight, servers })
    }

    /// Begins to watch the reload that has just been done.
    pub(super) fn watch(&mut self, guard: Guard, baseline: Baseline, actor: &str) {
        let now = Instant::now();
        let snapshot = self.live.snapshot();
        let Baseline { before, overrides, pools, in_flight, servers } = baseline;
        info!(generation = snapshot.generation, time = ?guard.time, "watching the reload");
        self.watch = Some(GuardWatch {
            begun: now,
            until: now + guard.time,
            next_look: now + EVERY,
            actor: actor.to_owned(),
            generation: snapshot.generation,
            is_judged: false,
            fingerprint: self.loaded.as_ref().map(|loaded| loaded.fingerprint.clone()),
            before,
            overrides,
            pools,
            counted: self.live.metrics.tally(&snapshot),
            in_flight,
            awaited: HashMap::new(),
            servers,
            marks: HashMap::new(),
            guard,
        });
        self.tell_guard(GuardState::Watching, None);
    }

    /// Until when a reload is watched.
    pub(super) fn watched_until(&self) -> Option<OffsetDateTime> {
        let watch = self.watch.as_ref()?;
        let left = watch.until.saturating_duration_since(Instant::now());
        Some(to_millisecond(OffsetDateTime::now_utc() + left))
    }

    /// Another configuration has come: the watched one is judged no longer.
    pub(super) fn stop_watching(&mut self) {
        if self.watch.is_some() {
            self.tell_guard(GuardState::Ended, Some("another reload came".to_owned()));
            self.watch = None;
        }
    }

    /// Looks whether a watched reload has made things worse, when it is time to.
    pub(super) fn look_at_watched(&mut self) {
        let now = Instant::now();
        let Some(watch) = &mut self.watch else { return };
        let is_over = now >= watch.until;
        if watch.is_judged || now < watch.next_look && !is_over {
            return;
        }
        watch.next_look = now + EVERY;
        match find_worse(&self.live, watch, is_over) {
            Some(why) => self.roll_back(why),
            None if is_over => {
                info!(generation = watch.generation, "the reload is kept: nothing has become worse");
                let entry = LedgerEntry::new(EventKind::Reload, "guard", "kept: nothing has become worse");
                self.live.record(entry);
                self.tell_guard(GuardState::Kept, None);
                self.watch = None;
            }
            None => {}
        }
    }

    /// Begins to put back what was in force before.
    fn roll_back(&mut self, why: String) {
        let Some(watch) = &mut self.watch else { return };
        watch.is_judged = true;
        error!(
            generation = watch.generation,
            why, "the reload has made things worse; putting the one before back"
        );
        let before = watch.before.clone();
        self.reopen(ReadPurpose::RollBack(why), before);
    }

    /// Puts back what was in force before, with what it needs opened again.
    pub(super) fn finish_roll_back(
        &mut self,
        why: &str,
        read: Result<ReadConfiguration, ReloadRefused>,
        started: Instant,
    ) {
        let Some(watch) = self.watch.take() else { return };
        // What operators have said since is in force; what ended with servers that come back begins again, with them.
        let said = self.live.overrides.load_full();
        let (_, ended) = watch.overrides.kept_by(&self.live.snapshot().plan, time::OffsetDateTime::now_utc());
        self.live.overrides.store(Arc::new(said.or(&ended)));
        let fingerprint = watch.before.fingerprint.clone();
        let taken = read.and_then(|(before, opened)| self.take_over(before, opened));
        let failed = taken.is_err();
        if failed {
            self.live.overrides.store(said);
        }
        let mut receipt = Receipt { fingerprint: Some(fingerprint), ..self.receipt("guard", taken) };
        receipt.took_ms = super::milliseconds(started.elapsed());
        let state = match failed {
            false => {
                receipt.outcome = ReloadOutcome::RolledBack;
                let verdict = GuardVerdict {
                    generation: watch.generation,
                    at: OffsetDateTime::now_utc(),
                    why: why.to_owned(),
                };
                let taken_back = |fingerprint| TakenBack { fingerprint, verdict: Some(verdict) };
                self.taken_back = watch.fingerprint.clone().map(taken_back);
                receipt.problems = vec![why.to_owned()];
                self.live.metrics.reload_rolled_back();
                warn!(
                    generation = receipt.generation,
                    took_ms = receipt.took_ms,
                    "rolled back; the file is still the one that was taken back"
                );
                GuardState::RolledBack
            }
            true => {
                receipt.problems.iter().for_each(|problem| error!("{problem}"));
                self.live.metrics.reload_not_rolled_back();
                error!("the configuration before cannot be put back; this one stays");
                GuardState::Ended
            }
        };
        self.save_overrides_later();
        let said = match failed {
            false => format!("rolled back: {why}"),
            true => format!(
                "{why}, and the configuration before cannot be put back: {}",
                receipt.problems.join("; ")
            ),
        };
        self.live.record(LedgerEntry::new(EventKind::Reload, "guard", said.clone()));
        self.live.last_reload.store(Some(Arc::new(receipt)));
        self.watch = Some(watch);
        self.tell_guard(state, Some(said));
        self.watch = None;
    }

    fn tell_guard(&self, state: GuardState, why: Option<String>) {
        let Some(watch) = &self.watch else { return };
        let left = watch.until.saturating_duration_since(Instant::now());
        let guarding = Guarding {
            state,
            generation: watch.generation,
            actor: watch.actor.clone(),
            until: to_millisecond(OffsetDateTime::now_utc() + left),
            max_error_rise: watch.guard.limits.error_rise,
            min_requests: watch.guard.limits.min_requests,
            max_servers_lost: watch.guard.limits.servers_lost,
            why,
        };
        let mut guards = self.live.guards.load().to_vec();
        guards.retain(|guard| guard.generation != watch.generation);
        guards.insert(0, guarding);
        guards.truncate(REMEMBERED);
        self.live.guards.store(Arc::new(guards));
    }
}

fn find_worse(live: &Live, watch: &mut GuardWatch, is_over: bool) -> Option<String> {
    let snapshot = live.snapshot();
    let counted = live.metrics.tally(&snapshot).since(&watch.counted);
    snapshot.pools().iter().find_map(|pool| {
        let since = counted.pools.get(&pool.name).copied().unwrap_or_default();
        // What began before says nothing of this generation.
        let ended = since.of_this_generation();
        let ServerCounts { up, probing, wanted } = servers(pool);
        let waiting = waiting(pool, &watch.in_flight, &counted.servers);
        let is_awaited = (u64::from(waiting) + ended.left) * 2 >= watch.guard.limits.min_requests.max(1);
        let now = Instant::now();
        let awaited = is_awaited.then(|| *watch.awaited.entry(pool.name.clone()).or_insert(now));
        let after = PoolAfter {
            requests: ended.requests,
            errors: ended.errors,
            connect_failures: ended.connect_failures,
            unanswered: ended.unanswered,
            answered: since.answers > 0,
            completed: ended.whole > 0,
            waiting,
            left: ended.left,
            elapsed: watch.begun.elapsed(),
            awaited: awaited.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            up,
            probing,
            wanted,
        };
        if let Some(worse) = judge(watch.pools.get(&pool.name), &after, &watch.guard.limits, is_over) {
            return Some(format!("pools.{}: {worse}", pool.name));
        }
        find_worse_server(pool, watch, &counted, passes_bytes_on(&snapshot, pool))
    })
}

/// The same of each server of a pool.
fn find_worse_server(pool: &Pool, watch: &mut GuardWatch, counted: &Growth, is_raw: bool) -> Option<String> {
    let before = watch.pools.get(&pool.name);
    let (now, patience) = (Instant::now(), patience(before));
    let keeps_clients = pool.hash_key().is_some() || pool.plan.sticky.is_some();
    let pool_before = before.map(|before| before.record).filter(|_| keeps_clients);
    let none = Totals::default();
    let did = |server: &Server| counted.servers.get(&server.id()).unwrap_or(&none);
    let sum = pool.members.iter().map(|member| record(&did(&member.server).of_this_generation()));
    let sum = sum.fold(ServerRecord::default(), ServerRecord::and);
    pool.members.iter().filter(|member| is_wanted(member)).find_map(|Member { server, .. }| {
        let counted = did(server);
        let ended = counted.of_this_generation();
        let record = record(&ended);
        let begun = ended.requests + u64::from(waiting_at(server, &watch.in_flight, counted));
        let mark = Mark { record, begun };
        let marks = watch.marks.entry(server.id()).or_insert(Marks {
            earlier: Mark::default(),
            later: Mark::default(),
            since: watch.begun,
        });
        let earlier = marks.earlier(now, patience, mark);
        // Whoever passes bytes on may have nothing to say to connections that say nothing.
        let unanswered = match is_raw {
            true => 0,
            false => earlier.begun.saturating_sub(ended.requests + counted.answers),
        };
        let others = ServerRecord { served: sum.served - record.served, lost: sum.lost - record.lost };
        let after = ServerAfter { record, earlier: earlier.record, unanswered, others, pool_before };
        let worse = judge_server(watch.servers.get(&server.id()), &after, &watch.guard.limits)?;
        Some(format!("pools.{}: {}: {worse}", pool.name, server.name()))
    })
}

/// Whether some of what a pool gets is no HTTP, by its own listeners or by those that it stands in for.
fn passes_bytes_on(snapshot: &Snapshot, pool: &Arc<Pool>) -> bool {
    let is_raw = |listener: &&Arc<Listener>| listener.plan.protocol != Protocol::Http;
    let is_fallback =
        || snapshot.pools().iter().any(|other| other.plan.fallback.as_ref() == Some(&pool.name));
    let leads_there = |listener: &Arc<Listener>| match &listener.target {
        ListenerTarget::Pool(own) => Arc::ptr_eq(own, pool),
        ListenerTarget::Routes(table) => table.leads_to(pool),
        ListenerTarget::RedirectToHttps => false,
    };
    snapshot.listeners().iter().filter(is_raw).any(|listener| leads_there(listener) || is_fallback())
}

/// How exchanges have come out that are over.
fn record(ended: &Ended) -> ServerRecord {
    ServerRecord { served: ended.fine, lost: ended.errors.max(ended.unanswered) + ended.in_vain }
}

/// Whether any of a pool's servers has answered a request.
fn has_answered(pool: &Pool) -> bool {
    pool.members.iter().any(|member| member.server.answers.load(Relaxed) > 0)
}

/// What a pool's servers have whole in flight beyond what is left of what each had before the reload.
fn waiting(pool: &Pool, before: &HashMap<u32, InFlight>, counted: &HashMap<u32, Totals>) -> u32 {
    let none = Totals::default();
    let of = |server: &Server| waiting_at(server, before, counted.get(&server.id()).unwrap_or(&none));
    pool.members.iter().map(|member| of(&member.server)).sum()
}

/// The same of one server.
fn waiting_at(server: &Server, before: &HashMap<u32, InFlight>, counted: &Totals) -> u32 {
    let before = before.get(&server.id()).copied().unwrap_or_default();
    let left = before.all.saturating_sub(u32::try_from(counted.earlier.requests).unwrap_or(u32::MAX));
    let now = InFlight::of(server);
    // Of those that were coming before, as many as are left may still be.
    let coming = now.coming.saturating_sub(before.coming.min(left));
    now.all.saturating_sub(left).saturating_sub(coming)
}

/// Servers that nobody keeps out.
#[derive(Default)]
struct ServerCounts {
    up: usize,
    /// Not decided on.
    probing: usize,
    /// All of them.
    wanted: usize,
}

/// Whether nobody keeps it out.
fn is_wanted(member: &Member) -> bool {
    let state = member.server.state();
    !member.drain && state.admin == Operator::Ready && state.membership != Membership::Leaving
}

fn servers(pool: &Pool) -> ServerCounts {
    let mut counts = ServerCounts::default();
    for member in &pool.members {
        if !is_wanted(member) {
            continue;
        }
        counts.wanted += 1;
        match member.server.state().health {
            HealthState::Up => counts.up += 1,
            HealthState::Probing => counts.probing += 1,
            HealthState::Down => {}
        }
    }
    counts
}
