//! `wasmcloud:messaging@0.3.0`: what 0.2.0 is, for many messages at a time, with bodies that
//! come and go as streams.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use sandbar_core::{Call, Outcome};
use sandbar_frame::Failure;
use tokio::sync::oneshot;
use wasmtime::{
    StoreContextMut,
    component::{
        Access, Accessor, GuestTaskId, HasData, Linker, Source, StreamConsumer, StreamReader,
        StreamResult, TypedFunc,
    },
};

use self::bindings::wasmcloud::messaging::{
    consumer,
    types::{self, BrokerMessage, Error, HandleMessageError},
};
use super::{
    ForeignError, NO_REPLIES, OnError, OnErrors, Outbox, Said,
    wasmcloud::{output, reply_to},
};
use crate::{
    concurrent::{Tasks, caller},
    convert,
    state::State,
};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/wasmcloud-messaging-0.3.0",
        world: "handler-service",
        imports: { default: trappable },
    });
}

/// The interface that is called.
pub(crate) const HANDLER: &str = "wasmcloud:messaging/handler@0.3.0";

/// `handle-message` of one instance.
pub(crate) type Handler = TypedFunc<(BrokerMessage,), (Result<(), HandleMessageError>,)>;

/// The message of an event.
pub(crate) fn message(
    access: &mut Access<'_, State>,
    call: &Call,
) -> wasmtime::Result<BrokerMessage> {
    let event = &call.event;
    Ok(BrokerMessage {
        subject: event.topic.to_string(),
        body: StreamReader::new(access, event.payload.clone().unwrap_or_default())?,
        reply_to: reply_to(event),
    })
}

/// What comes of an attempt with what was published in it, and what it said.
pub(crate) fn outcome(
    said: Result<(), HandleMessageError>,
    outbox: &mut Outbox,
    answers: &OnErrors,
) -> Outcome {
    let error = match said {
        Ok(()) => return Ok(outbox.end().into()),
        Err(error) => error,
    };
    Err(match error {
        HandleMessageError::Retry => {
            convert::failed(Failure::Retry { reason: "the plugin says: retry", delay_ms: None })
        }
        HandleMessageError::Reject => {
            convert::failed(Failure::Reject { code: "reject", message: "the plugin says: reject" })
        }
        HandleMessageError::Other(message) => {
            let said = Said { case: ForeignError::Other, message };
            said.answered(answers, OnError::Reject)
        }
    })
}

struct Messaging;

impl HasData for Messaging {
    type Data<'a> = &'a mut Tasks;
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, Messaging>(linker, |state| &mut state.tasks)?;
    consumer::add_to_linker::<State, Messaging>(linker, |state| &mut state.tasks)
}

impl types::Host for Tasks {}

impl consumer::Host for Tasks {}

impl consumer::HostWithStore<State> for Messaging {
    async fn request(
        accessor: &Accessor<State, Self>,
        _subject: String,
        mut body: StreamReader<u8>,
        _timeout_ms: Option<u32>,
    ) -> wasmtime::Result<Result<BrokerMessage, Error>> {
        body.close_with(accessor)?;
        Ok(Err(Error::Other(NO_REPLIES.into())))
    }

    async fn publish(
        accessor: &Accessor<State, Self>,
        message: BrokerMessage,
    ) -> wasmtime::Result<Result<(), Error>> {
        let BrokerMessage { subject, body, reply_to } = message;
        let (task, whole) = accessor.with(|mut access| {
            let task = caller(&mut access)?;
            let (to, whole) = oneshot::channel();
            let read = Vec::new();
            body.pipe(&mut access, Collector { task, read, to: Some(to) })?;
            wasmtime::error::Ok((task, whole))
        })?;
        let body = whole.await?;
        accessor.with(|mut access| {
            let tasks = access.get();
            let (held, output) = (body.len(), output(subject, body, reply_to));
            tasks.publishing(task, |outbox| outbox.resize(held, 0))?;
            Ok(match tasks.publishing(task, |outbox| outbox.push(output))? {
                Some(()) => Ok(()),
                None => Err(Error::Other("the message that it belongs to is done with".into())),
            })
        })
    }
}

/// Reads the body of a message that is published, within what the component may hold.
struct Collector {
    task: Option<GuestTaskId>,
    read: Vec<u8>,
    to: Option<oneshot::Sender<Vec<u8>>>,
}

impl StreamConsumer<State> for Collector {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'_, State>,
        source: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let task = self.task;
        let more = source.remaining(&mut store);
        let tasks = &mut store.data_mut().tasks;
        if tasks.publishing(task, |outbox| outbox.resize(0, more))?.is_none() {
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        let mut source = source.as_direct(store);
        self.read.extend_from_slice(source.remaining());
        source.mark_read(more);
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// The other end is closed: that is all of it.
impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            // who does not listen any more has gone with the instance
            let _ = to.send(mem::take(&mut self.read));
        }
    }
}
