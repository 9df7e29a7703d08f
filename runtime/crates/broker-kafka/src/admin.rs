//! Requests about topics, and the clients for all requests.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::AdminClient,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};
use sandbar_core::{SourceError, TopicInfo};

use crate::{
    assignment::Group, client::Listener, config::Settings, creation::Kept, error,
    together::Together, topics,
};

/// Longest time one request may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a topic just made may stay unknown to the broker that is asked.
const APPEARS: Duration = Duration::from_secs(10);
/// Pause before the first question about it, and at most.
const ASK_AGAIN: Duration = Duration::from_millis(10);
const ASK_EVERY: Duration = Duration::from_millis(500);

/// A topic that is asked for to see whether anybody answers.
const ANY: &str = "sandbar";

/// More topics than so many are looked up in the list of all: that is one request, if a long one.
const FEW: usize = 30;

/// Log lines and errors that a client may have to tell before and after a request.
const NEWS: usize = 64;

pub(crate) struct Admin {
    pub settings: Arc<Settings>,
    pub connection: Arc<str>,
    /// For requests that are about no group; made at the first one, kept for its connections.
    shared: Mutex<Option<Arc<Probe>>>,
    /// For changes; the same.
    client: Mutex<Option<Arc<AdminClient<Listener>>>>,
    lookups: Together<String, bool>,
    pub creations: Together<(String, Kept), ()>,
    /// The subscriptions of this process, by their groups.
    pub groups: Mutex<HashMap<String, Weak<Group>>>,
}

/// A client for requests. It is polled around each of them and not in between.
pub(crate) struct Probe(pub BaseConsumer<Listener>);

impl Probe {
    /// Lets the client tell its news. It subscribes to nothing: there are no records to be lost.
    fn listen(&self) {
        for _ in 0..NEWS {
            // `None` may mean that a line was told, so it is no sign that nothing is left
            let _ = self.0.poll(Duration::ZERO);
        }
    }

    /// The error of a failed request, with what the client heard meanwhile.
    pub fn error(&self, what: &str, error: &KafkaError) -> SourceError {
        self.listen();
        self.0.context().failed();
        error::request(what, error, self.0.context().take())
    }

    pub fn metadata(&self) -> Result<Metadata, SourceError> {
        self.0.fetch_metadata(None, TIMEOUT).map_err(|e| self.error("list the topics", &e))
    }

    /// How many partitions `topic` has, or `None` where it does not exist.
    pub fn partitions(&self, topic: &str) -> Result<Option<u32>, SourceError> {
        let what = format!("look up topic {topic}");
        let metadata =
            self.0.fetch_metadata(Some(topic), TIMEOUT).map_err(|e| self.error(&what, &e))?;
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(u32::try_from(found.partitions().len()).unwrap_or(u32::MAX))),
            Some(code) if error::unknown_topic(code) => Ok(None),
            Some(code) => Err(self.error(&what, &KafkaError::MetadataFetch(code))),
        }
    }

    /// Whether each of `topics` exists and has its partitions.
    fn exist(&self, topics: &[String]) -> Vec<Result<bool, SourceError>> {
        let mut known: HashMap<String, Result<bool, SourceError>> = HashMap::new();
        if topics.len() > FEW {
            match self.metadata() {
                Ok(all) => known.extend(
                    (all.topics().iter())
                        .filter(|topic| topic.error().is_none() && !topic.partitions().is_empty())
                        .map(|topic| (topic.name().to_owned(), Ok(true))),
                ),
                Err(e) => return topics.iter().map(|_| Err(e.clone())).collect(),
            }
        }
        // of a topic that is not in the list only its own answer says why
        let exists = |topic: &String| {
            let ask = || Ok(self.partitions(topic)?.is_some_and(|count| count > 0));
            known.entry(topic.clone()).or_insert_with(ask).clone()
        };
        topics.iter().map(exists).collect()
    }

    /// The beginning or end of every partition in `of`.
    pub fn offsets(
        &self,
        of: &TopicPartitionList,
        at: Offset,
    ) -> Result<TopicPartitionList, SourceError> {
        if of.count() == 0 {
            return Ok(TopicPartitionList::new());
        }
        let mut list = of.clone();
        list.set_all_offsets(at)
            .and_then(|()| self.0.offsets_for_times(list, TIMEOUT))
            .map_err(|e| self.error("look up offsets", &e))
    }
}

impl Admin {
    pub fn new(settings: Arc<Settings>, connection: Arc<str>) -> Self {
        Self {
            settings,
            connection,
            shared: Mutex::default(),
            client: Mutex::default(),
            lookups: Together::default(),
            creations: Together::default(),
            groups: Mutex::default(),
        }
    }

    /// The client for requests that are about no group.
    pub fn shared(&self) -> Result<Arc<Probe>, SourceError> {
        let mut shared = self.shared.lock();
        let probe = match &*shared {
            // one that failed may never find its broker again, which a new one does
            Some(probe) if !probe.0.context().has_failed() => probe.clone(),
            _ => Arc::new(self.probe(None)?),
        };
        *shared = Some(probe.clone());
        drop(shared);
        // what went wrong before is not why the coming request fails
        probe.listen();
        probe.0.context().take();
        Ok(probe)
    }

