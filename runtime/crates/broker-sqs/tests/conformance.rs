//! The suite of all adapters, against two servers that stand in for SQS, and for both
//! kinds of queues.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::{LEASE, Server};
use sandbar_core::{Connection, Guarantees};
use sandbar_testkit::conformance::{Backend, Declared, Headers, Switch};

struct Queues {
    name: &'static str,
    server: Server,
    fifo: bool,
    gaps: Gaps,
}

type Gaps = &'static [(&'static str, &'static str)];

/// These take more of a key than they settle, and SQS gives out none of a message group while
/// one of it is in work. Release and order on FIFO queues are shown by `tests/real.rs` and by
/// `group_in_two_processes`.
macro_rules! fifo_gaps {
    ($($more:expr)?) => {
        &[
            ("order", LOCKED),
            ("redelivery", LOCKED),
            ("settle_out_of_order", LOCKED),
            ("release", LOCKED),
            ("close_without_loss", LOCKED),
            ("shutdown_in_mid_batch", LOCKED),
            ("cancelled_calls_lose_nothing", LOCKED),
            ("full_window", LOCKED),
            ("until_end", LOCKED),
            ("large_records", LOCKED),
            ("tombstones", LOCKED),
            ("effects", LOCKED),
            ("cursors", LOCKED),
            ("broker_restart", LOCKED),
            $($more,)?
        ]
    };
}
const FIFO: Gaps = fifo_gaps!();
const MOTO_FIFO: Gaps = fifo_gaps!((
    "group_in_two_processes",
    "moto looks at a group's lock when a long poll begins, and not when it answers"
));
const MOTO: Gaps = &[("group_in_two_processes", "moto gives almost all to one of two long polls")];
const LOCKED: &str =
    "it takes more of a key than it settles, and a message group is locked meanwhile";

#[async_trait]
impl Backend for Queues {
    fn declared(&self) -> Declared {
        Declared {
            name: self.name,
            guarantees: Guarantees {
                ordered: self.fifo,
                atomic_effects: false,
                atomic_marks: false,
                atomic_state: false,
                tombstones: true,
                delayed_release: true,
                spread_over_processes: true,
                fan_out: false,
                retained: false,
                redelivery_counted: true,
            },
            partitions: 1,
            largest_payload: 190_000,
            too_large: Some(2 << 20),
            headers: Headers::EVERYTHING,
            lease: Some(LEASE),
            gaps: self.gaps,
        }
    }

    async fn connect(&self) -> Arc<dyn Connection> {
        Arc::new(self.server.connect(|config| config.fifo = self.fifo))
    }

    async fn connect_strict(&self) -> Arc<dyn Connection> {
        Arc::new(self.server.connect(|config| {
            config.fifo = self.fifo;
            config.create_topics = false;
        }))
    }

    fn switch(&self) -> Option<&dyn Switch> {
        self.server.dir.as_ref().map(|_| self as &dyn Switch)
    }
}

#[async_trait]
impl Switch for Queues {
    async fn kill(&self) {
        self.server.kill().await;
    }

    async fn start(&self) {
        let server = self.server.clone();
        tokio::task::spawn_blocking(move || server.start()).await.unwrap();
    }
}

fn moto(fifo: bool) -> Option<Queues> {
    let name = if fifo { "SQS FIFO (moto)" } else { "SQS (moto)" };
    let gaps = if fifo { MOTO_FIFO } else { MOTO };
    common::moto().map(|server| Queues { name, server, fifo, gaps })
}

fn elasticmq(fifo: bool) -> Option<Queues> {
    let name = if fifo { "SQS FIFO (ElasticMQ)" } else { "SQS (ElasticMQ)" };
    let gaps = if fifo { FIFO } else { &[] };
    common::elasticmq().map(|server| Queues { name, server, fifo, gaps })
}

mod on_moto {
    sandbar_testkit::conformance_tests!(super::moto(false));
}

mod on_moto_fifo {
    sandbar_testkit::conformance_tests!(super::moto(true));
}

mod on_elasticmq {
    sandbar_testkit::conformance_tests!(super::elasticmq(false));
}

mod on_elasticmq_fifo {
    sandbar_testkit::conformance_tests!(super::elasticmq(true));
}
