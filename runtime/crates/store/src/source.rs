//! A subscription: which partitions it gets, and from where.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use sandbar_core::{
    Guarantees, Source, SourceError, SourceEvent, StartAt, SubscriptionSpec, reserved,
};
use tokio::sync::watch;

use crate::{
    catalog::Topic, lease::LeaseGuard, log::Inner, partition::LogPartition, schema::Cursor,
    writer::Work,
};

/// Hands out every partition of every topic that matches, once.
pub(crate) struct LogSource {
    log: Arc<Inner>,
    lease: LeaseGuard,
    exact: Vec<String>,
    globs: GlobSet,
    start: StartAt,
    until_end: bool,
    /// Ends of the topics that match and were there when the subscription began. A topic
    /// that appeared later is read from its beginning: all of it arrived "from now on".
    ends: HashMap<u32, Vec<u64>>,
    taken: HashSet<u32>,
    ready: VecDeque<LogPartition>,
    grown: watch::Receiver<()>,
}

impl LogSource {
    pub(crate) fn open(log: Arc<Inner>, spec: SubscriptionSpec) -> Result<Self, SourceError> {
        let lease = log.shared.leases.acquire(&spec.group).ok_or_else(|| {
            SourceError::Fatal(format!(
                "group {} already has a subscription to {} in this process: give one of them another group",
                spec.group, log.shared.config.name
            ))
        })?;
        let (patterns, mut exact): (Vec<_>, Vec<_>) =
            spec.topics.into_iter().partition(|t| t.contains('*'));
        exact.sort();
        exact.dedup();
        for name in &exact {
            log.validate_topic(name).map_err(SourceError::Fatal)?;
        }
        let grown = log.shared.catalog.grown.subscribe();
        let mut source = Self {
            lease,
            exact,
            globs: globs(&patterns)?,
            start: spec.start,
            until_end: spec.until_end,
            ends: HashMap::new(),
            taken: HashSet::new(),
            ready: VecDeque::new(),
            grown,
            log,
        };
        let ends = |t: &Topic| (0..t.partitions()).map(|p| t.extent(p).end).collect();
        source.ends = source.matching().iter().map(|t| (t.id, ends(t))).collect();
        Ok(source)
    }

    /// Topics that match and were not taken yet. Every subscription looks for them whenever a topic
    /// is made: those that name theirs look up no others.
    fn matching(&self) -> Vec<Arc<Topic>> {
        let catalog = &self.log.shared.catalog;
        let named = self.exact.iter().filter_map(|name| catalog.get(name));
        let mut topics: Vec<_> = if self.globs.is_empty() {
            named.collect()
        } else {
            let is_named = |t: &Topic| self.exact.iter().any(|name| **name == *t.name);
            let is_met =
                |t: &Topic| self.globs.is_match(&*t.name) && !reserved::is_reserved(&t.name);
            catalog.all().into_iter().filter(|t| is_named(t) || is_met(t)).collect()
        };
        topics.retain(|t| !self.taken.contains(&t.id));
        topics
    }

    /// Takes the partitions of topics that match and were not taken yet.
    async fn take_matching(&mut self) -> Result<(), SourceError> {
        let catalog = &self.log.shared.catalog;
        if self.log.shared.config.create_topics {
            let missing: Vec<_> =
                self.exact.iter().filter(|t| catalog.get(t).is_none()).cloned().collect();
            if !missing.is_empty() {
                self.log.writer.call(Work::Ensure(missing)).await?;
            }
        }
        let topics = self.matching();
        let mut partitions = Vec::new();
        for topic in &topics {
            for partition in 0..topic.partitions() {
                let end = self.ends.get(&topic.id).map_or(0, |ends| ends[partition as usize]);
                let start = match self.start {
                    StartAt::Latest if !reserved::is_reserved(&topic.name) => end,
                    // "from now on" is said of the events that others publish: what lies in
                    // an inbox was put there for this group (contract D4)
                    _ => topic.extent(partition).first,
                };
                partitions.push((Arc::clone(topic), partition, start));
            }
        }
        if partitions.is_empty() {
            return Ok(());
        }
        let group = Arc::clone(&self.lease.lease.group);
        let open = Work::Open { group, partitions: partitions.clone() };
        let cursors: Vec<Cursor> = self.log.writer.call(open).await?.cursors;
        for ((topic, partition, _), cursor) in partitions.into_iter().zip(cursors) {
            self.taken.insert(topic.id);
            let (log, lease) = (Arc::clone(&self.log), Arc::clone(&self.lease.lease));
            let until_end = self.until_end;
            let partition = LogPartition::new(log, lease, topic, partition, cursor, until_end);
            self.ready.push_back(partition);
        }
        Ok(())
    }
}

#[async_trait]
impl Source for LogSource {
    fn guarantees(&self) -> Guarantees {
        crate::GUARANTEES
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            if let Some(partition) = self.ready.pop_front() {
                return Ok(SourceEvent::Assigned(Box::new(partition)));
            }
            self.grown.borrow_and_update();
            self.take_matching().await?;
            if self.ready.is_empty() && self.grown.changed().await.is_err() {
                return Err(SourceError::Fatal("the log is closed".into()));
            }
        }
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        // every settlement was durable when it was answered: the lease is all there is
        Ok(())
    }
}

/// Globs in which only `*` is special.
fn globs(patterns: &[String]) -> Result<GlobSet, SourceError> {
    let invalid = |pattern: &str, e: globset::Error| {
        SourceError::Fatal(format!("topic pattern {pattern} is invalid: {e}"))
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let pieces: Vec<_> = pattern.split('*').map(globset::escape).collect();
        let glob = GlobBuilder::new(&pieces.join("*")).build().map_err(|e| invalid(pattern, e))?;
        set.add(glob);
    }
    set.build().map_err(|e| invalid(&patterns.join(", "), e))
}
