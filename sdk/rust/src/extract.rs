use std::ops::{Deref, DerefMut};

use serde::Deserialize;

use crate::{Event, Failure, json_path::path_at};

/// What a handler can take as an argument: made from the event before the call.
///
/// `Event`, `&Event` and [`Json<T>`] are there; implement it for a type of your own
/// to keep decoding out of the handlers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no argument that a handler can take",
    label = "not made from an event",
    note = "a handler takes `Event`, `&Event`, `Json<T>` with `T: Deserialize`, or a type that implements `FromEvent`"
)]
pub trait FromEvent<'a>: Sized {
    /// Reads the argument out of the event.
    ///
    /// # Errors
    /// What becomes of an event that does not have it; the handler is not called.
    fn from_event(event: &'a Event) -> Result<Self, Failure>;
}

impl<'a> FromEvent<'a> for &'a Event {
    fn from_event(event: &'a Event) -> Result<Self, Failure> {
        Ok(event)
    }
}

impl FromEvent<'_> for Event {
    fn from_event(event: &Event) -> Result<Self, Failure> {
        Ok(event.clone())
    }
}

/// The payload read as JSON. `T` may borrow strings from the payload.
///
/// A payload that is no `T` is rejected with code `invalid-json`, a tombstone with
/// code `no-payload`; the handler is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<'a, T: Deserialize<'a>> FromEvent<'a> for Json<T> {
    fn from_event(event: &'a Event) -> Result<Self, Failure> {
        let bytes = event.bytes()?;
        serde_json::from_slice(bytes).map(Json).map_err(|error| invalid_json(bytes, &error))
    }
}

#[cold]
fn invalid_json(bytes: &[u8], error: &serde_json::Error) -> Failure {
    let message = match path_at(bytes, error.line(), error.column()) {
        path if path.is_empty() => error.to_string(),
        path => format!("at {path}: {error}"),
    };
    Failure::reject("invalid-json", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Order<'a> {
        customer: &'a str,
        lines: Vec<Line>,
    }

    #[derive(Debug, Deserialize)]
    struct Line {
        amount: u32,
    }

    fn reject(payload: &str) -> (String, String) {
        let event = Event::new("t").with_text(payload);
        match Json::<Order<'_>>::from_event(&event) {
            Err(Failure::Reject { code, message }) => (code, message),
            other => panic!("not rejected: {other:?}"),
        }
    }

    #[test]
    fn payloads_are_read_without_copying_strings() {
        let event = Event::new("t").with_text(r#"{"customer":"c","lines":[{"amount":3}]}"#);
        let Json(order) = Json::<Order<'_>>::from_event(&event).unwrap();
        assert_eq!((order.customer, order.lines[0].amount), ("c", 3));
        let payload = event.payload.as_deref().unwrap().as_ptr_range();
        assert!(payload.contains(&order.customer.as_ptr()));
    }

    #[test]
    fn what_is_wrong_with_a_payload_is_said_with_path_line_and_column() {
        let (code, message) = reject("{\"customer\":\"c\",\n\"lines\":[{\"amount\":-1}]}");
        assert_eq!(code, "invalid-json");
        assert_eq!(
            message,
            "at lines[0].amount: invalid value: integer `-1`, expected u32 at line 2 column 21"
        );
        assert_eq!(reject("").1, "EOF while parsing a value at line 1 column 0");
        assert_eq!(reject("{}").1, "missing field `customer` at line 1 column 2");
        // valid at first, wrong after the value
        let trailing = reject(r#"{"customer":"c","lines":[]} x"#).1;
        assert_eq!(trailing, "trailing characters at line 1 column 29");
    }

    #[test]
    fn a_tombstone_is_rejected_under_a_code_of_its_own() {
        let event = Event::new("t");
        let failure = Json::<Order<'_>>::from_event(&event).unwrap_err();
        assert!(matches!(failure, Failure::Reject { code, .. } if code == "no-payload"));
    }
}
