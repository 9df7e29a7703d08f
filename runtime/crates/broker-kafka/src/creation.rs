//! Topics are created, many in one request.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rdkafka::{
    admin::{AdminOptions, NewTopic, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode},
};
use sandbar_core::SourceError;

use crate::{
    admin::{Admin, TIMEOUT, native},
    error,
};

/// What a topic keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    AsConfigured,
    NewestOfEachKey,
}

impl Admin {
    /// Creates topics; those that are there already stay as they are.
    pub async fn create(self: &Arc<Self>, names: &[String], kept: Kept) -> Result<(), SourceError> {
        let admin = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let wanted = names.iter().map(|name| (name.clone(), kept));
        let create = move |topics: Vec<(String, Kept)>| {
            let created = runtime.block_on(admin.create_together(&topics));
            created.unwrap_or_else(|e| topics.iter().map(|_| Err(e.clone())).collect())
        };
        self.creations.ask(wanted, create).await.map(drop)
    }

    /// One request, and what became of each topic.
    async fn create_together(
        &self,
        topics: &[(String, Kept)],
    ) -> Result<Vec<Result<(), SourceError>>, SourceError> {
        let config = &self.settings.config;
        // -1 leaves it to the broker
        let replicas = config.replication.map_or(-1, i32::from);
        let topic =
            |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        // several may want the same
        let distinct: BTreeMap<&str, Kept> = topics.iter().map(|(n, k)| (n.as_str(), *k)).collect();
        let new: Vec<NewTopic<'_>> = distinct
            .iter()
            .map(|(name, kept)| match kept {
                Kept::AsConfigured => topic(name, config.partitions.map_or(-1, native)),
                // it is read as a whole: more partitions would only make that slower
                Kept::NewestOfEachKey => topic(name, 1).set("cleanup.policy", "compact"),
            })
            .collect();
        let names = distinct.keys().copied().collect::<Vec<_>>().join(",");
        let client = self.client()?;
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let outcome = client.create_topics(&new, &options).await;
        let outcome = outcome.inspect_err(|_| client.inner().context().failed());
        let what = format!("create topic {names}");
        let mut refused = HashMap::new();
        for result in outcome.map_err(|e| error::request(&what, &e, None))? {
            if let Err((topic, code)) = result
                && code != RDKafkaErrorCode::TopicAlreadyExists
            {
                refused.insert(topic.clone(), refusal(&topic, code));
            }
        }
        if refused.len() < distinct.len() {
            tracing::info!(connection = &*self.connection, topics = names, "topics created");
        }
        let result = |name: &str| refused.get(name).cloned().map_or(Ok(()), Err);
        Ok(topics.iter().map(|(name, _)| result(name)).collect())
    }
}

fn refusal(topic: &str, code: RDKafkaErrorCode) -> SourceError {
    let error = error::request(&format!("create topic {topic}"), &KafkaError::AdminOp(code), None);
    match code {
        // also the answer of a broker that is just starting and knows of none yet
        RDKafkaErrorCode::InvalidReplicationFactor => SourceError::Unavailable(format!(
            "{error}: fewer brokers are up than it needs replicas"
        )),
        // numbers that the cluster refuses are refused each time
        RDKafkaErrorCode::InvalidPartitions
        | RDKafkaErrorCode::InvalidConfig
        | RDKafkaErrorCode::PolicyViolation => SourceError::Fatal(error.to_string()),
        _ => error,
    }
}
