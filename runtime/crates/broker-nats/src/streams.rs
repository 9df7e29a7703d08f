//! Topics as streams: found by their subject, or made.

use std::{collections::HashMap, sync::Arc};

use async_nats::jetstream::stream::{Config, Info};
use parking_lot::Mutex;
use sandbar_core::{Extent, PartitionId, ResumeFrom, SourceError, TopicInfo};
use serde::Deserialize;
use serde_json::json;

use crate::{
    link::{Link, Refusal},
    topics::{self, KEYED},
};

/// A topic and the stream that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub name: Arc<str>,
    pub stream: String,
    /// What to read of the stream; all of it where empty.
    pub filter: String,
    /// What an event's key is put behind to make its subject, where the stream keeps
    /// the newest event of each.
    pub keyed: Option<String>,
}

impl Topic {
    fn of(name: &str, stream: &Config) -> Self {
        let keyed = format!("{KEYED}{}.", stream.name);
        let compacted = stream.subjects.iter().any(|s| s.strip_prefix(&keyed) == Some("*"));
        let alone = stream.subjects.iter().all(|s| s == name || s.starts_with(KEYED));
        Self {
            name: name.into(),
            stream: stream.name.clone(),
            filter: if alone { String::new() } else { name.to_owned() },
            keyed: compacted.then_some(keyed),
        }
    }

    /// Its only partition.
    pub fn partition(&self) -> PartitionId {
        PartitionId { topic: self.name.clone(), partition: 0 }
    }
}

/// What a stream retains: the first position and the end.
pub(crate) fn bounds(stream: &Info) -> (u64, u64) {
    let end = stream.state.last_sequence + 1;
    (stream.state.first_sequence.clamp(1, end), end)
}

#[derive(Deserialize)]
struct Page {
    total: usize,
    // absent from an answer without streams
    streams: Option<Vec<Info>>,
}

#[derive(Deserialize)]
struct Names {
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Purged {}

/// The streams of a connection.
pub(crate) struct Streams {
    pub link: Arc<Link>,
    /// Topics that were written to.
    known: Mutex<HashMap<Arc<str>, Topic>>,
}

impl Streams {
    pub fn new(link: Arc<Link>) -> Self {
        Self { link, known: Mutex::default() }
    }

    /// The stream that holds `topic`, if one does.
    pub async fn find(&self, topic: &str) -> Result<Option<(Topic, Info)>, SourceError> {
        topics::valid(topic)?;
        let what = format!("look up topic {topic}");
        let names: Names = self
            .link
            .ask("STREAM.NAMES", &json!({ "subject": topic }))
            .await
            .map_err(|e| e.during(&what))?;
        for name in names.streams.unwrap_or_default() {
            match self.link.ask::<Info>(format!("STREAM.INFO.{name}"), &json!({})).await {
                Ok(info) => return Ok(Some((Topic::of(topic, &info.config), info))),
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(e.during(&what)),
            }
        }
        Ok(None)
    }

    /// As [`find`](Self::find), for whom the topic must exist.
    pub async fn existing(&self, topic: &str) -> Result<(Topic, Info), SourceError> {
        let missing = || {
            SourceError::Fatal(format!(
                "topic {topic} does not exist: no stream of connection {} has this subject",
                self.link.name
            ))
        };
        self.find(topic).await?.ok_or_else(missing)
    }

    /// The topic, made where it does not exist and the configuration allows it.
    pub async fn ensure(&self, topic: &str, compacted: bool) -> Result<Topic, SourceError> {
        if let Some((found, _)) = self.find(topic).await? {
            return Ok(found);
        }
        if !self.link.config.create_topics {
            return Err(SourceError::Fatal(format!(
                "topic {topic} does not exist: make a stream with this subject, or set \
                 `create-topics = true` for connection {}",
                self.link.name
            )));
        }
        let name = topics::name(topic);
        let mut config = Config {
            subjects: vec![topic.to_owned()],
            num_replicas: self.link.config.replicas,
            max_age: self.link.config.max_age.unwrap_or_default(),
            description: Some(format!("topic {topic}, made by Sandbar")),
            name,
            ..Config::default()
        };
        if compacted {
            config.subjects.push(format!("{KEYED}{}.*", config.name));
            config.max_messages_per_subject = 1;
            config.max_age = std::time::Duration::ZERO;
        }
        match self.link.ask::<Info>(format!("STREAM.CREATE.{}", config.name), &config).await {
            Ok(info) => {
                tracing::info!(
                    connection = &*self.link.name,
                    topic,
                    stream = info.config.name,
                    "stream made"
                );
                Ok(Topic::of(topic, &info.config))
            }
            Err(e) => match self.find(topic).await? {
                // another process was faster
                Some((found, _)) => Ok(found),
                None => Err(e.during(&format!("create a stream for topic {topic}"))),
            },
        }
    }

