//! A deterministic simulation: the whole pipeline on virtual time from one seed, while
//! brokers fail, partitions move, and processes stop, crash and start again. A checker
//! that knows the delivery contract by its ids judges what happened.
//!
//! `make sim SEEDS=n` plays many, see `seeds.rs`.

mod broker;
mod carrier;
mod check;
mod driver;
mod faults;
mod handler;
mod plan;
mod planted;
mod play;
mod process;
mod producer;
mod script;
mod seeds;
mod tell;
mod trace;
mod world;

#[test]
fn seeds_keep_the_contract() {
    seeds::play_as_told();
}

#[test]
fn same_seed_same_history() {
    for seed in 0..100 {
        let (first, second) = (play::play(seed, None), play::play(seed, None));
        assert_eq!(first.trace.hash(), second.trace.hash(), "seed {seed} is not the same twice");
    }
}
