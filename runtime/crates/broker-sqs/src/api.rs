//! The calls that are made of SQS: small enough to fake by hand.

use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};

use crate::{
    error::{Failure, Kind},
    record::{Message, Received},
};

/// Entries that one batched call may carry.
pub(crate) const BATCH: usize = 10;

/// What became of each entry of a call, in order.
pub(crate) type Each = Vec<Result<(), Failure>>;

/// What a queue says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// Largest message that it takes, attributes included, in bytes; `None` where it does
    /// not say.
    pub size_max: Option<usize>,
    /// Its own redrive policy, in JSON.
    pub redrive_policy: Option<String>,
    /// Messages that could be received, about.
    pub visible: u64,
    /// Messages that were received and not deleted, about.
    pub in_flight: u64,
}

/// SQS. Queues are named by their URLs but where a name is asked for; batched calls carry
/// at most [`BATCH`] entries. Every call ends by itself, within its wait and some seconds.
#[async_trait]
pub(crate) trait Api: Send + Sync {
    async fn send(&self, queue: &str, messages: &[&Message]) -> Result<Each, Failure>;

    async fn receive(
        &self,
        queue: &str,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Received>, Failure>;

    async fn delete(&self, queue: &str, receipts: &[String]) -> Result<Each, Failure>;

    /// Makes each message visible again after whole seconds from now.
    async fn set_visibility(
        &self,
        queue: &str,
        changes: &[(String, Duration)],
    ) -> Result<Each, Failure>;

    /// The URL of the queue of this name, if there is one.
    async fn find(&self, name: &str) -> Result<Option<String>, Failure>;

    /// Makes a queue and returns its URL.
    async fn create(&self, name: &str, visibility: Duration) -> Result<String, Failure>;

    async fn describe(&self, queue: &str) -> Result<Described, Failure>;

    /// Names of all queues that begin with `prefix`.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Failure>;
}

/// Makes `call` for `items` in batches, `calls` of them at once, and returns what became of
/// each item, in order. Where a whole call is refused, each of its items is tried alone: one
/// of them is to blame, and the others are not.
pub(crate) async fn batched<T: Clone + Send + Sync, F>(
    items: &[T],
    calls: usize,
    call: impl Fn(Vec<T>) -> F + Sync,
) -> Each
where
    F: Future<Output = Result<Each, Failure>> + Send,
{
    let call = &call;
    let batch = |items: &[T]| {
        let items = items.to_vec();
        async move {
            match call(items.clone()).await {
                Ok(each) => each,
                Err(failure) if failure.kind == Kind::Refused && items.len() > 1 => {
                    let mut each = Vec::with_capacity(items.len());
                    for item in items {
                        let alone = call(vec![item]).await.map(|mut one| one.pop());
                        each.push(alone.and_then(|one| one.unwrap_or_else(unmentioned)));
                    }
                    each
                }
                Err(failure) => vec![Err(failure); items.len()],
            }
        }
    };
    let batches: Vec<_> = items.chunks(BATCH).map(batch).collect();
    stream::iter(batches).buffered(calls).concat().await
}

/// The fate of an entry that the answer says nothing of.
pub(crate) fn unmentioned() -> Result<(), Failure> {
    Err(Failure::away("the answer does not say what became of it"))
}

#[cfg(test)]
#[path = "fake.rs"]
pub(crate) mod fake;
