//! A seeded simulation of the core on a virtual clock: picks, probe results, drains, reloads and ends of
//! leases in any order, checked after every step against a model that is too simple to be wrong.
//!
//! A failure prints its seed; `EVENKEEL_SEED=17 cargo test --test simulation` repeats it.
#![allow(missing_docs)]

#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/plans.rs"]
mod plans;
#[path = "simulation/world.rs"]
mod world;

use world::World;

const SEEDS: u64 = 2_000;
const STEPS: usize = 60;

/// Prints the seed if what runs below it panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat: EVENKEEL_SEED={} cargo test --test simulation", self.0);
        }
    }
}

#[test]
fn no_order_of_events_breaks_a_promise() {
    let seeds = match std::env::var("EVENKEEL_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("EVENKEEL_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    for seed in seeds {
        let seed = Seed(seed);
        let mut world = World::new(seed.0);
        for _ in 0..STEPS {
            world.step();
            world.check();
            world.check_waiting();
        }
        world.end();
    }
}
