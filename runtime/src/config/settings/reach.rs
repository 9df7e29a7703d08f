//! Settings of what a plugin may reach, as they are written: secrets and HTTP.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::config::units::{PositivePeriod, Size};

/// Where a secret is: `{ env = "VARIABLE" }` or `{ file = "/run/secrets/name" }`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SecretSettings {
    /// A variable of the runtime's environment.
    pub env: Option<String>,
    /// A file, relative to the one that says so. An end of line at its end is left out.
    pub file: Option<PathBuf>,
}

/// `http = { .. }`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Hosts that the plugin may send requests to; none by default.
    #[schemars(with = "Option<Vec<AllowSetting>>")]
    pub allow: Option<Vec<Spanned<AllowSetting>>>,
    /// Headers that the runtime adds to requests, unseen by the plugin.
    #[schemars(with = "Option<Vec<InjectSettings>>")]
    pub inject: Option<Vec<Spanned<InjectSettings>>>,
    /// Most bytes of a response; `4MiB` by default.
    pub max_response: Option<Size>,
    /// Requests under way at once; further ones wait. 16 by default.
    pub max_requests: Option<std::num::NonZeroUsize>,
    /// Longest time from a request to the end of its response; `30s` by default, and never
    /// longer than what is left of `limits.wall-time`.
    pub timeout: Option<PositivePeriod>,
    /// A PEM file of the certificates that servers are checked against, instead of the
    /// system's; relative to the file that says so.
    pub tls_ca: Option<PathBuf>,
}

/// A host: `api.example.com`, `*.example.com:8443`, `http://localhost:8080`; without a scheme
/// it is https. Or a host and the addresses it may have besides public ones.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a host, or a table of `host` and `addresses`")]
pub enum AllowSetting {
    /// At any public address.
    Host(String),
    /// At these as well.
    At(AllowAtSetting),
}

/// `{ host = "*.internal:8080", addresses = ["10.0.0.0/8"] }`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowAtSetting {
    /// The host.
    pub host: String,
    /// Addresses or ranges of them that are not public.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// `{ host = "api.example.com", header = "authorization", prefix = "Bearer ", secret = { env = "TOKEN" } }`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InjectSettings {
    /// The requests that get it: a host as it stands in `allow`.
    pub host: String,
    /// Name of the header.
    pub header: String,
    /// What stands before the secret, such as `Bearer `.
    #[serde(default)]
    pub prefix: String,
    /// The secret, which the plugin never gets.
    pub secret: SecretSettings,
}
