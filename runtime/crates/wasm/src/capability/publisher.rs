//! `sandbar:events/publisher`: publishing at once, whatever becomes of the event.

use sandbar_core::{Event, PublishRefusal, cloudevents};
use tokio::time::{Instant, timeout};
use wasmtime::component::{HasData, Linker};

use crate::{
    bindings::sandbar::events::{
        publisher::{self, Host, PublishError},
        types,
    },
    convert::{self, Used},
    limits::Limits,
    state::{Direct, State},
};

/// What one call has published.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The event that is handled; none while the plugin is only made ready.
    pub(crate) event: Option<Event>,
    /// What counts towards the limits on outputs.
    pub(crate) used: Used,
}

/// The right to publish, borrowed for one host call.
pub(crate) struct PublisherView<'a> {
    publisher: Option<&'a Direct>,
    limits: &'a Limits,
    deadline: Instant,
    published: &'a mut Published,
}

struct Publishing;

impl HasData for Publishing {
    type Data<'a> = PublisherView<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    publisher::add_to_linker::<State, Publishing>(linker, |state| PublisherView {
        publisher: state.facts.publisher.as_ref(),
        limits: &state.facts.limits,
        deadline: state.deadline,
        published: &mut state.published,
    })
}

impl Host for PublisherView<'_> {
    async fn publish(
        &mut self,
        events: Vec<types::Outgoing>,
    ) -> wasmtime::Result<Result<(), PublishError>> {
        Ok(self.try_publish(events).await)
    }
}

impl PublisherView<'_> {
    async fn try_publish(&mut self, events: Vec<types::Outgoing>) -> Result<(), PublishError> {
        let Some(Direct(publisher)) = self.publisher else {
            return Err(PublishError::Unavailable("this host publishes nothing".into()));
        };
        let Some(event) = &self.published.event else {
            let reason = "a plugin can publish only while it handles an event";
            return Err(PublishError::Other(reason.into()));
        };
        let used = self.published.used.and(&events);
        if used.records > self.limits.output_records {
            let most = self.limits.output_records;
            let reason = format!("more than {most} events (limits.output-records)");
            return Err(PublishError::Other(reason));
        }
        if used.bytes > self.limits.output_bytes {
            return Err(PublishError::TooLarge(self.limits.output_bytes as u64));
        }
        let shape = |e: &types::Outgoing| {
            convert::check_shape(&e.topic, e.headers.len() + e.attributes.len())
        };
        if let Err(hit) = events.iter().try_for_each(shape) {
            return Err(PublishError::Other(hit.to_string()));
        }
        let mut events: Vec<_> = events.into_iter().map(convert::outgoing).collect();
        cloudevents::trace_back(event, &mut events);
        self.published.used = used;
        // what is left over lets the plugin say what follows
        let left = self.deadline.saturating_duration_since(Instant::now()) / 10 * 9;
        match timeout(left, publisher.publish(events)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(PublishRefusal::Denied(what))) => Err(PublishError::Denied(what)),
            Ok(Err(PublishRefusal::Rejected(reason))) => Err(PublishError::Other(reason)),
            Ok(Err(PublishRefusal::Unavailable(reason))) => Err(PublishError::Unavailable(reason)),
            Err(_) => Err(PublishError::Timeout),
        }
    }
}
