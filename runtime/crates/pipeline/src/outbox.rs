//! Outputs and dead letters on their way to the brokers (contract D1): offered
//! until they are durable, never dropped.

use std::{collections::HashMap, fmt, sync::Arc};

use futures::future::join_all;
use sandbar_core::{Outgoing, PublishError, Sink};

use crate::{attempt::guarded, topics};

/// A sink and the name of its connection.
#[derive(Clone)]
pub struct Output {
    /// Name in the configuration.
    pub connection: Arc<str>,
    /// Where to publish.
    pub sink: Arc<dyn Sink>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Where a subscription may publish to.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// For events that name no connection.
    pub default: Output,
    /// The other connections that the plugin was granted, by name.
    pub named: HashMap<String, Output>,
    /// For dead letters.
    pub dead_letters: Output,
    /// The connection that the events come from, for what the pipeline keeps there
    /// itself: delayed retries and notes on halted keys.
    pub own: Output,
}

impl Outputs {
    /// One connection for everything.
    pub fn single(connection: impl Into<Arc<str>>, sink: Arc<dyn Sink>) -> Self {
        let output = Output { connection: connection.into(), sink };
        Self {
            default: output.clone(),
            named: HashMap::new(),
            dead_letters: output.clone(),
            own: output,
        }
    }

    /// The output that an event names; `None` where it was not granted.
    pub(crate) fn find(&self, connection: Option<&str>) -> Option<&Output> {
        match connection {
            None => Some(&self.default),
            Some(name) if name == &*self.default.connection => Some(&self.default),
            Some(name) => self.named.get(name),
        }
    }

    /// Why `output` may not be published, where `allow` lists the topics that may be
    /// published to; without it all may.
    pub(crate) fn denial<'a>(
        &self,
        allow: Option<&[String]>,
        output: &'a Outgoing,
    ) -> Option<Denial<'a>> {
        let connection = output.connection.as_deref();
        if self.find(connection).is_none() {
            return Some(Denial::Connection(connection.unwrap_or_default()));
        }
        let listed =
            |allow: &[String]| allow.iter().any(|glob| topics::matches(glob, &output.topic));
        (!allow.is_none_or(listed)).then_some(Denial::Topic(&output.topic))
    }
}

/// What a plugin may not publish to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denial<'a> {
    Connection(&'a str),
    Topic(&'a str),
}

impl Denial<'_> {
    pub(crate) fn complaint(self, plugin: &str) -> String {
        match self {
            Self::Connection(name) => format!("publishing to connection `{name}` is not granted"),
            Self::Topic(topic) => format!(
                "publishing to topic `{topic}` is not allowed: add it to `publish` of plugin `{plugin}`"
            ),
        }
    }
}

/// Records to be published, each on behalf of an owner, which is an index that
/// means something to the caller.
#[derive(Default)]
pub(crate) struct Outbox {
    lots: Vec<Lot>,
    owners: usize,
}

/// What one sink is to get: records and their owners, in step.
struct Lot {
    output: Output,
    records: Vec<Outgoing>,
    owners: Vec<usize>,
}

/// What came of offering everything once.
#[derive(Default)]
pub(crate) struct Round {
    pub published: u64,
    /// Owners with a record that can never be published, and why.
    pub rejected: Vec<(usize, String)>,
    /// Why something has to be offered again.
    pub unavailable: Option<String>,
}

impl Outbox {
    pub(crate) fn push(&mut self, output: &Output, owner: usize, record: Outgoing) {
        self.owners = self.owners.max(owner + 1);
        let known = self.lots.iter().position(|l| l.output.connection == output.connection);
        let at = known.unwrap_or_else(|| {
            self.lots.push(Lot { output: output.clone(), records: Vec::new(), owners: Vec::new() });
            self.lots.len() - 1
        });
        self.lots[at].records.push(record);
        self.lots[at].owners.push(owner);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lots.is_empty()
    }

    /// Which owners still have something to publish.
    pub(crate) fn owing(&self) -> Vec<bool> {
        let mut owing = vec![false; self.owners];
        self.lots.iter().flat_map(|l| &l.owners).for_each(|&owner| owing[owner] = true);
        owing
    }

    /// Offers every sink what it has not taken. What failed stays for the next
    /// round, and with it whatever its owner sent after it to the same sink, so that
    /// an event's outputs end up in their order. With `hold_rejected`, what a broker
    /// refuses is offered again like what it cannot take now.
    pub(crate) async fn round(&mut self, hold_rejected: bool) -> Round {
        let offers = self.lots.iter().map(|lot| async {
            match guarded(lot.output.sink.publish(&lot.records)).await {
                Ok(results) if results.len() == lot.records.len() => results,
                Ok(results) => {
                    let (n, m) = (results.len(), lot.records.len());
                    let reason = format!("the sink answered for {n} of {m} records");
                    vec![Err(PublishError::Unavailable(reason)); m]
                }
                Err(panic) => {
                    let reason = format!("the sink panicked: {panic}");
                    vec![Err(PublishError::Unavailable(reason)); lot.records.len()]
                }
            }
        });
        let answers = join_all(offers).await;
        let mut round = Round::default();
        for (lot, results) in self.lots.iter_mut().zip(answers) {
            lot.keep(results, hold_rejected, &mut round);
        }
        // the owner is given up as a whole, also what other sinks still owe it
        for (owner, _) in &round.rejected {
            self.lots.iter_mut().for_each(|lot| lot.forget(*owner));
        }
        self.lots.retain(|lot| !lot.records.is_empty());
        round
    }
}

impl Lot {
    fn keep(
        &mut self,
        results: Vec<Result<(), PublishError>>,
        hold_rejected: bool,
        round: &mut Round,
    ) {
        let connection = &self.output.connection;
        let mut behind: Vec<usize> = Vec::new();
        let mut kept = (Vec::new(), Vec::new());
        let records = std::mem::take(&mut self.records).into_iter();
        let owners = std::mem::take(&mut self.owners).into_iter();
        for ((record, owner), result) in records.zip(owners).zip(results) {
            round.published += u64::from(result.is_ok());
            match result {
                Ok(()) if !behind.contains(&owner) => continue,
                Ok(()) => {}
                Err(PublishError::Rejected(reason)) if !hold_rejected => {
                    let reason = format!(
                        "connection `{connection}` refused an event for topic `{}`: {reason}",
                        record.topic
                    );
                    round.rejected.push((owner, reason));
                }
                Err(PublishError::Rejected(reason) | PublishError::Unavailable(reason)) => {
                    round.unavailable = Some(format!(
                        "connection `{connection}` does not take events for topic `{}`: {reason}",
                        record.topic
                    ));
                    behind.push(owner);
                }
            }
            kept.0.push(record);
            kept.1.push(owner);
        }
        (self.records, self.owners) = kept;
    }

    fn forget(&mut self, owner: usize) {
        let mut keep = self.owners.iter().map(|o| *o != owner).collect::<Vec<_>>().into_iter();
        self.records.retain(|_| keep.next().unwrap_or(true));
        self.owners.retain(|o| *o != owner);
    }
}
