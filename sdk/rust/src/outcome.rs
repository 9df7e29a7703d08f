use crate::{Failure, Outgoing};

/// What becomes of one event: events to publish, or why not.
pub type Outcome = Result<Vec<Outgoing>, Failure>;

/// What a handler can return: [`Outgoing`], a `Vec` or array of it, an `Option` of it,
/// `()`, or a `Result` of any of these with an error that is `Into<Failure>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a handler can return",
    label = "no outcome of an event",
    note = "a handler returns `Outgoing`, `Vec<Outgoing>`, `[Outgoing; N]`, `Option<Outgoing>` or `()`, or a `Result` of one of them with `Failure` or any `Into<Failure>` as the error"
)]
pub trait IntoOutcome {
    /// Turns it into the one form that the host knows.
    ///
    /// # Errors
    /// The handler's own failure.
    fn into_outcome(self) -> Outcome;
}

impl<T: IntoOutputs, E: Into<Failure>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        self.map(IntoOutputs::into_outputs).map_err(Into::into)
    }
}

/// Events to publish, in any of the shapes that a handler can return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` holds no events to publish",
    note = "a handler gives `Outgoing`, `Vec<Outgoing>`, `[Outgoing; N]`, `Option<Outgoing>` or `()`"
)]
pub trait IntoOutputs {
    /// The events in order.
    fn into_outputs(self) -> Vec<Outgoing>;
}

macro_rules! outputs {
    ($([$($generics:tt)*] $shape:ty: $value:ident => $vec:expr;)*) => {$(
        impl<$($generics)*> IntoOutputs for $shape {
            fn into_outputs(self) -> Vec<Outgoing> {
                let $value = self;
                $vec
            }
        }

        impl<$($generics)*> IntoOutcome for $shape {
            fn into_outcome(self) -> Outcome {
                Ok(self.into_outputs())
            }
        }
    )*};
}

outputs! {
    [] Vec<Outgoing>: events => events;
    [] Outgoing: event => vec![event];
    [] Option<Outgoing>: event => event.into_iter().collect();
    [const N: usize] [Outgoing; N]: events => events.into();
    [] (): _nothing => Vec::new();
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Mine;

    impl From<Mine> for Failure {
        fn from(_: Mine) -> Self {
            Self::retry("mine")
        }
    }

    #[test]
    fn every_shape_becomes_the_same_outcome() {
        let event = || Outgoing::new("t");
        assert_eq!(event().into_outcome().unwrap(), [event()]);
        assert_eq!(Some(event()).into_outcome().unwrap(), [event()]);
        assert_eq!([event(), event()].into_outcome().unwrap(), [event(), event()]);
        assert_eq!(().into_outcome().unwrap(), []);
        assert_eq!(Ok::<_, Failure>(vec![event()]).into_outcome().unwrap(), [event()]);
        assert_eq!(Ok::<Option<Outgoing>, Mine>(None).into_outcome().unwrap(), []);
        assert_eq!(Err::<(), _>(Mine).into_outcome().unwrap_err(), Failure::retry("mine"));
    }
}
