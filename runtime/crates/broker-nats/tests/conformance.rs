//! The suite of all adapters, against a real NATS server.

mod common;

use std::{process::ExitCode, sync::Arc};

use async_trait::async_trait;
use common::Server;
use sandbar_broker_nats::{Nats, NatsConfig};
use sandbar_core::{Connection, Guarantees};
use sandbar_testkit::{
    conformance::{Backend, Declared, Headers, Suite, Switch},
    server::{NATS, Server as Node},
};

struct Real {
    server: Server,
    /// Where it may be killed.
    node: Option<Node>,
    exclusive: bool,
}

impl Real {
    fn connection(&self, create_topics: bool) -> Arc<dyn Connection> {
        let config =
            NatsConfig { create_topics, exclusive: self.exclusive, ..self.server.config() };
        Arc::new(Nats::connect("nats", config).unwrap())
    }
}

#[async_trait]
impl Backend for Real {
    fn declared(&self) -> Declared {
        Declared {
            name: "NATS JetStream",
            guarantees: Guarantees {
                ordered: self.exclusive,
                atomic_effects: false,
                atomic_marks: false,
                atomic_state: false,
                tombstones: true,
                delayed_release: !self.exclusive,
                spread_over_processes: !self.exclusive,
                fan_out: true,
                retained: true,
                redelivery_counted: true,
            },
            partitions: 1,
            largest_payload: 1_000_000,
            too_large: Some(2 << 20),
            headers: Headers { ordered: false, repeated: true, null: true },
            locks_keys: false,
            lease: Some(common::ACK_WAIT),
            gaps: &[],
        }
    }

    async fn connect(&self) -> Arc<dyn Connection> {
        self.connection(true)
    }

    async fn connect_strict(&self) -> Arc<dyn Connection> {
        self.connection(false)
    }

    fn switch(&self) -> Option<&dyn Switch> {
        self.node.as_ref().map(|node| node as &dyn Switch)
    }
}

fn backend(exclusive: bool) -> Option<Real> {
    let (server, node) = (common::server()?, NATS.killable_if_any());
    Some(Real { server, node, exclusive })
}

fn main() -> ExitCode {
    // one active reader for each group and topic, or readers that share the events of a topic
    Suite::default().on("exclusive", || backend(true)).on("shared", || backend(false)).run()
}
