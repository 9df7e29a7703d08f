//! The delivery contract, statement by statement, against fakes written by hand.
//! A test that proves a statement begins with its id. All run on paused time.

mod commit;
mod dead_letters;
mod dedup;
mod drain;
mod halted;
mod order;
mod outputs;
mod parcels;
mod random;
mod retry;
mod retry_topics;
mod simulation;
mod state;
mod support;
mod traps;
