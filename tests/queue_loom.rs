//! A queue's hand-over under every interleaving: whoever frees something either sees that somebody waits or is seen by whoever
//! enters, so that nobody waits beside what is free, and what is free goes to one.
//!
//! This compiles `src/pool/queue/handoff.rs` itself, with loom's atomics in the place of the standard ones.
#![allow(dead_code, unreachable_pub, missing_docs)]

mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    pub use loom::sync::{Mutex, MutexGuard};
}

#[path = "../src/pool/queue/handoff.rs"]
mod handoff;

use handoff::Handoff;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::collections::BTreeMap;
use std::time::Duration;

/// Servers with so much room, and those that wait for it: by their numbers, with what they were given.
struct World {
    room: AtomicUsize,
    line: Handoff<Waiting>,
}

#[derive(Default)]
struct Waiting {
    line: BTreeMap<usize, ()>,
    served: Vec<usize>,
}

impl World {
    fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { room: AtomicUsize::new(room), line: Handoff::new(Waiting::default()) })
    }

    /// A lease, taken as a server's word has it: looked at without order, changed in one step.
    fn take(&self) -> bool {
        let mut room = self.room.load(Ordering::Relaxed);
        while room > 0 {
            match self.room.compare_exchange(room, room - 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => room = now,
            }
        }
        false
    }

    fn serve(&self, waiting: &mut Waiting) -> usize {
        while let Some((number, ())) = waiting.line.first_key_value().filter(|_| self.take()) {
            let number = *number;
            waiting.line.remove(&number);
            waiting.served.push(number);
        }
        waiting.line.len()
    }

    fn enter(&self, number: usize) {
        self.line.change(
            |waiting| {
                waiting.line.insert(number, ());
                ((), waiting.line.len())
            },
            |waiting| self.serve(waiting),
        );
    }

    /// Leaves; whoever was served before that gives back what it got.
    fn leave(&self, number: usize) {
        let was_served = self.line.change(
            |waiting| (waiting.line.remove(&number).is_none(), waiting.line.len()),
            |waiting| self.serve(waiting),
        );
        if was_served {
            self.line.look(|waiting| assert!(waiting.served.contains(&number)));
            self.give_back();
        }
    }

    fn give_back(&self) {
        self.room.fetch_add(1, Ordering::AcqRel);
        self.line.freed(|waiting| self.serve(waiting));
    }

    /// Nobody waits beside what is free, and nothing was given twice.
    fn check(&self, room: usize, waiting: usize) {
        self.line.look(|line| {
            assert_eq!((line.line.len(), self.room.load(Ordering::Relaxed)), (waiting, room));
        });
        assert_eq!(self.line.waiting(), waiting);
    }
}

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.max_duration = Some(Duration::from_secs(20));
    model.check(run);
}

#[test]
fn who_enters_while_a_server_is_freed_is_not_forgotten() {
    model(|| {
        let world = World::new(0);
        let freeing = thread::spawn({
            let world = world.clone();
            move || world.give_back()
        });
        world.enter(1);
        freeing.join().unwrap();
        world.check(0, 0);
    });
}

#[test]
fn two_that_free_serve_two_that_wait() {
    model(|| {
        let world = World::new(0);
        world.enter(1);
        let freeing = [(); 2].map(|()| {
            let world = world.clone();
            thread::spawn(move || world.give_back())
        });
        world.enter(2);
        freeing.into_iter().for_each(|freeing| freeing.join().unwrap());
        world.check(0, 0);
    });
}

#[test]
fn what_one_that_leaves_was_given_goes_to_the_next() {
    model(|| {
        let world = World::new(0);
        world.enter(1);
        world.enter(2);
        let [leaving, freeing] = [true, false].map(|leaves| {
            let world = world.clone();
            thread::spawn(move || if leaves { world.leave(1) } else { world.give_back() })
        });
        leaving.join().unwrap();
        freeing.join().unwrap();
        world.check(0, 0);
        world.line.look(|waiting| assert!(waiting.served.contains(&2)));
    });
}

#[test]
fn two_that_free_serve_those_that_stay_while_one_leaves() {
    model(|| {
        let world = World::new(0);
        world.enter(1);
        world.enter(2);
        let freeing = thread::spawn({
            let world = world.clone();
            move || world.give_back()
        });
        let leaving = thread::spawn({
            let world = world.clone();
            move || world.leave(1)
        });
        world.give_back();
        freeing.join().unwrap();
        leaving.join().unwrap();
        // Two came free, and one of the two that waited is there to take it.
        world.check(1, 0);
    });
}
