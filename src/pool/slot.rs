//! One word per server: how many leases it carries and what is known against it, changed together.
//!
//! The words of a pool lie side by side in blocks, so that the least loaded of thousands of servers
//! is found by walking memory in order. `tests/lease_loom.rs` includes this very file with loom's
//! atomics; that is why it takes them from `super::sync`.

use super::sync::{AtomicU64, Ordering};
use std::fmt;

/// Slots in a block: eight cache lines, and the stretch that one step of a scan looks at.
pub const SLOTS: usize = 64;

const IN_FLIGHT: u64 = 0xffff_ffff;

/// Facts about a server, one bit each. Each has one owner, so that none clears another's.
///
/// At most 20 of them: a scan reads the whole word as the mantissa of a double.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    pub const NONE: Self = Self(0);
    /// The slot belongs to a server.
    pub const TAKEN: Self = Self(1);
    /// The probes say it does not work.
    pub const DOWN: Self = Self(1 << 1);
    /// No probe has passed or failed for good yet.
    pub const PROBING: Self = Self(1 << 2);
    /// The operator drains it.
    pub const DRAIN: Self = Self(1 << 3);
    /// The operator has it in maintenance.
    pub const MAINT: Self = Self(1 << 4);
    /// It is no longer in the configuration.
    pub const LEAVING: Self = Self(1 << 5);
    /// It does worse with real traffic than the others.
    pub const EJECTED: Self = Self(1 << 6);

    /// The configuration has it stand by.
    pub const BACKUP: Self = Self(1 << 7);
    /// Its source did not name it last, and it is not yet let go: it may be gone.
    pub const MISSING: Self = Self(1 << 8);

    /// It is coming back, or new: it takes part in a share of picks only.
    pub const RAMPING: Self = Self(1 << 9);

    /// Not to be used, whatever its health.
    pub const NOT_READY: Self = Self::DRAIN.with(Self::MAINT).with(Self::LEAVING);
    /// Not to be used unless nothing healthy is left.
    pub const UNHEALTHY: Self = Self::DOWN.with(Self::PROBING).with(Self::EJECTED);

    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These flags as they stand in a slot's word.
    pub const fn in_word(self) -> u64 {
        (self.0 as u64) << 32
    }

    pub const fn of_word(word: u64) -> Self {
        Self((word >> 32) as u32)
    }
}

/// In-flight count (low half) and flags (high half) of one server.
pub struct Slot(AtomicU64);

impl Slot {
    pub fn free() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn word(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn in_flight(&self) -> u32 {
        in_flight(self.word())
    }

    pub fn flags(&self) -> Flags {
        Flags::of_word(self.word())
    }

    /// Counts one lease more, unless `max` are out already or a flag of `mask` is up.
    /// Look and count are one step: a limit is never overrun, however many ask at once.
    #[must_use]
    pub fn acquire(&self, max: u32, mask: Flags) -> bool {
        let mut word = self.word();
        loop {
            if word & mask.in_word() != 0 || in_flight(word) >= max {
                return false;
            }
            match self.0.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Gives back what one successful `acquire` counted. Only a value that gives itself back calls it (`Lease`,
    /// `Elsewhere`).
    pub fn release(&self) {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(in_flight(before) > 0, "a lease was given back twice");
    }

    /// Lowers and raises flags in one step; the count stays as it is. What they were before.
    pub fn change(&self, lower: Flags, raise: Flags) -> Flags {
        let mut word = self.word();
        loop {
            let next = word & !lower.in_word() | raise.in_word();
            match self.0.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(before) => return Flags::of_word(before),
                Err(now) => word = now,
            }
        }
    }

    /// Takes a free slot for a new server; false if it belongs to one.
    #[must_use]
    pub fn claim(&self, flags: Flags) -> bool {
        let word = Flags::TAKEN.with(flags).in_word();
        self.0.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Makes the slot free for another server. The last reference to the server is gone, and with it
    /// every lease.
    pub fn vacate(&self) {
        debug_assert_eq!(self.in_flight(), 0, "a server went before its leases");
        self.0.store(0, Ordering::Release);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.in_flight(), self.flags())
    }
}

/// The in-flight half of a slot's word.
pub const fn in_flight(word: u64) -> u32 {
    (word & IN_FLIGHT) as u32
}

/// A stretch of slots. Blocks never move: servers and pools of several generations share them.
#[repr(align(64))]
#[derive(Debug)]
pub struct SlotBlock {
    slots: [Slot; SLOTS],
    /// How many of them are `RAMPING`.
    ramps: AtomicU64,
}

impl SlotBlock {
    pub fn new() -> Self {
        Self { slots: std::array::from_fn(|_| Slot::free()), ramps: AtomicU64::new(0) }
    }

    pub fn slots(&self) -> &[Slot; SLOTS] {
        &self.slots
    }

    pub fn has_ramps(&self) -> bool {
        self.ramps.load(Ordering::Relaxed) > 0
    }

    /// Raises or lowers `RAMPING` of one of them.
    pub fn set_ramping(&self, slot: usize, is_ramping: bool) {
        let (lower, raise) =
            if is_ramping { (Flags::NONE, Flags::RAMPING) } else { (Flags::RAMPING, Flags::NONE) };
        let was_ramping = self.slots[slot].change(lower, raise).has_any(Flags::RAMPING);
        match (was_ramping, is_ramping) {
            (false, true) => _ = self.ramps.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.ramps.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Takes the first free slot and says which; `None` if all belong to servers.
    pub fn claim(&self, flags: Flags) -> Option<usize> {
        self.slots.iter().position(|slot| slot.word() == 0 && slot.claim(flags))
    }
}

impl Default for SlotBlock {
    fn default() -> Self {
        Self::new()
    }
}
