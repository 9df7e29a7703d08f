//! An open subscription: the pipeline's task and how to stop it. Here what the
//! configuration says becomes what host, broker and pipeline ask for.

use std::{sync::Arc, time::Duration};

use sandbar_core::{
    Connection, Handler, Publisher, SourceError, StateStore, SubscriptionSpec, reserved,
};
use sandbar_pipeline::{
    self as pipeline, DeadLetterConfig, DirectPublisher, Environment, OnExhausted, Output, Outputs,
    RunEnd, Services, StopHandle, Subscription, SubscriptionConfig,
};
use sandbar_wasm::{Grant, LoadSpec, StateSource};
use tokio::{task::JoinHandle, time::Instant};
use tracing::warn;

use super::{Shared, plugin::Counters, setback::Setback};
use crate::{
    config::{DeadLetters, DeliveryMode, PluginConfig},
    connections::Connections,
};

/// A revoked partition has less time to drain than the broker waits for us
/// (Kafka's `session.timeout.ms` is 45 s by default).
const REVOKE_TIMEOUT: Duration = Duration::from_secs(20);

/// An open subscription.
pub(super) struct Running {
    stop: StopHandle,
    task: JoinHandle<Result<RunEnd, SourceError>>,
    /// When it was opened.
    pub(super) since: Instant,
    /// Why it does not read its inbox, if so.
    pub(super) no_inbox: Option<String>,
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

/// Why a subscription ended that nobody stopped.
pub(super) fn why(end: Result<RunEnd, String>) -> String {
    match end {
        Ok(end) => format!("the subscription ended ({end:?})"),
        Err(reason) => reason,
    }
}

/// Drains and closes what is open; the broker keeps its cursor. `hurry` may cut the time
/// short. Cancel-safe.
///
/// # Errors
/// Why it did not close cleanly.
pub(super) async fn close(
    open: &mut Option<Running>,
    timeout: Duration,
    hurry: impl Future<Output = Duration>,
) -> Result<(), String> {
    let Some(running) = open else { return Ok(()) };
    running.stop(timeout);
    let end = tokio::select! {
        end = running.ended() => end,
        timeout = hurry => {
            running.stop(timeout);
            running.ended().await
        }
    };
    *open = None;
    end.map(drop)
}

/// What the host is asked for.
///
/// # Errors
/// Where what a granted capability works on cannot be had.
pub(super) async fn load_spec(
    shared: &Shared,
    config: &PluginConfig,
    counters: &Counters,
) -> Result<LoadSpec, Setback> {
    let state = match config.grants.contains(&Grant::State) {
        true => Some(StateSource {
            store: state_store(shared, config).await?,
            group: config.group.clone(),
            now_ms: Environment::default().wall_ms,
        }),
        false => None,
    };
    let publisher: Option<Arc<dyn Publisher>> = match config.grants.contains(&Grant::Publisher) {
        true => {
            let (outputs, allow) = (outputs(&shared.connections, config)?, config.publish.clone());
            let stats = counters.subscription.clone();
            Some(Arc::new(DirectPublisher::new(outputs, allow, stats)))
        }
        false => None,
    };
    let reading = config.clone();
    let spec = tokio::task::spawn_blocking(move || reading.load_spec())
        .await
        .map_err(|panic| Setback::Refused(format!("reading secrets failed: {panic}")))??;
    Ok(LoadSpec { state, publisher, ..spec })
}

async fn state_store(
    shared: &Shared,
    config: &PluginConfig,
) -> Result<Arc<dyn StateStore>, SourceError> {
    let own = connection(&shared.connections, &config.connection)?;
    shared.side_store.state_of(&**own).await
}

/// Whether `b` can take over the open subscription of `a`: all that differs is
/// inside the sandbox, of no concern to a subscription, or counts only where there
/// is no cursor yet.
pub(super) fn same_subscription(a: &PluginConfig, b: &PluginConfig) -> bool {
    let inside = |c: &PluginConfig| PluginConfig {
        limits: Default::default(),
        // the subscription writes its state
        grants: c.grants.iter().copied().filter(|grant| *grant == Grant::State).collect(),
        secrets: Default::default(),
        http: Default::default(),
        isolation: Default::default(),
        config: Default::default(),
        on_error: Default::default(),
        start: Default::default(),
        dead_letter: DeadLetters { max_redrives: 0, ..c.dead_letter.clone() },
        ..c.clone()
    };
    inside(a) == inside(b)
}

/// Makes sure that the topics exist which the subscription cannot do without: those
/// that it reads, buries in, and keeps its retries and halted keys in.
///
/// # Errors
/// As [`Connection::ensure_topics`].
pub(super) async fn ensure_topics(
    connections: &Connections,
    config: &PluginConfig,
) -> Result<(), SourceError> {
    let own = connection(connections, &config.connection)?;
    let mut topics: Vec<String> =
        config.topics.iter().filter(|t| !t.contains('*')).cloned().collect();
    if !config.retry_tiers.is_empty() {
        topics.extend(config.retry_tiers.iter().map(|tier| tier.topic.to_string()));
        // what waited there comes back through it
        topics.push(config.inbox());
    }
    own.ensure_topics(&topics).await?;
    if config.halts_keys() {
        let notes = connection(connections, &config.notes_connection)?;
        notes.ensure_compacted_topic(&reserved::halted(&config.group)).await?;
    }
    if let Some(dead_letters) = dead_letters(config) {
        let topics = [dead_letters.topic.to_string()];
        connection(connections, &config.dead_letter.connection)?.ensure_topics(&topics).await?;
    }
    Ok(())
}

/// Makes sure of the inbox, without which a plugin can run. Says why it has none.
///
/// # Errors
/// [`SourceError::Unavailable`] while the broker is away.
async fn ensure_inbox(
    connection: &dyn Connection,
    inbox: &str,
) -> Result<Option<String>, SourceError> {
    match connection.ensure_topics(&[inbox.to_owned()]).await {
        Ok(()) => Ok(None),
        Err(away @ SourceError::Unavailable(_)) => Err(away),
        Err(refused) => Ok(Some(refused.to_string())),
    }
}

/// Opens the subscription and lets its events go to `handler`.
///
/// # Errors
/// [`SourceError::Unavailable`] while the broker is away; [`SourceError::Fatal`]
/// where the request cannot work as things are.
pub(super) async fn open(
    shared: &Shared,
    config: &PluginConfig,
    handler: Arc<dyn Handler>,
    counters: &Counters,
) -> Result<Running, SourceError> {
    let connections = &*shared.connections;
    let own = connection(connections, &config.connection)?;
    ensure_topics(connections, config).await?;
    let inbox = config.inbox();
    let no_inbox = ensure_inbox(&**own, &inbox).await?;
    let mut topics = config.topics.clone();
    // a topic that is not there would be reported as missing for ever
    topics.extend(no_inbox.is_none().then_some(inbox));
    let exactly_once = config.delivery == DeliveryMode::ExactlyOnce;
    let spec = SubscriptionSpec {
        start: config.start,
        prefetch: config.max_in_flight,
        drain_timeout: REVOKE_TIMEOUT,
        exactly_once,
        stats: counters.source.clone(),
        ..SubscriptionSpec::new(&*config.group, topics)
    };
    let marks = match config.dedup {
        Some(_) => Some(shared.side_store.marks_of(&**own).await?),
        None => None,
    };
    if !config.retry_tiers.is_empty() {
        shared.couriers.serve(&shared.config, own, exactly_once).await;
    }
    let notes = connection(connections, &config.notes_connection)?.clone();
    let state = match config.grants.contains(&Grant::State) {
        true => Some(state_store(shared, config).await?),
        false => None,
    };
    let services = Services { marks, state, connection: Some(notes), ..Services::default() };
    let outputs = outputs(connections, config)?;
    let source = own.subscribe(spec).await?;
    if exactly_once && services.state.is_some() && !source.guarantees().atomic_state {
        let (plugin, connection) = (&config.name, &config.connection);
        warn!(
            plugin,
            connection,
            "`delivery = \"exactly-once\"` does not cover the state: it is written before the \
             position, and twice if the process dies in between, unless `dedup` is on"
        );
    }
    let subscription = Subscription::with_services(
        subscription_config(config),
        handler,
        outputs,
        counters.subscription.clone(),
        services,
    );
    let (stop, stopped) = StopHandle::new();
    let task = tokio::spawn(pipeline::run(source, subscription, stopped));
    Ok(Running { stop, task, since: Instant::now(), no_inbox })
}

/// Where dead letters go, if any do.
pub(crate) fn dead_letters(config: &PluginConfig) -> Option<DeadLetterConfig> {
    let wanted = config.dead_letter.on_exhausted == OnExhausted::DeadLetter;
    wanted.then(|| DeadLetterConfig {
        dialect: config.dead_letter.dialect,
        on_dead_letter: config.dead_letter.on_dead_letter,
        ..DeadLetterConfig::new(config.dead_letter.topic.as_str())
    })
}

fn subscription_config(config: &PluginConfig) -> SubscriptionConfig {
    SubscriptionConfig {
        group: config.group.clone(),
        ordering: config.ordering,
        concurrency: config.concurrency,
        max_in_flight: config.max_in_flight,
        retry: config.retry.clone(),
        retry_tiers: config.retry_tiers.clone(),
        exhausted: config.dead_letter.on_exhausted,
        dead_letter: dead_letters(config),
        allow: config.publish.clone(),
        breaker: config.breaker,
        dedup: config.dedup,
        internal: config.is_route(),
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
        own: output(&config.notes_connection)?,
    })
}

fn connection<'a>(
    connections: &'a Connections,
    name: &str,
) -> Result<&'a Arc<dyn Connection>, SourceError> {
    let unknown = || SourceError::Fatal(format!("there is no connection `{name}`"));
    connections.get(name).ok_or_else(unknown)
}
