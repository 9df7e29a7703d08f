//! Facts about the plugin and the call in progress. In a unit test on the host they
//! are those of [`testing`](crate::testing).

use std::time::Duration;

use crate::platform;

/// The name under which the plugin runs: the file name without `.wasm`.
pub fn plugin_name() -> String {
    platform::plugin_name()
}

/// The version that the plugin states of itself.
pub fn plugin_version() -> String {
    platform::plugin_version()
}

/// Name of the configured connection that the events come from.
pub fn connection() -> String {
    platform::connection()
}

/// Time until the host interrupts this call.
pub fn remaining() -> Duration {
    platform::remaining()
}
