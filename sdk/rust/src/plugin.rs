//! What the attribute makes of a function. Authors never write these by hand.

use crate::{Event, Outcome};

/// What a plugin says of itself.
pub struct Description {
    pub name: &'static str,
    pub version: &'static str,
    pub description: &'static str,
    pub connection: Option<&'static str>,
    pub topics: &'static [&'static str],
    /// By the names that they have in `NAME.toml`.
    pub options: &'static [(&'static str, &'static str)],
    pub publishes: &'static [&'static str],
    pub config_schema: Option<&'static str>,
    pub annotations: &'static [(&'static str, &'static str)],
}

/// Common to both kinds of plugin.
pub trait Plugin {
    const DESCRIPTION: Description;

    /// Once per instance, before its first event.
    ///
    /// # Errors
    /// Keeps the previous version of the plugin running.
    fn init() -> Result<(), String>;
}

/// Handles events one by one.
pub trait Single: Plugin {
    /// # Errors
    /// The handler's own failure.
    fn handle(event: Event) -> Outcome;
}

/// Handles many events at a time.
pub trait Batch: Plugin {
    /// One outcome per event, in order.
    fn handle_batch(events: Vec<Event>) -> Vec<Outcome>;
}

/// What an `init` function can return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that an `init` function can return",
    note = "`init` returns `()` or `Result<(), E>` with `E: Display`"
)]
pub trait IntoInit {
    /// # Errors
    /// The reason for which the plugin cannot start.
    fn into_init(self) -> Result<(), String>;
}

impl IntoInit for () {
    fn into_init(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: std::fmt::Display> IntoInit for Result<(), E> {
    fn into_init(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// Uses the plugin on the host, where nothing exports it.
pub const fn check<P: Plugin>() {}
