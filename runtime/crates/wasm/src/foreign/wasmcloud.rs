//! `wasmcloud:messaging@0.2.0`. Its messages have a subject, a body and an address for
//! replies: key, offset, attempt and CloudEvents attributes have no place in them.

use sandbar_core::{Call, Event, Outgoing};
use wasmtime::{
    Store,
    component::{HasData, Linker},
};

use self::bindings::{
    exports::wasmcloud::messaging::handler,
    wasmcloud::messaging::{
        consumer,
        types::{self, BrokerMessage},
    },
};
use super::{ForeignError, NO_REPLIES, Outbox, Said};
use crate::state::State;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/wasmcloud-messaging-0.2.0",
        inline: "
            package sandbar:wasmcloud;
            world served {
                import wasmcloud:messaging/consumer@0.2.0;
                export wasmcloud:messaging/handler@0.2.0;
            }
        ",
        world: "sandbar:wasmcloud/served",
        imports: { default: trappable },
        exports: { default: async },
    });
}

pub(super) use handler::{Guest, GuestIndices as Indices};

/// The header that holds where replies go.
const REPLY_TO: &str = "reply-to";

pub(super) async fn call(
    guest: &Guest,
    store: &mut Store<State>,
    call: &Call,
) -> wasmtime::Result<Result<(), Said>> {
    let event = &call.event;
    let message = BrokerMessage {
        subject: event.topic.to_string(),
        body: event.payload.as_deref().unwrap_or_default().to_vec(),
        reply_to: reply_to(event),
    };
    let said = guest.call_handle_message(store, &message).await?;
    Ok(said.map_err(|message| Said { case: ForeignError::Other, message }))
}

/// Where a message says that replies go.
pub(super) fn reply_to(event: &Event) -> Option<String> {
    let value = event.header(REPLY_TO)?.value.as_deref()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The event that a message becomes.
pub(super) fn output(subject: String, body: Vec<u8>, reply_to: Option<String>) -> Outgoing {
    let output = Outgoing::new(subject, body);
    match reply_to {
        Some(reply_to) => output.with_header(REPLY_TO, reply_to),
        None => output,
    }
}

struct Messaging;

impl HasData for Messaging {
    type Data<'a> = &'a mut Outbox;
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, Messaging>(linker, |state| &mut state.outbox)?;
    consumer::add_to_linker::<State, Messaging>(linker, |state| &mut state.outbox)
}

impl types::Host for Outbox {}

impl consumer::Host for Outbox {
    fn request(
        &mut self,
        _subject: String,
        _body: Vec<u8>,
        _timeout_ms: u32,
    ) -> wasmtime::Result<Result<BrokerMessage, String>> {
        Ok(Err(NO_REPLIES.into()))
    }

    fn publish(&mut self, message: BrokerMessage) -> wasmtime::Result<Result<(), String>> {
        self.push(output(message.subject, message.body, message.reply_to))?;
        Ok(Ok(()))
    }
}
