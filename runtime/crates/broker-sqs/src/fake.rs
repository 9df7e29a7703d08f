//! Queues in memory that fail as a test says.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Api, Described, Each};
use crate::{
    error::Failure,
    queues::SIZE_MAX,
    record::{Message, Received},
};

/// What a call was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Receive,
    Send(Vec<String>),
    Delete(Vec<String>),
    Visibility(Vec<(String, Duration)>),
}

type Verdict = dyn Fn(&str) -> Result<(), Failure> + Send + Sync;

/// One queue whatever its name. A receipt names its message.
pub(crate) struct Fake {
    pub asked: Mutex<Vec<Asked>>,
    /// What becomes of each entry, by body or receipt.
    pub entry: Mutex<Arc<Verdict>>,
    /// What becomes of a whole call, by each of its entries.
    pub call: Mutex<Arc<Verdict>>,
    /// What the next receive calls bring.
    pub messages: Mutex<Vec<Vec<Received>>>,
}

impl Default for Fake {
    fn default() -> Self {
        let fine: Arc<Verdict> = Arc::new(|_| Ok(()));
        Self {
            asked: Mutex::default(),
            entry: Mutex::new(fine.clone()),
            call: Mutex::new(fine),
            messages: Mutex::default(),
        }
    }
}

/// A message as it is received.
pub(crate) fn message(id: &str, group: Option<&str>) -> Received {
    Received {
        id: id.into(),
        receipt: id.into(),
        body: id.into(),
        attributes: Vec::new(),
        group: group.map(Into::into),
        sent_ms: 0,
        receives: 1,
    }
}

impl Fake {
    pub fn entries(&self, verdict: impl Fn(&str) -> Result<(), Failure> + Send + Sync + 'static) {
        *self.entry.lock() = Arc::new(verdict);
    }

    pub fn calls(&self, verdict: impl Fn(&str) -> Result<(), Failure> + Send + Sync + 'static) {
        *self.call.lock() = Arc::new(verdict);
    }

    fn answer(&self, asked: Asked, entries: &[&str]) -> Result<Each, Failure> {
        self.asked.lock().push(asked);
        let (call, entry) = (self.call.lock().clone(), self.entry.lock().clone());
        entries.iter().try_for_each(|e| call(e))?;
        Ok(entries.iter().map(|e| entry(e)).collect())
    }
}

#[async_trait]
impl Api for Fake {
    async fn send(&self, _: &str, messages: &[&Message]) -> Result<Each, Failure> {
        let bodies: Vec<&str> = messages.iter().map(|m| m.body.as_str()).collect();
        self.answer(Asked::Send(bodies.iter().map(|b| (*b).to_owned()).collect()), &bodies)
    }

    async fn receive(
        &self,
        _: &str,
        _: usize,
        wait: Duration,
        _: Duration,
    ) -> Result<Vec<Received>, Failure> {
        self.asked.lock().push(Asked::Receive);
        if let Some(messages) = self.messages.lock().pop() {
            return Ok(messages);
        }
        tokio::time::sleep(wait).await;
        Ok(Vec::new())
    }

    async fn delete(&self, _: &str, receipts: &[String]) -> Result<Each, Failure> {
        let entries: Vec<&str> = receipts.iter().map(String::as_str).collect();
        self.answer(Asked::Delete(receipts.to_vec()), &entries)
    }

    async fn set_visibility(
        &self,
        _: &str,
        changes: &[(String, Duration)],
    ) -> Result<Each, Failure> {
        let entries: Vec<&str> = changes.iter().map(|(receipt, _)| receipt.as_str()).collect();
        self.answer(Asked::Visibility(changes.to_vec()), &entries)
    }

    async fn find(&self, name: &str) -> Result<Option<String>, Failure> {
        Ok(Some(name.to_owned()))
    }

    async fn create(&self, name: &str, _: Duration) -> Result<String, Failure> {
        Ok(name.to_owned())
    }

    async fn describe(&self, _: &str) -> Result<Described, Failure> {
        let visible = self.messages.lock().iter().flatten().count() as u64;
        Ok(Described { size_max: Some(SIZE_MAX), redrive_policy: None, visible, in_flight: 0 })
    }

    async fn list(&self, _: &str) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }
}
