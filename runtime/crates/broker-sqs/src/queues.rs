//! The queues of a connection: found, made where that is allowed, and remembered.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    api::{Api, Described},
    config::{Redrive, SqsConfig},
    error::{Failure, Kind},
    names::Names,
};

/// Largest message of a queue that does not say: 256 KiB.
pub(crate) const SIZE_MAX: usize = 256 * 1024;

/// A queue that was seen.
#[derive(Debug)]
pub(crate) struct Queue {
    pub topic: Arc<str>,
    pub name: String,
    pub url: String,
    /// Largest message that it takes, attributes included, in bytes.
    pub size_max: usize,
}

pub(crate) struct Queues {
    pub api: Arc<dyn Api>,
    pub config: SqsConfig,
    pub names: Names,
    pub connection: Arc<str>,
    known: Mutex<HashMap<Arc<str>, Arc<Queue>>>,
    /// The group that was last subscribed to each topic here.
    groups: Mutex<HashMap<Arc<str>, Arc<str>>>,
}

impl Queues {
    pub fn new(api: Arc<dyn Api>, config: SqsConfig, connection: Arc<str>) -> Self {
        let names = Names { prefix: config.queue_prefix.clone(), fifo: config.fifo };
        Self { api, config, names, connection, known: Mutex::default(), groups: Mutex::default() }
    }

    /// The queue of `topic`, made where there is none and that is allowed. What is wrong
    /// with it otherwise is [`Kind::NoQueue`]; a topic that can be no queue is
    /// [`Kind::Refused`].
    pub async fn open(&self, topic: &str) -> Result<Arc<Queue>, Failure> {
        if let Some(queue) = self.known.lock().get(topic) {
            return Ok(queue.clone());
        }
        let name = self.name(topic)?;
        let url = match self.api.find(&name).await? {
            Some(url) => url,
            None if self.config.create_topics => self.create(&name).await?,
            None => {
                return Err(Failure {
                    kind: Kind::NoQueue,
                    message: format!(
                        "topic {topic}: there is no queue `{name}`: make it, or set \
                         `create-topics = true` on connection {}",
                        self.connection
                    ),
                });
            }
        };
        let described = self.api.describe(&url).await?;
        self.look_at(topic, &name, &described);
        let size_max = described.size_max.unwrap_or(SIZE_MAX);
        let queue = Arc::new(Queue { topic: topic.into(), name, url, size_max });
        self.known.lock().insert(queue.topic.clone(), queue.clone());
        Ok(queue)
    }

    async fn create(&self, name: &str) -> Result<String, Failure> {
        let visibility = self.config.visibility_timeout;
        let url = self.api.create(name, visibility).await?;
        tracing::info!(connection = &*self.connection, queue = name, "queue created");
        Ok(url)
    }

    fn look_at(&self, topic: &str, queue: &str, described: &Described) {
        if let (Some(policy), Redrive::Sandbar) = (&described.redrive_policy, self.config.redrive) {
            tracing::warn!(
                connection = &*self.connection,
                topic,
                queue,
                policy,
                "the queue has a redrive policy: SQS moves an event away after so many receives, \
                 whatever Sandbar's retries and dead letters say; set `redrive = \"queue\"` on the \
                 connection if that is wanted"
            );
        }
    }

    fn name(&self, topic: &str) -> Result<String, Failure> {
        self.names.queue(topic).map_err(|message| Failure { kind: Kind::Refused, message })
    }

    /// `queue` may be gone: it is looked for again when it is next needed.
    pub fn forget(&self, queue: &Queue) {
        let mut known = self.known.lock();
        if known.get(&queue.topic).is_some_and(|current| current.url == queue.url) {
            known.remove(&queue.topic);
        }
    }

    pub fn subscribed(&self, topic: &Arc<str>, group: &Arc<str>) {
        self.groups.lock().insert(topic.clone(), group.clone());
    }

    /// Topics that `group` was last subscribed to here.
    pub fn topics_of(&self, group: &str) -> Vec<String> {
        let groups = self.groups.lock();
        let of_group = groups.iter().filter(|(_, holder)| ***holder == *group);
        of_group.map(|(topic, _)| topic.to_string()).collect()
    }

    /// All topics that are queues of this connection, in order.
    pub async fn topics(&self) -> Result<Vec<String>, Failure> {
        let queues = self.api.list(&self.names.prefix).await?;
        let mut topics: Vec<_> = queues.iter().filter_map(|q| self.names.topic(q)).collect();
        topics.sort();
        Ok(topics)
    }

    /// What the queue of `topic` says of itself; `None` where there is none.
    pub async fn describe(&self, topic: &str) -> Result<Option<Described>, Failure> {
        let Some(url) = self.api.find(&self.name(topic)?).await? else { return Ok(None) };
        match self.api.describe(&url).await {
            Ok(described) => Ok(Some(described)),
            Err(failure) if failure.kind == Kind::NoQueue => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}
