//! The lease's word under every interleaving of two threads: a limit is never overrun, a drained server
//! takes nothing more, and no owner's flag is lost to another's.
//!
//! This compiles `src/pool/slot.rs` itself, with loom's atomics in the place of the standard ones.
#![allow(dead_code, unreachable_pub, missing_docs)]

mod sync {
    pub use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../src/pool/slot.rs"]
mod slot;

use loom::sync::Arc;
use loom::thread;
use slot::{Flags, Slot};
use std::time::Duration;

/// Runs every interleaving of both sides on a server's slot, then looks at what is left.
fn check(one: fn(&Slot), other: fn(&Slot), after: fn(&Slot)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.max_duration = Some(Duration::from_secs(10));
    model.check(move || {
        let slot = Arc::new(Slot::free());
        assert!(slot.claim(Flags::NONE));
        let there = {
            let slot = slot.clone();
            thread::spawn(move || other(&slot))
        };
        one(&slot);
        there.join().expect("the other side holds too");
        after(&slot);
    });
}

fn take_and_give_back(slot: &Slot) {
    if slot.acquire(1, Flags::DRAIN) {
        assert_eq!(slot.in_flight(), 1, "both got in");
        slot.release();
    }
}

#[test]
fn a_limit_of_one_lets_one_in() {
    check(take_and_give_back, take_and_give_back, |slot| assert_eq!(slot.in_flight(), 0));
    let keep = |slot: &Slot| {
        let _ = slot.acquire(1, Flags::NONE);
    };
    check(keep, keep, |slot| assert_eq!(slot.in_flight(), 1));
}

#[test]
fn nothing_gets_in_after_a_drain() {
    let drain = |slot: &Slot| {
        slot.change(Flags::NONE, Flags::DRAIN);
        assert!(!slot.acquire(9, Flags::DRAIN));
    };
    check(take_and_give_back, drain, |slot| {
        assert_eq!(slot.in_flight(), 0);
        assert!(slot.flags().has_any(Flags::DRAIN));
    });
}

#[test]
fn owners_do_not_clear_each_others_flags() {
    let probe = |slot: &Slot| {
        slot.change(Flags::UNHEALTHY, Flags::DOWN);
        slot.change(Flags::UNHEALTHY, Flags::NONE);
    };
    let operator = |slot: &Slot| _ = slot.change(Flags::DRAIN.with(Flags::MAINT), Flags::MAINT);
    check(probe, operator, |slot| assert_eq!(slot.flags(), Flags::TAKEN.with(Flags::MAINT)));
}

#[test]
fn a_free_slot_goes_to_one_server() {
    let claim = |slot: &Slot| {
        if slot.claim(Flags::PROBING) {
            assert!(slot.acquire(1, Flags::NONE), "the slot is somebody else's too");
        }
    };
    let leave_and_claim = |slot: &Slot| slot.vacate();
    check(claim, leave_and_claim, |slot| assert!(slot.in_flight() <= 1));
}
