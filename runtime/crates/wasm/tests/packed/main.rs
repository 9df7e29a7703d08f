//! The tests of `tests/host`, with programs called through packed frames, and what there is
//! to test of packed frames alone.

/// Whether programs are called through packed frames.
const PACKED: bool = true;

#[path = "../host/batches.rs"]
mod batches;
#[path = "../host/beside.rs"]
mod beside;
#[path = "../host/chaos.rs"]
mod chaos;
#[path = "../host/instances.rs"]
mod instances;
#[path = "../host/limits.rs"]
mod limits;
#[path = "../host/modules.rs"]
mod modules;
mod nonsense;
#[path = "../host/reload.rs"]
mod reload;
#[path = "../host/support.rs"]
mod support;
