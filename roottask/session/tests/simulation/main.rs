//! Trees of parents and scripted components over a virtual kernel with virtual time, killed at random, checked after
//! each step. A seed that fails is printed; `SIM_SEED=... cargo test -p session --test simulation` runs it again.
//!
//! `world` is the kernel and the checks, `scripts` are the components, `tree` says who is whose child.

mod scripts;
mod tree;
mod world;

use session::Cause;
use std::env;
use world::World;

/// Says how to run a seed again when its run fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: SIM_SEED={} cargo test -p session --test simulation", self.0);
        }
    }
}

/// Runs `test` with many seeds, or with the one that the environment names.
fn with_seeds(runs: u64, mut test: impl FnMut(u64)) {
    let seeds = match env::var("SIM_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SIM_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..runs,
    };
    for seed in seeds {
        let _named = Seed(seed);
        test(seed);
    }
}

/// Everything at once: delays, kills, stalls, lies, changes of the configuration. At the end the clients go, and all
/// that they donated must come back from servers that give it back, in bounded time; then all others go, and all must
/// be back.
#[test]
fn whole_trees_with_random_deaths() {
    let mut seen = world::Seen::default();
    with_seeds(150, |seed| {
        let mut world = World::new(seed);
        world.run(600, true);
        world.clients_leave();
        world.run_for(world::LONG, false);
        world.check_all_returned();
        world.all_leave();
        seen.add(&world.seen);
    });
    // A simulation in which nothing happens proves nothing.
    if env::var("SIM_SEED").is_err() {
        seen.check();
    }
}

/// The same without kills, liars and failing hops: then no honest component may ever be refused what it has a right to,
/// and each request comes to an end.
#[test]
fn without_deaths_and_lies_every_request_is_answered() {
    with_seeds(60, |seed| {
        let mut world = World::peaceful(seed);
        world.run(600, false);
        world.quiet();
        world.run_for(world::LONG, false);
        world.check_answered();
        world.all_leave();
    });
}

/// The "bomb": a nested parent with all that is below it is started and killed a thousand times, with what its clients
/// and servers have under way with others.
#[test]
fn a_thousand_starts_and_kills_lose_nothing() {
    with_seeds(1, |seed| {
        let mut world = World::new(seed);
        for _ in 0..1000 {
            world.run_for(60 * tree::MS, false);
            world.run_until_runs("init");
            world.kill_named("init", Cause::Fault);
        }
        assert!(world.seen.events["start"] > 5000, "with all that is below it");
        world.all_leave();
    });
}

/// Two runs of a seed are the same run.
#[test]
fn a_seed_is_replayed_exactly() {
    let run = |seed| {
        let mut world = World::new(seed);
        world.run(400, true);
        world.trace
    };
    for seed in 0..5 {
        let trace = run(seed);
        assert_eq!(trace, run(seed));
        assert_ne!(trace, run(seed + 100));
    }
}
