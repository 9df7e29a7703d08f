//! What the host calls.

use std::marker::PhantomData;

use super::{
    base::{
        exports::sandbar::events::{lifecycle, plugin},
        sandbar::events::types as wit,
    },
    batch::exports::sandbar::events::batch_handler,
    convert, logging,
    packed::exports::sandbar::events::packed_handler,
    single::exports::sandbar::events::handler,
};
use crate::{
    packed,
    plugin::{Batch, Plugin, Single},
};

/// Implements a plugin's exports.
pub struct Export<P>(PhantomData<P>);

impl<P: Plugin> plugin::Guest for Export<P> {
    fn describe() -> plugin::Metadata {
        let subscription = plugin::Subscription {
            connection: P::DESCRIPTION.connection.map(str::to_owned),
            topics: strings(P::DESCRIPTION.topics),
            options: pairs(P::DESCRIPTION.options),
        };
        plugin::Metadata {
            name: P::DESCRIPTION.name.to_owned(),
            version: P::DESCRIPTION.version.to_owned(),
            description: P::DESCRIPTION.description.to_owned(),
            subscriptions: vec![subscription],
            publishes: strings(P::DESCRIPTION.publishes),
            config_schema: P::DESCRIPTION.config_schema.map(str::to_owned),
            annotations: pairs(P::DESCRIPTION.annotations),
        }
    }
}

impl<P: Plugin> lifecycle::Guest for Export<P> {
    fn init() -> Result<(), String> {
        logging::start();
        P::init()
    }
}

impl<P: Single> handler::Guest for Export<P> {
    fn handle(event: wit::Event) -> Result<Vec<wit::Outgoing>, wit::Failure> {
        convert::outcome(P::handle(convert::event(event)))
    }
}

/// Implements the packed export of a plugin that handles events one by one.
pub struct PackedEach<P>(PhantomData<P>);

impl<P: Single> packed_handler::Guest for PackedEach<P> {
    fn handle_packed(events: Vec<u8>) -> Vec<u8> {
        packed::each(events, P::handle)
    }
}

impl<P: Batch> batch_handler::Guest for Export<P> {
    fn handle_batch(events: Vec<wit::Event>) -> Vec<Result<Vec<wit::Outgoing>, wit::Failure>> {
        let events = events.into_iter().map(convert::event).collect();
        P::handle_batch(events).into_iter().map(convert::outcome).collect()
    }
}

/// Implements the packed export of a plugin that handles many events at a time.
pub struct PackedWhole<P>(PhantomData<P>);

impl<P: Batch> packed_handler::Guest for PackedWhole<P> {
    fn handle_packed(events: Vec<u8>) -> Vec<u8> {
        packed::whole(events, P::handle_batch)
    }
}

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|&v| v.to_owned()).collect()
}

/// What the package leaves open (no homepage, no authors) is left out.
fn pairs(values: &[(&str, &str)]) -> Vec<(String, String)> {
    let given = values.iter().filter(|(_, value)| !value.is_empty());
    given.map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
}
