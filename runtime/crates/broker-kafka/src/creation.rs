//! Creating topics, many in one request.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use rdkafka::{
    admin::{AdminOptions, NewTopic, TopicReplication},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use sandbar_core::SourceError;

use crate::{
    admin::{Admin, TIMEOUT, blocking, native},
    error,
};

/// Topics created in one request: a controller refuses requests with thousands of partitions.
const TOGETHER: usize = 100;

/// What a topic keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    AsConfigured,
    NewestOfEachKey,
}

/// What is to be created.
#[derive(Default)]
pub(crate) struct Creation {
    wanted: Mutex<Wanted>,
    /// Whoever has it creates what is wanted.
    turn: tokio::sync::Mutex<()>,
}

/// Topics to be created, and why some were not.
#[derive(Default)]
struct Wanted {
    topics: BTreeMap<String, Kept>,
    refused: HashMap<String, SourceError>,
}

impl Admin {
    /// Creates `names`, together with what others want created: Kafka takes such requests one after
    /// the other, and a hundred plugins that start would send a hundred.
    pub(crate) async fn create(
        self: &Arc<Self>,
        names: &[String],
        kept: Kept,
    ) -> Result<(), SourceError> {
        {
            let Wanted { topics, refused } = &mut *self.creation.wanted.lock();
            for name in names {
                refused.remove(name);
                topics.insert(name.clone(), kept);
            }
        }
        let mine = |wanted: &Wanted| names.iter().any(|name| wanted.topics.contains_key(name));
        let turn = self.creation.turn.lock().await;
        while mine(&self.creation.wanted.lock()) {
            let admin = self.clone();
            let runtime = tokio::runtime::Handle::current();
            blocking(move || {
                runtime.block_on(admin.create_wanted());
                Ok(())
            })
            .await?;
        }
        drop(turn);
        let refused = &mut self.creation.wanted.lock().refused;
        names.iter().try_for_each(|name| refused.remove(name).map_or(Ok(()), Err))
    }

    /// Creates some of the topics that are wanted.
    async fn create_wanted(&self) {
        let topics: Vec<(String, Kept)> = {
            let mut wanted = self.creation.wanted.lock();
            let few = wanted.topics.iter().take(TOGETHER).map(|(name, kept)| (name.clone(), *kept));
            let few: Vec<_> = few.collect();
            for (name, _) in &few {
                wanted.topics.remove(name);
            }
            few
        };
        let refused = match self.create_together(&topics).await {
            Ok(refused) => refused,
            Err(error) => topics.iter().map(|(name, _)| (name.clone(), error.clone())).collect(),
        };
        self.creation.wanted.lock().refused.extend(refused);
    }

    /// One request; which topics are not there after it, and why.
    async fn create_together(
        &self,
        topics: &[(String, Kept)],
    ) -> Result<Vec<(String, SourceError)>, SourceError> {
        let config = &self.settings.config;
        // -1 leaves it to the broker
        let replicas = config.replication.map_or(-1, i32::from);
        let topic =
            |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        let new: Vec<NewTopic<'_>> = topics
            .iter()
            .map(|(name, kept)| match kept {
                Kept::AsConfigured => topic(name, config.partitions.map_or(-1, native)),
                // it is read as a whole: more partitions would only make that slower
                Kept::NewestOfEachKey => topic(name, 1).set("cleanup.policy", "compact"),
            })
            .collect();
        let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        let client = self.client()?;
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let outcome: KafkaResult<_> = client.create_topics(&new, &options).await;
        let outcome =
            outcome.map_err(|e| error::request(&format!("create topic {names}"), &e, None))?;
        let refused: Vec<_> = outcome
            .into_iter()
            .filter_map(Result::err)
            .filter(|(_, code)| *code != RDKafkaErrorCode::TopicAlreadyExists)
            .map(|(topic, code)| (topic.clone(), not_created(&topic, code)))
            .collect();
        if refused.is_empty() {
            tracing::info!(connection = &*self.connection, topics = names, "topics created");
        }
        Ok(refused)
    }
}

fn not_created(topic: &str, code: RDKafkaErrorCode) -> SourceError {
    use RDKafkaErrorCode as E;
    let error = error::request(&format!("create topic {topic}"), &KafkaError::AdminOp(code), None);
    match code {
        // also the answer of a broker that is just starting and knows of none yet
        E::InvalidReplicationFactor => SourceError::Unavailable(format!(
            "{error}: fewer brokers are up than it needs replicas"
        )),
        // numbers that the cluster refuses are refused each time
        E::InvalidPartitions | E::InvalidConfig | E::PolicyViolation => {
            SourceError::Fatal(error.to_string())
        }
        _ => error,
    }
}
