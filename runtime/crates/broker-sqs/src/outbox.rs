//! What is to be sent to one queue, by however many publish at once: calls are few and
//! carry as much as they can.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    api::{Api, BATCH, Each, batched},
    error::Failure,
    queues::SIZE_MAX,
    record::Message,
};

/// Waits for no more than a free call: a message that comes while there is one goes at once,
/// and those that come meanwhile share the next.
pub(crate) struct Outbox {
    api: Arc<dyn Api>,
    url: String,
    /// Calls that may be under way at once.
    calls: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order in which they came.
    waiting: VecDeque<Entry>,
    /// Message groups of which one is being sent: SQS may take one entry of a call and not
    /// another, so the next has to wait until that has arrived.
    busy: HashSet<String>,
    calls: usize,
    /// Number of the next publication.
    next: u64,
}

struct Entry {
    message: Message,
    publication: u64,
    result: oneshot::Sender<Result<(), Failure>>,
}

impl Entry {
    fn group(&self) -> Option<&str> {
        self.message.fifo.as_ref().map(|fifo| fifo.group.as_str())
    }
}

impl Outbox {
    pub fn new(api: Arc<dyn Api>, url: String, calls: usize) -> Arc<Self> {
        Arc::new(Self { api, url, calls, state: Mutex::default() })
    }

    /// Sends `messages`, those of a group in their order: where one does not arrive, those
    /// behind it are not sent. What is not yet under way when this is dropped is not sent.
    pub async fn send(self: &Arc<Self>, messages: Vec<Message>) -> Each {
        let results = {
            let mut state = self.state.lock();
            let publication = state.next;
            state.next += 1;
            let enter = |message| {
                let (result, told) = oneshot::channel();
                state.waiting.push_back(Entry { message, publication, result });
                told
            };
            messages.into_iter().map(enter).collect::<Vec<_>>()
        };
        self.start_calls();
        let unknown = |_| Err(Failure::away("the runtime is ending"));
        join_all(results).await.into_iter().map(|told| told.unwrap_or_else(unknown)).collect()
    }

    fn start_calls(self: &Arc<Self>) {
        loop {
            let batch = {
                let mut state = self.state.lock();
                if state.calls >= self.calls {
                    return;
                }
                let batch = state.take();
                if batch.is_empty() {
                    return;
                }
                state.calls += 1;
                batch
            };
            let outbox = self.clone();
            tokio::spawn(async move {
                outbox.call(batch).await;
                // what waited for its group or for a free call
                outbox.start_calls();
            });
        }
    }

    async fn call(&self, batch: Vec<Entry>) {
        let messages: Vec<&Message> = batch.iter().map(|entry| &entry.message).collect();
        let call = |messages: Vec<_>| async move { self.api.send(&self.url, &messages).await };
        let each = batched(&messages, 1, call).await;
        let mut state = self.state.lock();
        state.calls -= 1;
        for (entry, result) in batch.into_iter().zip(each) {
            if let Some(group) = entry.group() {
                state.busy.remove(group);
                if result.is_err() {
                    state.hold_up(group, entry.publication);
                }
            }
            // whoever waited may have stopped waiting
            let _ = entry.result.send(result);
        }
    }
}

impl State {
    /// What one call may carry, from the first on. A queue may take larger messages than
    /// the limit of all calls was for long: such a message goes alone.
    fn take(&mut self) -> Vec<Entry> {
        let (mut batch, mut size) = (Vec::new(), 0);
        let (mut at, mut full) = (0, false);
        while !full && let Some(entry) = self.waiting.get(at) {
            if entry.result.is_closed() {
                self.waiting.remove(at);
            } else if entry.group().is_some_and(|group| self.busy.contains(group)) {
                at += 1;
            } else {
                size += entry.message.size();
                full = size > SIZE_MAX && !batch.is_empty();
                if !full {
                    self.busy.extend(entry.group().map(str::to_owned));
                    batch.extend(self.waiting.remove(at));
                    full = batch.len() == BATCH;
                }
            }
        }
        batch
    }

    /// Nothing of `group` may overtake a message of the same publication that did not arrive.
    fn hold_up(&mut self, group: &str, publication: u64) {
        let behind = |e: &Entry| e.publication == publication && e.group() == Some(group);
        for entry in std::mem::take(&mut self.waiting) {
            if behind(&entry) {
                let reason = "an earlier record of its key could not be sent, and it must not overtake that one";
                let _ = entry.result.send(Err(Failure::away(reason)));
            } else {
                self.waiting.push_back(entry);
            }
        }
    }
}
