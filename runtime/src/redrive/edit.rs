//! One dead letter, changed and sent back.

use std::sync::Arc;

use sandbar_core::{Event, Header, PublishError, SourceError, reserved};
use sandbar_pipeline::Parcel;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Place, Routes};
use crate::event_json::BytesJson;

/// Names the letter that an edited event was made of.
const MARK: &str = "sandbar-edited-from";
/// Headers by which events find their way.
const RESERVED: [&str; 3] = ["sandbar-parcel-", "sandbar-dlq-", "__dlq.errors."];

/// `POST /api/dead-letters/{topic}/{partition}/{position}/edit`: what is to change. The key
/// stays, and with it the event's place in the order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Edit {
    /// The new payload, `null` for a tombstone; left out, it stays.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub payload: Option<Option<BytesJson>>,
    /// Headers that replace all others of their name.
    pub set_headers: Vec<(String, BytesJson)>,
    /// Names of headers that go.
    pub remove_headers: Vec<String>,
}

/// Where an edited letter went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// The letter, which stays where it is.
    pub letter: String,
    /// Where its event was when it first failed.
    pub event: String,
    /// Connection of the inbox.
    pub connection: String,
    /// The inbox of the group that failed.
    pub inbox: String,
}

/// Why a letter was not edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is not one of ours, or damaged.
    #[error("the event at {0} is no dead letter of sandbar's, or does not say which group failed")]
    Foreign(String),
    /// Nothing would be different.
    #[error("nothing is changed: give a payload or a header, or use redrive")]
    Unchanged,
    /// A header that must not be touched.
    #[error("the header `{0}` is sandbar's own and cannot be edited")]
    Reserved(String),
    /// The inbox cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The inbox does not take it.
    #[error("{inbox} does not take the edited event: {error}")]
    Publish {
        /// The inbox.
        inbox: String,
        /// Why.
        error: PublishError,
    },
}

/// `null` is a value here, and not the same as nothing.
fn given<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<BytesJson>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Edit {
    /// The parcel of `letter` with everything changed.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn parcel(&self, letter: &Event) -> Result<Parcel, EditError> {
        let place = || Place(letter).to_string();
        let mut parcel =
            Parcel::of_dead_letter(letter).ok_or_else(|| EditError::Foreign(place()))?;
        let named = self.set_headers.iter().map(|(name, _)| name).chain(&self.remove_headers);
        for name in named.clone() {
            if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
                return Err(EditError::Reserved(name.clone()));
            }
        }
        let goes = |header: &Header| named.clone().any(|name| **name == *header.name);
        let event = &mut parcel.event;
        let mut headers: Vec<Header> =
            event.headers.iter().filter(|header| !goes(header)).cloned().collect();
        headers.extend(
            self.set_headers.iter().map(|(name, value)| Header::new(&**name, value.0.clone())),
        );
        let payload = match &self.payload {
            Some(payload) => payload.as_ref().map(|p| p.0.clone()),
            None => event.payload.clone(),
        };
        if *headers == *event.headers && payload == event.payload {
            return Err(EditError::Unchanged);
        }
        headers.retain(|header| &*header.name != MARK);
        headers.push(Header::new(MARK, place()));
        (event.headers, event.payload) = (headers.into(), payload);
        Ok(parcel)
    }

    /// Sends the edited event to the inbox of the group that failed. The letter stays.
    ///
    /// # Errors
    /// See [`EditError`]; where it is one, nothing was sent.
    pub async fn send(&self, letter: &Event, routes: &Routes) -> Result<Edited, EditError> {
        let parcel = self.parcel(letter)?;
        let connection = Arc::clone(&routes.of(&parcel.to).connection);
        let inbox = reserved::inbox(&parcel.to);
        connection.ensure_topics(std::slice::from_ref(&inbox)).await?;
        let results = connection.sink().publish(&[parcel.record(inbox.as_str())]).await;
        let failed = results.into_iter().find_map(Result::err);
        if let Some(error) = failed {
            return Err(EditError::Publish { inbox, error });
        }
        Ok(Edited {
            letter: Place(letter).to_string(),
            event: Place(&parcel.event).to_string(),
            connection: connection.name().to_owned(),
            inbox,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redrive::testing;

    fn text(text: &str) -> BytesJson {
        BytesJson(text.to_owned().into())
    }

    #[tokio::test]
    async fn d3_an_edited_letter_goes_to_the_group_that_failed_and_stays() {
        let log = testing::log();
        testing::publish(&*log, &[testing::dead(7, b"k", b"bad", "charge", "declined", 1)]).await;
        let letter = testing::all(&*log, "p.dlq").await.remove(0);
        let edit = Edit {
            payload: Some(Some(text("good"))),
            set_headers: vec![("source".to_owned(), text("desk"))],
            remove_headers: Vec::new(),
        };
        let edited = edit.send(&letter, &Routes::new(log.clone())).await.expect("sent");
        assert_eq!(edited.inbox, "sandbar-inbox.sandbar.charge");
        assert_eq!((&*edited.letter, &*edited.event), ("p.dlq/0/0", "in/2/7"));

        let inbox = testing::all(&*log, &edited.inbox).await;
        let parcel = Parcel::open(&inbox[0]).expect("a parcel");
        assert_eq!(parcel.event.payload.as_deref(), Some(&b"good"[..]));
        assert_eq!(parcel.event.key.as_deref(), Some(&b"k"[..]));
        assert_eq!((parcel.redrives, inbox.len()), (2, 1));
        let headers: Vec<_> =
            parcel.event.headers.iter().map(|h| (&*h.name, h.value.as_deref())).collect();
        assert_eq!(
            headers,
            [("source", Some(&b"desk"[..])), ("sandbar-edited-from", Some(&b"p.dlq/0/0"[..]))]
        );
        assert_eq!(testing::all(&*log, "p.dlq").await, [letter]);
    }

    #[test]
    fn what_cannot_be_edited_is_refused() {
        let letter = testing::letter(b"k", b"bad", "charge", "declined").event;
        let parcel = |edit: Edit| edit.parcel(&letter).map(|p| p.event.payload);
        assert!(matches!(parcel(Edit::default()), Err(EditError::Unchanged)));
        let same = Edit { payload: Some(Some(text("bad"))), ..Edit::default() };
        assert!(matches!(parcel(same), Err(EditError::Unchanged)));
        let tombstone = Edit { payload: Some(None), ..Edit::default() };
        assert_eq!(parcel(tombstone).expect("edited"), None);
        for name in ["sandbar-dlq-redrives", "sandbar-parcel-to", "__dlq.errors.group"] {
            let edit = Edit { remove_headers: vec![name.to_owned()], ..Edit::default() };
            assert!(matches!(parcel(edit), Err(EditError::Reserved(n)) if n == name));
        }
        let foreign = Event { headers: [].into(), ..letter.clone() };
        let edit = Edit { payload: Some(None), ..Edit::default() };
        assert!(matches!(edit.parcel(&foreign), Err(EditError::Foreign(_))));
    }

    #[test]
    fn a_tombstone_is_told_from_a_payload_that_stays() {
        let read = |text: &str| serde_json::from_str::<Edit>(text).expect("valid").payload;
        assert_eq!(read("{}"), None);
        assert_eq!(read(r#"{"payload": null}"#), Some(None));
        assert_eq!(read(r#"{"payload": "x"}"#), Some(Some(text("x"))));
    }
}
