//! The suite of all adapters, against a real RabbitMQ.

mod common;

use std::{process::ExitCode, sync::Arc};

use async_trait::async_trait;
use common::Broker;
use sandbar_core::{Connection, Guarantees};
use sandbar_testkit::conformance::{Backend, Declared, Headers, Suite, Switch};

#[async_trait]
impl Backend for Broker {
    fn declared(&self) -> Declared {
        Declared {
            name: "RabbitMQ",
            guarantees: Guarantees {
                ordered: true,
                atomic_effects: false,
                atomic_marks: false,
                atomic_state: false,
                tombstones: true,
                delayed_release: false,
                spread_over_processes: false,
                fan_out: true,
                retained: false,
                redelivery_counted: true,
            },
            partitions: 1,
            largest_payload: 8 << 20,
            too_large: Some(17 << 20),
            headers: Headers { ordered: false, repeated: true, null: true },
            locks_keys: false,
            lease: None,
            gaps: &[
                ("globs_see_later_topics", "AMQP 0-9-1 cannot list exchanges"),
                ("globs_never_match_reserved_topics", "AMQP 0-9-1 cannot list exchanges"),
            ],
        }
    }

    async fn connect(&self) -> Arc<dyn Connection> {
        Arc::new(Broker::connect(self, |_| {}))
    }

    async fn connect_strict(&self) -> Arc<dyn Connection> {
        Arc::new(Broker::connect(self, |config| config.create_topics = false))
    }

    fn switch(&self) -> Option<&dyn Switch> {
        self.node.as_ref().map(|node| node as &dyn Switch)
    }
}

fn main() -> ExitCode {
    Suite::default().on("on_rabbitmq", common::broker).run()
}
