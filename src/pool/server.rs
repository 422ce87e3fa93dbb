//! A server and the leases on it. It outlives reloads: whatever must not be forgotten lives here.

use super::deadline::Deadline;
use super::early_probe::EarlyProbe;
use super::health::{Health, HealthState, HealthThresholds, Transition};
use super::learned::Learned;
use super::outcome::TryCounts;
use super::outlier::{OutlierSignals, OutlierState, Standing};
use super::ramp::Ramp;
use super::slot::{Flags, Slot};
use super::slot_table::{OwnedSlot, SlotAllocator};
use super::success::SuccessRecord;
use super::uploads::Uploads;
use crate::config::plan::{Name, SlowStart};
use crate::units::Address;
use arc_swap::ArcSwapOption;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the operator wants of a server, beside what the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Operator {
    #[default]
    Ready,
    /// Nothing new; what is in flight finishes; probes go on.
    Drain,
    /// Nothing at all, and no probes.
    Maint,
}

/// Whether the configuration still has the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Membership {
    Present,
    Leaving,
}

/// Three independent facts about a server, each with an owner of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// Owned by the probes.
    pub health: HealthState,
    /// Owned by the operator.
    pub admin: Operator,
    /// Owned by the configuration.
    pub membership: Membership,
}

/// Whoever wants to know when a server may have room that it had not, or is of no use any more.
pub trait RoomListener: std::fmt::Debug + Send + Sync {
    /// Called at the end of each lease, so it waits for nothing.
    fn freed(&self);
}

/// What the servers of one pool share.
#[derive(Debug)]
pub struct SharedByServers {
    /// The memory of their counts.
    pub allocator: SlotAllocator,
    /// Who waits for room.
    pub queue: Arc<dyn RoomListener>,
    /// Who judges them by their work.
    pub outliers: Arc<OutlierSignals>,
}

/// One member of a pool, known by pool and name.
#[derive(Debug)]
pub struct Server {
    id: u32,
    pool: Name,
    name: Name,
    address: Address,
    host: ArcSwapOption<Name>,
    account: LeaseAccount,
    health: Mutex<Tracked>,
    down_deadline: Deadline,
    leave_deadline: Deadline,
    /// Seconds for which the server keeps an idle connection, as its `Keep-Alive` header says; 0 is unknown.
    pub keepalive_hint: AtomicU32,
    /// How many connections it may have open; 0 is as many as come.
    max_connections: AtomicU32,
    /// Whether it has last agreed on HTTP/1.1 where it could have had HTTP/2 (`protocol: auto`). Only a guess at what it
    /// will agree on next.
    pub prefers_http1: AtomicBool,
    /// Until when it is believed to speak HTTP/2 alone.
    http2_alone: Deadline,
    /// Responses whose head has come.
    pub answers: AtomicU64,
    /// Requests whose clients seem to have left in the middle of a response in which nothing came any more.
    pub left_in_vain: AtomicU64,
    uploads: Arc<Uploads>,
    learned: Learned,
    success: SuccessRecord,
    ramp: Ramp,
    /// Whether its next probe is wanted before its time.
    early_probe: EarlyProbe,
    /// How it does beside the others. Apart, as most pools judge nobody: servers that are chosen lie the closer together.
    outlier: Box<OutlierState>,
}

/// What every lease touches, in one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct LeaseAccount {
    slot: OwnedSlot,
    /// Who waits for room in its pool.
    queue: Arc<dyn RoomListener>,
    tries: TryCounts,
}

#[derive(Debug)]
struct Tracked {
    health: Health,
    since: Instant,
}

impl Server {
    /// A server that has just appeared in the configuration.
    pub fn new(
        id: u32,
        pool: Name,
        name: Name,
        address: Address,
        health: Health,
        shared: &mut SharedByServers,
        now: Instant,
    ) -> Self {
        Self {
            id,
            outlier: Box::new(OutlierState::new(id, &pool, &shared.outliers, now)),
            pool,
            name,
            address,
            host: ArcSwapOption::empty(),
            account: LeaseAccount {
                slot: shared.allocator.claim(flags_of(health.state())),
                queue: Arc::clone(&shared.queue),
                tries: TryCounts::default(),
            },
            health: Mutex::new(Tracked { health, since: now }),
            down_deadline: Deadline::never(now),
            leave_deadline: Deadline::never(now),
            keepalive_hint: AtomicU32::new(0),
            max_connections: AtomicU32::new(0),
            prefers_http1: AtomicBool::new(false),
            http2_alone: Deadline::never(now),
            answers: AtomicU64::new(0),
            left_in_vain: AtomicU64::new(0),
            uploads: Arc::default(),
            learned: Learned::new(now),
            success: SuccessRecord::default(),
            ramp: Ramp::new(now),
            early_probe: EarlyProbe::default(),
        }
    }

    /// The same server as one that a host name has led to.
    #[must_use]
    pub fn found_by(self, host: Option<Name>) -> Self {
        self.set_host(host);
        self
    }