    /// Where to write to `topic`; looked up once.
    pub async fn known(&self, topic: &Arc<str>) -> Result<Topic, SourceError> {
        if let Some(known) = self.known.lock().get(topic) {
            return Ok(known.clone());
        }
        let found = self.ensure(topic, false).await?;
        self.known.lock().insert(topic.clone(), found.clone());
        Ok(found)
    }

    /// `topic` may have gone, or its stream has changed.
    pub fn forget(&self, topic: &str) {
        self.known.lock().remove(topic);
    }

    /// All streams.
    pub async fn all(&self) -> Result<Vec<Info>, SourceError> {
        let mut all: Vec<Info> = Vec::new();
        loop {
            let page: Page = self
                .link
                .ask("STREAM.LIST", &json!({ "offset": all.len() }))
                .await
                .map_err(|e| e.during("list the streams"))?;
            let streams = page.streams.unwrap_or_default();
            let last = streams.is_empty();
            all.extend(streams);
            if last || all.len() >= page.total {
                return Ok(all);
            }
        }
    }

    /// Topics of all streams: the subjects that they are configured with.
    pub async fn topics(&self) -> Result<Vec<Topic>, SourceError> {
        let all = self.all().await?;
        Ok(all.iter().flat_map(|info| of_stream(&info.config)).collect())
    }

    /// Topics as an operator sees them.
    pub async fn listed(&self) -> Result<Vec<TopicInfo>, SourceError> {
        let mut listed = Vec::new();
        for info in self.all().await? {
            for topic in of_stream(&info.config) {
                // what the subjects of one stream hold each, only a count of them could tell
                let alone = topic.filter.is_empty();
                listed.push(TopicInfo {
                    name: topic.name.to_string(),
                    partitions: 1,
                    events: alone.then_some(info.state.messages),
                    bytes: alone.then_some(info.state.bytes),
                });
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    pub async fn extents(&self, topic: &str) -> Result<Vec<Extent>, SourceError> {
        let (topic, info) = self.existing(topic).await?;
        let (first, end) = bounds(&info);
        Ok(vec![Extent { id: topic.partition(), first: ResumeFrom(first), end: ResumeFrom(end) }])
    }

    /// Deletes the events of `topic` before a position.
    pub async fn trim(&self, topic: &str, before: u64) -> Result<(), SourceError> {
        let (topic, _) = self.existing(topic).await?;
        let mut body = json!({ "seq": before.max(1) });
        if !topic.filter.is_empty() {
            body["filter"] = topic.filter.into();
        }
        let purged: Result<Purged, Refusal> =
            self.link.ask(format!("STREAM.PURGE.{}", topic.stream), &body).await;
        purged
            .map(|_| ())
            .map_err(|e| e.during(&format!("delete the events of {} before {before}", topic.name)))
    }
}

fn of_stream(stream: &Config) -> impl Iterator<Item = Topic> {
    let own = |s: &&String| topics::is_valid(s);
    stream.subjects.iter().filter(own).map(|subject| Topic::of(subject, stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(subjects: &[&str]) -> Config {
        Config {
            name: "s".into(),
            subjects: subjects.iter().map(|s| s.to_string()).collect(),
            ..Config::default()
        }
    }

    #[test]
    fn a_topic_reads_its_own_part_of_a_stream() {
        assert_eq!(Topic::of("a", &stream(&["a"])).filter, "");
        assert_eq!(Topic::of("a", &stream(&["a", "b"])).filter, "a");
        assert_eq!(Topic::of("a.b", &stream(&["a.>"])).filter, "a.b");
        let compacted = Topic::of("a", &stream(&["a", "sandbar-keyed.s.*"]));
        assert_eq!(
            (&*compacted.filter, compacted.keyed.as_deref()),
            ("", Some("sandbar-keyed.s."))
        );
        let names: Vec<_> = of_stream(&stream(&["a", "sandbar-keyed.s.*", "$KV.x.>"]))
            .map(|t| t.name.to_string())
            .collect();
        assert_eq!(names, ["a"]);
    }
}
