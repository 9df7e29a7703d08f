//! `sandbar:events/publisher`.

use super::{
    base::sandbar::events::publisher::{self as host, PublishError as Refusal},
    convert,
};
use crate::{Outgoing, publisher::PublishError};

pub(crate) fn publish(events: Vec<Outgoing>) -> Result<(), PublishError> {
    let events: Vec<_> = events.into_iter().map(convert::outgoing).collect();
    host::publish(&events).map_err(|refusal| match refusal {
        Refusal::Denied(what) => PublishError::Denied(what),
        Refusal::TooLarge(limit) => PublishError::TooLarge(limit),
        Refusal::Timeout => PublishError::Timeout,
        Refusal::Unavailable(reason) => PublishError::Unavailable(reason),
        Refusal::Other(reason) => PublishError::Other(reason),
    })
}
