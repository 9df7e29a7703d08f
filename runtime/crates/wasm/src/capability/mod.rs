//! What a plugin may reach outside of itself: deny by default.
//!
//! Each capability is a unit: its state, a view of it borrowed from the store, and
//! `add_to_linker`. [`OFFERS`] is the one list of what can be imported and what it
//! takes; an import that is not granted is not linked (contract S3).

mod clocks;
pub(crate) mod config;
pub(crate) mod context;
pub mod http;
pub mod logging;
pub mod metrics;
pub(crate) mod publisher;
pub mod secrets;
pub(crate) mod state;
pub(crate) mod wasi;
mod wasi3;

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use wasmtime::component::Linker;

use crate::{
    LoadError,
    foreign::{self, wasmcloud_async},
    state::State,
};

/// A power that the operator gives to a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// Read the time and wait: `wasi:clocks`.
    Clocks,
    /// Random numbers: `wasi:random`.
    Random,
    /// `wasi:cli` standard streams: output goes line by line into the plugin's log,
    /// input is empty, nothing is a terminal.
    Stdio,
    /// `wasi:cli/environment`: the plugin's own configuration as environment
    /// variables, no arguments; never the host's environment.
    Environment,
    /// All of the above, and the rest of what a standard library built for WASI 0.2
    /// imports, with nothing behind it: `wasi:filesystem` without any folder,
    /// `wasi:sockets` that refuse every address, `wasi:cli/exit` that ends the instance.
    Wasi,
    /// Durable key-value state of its own: `sandbar:events/state`.
    State,
    /// Publish in the middle of a call: `sandbar:events/publisher`.
    Publisher,
    /// Counters and histograms of its own: `sandbar:events/metrics`.
    Metrics,
    /// `sandbar:events/secrets`, for the names in the table `secrets`.
    Secrets,
    /// `wasi:http/outgoing-handler`, to the hosts in `http.allow`.
    Http,
}

impl Grant {
    /// Every grant there is.
    pub const ALL: [Self; 10] = [
        Self::Clocks,
        Self::Random,
        Self::Stdio,
        Self::Environment,
        Self::Wasi,
        Self::State,
        Self::Publisher,
        Self::Metrics,
        Self::Secrets,
        Self::Http,
    ];

    /// Its name, in configuration and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clocks => "clocks",
            Self::Random => "random",
            Self::Stdio => "stdio",
            Self::Environment => "environment",
            Self::Wasi => "wasi",
            Self::State => "state",
            Self::Publisher => "publisher",
            Self::Metrics => "metrics",
            Self::Secrets => "secrets",
            Self::Http => "http",
        }
    }

    /// The setting that gives it, where that is more than its name in the list `grants`.
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::Secrets => Some(r#"secrets = { NAME = { env = "VARIABLE" } }"#),
            Self::Http => Some(r#"http = { allow = ["HOST"] }"#),
            _ => None,
        }
    }

    /// Whether [`Wasi`](Self::Wasi) holds it.
    fn is_of_wasi(self) -> bool {
        matches!(self, Self::Clocks | Self::Random | Self::Stdio | Self::Environment | Self::Wasi)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no grant, or one of a grant that takes more than its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no capability that can be granted by name: {instead}", instead = instead(.0))]
pub struct UnknownGrant(pub String);

fn instead(name: &str) -> String {
    match Grant::ALL.into_iter().find(|grant| grant.as_str() == name).and_then(Grant::setting) {
        Some(setting) => format!("write `{setting}`"),
        None => {
            let named = Grant::ALL.into_iter().filter(|grant| grant.setting().is_none());
            let names: Vec<_> = named.map(Grant::as_str).collect();
            format!("use one of {}", names.join(", "))
        }
    }
}

/// From its name in the list `grants`.
impl FromStr for Grant {
    type Err = UnknownGrant;

    fn from_str(name: &str) -> Result<Self, UnknownGrant> {
        Self::ALL
            .into_iter()
            .find(|grant| grant.as_str() == name && grant.setting().is_none())
            .ok_or_else(|| UnknownGrant(name.to_owned()))
    }
}

pub(crate) type Grants = BTreeSet<Grant>;

pub(crate) fn allows(grants: &Grants, grant: Grant) -> bool {
    grants.contains(&grant) || (grant.is_of_wasi() && grants.contains(&Grant::Wasi))
}

/// What it takes to import an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Grant(Grant),
}

