//! An open subscription: the pipeline's task and how to stop it. Here what the
//! configuration says becomes what host, broker and pipeline ask for.

use std::{sync::Arc, time::Duration};

use sandbar_core::{Connection, SourceError, SubscriptionSpec};
use sandbar_pipeline::{
    self as pipeline, DeadLetterConfig, OnExhausted, Output, Outputs, RunEnd, StopHandle,
    Subscription, SubscriptionConfig, SubscriptionStats,
};
use sandbar_wasm::{HandlerSlot, LoadSpec};
use tokio::{task::JoinHandle, time::Instant};

use crate::{config::PluginConfig, connections::Connections};

/// A revoked partition has less time to drain than the broker waits for us
/// (Kafka's `session.timeout.ms` is 45 s by default).
const REVOKE_TIMEOUT: Duration = Duration::from_secs(20);

/// An open subscription.
pub(super) struct Running {
    stop: StopHandle,
    task: JoinHandle<Result<RunEnd, SourceError>>,
    /// When it was opened.
    pub(super) since: Instant,
}

impl Running {
    /// Takes in nothing more; what runs has `timeout` to finish. The second call
    /// can only shorten the time.
    pub(super) fn stop(&self, timeout: Duration) {
        self.stop.drain(timeout);
    }

    /// Waits for the end; to be awaited to its end once. Cancel-safe.
    ///
    /// # Errors
    /// Why it ended, if nobody stopped it.
    pub(super) async fn ended(&mut self) -> Result<RunEnd, String> {
        match (&mut self.task).await {
            Ok(end) => end.map_err(|e| e.to_string()),
            Err(panic) => Err(format!("the pipeline panicked, this is a bug: {panic}")),
        }
    }
}

impl Drop for Running {
    /// What nobody looks after any more must not go on. No effect after its end.
    fn drop(&mut self) {
        self.stop.drain(Duration::ZERO);
    }
}

/// Waits for the end of `running`; for ever when there is none.
pub(super) async fn ended(running: Option<&mut Running>) -> Result<RunEnd, String> {
    match running {
        Some(running) => running.ended().await,
        None => std::future::pending().await,
    }
}

/// What the host is asked for.
pub(super) fn load_spec(config: &PluginConfig) -> LoadSpec {
    LoadSpec {
        connection: config.connection.clone(),
        limits: config.limits.clone(),
        grants: config.grants.clone(),
        config: config.config.clone(),
        concurrency: config.concurrency,
        ..LoadSpec::new(&config.name)
    }
}

/// Whether `b` can take over the open subscription of `a`: all that differs is
/// inside the sandbox, or counts only where there is no cursor yet.
pub(super) fn same_subscription(a: &PluginConfig, b: &PluginConfig) -> bool {
    let inside = |c: &PluginConfig| PluginConfig {
        limits: Default::default(),
        grants: Default::default(),
        config: Default::default(),
        start: Default::default(),
        ..c.clone()
    };
    inside(a) == inside(b)
}

/// Makes sure that the topics exist which the subscription reads and buries in.
///
/// # Errors
/// As [`Connection::ensure_topics`].
pub(super) async fn ensure_topics(
    connections: &Connections,
    config: &PluginConfig,
) -> Result<(), SourceError> {
    let named = |topics: &[String]| topics.iter().filter(|t| !t.contains('*')).cloned().collect();
    let topics: Vec<String> = named(&config.topics);
    connection(connections, &config.connection)?.ensure_topics(&topics).await?;
    if let Some(dead_letters) = dead_letters(config) {
        let topics = [dead_letters.topic.to_string()];
        connection(connections, &config.dead_letter.connection)?.ensure_topics(&topics).await?;
    }
    Ok(())
}

/// Opens the subscription and lets its events go to `slot`.
///
/// # Errors
/// [`SourceError::Unavailable`] while the broker is away; [`SourceError::Fatal`]
/// where the request cannot work as things are.
pub(super) async fn open(
    connections: &Connections,
    config: &PluginConfig,
    slot: &Arc<HandlerSlot>,
    stats: &Arc<SubscriptionStats>,
) -> Result<Running, SourceError> {
    ensure_topics(connections, config).await?;
    let spec = SubscriptionSpec {
        group: config.group.clone(),
        topics: config.topics.clone(),
        start: config.start,
        prefetch: config.max_in_flight,
        drain_timeout: REVOKE_TIMEOUT,
    };
    let outputs = outputs(connections, config)?;
    let source = connection(connections, &config.connection)?.subscribe(spec).await?;
    let subscription =
        Subscription::new(subscription_config(config), slot.clone(), outputs, stats.clone());
    let (stop, stopped) = StopHandle::new();
    let task = tokio::spawn(pipeline::run(source, subscription, stopped));
    Ok(Running { stop, task, since: Instant::now() })
}

/// Where dead letters go, if any do.
pub(crate) fn dead_letters(config: &PluginConfig) -> Option<DeadLetterConfig> {
    let wanted = config.dead_letter.on_exhausted == OnExhausted::DeadLetter;
    wanted.then(|| DeadLetterConfig {
        topic: config.dead_letter.topic.as_str().into(),
        dialect: config.dead_letter.dialect,
    })
}

fn subscription_config(config: &PluginConfig) -> SubscriptionConfig {
    SubscriptionConfig {
        group: config.group.clone(),
        ordering: config.ordering,
        concurrency: config.concurrency,
        max_in_flight: config.max_in_flight,
        retry: config.retry.clone(),
        exhausted: config.dead_letter.on_exhausted,
        dead_letter: dead_letters(config),
        allow: config.publish.clone(),
        ..SubscriptionConfig::new(&*config.name, &*config.connection)
    }
}

/// Outputs may go to the plugin's own connections, to no other.
fn outputs(connections: &Connections, config: &PluginConfig) -> Result<Outputs, SourceError> {
    let output = |name: &str| -> Result<Output, SourceError> {
        let sink = connection(connections, name)?.sink();
        Ok(Output { connection: name.into(), sink })
    };
    let own = &config.connection;
    Ok(Outputs {
        default: output(&config.output_connection)?,
        named: [(own.clone(), output(own)?)].into(),
        dead_letters: output(&config.dead_letter.connection)?,
    })
}

fn connection<'a>(
    connections: &'a Connections,
    name: &str,
) -> Result<&'a Arc<dyn Connection>, SourceError> {
    let unknown = || SourceError::Fatal(format!("there is no connection `{name}`"));
    connections.get(name).ok_or_else(unknown)
}
