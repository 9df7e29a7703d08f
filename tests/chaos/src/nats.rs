//! NATS JetStream under test: one stream for each topic, read by sequence.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use async_nats::{
    ConnectOptions, HeaderMap,
    jetstream::{self, Context, stream},
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, future::try_join_all};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    broker::{Broker, Reading, Sender},
    options::Scenario,
    outbox::{Event, Outbox, Publish},
    process::{Process, Scripts},
    verifier::{Place, Record, Verifier},
    world::SESSION,
};

const SCRIPTS: Scripts = Scripts { name: "nats", proxied: 0, advertises: false, version: None };
/// Header of the key, by which events reach their plugin and come back from it.
const KEY: &str = "sandbar-key";
/// Pause before a stream is looked at again, and before a connection is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// Messages that are asked for at once.
const ASKED: usize = 32;

/// A NATS server, and a client of it that connects again by itself.
pub struct Nats {
    process: Process,
    jetstream: Context,
}

impl Nats {
    /// Starts a server that keeps everything in `folder`.
    pub async fn start(folder: &Path) -> Result<Self> {
        let process = Process::start(SCRIPTS, folder).await?;
        let options = ConnectOptions::new().reconnect_delay_callback(|_| AGAIN);
        let client = options.connect(process.address()).await?;
        Ok(Self { process, jetstream: jetstream::new(client) })
    }
}

/// Of a topic.
fn stream(topic: &str) -> String {
    topic.replace('.', "_")
}

#[async_trait]
impl Broker for Nats {
    fn process(&self) -> &Process {
        &self.process
    }

    fn settings(&self, _: Scenario) -> String {
        let (port, session) = (self.process.proxy().port(), SESSION.as_secs());
        format!(
            "[connections.nats]\ntype = \"nats\"\nservers = \"127.0.0.1:{port}\"\n\
             create-topics = true\nack-wait = \"{session}s\"\n"
        )
    }

    async fn create(&self, topics: &[(String, Place)]) -> Result<()> {
        for (topic, _) in topics {
            let (name, subjects) = (stream(topic), vec![topic.clone()]);
            let config = stream::Config { name, subjects, ..stream::Config::default() };
            self.jetstream.create_stream(config).await?;
        }
        Ok(())
    }

    async fn sender(&self, input: &str, _: &Arc<Verifier>) -> Result<Arc<dyn Sender>> {
        let (jetstream, topic) = (self.jetstream.clone(), input.to_owned());
        Ok(Outbox::new(Producer { jetstream, topic }))
    }

    fn read(&self, topics: Vec<(String, Place)>, reading: Reading) -> Vec<JoinHandle<Result<()>>> {
        let read = |(topic, place)| {
            tokio::spawn(follow(self.jetstream.clone(), topic, place, reading.clone()))
        };
        topics.into_iter().map(read).collect()
    }
}

struct Producer {
    jetstream: Context,
    topic: String,
}

#[async_trait]
impl Publish for Producer {
    const AT_ONCE: usize = 50;

    async fn publish(&mut self, events: &[Event]) -> Result<()> {
        let mut acknowledged = Vec::new();
        for Event { id, key, payload } in events {
            let mut headers = HeaderMap::new();
            headers.insert(KEY, key.to_string());
            // the server drops what it has stored already
            headers.insert("Nats-Msg-Id", id.to_string());
            let (topic, payload) = (self.topic.clone(), payload.clone().into());
            let sent = self.jetstream.publish_with_headers(topic, headers, payload).await?;
            acknowledged.push(sent.into_future());
        }
        try_join_all(acknowledged).await?;
        Ok(())
    }
}

/// Reads `topic` to its end, again and again, until nothing more is written.
async fn follow(jetstream: Context, topic: String, place: Place, reading: Reading) -> Result<()> {
    let mut next = 1;
    loop {
        ensure!(!reading.dropped.is_cancelled(), "{topic} was not read to its end");
        let last = reading.written.is_cancelled();
        match read(&jetstream, &topic, place, &mut next, &reading.verifier).await {
            Ok(end) => ensure!(next == end, "the server has lost what it acknowledged: {topic}"),
            // it is away and will be back
            Err(_) => {
                sleep(AGAIN).await;
                continue;
            }
        }
        if last {
            return Ok(());
        }
        sleep(AGAIN).await;
    }
}

/// Reads from `next` on. Returns the end of the stream as it was before.
async fn read(
    jetstream: &Context,
    topic: &str,
    place: Place,
    next: &mut u64,
    verifier: &Verifier,
) -> Result<u64> {
    let stream = jetstream.get_stream(stream(topic)).await?;
    let end = stream.cached_info().state.last_sequence + 1;
    let messages = futures::stream::iter(*next..end).map(|n| stream.get_raw_message(n));
    let mut messages = messages.buffered(ASKED);
    while let Some(message) = messages.try_next().await? {
        let key = message.headers.get(KEY).map(|key| key.as_str()).unwrap_or_default();
        let timestamp = message.time.unix_timestamp_nanos() / 1_000_000;
        verifier.observe(&Record {
            place,
            key: key.as_bytes(),
            payload: &message.payload,
            timestamp: timestamp.try_into().unwrap_or_default(),
        });
        *next = message.sequence + 1;
    }
    Ok(end)
}
