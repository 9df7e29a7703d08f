//! Counters and histograms of the plugin's own. The runtime exports them as
//! `sandbar_plugin_user_NAME`, with the plugin's name as a label; the operator grants
//! `metrics`.
//!
//! ```
//! use sandbar_sdk::{metrics, testing};
//!
//! metrics::count("orders", 1, &[("country", "de")]);
//! metrics::observe("order_total_euro", 99.5, &[]);
//! assert_eq!(testing::counted("orders", &[("country", "de")]), 1);
//! ```
//!
//! What is counted is counted at once, also in an attempt that fails later. A name has
//! letters, digits and `_`; labels are for few values, not for ids: the runtime drops what
//! goes beyond its bounds, counts that, and says so in the plugin's log.

use crate::platform;

/// Adds `delta` to a counter.
pub fn count(name: &str, delta: u64, labels: &[(&str, &str)]) {
    platform::count(name, delta, labels);
}

/// Adds an observation to a histogram. Its buckets fit seconds, and counts up to 100,000.
pub fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
    platform::observe(name, value, labels);
}
