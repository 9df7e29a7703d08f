//! The embedded log, and a note of who opens and closes what on it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use sandbar::{
    app::App,
    connections::{Connections, open},
};
use sandbar_core::{
    Connection, Guarantees, Marks, PartitionId, ReadFrom, Reader, ResumeFrom, Sink, Source,
    SourceError, SourceEvent, SubscriptionSpec, TopicInfo,
};

use super::{Runtime, load};

pub struct Spy {
    log: Arc<dyn Connection>,
    subscribed: AtomicUsize,
    closed: Arc<AtomicUsize>,
    refusals: AtomicUsize,
    specs: Mutex<Vec<SubscriptionSpec>>,
    /// What the names of topics begin with that must not be created.
    forbidden: &'static str,
}

impl Spy {
    /// A runtime whose only connection is a spied one.
    pub async fn runtime() -> (Arc<Self>, Runtime) {
        Self::forbidding(" ").await
    }

    /// The same, where no topic can be created whose name begins with `prefix`.
    pub async fn forbidding(prefix: &'static str) -> (Arc<Self>, Runtime) {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let config = load(&folder, "");
        std::fs::create_dir_all(&config.data_folder).unwrap();
        let (name, log) = config.connection(None).unwrap();
        let spy = Arc::new(Self {
            log: open(name, log).await.unwrap(),
            subscribed: AtomicUsize::new(0),
            closed: Arc::default(),
            refusals: AtomicUsize::new(0),
            specs: Mutex::default(),
            forbidden: prefix,
        });
        let connections = Connections::new([spy.clone() as Arc<dyn Connection>], name);
        let app = App::with_connections(config, connections).await.unwrap();
        (spy, Runtime::run(folder, app))
    }

    /// Sources opened so far.
    pub fn subscribed(&self) -> usize {
        self.subscribed.load(Ordering::SeqCst)
    }

    /// Sources closed so far.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }

    /// Refuses the next `count` subscriptions.
    pub fn refuse(&self, count: usize) {
        self.refusals.store(count, Ordering::SeqCst);
    }

    /// The groups of all subscriptions so far, those included that were refused.
    pub fn groups(&self) -> Vec<String> {
        self.specs().into_iter().map(|spec| spec.group).collect()
    }

    /// What was asked for by all subscriptions so far, those included that were refused.
    pub fn specs(&self) -> Vec<SubscriptionSpec> {
        self.specs.lock().unwrap().clone()
    }
}

#[async_trait]
impl Connection for Spy {
    fn name(&self) -> &str {
        self.log.name()
    }

    fn guarantees(&self) -> Guarantees {
        self.log.guarantees()
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        self.specs.lock().unwrap().push(spec.clone());
        let refuse = |left: usize| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse).is_ok() {
            return Err(SourceError::Fatal("refused by the test".into()));
        }
        let source = self.log.subscribe(spec).await?;
        self.subscribed.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(SpiedSource { source, closed: self.closed.clone() }))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        self.log.sink()
    }

    fn marks(&self) -> Option<Arc<dyn Marks>> {
        self.log.marks()
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        self.log.read(topic, from).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        self.log.topics().await
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        match topics.iter().find(|t| t.starts_with(self.forbidden)) {
            Some(topic) => Err(SourceError::Fatal(format!("{topic} may not be created"))),
            None => self.log.ensure_topics(topics).await,
        }
    }

    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        self.log.cursors(group).await
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

struct SpiedSource {
    source: Box<dyn Source>,
    closed: Arc<AtomicUsize>,
}

#[async_trait]
impl Source for SpiedSource {
    fn guarantees(&self) -> Guarantees {
        self.source.guarantees()
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        self.source.next().await
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        let closed = self.source.close().await;
        self.closed.fetch_add(1, Ordering::SeqCst);
        closed
    }
}