use Needs::{Grant as Take, Nothing};

/// An interface without its version, the version served, and what it takes. A name that ends
/// in `/` stands for all other interfaces of the package.
type Offer = (&'static str, &'static str, Needs);

/// What a plugin may import that handles one event at a time: what is done through it is done
/// for that event.
const ALONE: &[Offer] = &[
    ("sandbar:events/state", "0.1", Take(Grant::State)),
    ("sandbar:events/publisher", "0.1", Take(Grant::Publisher)),
    ("sandbar:events/context", "0.1", Nothing),
    // what a component publishes through them is its output, under the limits of outputs
    ("wasi:messaging/", "0.2.0-draft", Nothing),
    ("wasmcloud:messaging/", "0.2", Nothing),
];

/// What a plugin may import that handles many events at a time.
const CONCURRENT: &[Offer] = &[
    ("wasmcloud:messaging/", "0.3", Nothing),
    ("wasi:clocks/system-clock", "0.3", Take(Grant::Clocks)),
    ("wasi:clocks/monotonic-clock", "0.3", Take(Grant::Clocks)),
    ("wasi:random/", "0.3", Take(Grant::Random)),
    ("wasi:cli/stdin", "0.3", Take(Grant::Stdio)),
    ("wasi:cli/stdout", "0.3", Take(Grant::Stdio)),
    ("wasi:cli/stderr", "0.3", Take(Grant::Stdio)),
    ("wasi:cli/terminal-input", "0.3", Take(Grant::Stdio)),
    ("wasi:cli/terminal-output", "0.3", Take(Grant::Stdio)),
    ("wasi:cli/terminal-stdin", "0.3", Take(Grant::Stdio)),
    ("wasi:cli/terminal-stdout", "0.3", Take(Grant::Stdio)),
    ("wasi:cli/terminal-stderr", "0.3", Take(Grant::Stdio)),
    ("wasi:cli/environment", "0.3", Take(Grant::Environment)),
    ("wasi:cli/exit", "0.3", Take(Grant::Wasi)),
    ("wasi:filesystem/", "0.3", Take(Grant::Wasi)),
    ("wasi:sockets/", "0.3", Take(Grant::Wasi)),
    ("wasi:http/types", "0.3", Take(Grant::Http)),
    ("wasi:http/client", "0.3", Take(Grant::Http)),
];

/// What both may import.
const OFFERS: &[Offer] = &[
    ("sandbar:events/metrics", "0.1", Take(Grant::Metrics)),
    ("sandbar:events/secrets", "0.1", Take(Grant::Secrets)),
    ("sandbar:events/types", "0.1", Nothing),
    ("wasi:logging/logging", "0.1.0-draft", Nothing),
    ("wasi:config/store", "0.2.0-rc.1", Nothing),
    // streams and pollables have no power of their own: they come from what is granted
    ("wasi:io/", "0.2", Nothing),
    ("wasi:clocks/wall-clock", "0.2", Take(Grant::Clocks)),
    ("wasi:clocks/monotonic-clock", "0.2", Take(Grant::Clocks)),
    ("wasi:random/", "0.2", Take(Grant::Random)),
    ("wasi:cli/stdin", "0.2", Take(Grant::Stdio)),
    ("wasi:cli/stdout", "0.2", Take(Grant::Stdio)),
    ("wasi:cli/stderr", "0.2", Take(Grant::Stdio)),
    ("wasi:cli/terminal-input", "0.2", Take(Grant::Stdio)),
    ("wasi:cli/terminal-output", "0.2", Take(Grant::Stdio)),
    ("wasi:cli/terminal-stdin", "0.2", Take(Grant::Stdio)),
    ("wasi:cli/terminal-stdout", "0.2", Take(Grant::Stdio)),
    ("wasi:cli/terminal-stderr", "0.2", Take(Grant::Stdio)),
    ("wasi:cli/environment", "0.2", Take(Grant::Environment)),
    ("wasi:cli/exit", "0.2", Take(Grant::Wasi)),
    ("wasi:filesystem/", "0.2", Take(Grant::Wasi)),
    ("wasi:sockets/", "0.2", Take(Grant::Wasi)),
    ("wasi:http/types", "0.2", Take(Grant::Http)),
    ("wasi:http/outgoing-handler", "0.2", Take(Grant::Http)),
];