    /// The host name that has led to its address, if one has.
    pub fn host(&self) -> Option<Name> {
        self.host.load().as_deref().cloned()
    }

    /// Another name leads to it now, or none.
    pub fn set_host(&self, host: Option<Name>) {
        self.host.store(host.map(Arc::new));
    }

    /// It has refused HTTP/1.1 where that alone was offered (`protocol: auto`). An update may change that, so it is asked again.
    pub fn refuses_http1(&self, now: Instant) {
        const BELIEVED_FOR: Duration = Duration::from_secs(60);
        self.http2_alone.set(Some(now + BELIEVED_FOR));
    }

    /// Whether it has done so lately.
    pub fn speaks_http2_alone(&self, now: Instant) -> bool {
        self.http2_alone.is_ahead(now)
    }

    /// Unique for the life of the process; never used again for another server.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The name of its pool.
    pub fn pool(&self) -> &Name {
        &self.pool
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Leases out: requests, tunnels and connections.
    pub fn in_flight(&self) -> u32 {
        self.slot().in_flight()
    }

    /// Those of them of which more is to come.
    pub fn uploads(&self) -> &Arc<Uploads> {
        &self.uploads
    }

    /// Its leases that have ended.
    pub fn tries(&self) -> &TryCounts {
        &self.account.tries
    }

    /// How its tries have ended, of pools that go by it.
    pub fn success(&self) -> &SuccessRecord {
        &self.success
    }

    /// What algorithms go by that learn.
    pub fn learned(&self) -> &Learned {
        &self.learned
    }

    /// Whether its next probe is wanted before its time.
    pub fn early_probe(&self) -> &EarlyProbe {
        &self.early_probe
    }

    /// How it does beside the others.
    pub fn outlier(&self) -> &OutlierState {
        &self.outlier
    }

    /// Whether it is left out because it does worse than the others.
    pub fn is_ejected(&self) -> bool {
        self.slot().flags().has_any(Flags::EJECTED)
    }

    /// It was ejected already in the process before this one.
    pub fn eject_again(&self, standing: Standing) {
        let is_ejected = standing.ejection.is_some();
        self.outlier.set_standing(standing);
        self.set_ejected(is_ejected);
    }

    pub(crate) fn set_ejected(&self, is_ejected: bool) {
        if is_ejected {
            self.ramp.is_due();
        }
        self.change(Flags::EJECTED, if is_ejected { Flags::EJECTED } else { Flags::NONE });
    }

    pub fn state(&self) -> ServerState {
        let flags = self.slot().flags();
        ServerState {
            health: match () {
                () if flags.has_any(Flags::DOWN) => HealthState::Down,
                () if flags.has_any(Flags::PROBING) => HealthState::Probing,
                () => HealthState::Up,
            },
            admin: match () {
                () if flags.has_any(Flags::MAINT) => Operator::Maint,
                () if flags.has_any(Flags::DRAIN) => Operator::Drain,
                () => Operator::Ready,
            },
            membership: match flags.has_any(Flags::LEAVING) {
                true => Membership::Leaving,
                false => Membership::Present,
            },
        }
    }

    /// When its health last changed.
    pub fn since(&self) -> Instant {
        self.tracked().since
    }

    /// Takes one probe result into account. A change of state is in force when this returns.
    ///
    /// After a transition to down it is for the caller to say when what is in flight must end
    /// (`set_close_at`); any earlier deadline is gone.
    pub fn observe(&self, passed: bool, rule: &HealthThresholds, now: Instant) -> Option<Transition> {
        let mut tracked = self.tracked();
        let transition = tracked.health.observe(passed, rule)?;
        self.turn(&mut tracked, transition, now);
        Some(transition)
    }

    /// The probe has changed: its results so far no longer count, the state stays.
    pub fn reset_counts(&self) {
        self.tracked().health.reset_counts();
    }

    /// There are no probes (any more), so it is taken to be up.
    pub fn assume_up(&self, now: Instant) -> Option<Transition> {
        let mut tracked = self.tracked();
        let transition = tracked.health.assume_up()?;
        self.turn(&mut tracked, transition, now);
        Some(transition)
    }

    /// Nothing is known of it any more: it is probed again after a time without probes.
    pub fn probe_anew(&self, health: Health, now: Instant) {
        let mut tracked = self.tracked();
        let transition = Transition { from: tracked.health.state(), to: health.state() };
        tracked.health = health;
        self.turn(&mut tracked, transition, now);
    }

    pub fn set_operator(&self, operator: Operator) {
        let raise = match operator {
            Operator::Ready => Flags::NONE,
            Operator::Drain => Flags::DRAIN,
            Operator::Maint => {
                self.ramp.is_due();
                Flags::MAINT
            }
        };
        self.change(Flags::DRAIN.with(Flags::MAINT), raise);
    }

    /// It is new in a pool that has served before.
    pub fn join(&self, now: Instant) {
        self.ramp.is_due();
        self.begin_ramp_if_due(now);
    }

    /// Begins slowly if it is of use again, or for the first time in a pool that has served before.
    pub(super) fn begin_ramp_if_due(&self, now: Instant) {
        let is_of_use = !self.slot().flags().has_any(Flags::UNHEALTHY.with(Flags::NOT_READY));
        if is_of_use && self.ramp.begin_if_due(now) {
            self.account.slot.set_ramping(true);
        }
    }

    pub(super) fn ramp(&self) -> &Ramp {
        &self.ramp
    }

    /// How long ago it began to come back, if it has not its full share yet.
    pub fn ramp_age(&self, now: Instant) -> Option<Duration> {
        self.has_any(Flags::RAMPING).then(|| self.ramp.age(now))
    }

    /// It goes on coming back from where it was in the process before this one.
    pub fn ramp_on(&self, age: Duration, now: Instant) {
        self.ramp.go_on(now, age);
        self.account.slot.set_ramping(true);
    }

    pub(super) fn end_ramp(&self) {
        self.account.slot.set_ramping(false);
    }

    pub(super) fn ramp_share(&self, slow_start: &SlowStart, now: Instant) -> f64 {
        self.ramp.share(slow_start.over, f64::from(slow_start.from.0) / 100.0, now)
    }

    /// Until when requests in flight may run on while the server is down or in maintenance; `None` is without end.
    pub fn set_close_at(&self, close_at: Option<Instant>) {
        self.down_deadline.set(close_at);
    }

    /// Whether what is in flight must be closed now: the server is down, in maintenance or leaving, and its time is
    /// over.
    pub fn must_close(&self, now: Instant) -> bool {
        let flags = self.slot().flags();
        flags.has_any(Flags::DOWN.with(Flags::MAINT)) && self.down_deadline.is_over(now)
            || flags.has_any(Flags::LEAVING) && self.leave_deadline.is_over(now)
    }

    /// How many connections it may have open, from now on.
    pub fn set_max_connections(&self, most: Option<NonZeroU32>) {
        self.max_connections.store(most.map_or(0, NonZeroU32::get), Relaxed);
    }

    /// Whether connections to it may wait for another request: it is not in maintenance, nor has it left.
    pub fn keeps_idle(&self) -> bool {
        !self.slot().flags().has_any(Flags::MAINT.with(Flags::LEAVING))
    }

    /// The same of one of so many that are open there; of one that was opened without a limit nobody knows.
    pub fn has_room_for_idle(&self, open: Option<u32>) -> bool {
        let most = self.max_connections.load(Relaxed);
        self.keeps_idle() && (most == 0 || open.is_some_and(|open| open <= most))
    }

    /// Whether it stands by: used only while no other one is.
    pub fn set_backup(&self, is_backup: bool) {
        self.change(Flags::BACKUP, if is_backup { Flags::BACKUP } else { Flags::NONE });
    }

    /// Whether its source has left it out: it may be gone, so no try that follows a failed one goes there while there
    /// are others.
    pub fn set_missing(&self, is_missing: bool) {
        self.slot().change(Flags::MISSING, if is_missing { Flags::MISSING } else { Flags::NONE });
    }

    pub fn is_missing(&self) -> bool {
        self.slot().flags().has_any(Flags::MISSING)
    }

    /// The configuration no longer has it: nothing new, and what is in flight may run on until `close_at`.
    pub fn leave(&self, close_at: Instant) {
        self.leave_deadline.set(Some(close_at));
        self.change(Flags::NONE, Flags::LEAVING);
    }

    /// The configuration has it again before it was gone.
    pub fn rejoin(&self) {
        self.change(Flags::LEAVING.with(Flags::MISSING), Flags::NONE);
        self.leave_deadline.set(None);
    }

    pub(super) fn has_any(&self, flags: Flags) -> bool {
        self.slot().flags().has_any(flags)
    }

    pub(super) fn owned_slot(&self) -> &OwnedSlot {
        &self.account.slot
    }

    pub(super) fn slot(&self) -> &Slot {
        self.account.slot.slot()
    }

    /// Whoever waits may be sent here now, or nowhere any more.
    fn change(&self, lower: Flags, raise: Flags) {
        self.slot().change(lower, raise);
        self.account.queue.freed();
    }

    pub(super) fn release(&self) {
        self.slot().release();
        self.account.queue.freed();
    }

    fn turn(&self, tracked: &mut Tracked, transition: Transition, now: Instant) {
        tracked.since = now;
        self.down_deadline.set(None);
        if transition.to == HealthState::Down {
            self.ramp.is_due();
        }
        self.slot().change(Flags::DOWN.with(Flags::PROBING), flags_of(transition.to));
        // Before anybody who waits is sent there.
        self.begin_ramp_if_due(now);
        self.account.queue.freed();
    }

    fn tracked(&self) -> MutexGuard<'_, Tracked> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flags that say so.
fn flags_of(health: HealthState) -> Flags {
    match health {
        HealthState::Up => Flags::NONE,
        HealthState::Down => Flags::DOWN,
        HealthState::Probing => Flags::PROBING,
    }
}

#[cfg(test)]
mod tests;
