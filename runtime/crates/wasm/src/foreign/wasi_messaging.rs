//! `wasi:messaging@0.2.0-draft`.

mod message;

use sandbar_core::Call;
use wasmtime::{
    Store,
    component::{HasData, Linker, Resource, ResourceTable},
};

use self::bindings::{
    exports::wasi::messaging::incoming_handler,
    wasi::messaging::{producer, request_reply, types},
};
use super::{ForeignError, NO_REPLIES, Outbox, Said};
use crate::state::State;

pub(super) use incoming_handler::{Guest, GuestIndices as Indices};
pub use message::Message;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/wasi-messaging-0.2.0-draft",
        world: "messaging-request-reply",
        with: {
            "wasi:messaging/types.client": super::Client,
            "wasi:messaging/types.message": super::Message,
            "wasi:messaging/request-reply.request-options": super::RequestOptions,
        },
        imports: { default: trappable },
        exports: { default: async },
    });
}

/// What a component takes for a connection. Which one it is, the operator says
/// (`output-connection`).
pub struct Client;

/// Options of something that is not offered.
pub struct RequestOptions;

pub(super) async fn call(
    guest: &Guest,
    store: &mut Store<State>,
    call: &Call,
) -> wasmtime::Result<Result<(), Said>> {
    let message = Message::of(call);
    let state = store.data_mut();
    state.outbox.give(message.size());
    let message = state.wasi.table.push(message)?;
    let said = guest.call_handle(store, message).await?;
    Ok(said.map_err(|error| match error {
        types::Error::Timeout => {
            Said { case: ForeignError::Timeout, message: "the plugin says: timeout".into() }
        }
        types::Error::Connection(message) => Said { case: ForeignError::Connection, message },
        types::Error::PermissionDenied(message) => {
            Said { case: ForeignError::PermissionDenied, message }
        }
        types::Error::Other(message) => Said { case: ForeignError::Other, message },
    }))
}

/// Handles and messages of one store, borrowed for one host call.
pub(super) struct MessagingView<'a> {
    table: &'a mut ResourceTable,
    outbox: &'a mut Outbox,
}

struct Messaging;

impl HasData for Messaging {
    type Data<'a> = MessagingView<'a>;
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    fn view(state: &mut State) -> MessagingView<'_> {
        MessagingView { table: &mut state.wasi.table, outbox: &mut state.outbox }
    }
    types::add_to_linker::<State, Messaging>(linker, view)?;
    producer::add_to_linker::<State, Messaging>(linker, view)?;
    request_reply::add_to_linker::<State, Messaging>(linker, view)
}

impl MessagingView<'_> {
    /// Changes a message within what the component may hold.
    fn change(
        &mut self,
        message: &Resource<Message>,
        change: impl FnOnce(&mut Message),
    ) -> wasmtime::Result<()> {
        let message = self.table.get_mut(message)?;
        let before = message.size();
        change(message);
        Ok(self.outbox.resize(before, message.size())?)
    }

    fn take(&mut self, message: Resource<Message>) -> wasmtime::Result<Message> {
        let message = self.table.delete(message)?;
        self.outbox.resize(message.size(), 0)?;
        Ok(message)
    }
}

impl types::Host for MessagingView<'_> {}

impl types::HostClient for MessagingView<'_> {
    fn connect(
        &mut self,
        _name: String,
    ) -> wasmtime::Result<Result<Resource<Client>, types::Error>> {
        Ok(Ok(self.table.push(Client)?))
    }

    fn disconnect(&mut self, _: Resource<Client>) -> wasmtime::Result<Result<(), types::Error>> {
        Ok(Ok(()))
    }

    fn drop(&mut self, client: Resource<Client>) -> wasmtime::Result<()> {
        self.table.delete(client)?;
        Ok(())
    }
}

impl types::HostMessage for MessagingView<'_> {
    fn new(&mut self, data: Vec<u8>) -> wasmtime::Result<Resource<Message>> {
        let message = Message::new(data);
        self.outbox.resize(0, message.size())?;
        Ok(self.table.push(message)?)
    }

    fn topic(&mut self, it: Resource<Message>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&it)?.topic.as_deref().map(str::to_owned))
    }

    fn content_type(&mut self, it: Resource<Message>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&it)?.content_type.clone())
    }

    fn set_content_type(&mut self, it: Resource<Message>, to: String) -> wasmtime::Result<()> {
        self.change(&it, |message| message.content_type = Some(to))
    }

    fn data(&mut self, it: Resource<Message>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&it)?.data.to_vec())
    }

    fn set_data(&mut self, it: Resource<Message>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.change(&it, |message| message.data = data.into())
    }

    fn metadata(&mut self, it: Resource<Message>) -> wasmtime::Result<Option<types::Metadata>> {
        let metadata = &self.table.get(&it)?.metadata;
        Ok((!metadata.is_empty()).then(|| metadata.clone()))
    }

    fn add_metadata(
        &mut self,
        it: Resource<Message>,
        key: String,
        value: String,
    ) -> wasmtime::Result<()> {
        self.change(&it, |message| {
            message.metadata.retain(|(name, _)| *name != key);
            message.metadata.push((key, value));
        })
    }

    fn set_metadata(&mut self, it: Resource<Message>, to: types::Metadata) -> wasmtime::Result<()> {
        self.change(&it, |message| message.metadata = to)
    }

    fn remove_metadata(&mut self, it: Resource<Message>, key: String) -> wasmtime::Result<()> {
        self.change(&it, |message| message.metadata.retain(|(name, _)| *name != key))
    }

    fn drop(&mut self, it: Resource<Message>) -> wasmtime::Result<()> {
        self.take(it)?;
        Ok(())
    }
}

impl producer::Host for MessagingView<'_> {
    fn send(
        &mut self,
        _: Resource<Client>,
        topic: String,
        message: Resource<Message>,
    ) -> wasmtime::Result<Result<(), types::Error>> {
        let output = self.take(message)?.into_output(topic);
        self.outbox.push(output)?;
        Ok(Ok(()))
    }
}

impl request_reply::Host for MessagingView<'_> {
    fn request(
        &mut self,
        _: Resource<Client>,
        _topic: String,
        _: Resource<Message>,
        options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<Result<Vec<Resource<Message>>, types::Error>> {
        if let Some(options) = options {
            self.table.delete(options)?;
        }
        Ok(Err(types::Error::Other(NO_REPLIES.into())))
    }

    fn reply(
        &mut self,
        _: Resource<Message>,
        message: Resource<Message>,
    ) -> wasmtime::Result<Result<(), types::Error>> {
        self.take(message)?;
        Ok(Err(types::Error::Other(NO_REPLIES.into())))
    }
}

impl request_reply::HostRequestOptions for MessagingView<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<RequestOptions>> {
        Ok(self.table.push(RequestOptions)?)
    }

    fn set_timeout_ms(&mut self, _: Resource<RequestOptions>, _: u32) -> wasmtime::Result<()> {
        Ok(())
    }

    fn set_expected_replies(
        &mut self,
        _: Resource<RequestOptions>,
        _: u32,
    ) -> wasmtime::Result<()> {
        Ok(())
    }

    fn drop(&mut self, options: Resource<RequestOptions>) -> wasmtime::Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}