/// How many events a plugin handles at a time in one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtATime {
    One,
    Many,
}

impl AtATime {
    fn offers(self) -> impl Iterator<Item = &'static Offer> {
        let more = match self {
            Self::One => ALONE,
            Self::Many => CONCURRENT,
        };
        more.iter().chain(OFFERS)
    }

    fn offer(self, import: &str) -> Option<&'static Offer> {
        let (interface, version) = split(import);
        let named = |offer: &str| match offer.strip_suffix('/') {
            Some(package) => interface.split_once('/').is_some_and(|(p, _)| p == package),
            None => interface == offer,
        };
        let fits = |serves: &str| serves == version || serves == series(version);
        self.offers().find(|(name, serves, _)| named(name) && fits(serves))
    }
}

/// Links what is granted and nothing else.
pub(crate) fn link(
    linker: &mut Linker<State>,
    grants: &Grants,
    events: AtATime,
) -> wasmtime::Result<()> {
    logging::add_to_linker(linker)?;
    config::add_to_linker(linker)?;
    match events {
        AtATime::One => {
            context::add_to_linker(linker)?;
            if allows(grants, Grant::State) {
                state::add_to_linker(linker)?;
            }
            if allows(grants, Grant::Publisher) {
                publisher::add_to_linker(linker)?;
            }
            foreign::add_to_linker(linker)?;
        }
        AtATime::Many => {
            wasmcloud_async::add_to_linker(linker)?;
            wasi3::add_to_linker(linker, grants)?;
        }
    }
    if allows(grants, Grant::Metrics) {
        metrics::add_to_linker(linker)?;
    }
    if allows(grants, Grant::Secrets) {
        secrets::add_to_linker(linker)?;
    }
    if allows(grants, Grant::Http) {
        http::add_to_linker(linker)?;
    }
    wasi::add_to_linker(linker, grants)
}

/// Grants that `imports` take, whether given or not.
pub(crate) fn needed<'a>(imports: impl IntoIterator<Item = &'a str>, events: AtATime) -> Grants {
    imports
        .into_iter()
        .filter_map(|import| match events.offer(import)?.2 {
            Take(grant) => Some(grant),
            Nothing => None,
        })
        .collect()
}

