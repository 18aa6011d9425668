//! The multiplexer under random joins, leaves, crashes of workers and of sidecars, restarts, calls
//! both ways, events and jobs that several hosts bring, against a ledger of what must come of each.
//!
//! A seed repeats its run, step by step: the clock stands still but for the steps in which time
//! passes, one thread runs all tasks in the order in which they were woken, and nothing on the way
//! of a call depends on the order of a hash map or on which branch of a `select!` is polled first.

#[path = "../in_memory/mod.rs"]
mod in_memory;
mod world;

use world::{Fault, World};

/// Steps in which a seeded fault has to be found.
const FOUND_WITHIN: usize = 2_000;
/// Steps of a run that is repeated.
const REPEATED_STEPS: usize = 10_000;

/// `PAPERCLIP_MODEL_STEPS` and `PAPERCLIP_MODEL_SEED` make it longer and other.
fn number(variable: &str, otherwise: u64) -> u64 {
    let stated = std::env::var(variable).ok();
    stated.map_or(otherwise, |text| text.parse().expect("a number"))
}

#[tokio::test(start_paused = true)]
async fn every_call_ends_once_at_the_right_place() {
    let seed = number("PAPERCLIP_MODEL_SEED", 1);
    let steps = number("PAPERCLIP_MODEL_STEPS", 100_000) as usize;
    let mut world = World::new(seed, Fault::None);
    for step in 0..steps {
        if let Err(wrong) = world.step().await {
            panic!("seed {seed}, step {step}: {wrong}");
        }
    }
    if let Err(wrong) = world.finish().await {
        panic!("seed {seed}, at the end: {wrong}");
    }
    println!("{steps} steps: {:?}", world.counts);
    world.counts.assert_each_happened();
}

#[test]
fn a_seed_repeats_its_run() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new(number("PAPERCLIP_MODEL_SEED", 1), Fault::None);
            for _ in 0..REPEATED_STEPS {
                world.step().await.unwrap();
            }
            world.finish().await.unwrap();
            world.into_fingerprint()
        })
    };
    let first = run();
    for _ in 0..4 {
        assert_eq!(run(), first);
    }
}

#[tokio::test(start_paused = true)]
async fn a_seeded_fault_is_found() {
    let faults = [
        Fault::WrongHost,
        Fault::Twice,
        Fault::OtherOutcome,
        Fault::EventsApart,
        Fault::SlotsApart,
        Fault::Forgotten,
    ];
    for fault in faults {
        let mut slowest = 0;
        for seed in 1..=20 {
            let mut world = World::new(seed, fault);
            let mut found = None;
            for step in 0..FOUND_WITHIN {
                if world.step().await.is_err() {
                    found = Some(step);
                    break;
                }
            }
            let step = found.unwrap_or_else(|| panic!("{fault:?} with seed {seed} was not found"));
            slowest = slowest.max(step);
        }
        println!("{fault:?}: found within {slowest} steps in 20 runs");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_found_at_the_end() {
    let mut world = World::new(1, Fault::None);
    for _ in 0..FOUND_WITHIN {
        world.step().await.expect("nothing is wrong yet");
    }
    world.lose_a_call();
    let wrong = world.finish().await.expect_err("a call has no answer");
    assert!(wrong.contains("never ended"), "{wrong}");
}
