//! The delivery contract, statement by statement, against fakes written by hand.
//! A test that proves a statement begins with its id. All run on paused time.

mod commit;
mod dead_letters;
mod drain;
mod order;
mod outputs;
mod random;
mod retry;
mod simulation;
mod support;
mod traps;