/// Looks at every import before anything is linked.
///
/// # Errors
/// [`LoadError::WrongVersion`] for the contract itself, [`LoadError::OneAtATime`] for what
/// belongs to one event, [`LoadError::UnknownImport`] for what no grant gives,
/// [`LoadError::MissingGrants`] for the rest, all of it at once.
pub(crate) fn check(
    plugin: &str,
    imports: &[String],
    grants: &Grants,
    events: AtATime,
) -> Result<(), LoadError> {
    if let Some(wrong) = imports.iter().find_map(|import| wrong_version(import)) {
        return Err(wrong);
    }
    let mut unknown: Vec<_> =
        imports.iter().filter(|i| events.offer(i).is_none()).cloned().collect();
    if !unknown.is_empty() {
        let alone = |import: &&String| AtATime::One.offer(import).is_some();
        if unknown.iter().any(|import| alone(&import)) {
            unknown.retain(|import| alone(&import));
            return Err(LoadError::OneAtATime { imports: unknown });
        }
        return Err(LoadError::UnknownImport { imports: unknown });
    }
    let missing: Vec<_> = imports
        .iter()
        .filter_map(|import| match events.offer(import)?.2 {
            Take(grant) if !allows(grants, grant) => Some((import.clone(), grant)),
            _ => None,
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = lines(grants, &missing);
    Err(LoadError::MissingGrants { plugin: plugin.to_owned(), missing, line })
}

/// The lines of configuration that give what is `missing` to a plugin that has `granted`.
fn lines(granted: &Grants, missing: &[(String, Grant)]) -> String {
    let missing: Grants = missing.iter().map(|(_, grant)| *grant).collect();
    let mut lines = Vec::new();
    if missing.iter().any(|grant| grant.setting().is_none()) {
        let mut named: Grants = granted.union(&missing).copied().collect();
        let has_wasi = named.contains(&Grant::Wasi);
        named.retain(|grant| grant.setting().is_none());
        named.retain(|grant| *grant == Grant::Wasi || !(has_wasi && grant.is_of_wasi()));
        let names: Vec<_> = named.iter().map(|grant| format!("\"{grant}\"")).collect();
        lines.push(format!("grants = [{}]", names.join(", ")));
    }
    lines.extend(missing.iter().filter_map(|grant| grant.setting().map(str::to_owned)));
    lines.join("` and `")
}

/// The error for an import or export of our own packages in a version not served.
pub(crate) fn wrong_version(interface: &str) -> Option<LoadError> {
    const PACKAGES: [&str; 2] = ["sandbar:events", "sandbar:events-async"];
    const SERVES: &str = "0.1";
    let (name, version) = split(interface);
    let (package, _) = name.split_once('/')?;
    let built_for = series(version);
    (PACKAGES.contains(&package) && built_for != SERVES).then(|| LoadError::WrongVersion {
        package: package.into(),
        interface: interface.into(),
        newer: numbers(built_for) > numbers(SERVES),
        built_for: built_for.into(),
        serves: SERVES.into(),
    })
}

fn split(import: &str) -> (&str, &str) {
    import.split_once('@').unwrap_or((import, ""))
}

/// `major.minor`: what semver-compatible versions below 1.0 share, and all that
/// WASI 0.2 and our own package need. A prerelease is compatible with itself only.
fn series(version: &str) -> &str {
    if version.contains('-') {
        return version;
    }
    match version.match_indices('.').nth(1) {
        Some((at, _)) => &version[..at],
        None => version,
    }
}

fn numbers(series: &str) -> Vec<u64> {
    series.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(imports: &[&str], grants: &[Grant]) -> String {
        let imports: Vec<_> = imports.iter().map(ToString::to_string).collect();
        let grants = grants.iter().copied().collect();
        check("router", &imports, &grants, AtATime::One).unwrap_err().to_string()
    }

    #[test]
    fn s3_what_belongs_to_one_event_is_not_offered_to_a_plugin_with_many_at_a_time() {
        let imports = ["sandbar:events/state@0.1.1", "sandbar:events/context@0.1.1", "log"];
        let grants = [Grant::State].into();
        let refused = check("p", &imports.map(String::from), &grants, AtATime::Many).unwrap_err();
        insta::assert_snapshot!(refused, @"imports sandbar:events/state@0.1.1, sandbar:events/context@0.1.1, which is not offered to a plugin that handles many events at a time, because it would not be certain for which of them it does what: build it without, or export sandbar:events/handler@0.1.1 instead");
        let newer = ["wasi:clocks/system-clock@0.3.0".to_owned()];
        assert!(check("p", &newer, &[Grant::Clocks].into(), AtATime::Many).is_ok());
        let refused = check("p", &newer, &[Grant::Clocks].into(), AtATime::One).unwrap_err();
        assert!(matches!(refused, LoadError::UnknownImport { .. }));
    }

    #[test]
    fn s3_error_names_capability_and_line() {
        let both = ["wasi:clocks/wall-clock@0.2.3", "wasi:random/random@0.2.3"];
        insta::assert_snapshot!(refused(&both, &[]), @r#"not granted: wasi:clocks/wall-clock@0.2.3 (needs "clocks"), wasi:random/random@0.2.3 (needs "random"); to allow it write `grants = ["clocks", "random"]` in router.toml"#);
        insta::assert_snapshot!(refused(&both, &[Grant::Clocks]), @r#"not granted: wasi:random/random@0.2.3 (needs "random"); to allow it write `grants = ["clocks", "random"]` in router.toml"#);
        insta::assert_snapshot!(refused(&["wasi:filesystem/types@0.2.3"], &[Grant::Clocks]), @r#"not granted: wasi:filesystem/types@0.2.3 (needs "wasi"); to allow it write `grants = ["wasi"]` in router.toml"#);
    }

    #[test]
    fn s3_wasi_holds_neither_state_nor_publisher() {
        let ours = ["sandbar:events/state@0.1.1", "sandbar:events/publisher@0.1.1"];
        insta::assert_snapshot!(refused(&ours, &[Grant::Wasi]), @r#"not granted: sandbar:events/state@0.1.1 (needs "state"), sandbar:events/publisher@0.1.1 (needs "publisher"); to allow it write `grants = ["wasi", "state", "publisher"]` in router.toml"#);
    }

    #[test]
    fn s3_wasi_holds_nothing_of_what_reaches_further() {
        let ours = ["sandbar:events/metrics@0.1.1", "sandbar:events/secrets@0.1.1"];
        insta::assert_snapshot!(refused(&ours, &[Grant::Wasi]), @r#"not granted: sandbar:events/metrics@0.1.1 (needs "metrics"), sandbar:events/secrets@0.1.1 (needs "secrets"); to allow it write `grants = ["wasi", "metrics"]` and `secrets = { NAME = { env = "VARIABLE" } }` in router.toml"#);
        insta::assert_snapshot!(refused(&ours[1..], &[Grant::Metrics]), @r#"not granted: sandbar:events/secrets@0.1.1 (needs "secrets"); to allow it write `secrets = { NAME = { env = "VARIABLE" } }` in router.toml"#);
    }

    #[test]
    fn s3_an_unknown_import_cannot_be_granted() {
        let imports = ["wasi:http/incoming-handler@0.2.3", "wasi:clocks/wall-clock@0.3.0", "log"];
        insta::assert_snapshot!(refused(&imports, &[Grant::Wasi]), @"imports wasi:http/incoming-handler@0.2.3, wasi:clocks/wall-clock@0.3.0, log, which this host does not offer: build the plugin without it");
    }

    #[test]
    fn imports_of_another_version_of_the_contract_say_so() {
        insta::assert_snapshot!(refused(&["sandbar:events/context@0.2.0"], &[]), @"built for sandbar:events 0.2, this host serves 0.1 (seen at sandbar:events/context@0.2.0): rebuild the plugin or upgrade the host");
        insta::assert_snapshot!(refused(&["sandbar:events/context@0.0.9"], &[]), @"built for sandbar:events 0.0, this host serves 0.1 (seen at sandbar:events/context@0.0.9): rebuild the plugin or run it on an older host");
        insta::assert_snapshot!(refused(&["sandbar:events/context@0.1.0-rc.1"], &[]), @"built for sandbar:events 0.1.0-rc.1, this host serves 0.1 (seen at sandbar:events/context@0.1.0-rc.1): rebuild the plugin or run it on an older host");
    }

    #[test]
    fn what_is_always_there_needs_nothing() {
        let imports = [
            "sandbar:events/types@0.1.0",
            "sandbar:events/context@0.1.7",
            "wasi:logging/logging@0.1.0-draft",
            "wasi:config/store@0.2.0-rc.1",
            "wasi:io/poll@0.2.12",
        ];
        assert!(check("p", &imports.map(String::from), &Grants::new(), AtATime::One).is_ok());
        assert!(needed(imports, AtATime::One).is_empty());
    }

    #[test]
    fn s3_every_grant_is_needed_by_some_interface_and_has_its_own_name() {
        for grant in Grant::ALL {
            assert!(AtATime::One.offers().any(|(_, _, needs)| *needs == Take(grant)), "{grant}");
            assert_eq!(grant.as_str().parse().ok(), grant.setting().is_none().then_some(grant));
        }
        insta::assert_snapshot!("clock".parse::<Grant>().unwrap_err(), @r#""clock" is no capability that can be granted by name: use one of clocks, random, stdio, environment, wasi, state, publisher, metrics"#);
        insta::assert_snapshot!("secrets".parse::<Grant>().unwrap_err(), @r#""secrets" is no capability that can be granted by name: write `secrets = { NAME = { env = "VARIABLE" } }`"#);
    }
}
