//! When every event that there is has been handled.

use std::{sync::Arc, time::Duration};

use sandbar::{
    api::Counts,
    config::PluginConfig,
    connections::Connections,
    supervisor::{State, Status, Supervisor},
};
use sandbar_core::{Connection, SourceError, StartAt};
use sandbar_pipeline::topic_matches;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A plugin that cannot go on by itself.
pub struct Stuck {
    pub name: String,
    pub reason: String,
}

/// Waits until all plugins have handled all events; those that cannot go on are
/// not waited for, but returned.
///
/// Two looks in a row have to find nothing to do and no event taken in between:
/// one plugin's output, published after that topic was looked at, may be the next one's input.
pub async fn wait(supervisor: Arc<Supervisor>, connections: Arc<Connections>) -> Vec<Stuck> {
    let mut before = None;
    loop {
        let seen = look(&supervisor, &connections).await;
        if seen.is_some() && seen == before {
            break;
        }
        before = seen;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let stuck = |status: Status| {
        let reason = status.reason.or(status.last_error).unwrap_or_default();
        let is_stuck = matches!(status.state, State::Halted | State::Failed);
        is_stuck.then_some(Stuck { name: status.name, reason })
    };
    supervisor.plugins().iter().filter_map(|plugin| stuck(plugin.status())).collect()
}

/// The counts of all plugins if none of them has anything to do.
async fn look(supervisor: &Supervisor, connections: &Connections) -> Option<Vec<Counts>> {
    let plugins = supervisor.plugins();
    let counts = plugins.iter().map(|plugin| plugin.counts()).collect();
    for plugin in &plugins {
        let status = plugin.status();
        match status.state {
            State::Loading | State::Waiting => return None,
            State::Halted | State::Failed | State::Disabled | State::Removed => continue,
            State::Running | State::Degraded => {}
        }
        let config = status.config?;
        let connection = connections.get(&config.connection)?;
        // a broker that cannot be asked now is asked again
        if plugin.in_flight() > 0 || !is_at_end(connection.as_ref(), &config).await.unwrap_or(false)
        {
            return None;
        }
    }
    Some(counts)
}

async fn is_at_end(
    connection: &dyn Connection,
    config: &PluginConfig,
) -> Result<bool, SourceError> {
    let cursors = connection.cursors(&config.group).await?;
    if cursors.iter().any(|(_, from, end)| from < end) {
        return Ok(false);
    }
    if !connection.guarantees().retained {
        // what waits is in the group's own queues, and may be all that can be known
        return Ok(true);
    }
    // a cursor that does not exist yet has no lag: look for topics without one
    let topics = connection.topics().await?;
    let inbox = config.inbox();
    let reads = |name: &str| {
        name == inbox || config.topics.iter().any(|pattern| topic_matches(pattern, name))
    };
    let untouched = topics.iter().any(|topic| {
        reads(&topic.name)
            && topic.events.is_some_and(|events| events > 0)
            && !cursors.iter().any(|(id, ..)| *id.topic == *topic.name)
    });
    Ok(config.start == StartAt::Latest || !untouched)
}