    /// A client of its own; of `group` where the request is about one.
    pub fn probe(&self, group: Option<&str>) -> Result<Probe, SourceError> {
        let mut client = self.settings.base();
        if let Some(group) = group {
            client.set("group.id", group).set("enable.auto.commit", "false");
        }
        client
            .create_with_context(Listener::new(self.connection.clone()))
            .map(Probe)
            .map_err(|e| SourceError::Fatal(format!("connection {}: {e}", self.connection)))
    }

    /// Whether a broker answers: with the metadata of one topic, which need not exist. A cluster's list of topics
    /// may be long.
    pub fn answers(&self) -> Result<(), SourceError> {
        let probe = self.shared()?;
        let answer = probe.0.fetch_metadata(Some(ANY), TIMEOUT).map(drop);
        answer.map_err(|e| probe.error("reach the broker", &e))
    }

    /// All topics that are not internal.
    pub fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        let probe = self.shared()?;
        let metadata = probe.metadata()?;
        let all = partitions(&metadata);
        let (begin, end) =
            (probe.offsets(&all, Offset::Beginning)?, probe.offsets(&all, Offset::End)?);
        let visible = metadata.topics().iter().filter(|t| !topics::is_internal(t.name()));
        let (begin, end) = (by_topic(&begin), by_topic(&end));
        let mut found: Vec<TopicInfo> = visible
            .map(|topic| {
                let of = |sums: &HashMap<String, Option<u64>>| sums.get(topic.name()).copied()?;
                let retained = of(&begin).zip(of(&end)).map(|(b, e)| e.saturating_sub(b));
                TopicInfo {
                    name: topic.name().to_owned(),
                    partitions: u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX),
                    events: retained,
                    bytes: None,
                }
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Creates those of `topics` that do not exist, as topics that keep events for as
    /// long as the brokers' settings say, or the newest event of each key.
    ///
    /// # Errors
    /// `Fatal` where a topic is missing and may not or cannot be created.
    pub async fn ensure(self: &Arc<Self>, names: &[String], kept: Kept) -> Result<(), SourceError> {
        names.iter().try_for_each(|name| topics::valid(name).map(drop))?;
        let mut missing = self.missing(names.to_vec()).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let create = self.settings.config.create_topics;
        // a broker that has just come up may not know all of its topics yet
        let mut patience = Duration::from_secs(1);
        if create {
            self.create(&missing, kept).await?;
            patience = APPEARS;
        }
        let deadline = Instant::now() + patience;
        let mut pause = ASK_AGAIN;
        loop {
            missing = self.missing(missing).await?;
            match missing.first() {
                None => return Ok(()),
                Some(_) if Instant::now() < deadline => {
                    tokio::time::sleep(pause).await;
                    pause = ASK_EVERY.min(pause * 2);
                }
                Some(topic) if create => {
                    return Err(SourceError::Unavailable(format!(
                        "topic {topic} was created but is not visible yet"
                    )));
                }
                Some(topic) => {
                    return Err(SourceError::Fatal(format!(
                        "topic {topic} does not exist on connection {}: create it, or set \
                         `create-topics = true`",
                        self.connection
                    )));
                }
            }
        }
    }

    /// Those of `names` that do not exist.
    async fn missing(self: &Arc<Self>, names: Vec<String>) -> Result<Vec<String>, SourceError> {
        let admin = self.clone();
        let exist = self
            .lookups
            .ask(names.clone(), move |names| match admin.shared() {
                Ok(probe) => probe.exist(&names),
                Err(e) => names.iter().map(|_| Err(e.clone())).collect(),
            })
            .await?;
        Ok(names.into_iter().zip(exist).filter(|(_, exists)| !exists).map(|(n, _)| n).collect())
    }

    /// The client for changes. Once it has failed, its last user waits for its end: off the async threads.
    pub fn client(&self) -> Result<Arc<AdminClient<Listener>>, SourceError> {
        let mut kept = self.client.lock();
        let client = match &*kept {
            Some(client) if !client.inner().context().has_failed() => client.clone(),
            _ => Arc::new(self.new_client()?),
        };
        *kept = Some(client.clone());
        Ok(client)
    }

    fn new_client(&self) -> Result<AdminClient<Listener>, SourceError> {
        let client = self.settings.base();
        client
            .create_with_context(Listener::new(self.connection.clone()))
            .map_err(|e| SourceError::Fatal(format!("connection {}: {e}", self.connection)))
    }
}

/// Runs a request off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    request: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(request)
        .await
        .unwrap_or_else(|e| Err(SourceError::Unavailable(format!("request was cut short: {e}"))))
}

/// Every partition of every topic that is not internal.
pub(crate) fn partitions(metadata: &Metadata) -> TopicPartitionList {
    let mut all = TopicPartitionList::new();
    for topic in metadata.topics().iter().filter(|t| !topics::is_internal(t.name())) {
        for partition in topic.partitions() {
            all.add_partition(topic.name(), partition.id());
        }
    }
    all
}

/// The sums of the positions in the partitions of each topic; `None` where one is not known.
fn by_topic(list: &TopicPartitionList) -> HashMap<String, Option<u64>> {
    let mut sums = HashMap::new();
    for element in list.elements() {
        let sum = sums.entry(element.topic().to_owned()).or_insert(Some(0));
        *sum = sum.zip(position(element.offset())).map(|(sum, at)| sum + at);
    }
    sums
}

/// A known position.
pub(crate) fn position(offset: Offset) -> Option<u64> {
    match offset {
        Offset::Offset(n) => u64::try_from(n).ok(),
        _ => None,
    }
}

/// A partition number as librdkafka has it.
pub(crate) fn native(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}
