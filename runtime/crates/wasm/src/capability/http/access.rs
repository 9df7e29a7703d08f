//! What the operator says of a plugin's requests: where they may go, and what is added.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use http::{HeaderName, HeaderValue, Uri, uri::Scheme};

use super::address::AddressRange;
use crate::SecretValue;

/// Where a plugin may send requests, what the host adds to them, and their limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAccess {
    /// Hosts that it may reach.
    pub allow: Vec<AllowedHost>,
    /// Headers that the host adds.
    pub inject: Vec<Injection>,
    /// Bytes of the body of one response.
    pub max_response: u64,
    /// Requests under way at once, all instances together; further ones wait.
    pub max_requests: usize,
    /// Longest time from a request to the end of its response. The call's own deadline
    /// may end it earlier.
    pub timeout: Duration,
    /// Certificates, as PEM, that servers are checked against; `None`: those of the system.
    pub tls_ca: Option<Vec<u8>>,
}

impl HttpAccess {
    /// These hosts, with the limits that are built in.
    pub fn new(allow: Vec<AllowedHost>) -> Self {
        Self {
            allow,
            inject: Vec::new(),
            max_response: 4 << 20,
            max_requests: 16,
            timeout: Duration::from_secs(30),
            tls_ca: None,
        }
    }
}

/// A host that a plugin may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    /// Its name.
    pub host: HostPattern,
    /// Addresses it may have that are not public.
    pub addresses: Vec<AddressRange>,
}

impl From<HostPattern> for AllowedHost {
    fn from(host: HostPattern) -> Self {
        Self { host, addresses: Vec::new() }
    }
}

impl AllowedHost {
    /// Whether its name may stand for this address: any that is public, what was
    /// allowed in so many words, and itself where its name is an address.
    pub(crate) fn may_be(&self, address: IpAddr) -> bool {
        super::address::is_public(address)
            || self.host.address().is_some_and(|itself| itself == address.to_canonical())
            || self.addresses.iter().any(|range| range.contains(address))
    }
}

/// Scheme, name and port of hosts: `api.example.com`, `*.example.com:8443`,
/// `http://localhost:8080`, `https://[::1]`. Without a scheme it is `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    text: String,
    scheme: Scheme,
    name: Name,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// In lower case.
    Exact(String),
    /// What the name ends with, the dot included.
    Below(String),
    Address(IpAddr),
}

/// Text that is no pattern of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no host: write `api.example.com`, `api.example.com:8443`, `*.example.com` or \
     `http://localhost:8080`; without a scheme it is https"
)]
pub struct BadHost(pub String);

impl FromStr for HostPattern {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let bad = || BadHost(text.to_owned());
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::HTTPS, text),
            Some(("https", rest)) => (Scheme::HTTPS, rest),
            Some(("http", rest)) => (Scheme::HTTP, rest),
            Some(_) => return Err(bad()),
        };
        let below = rest.strip_prefix("*.");
        let uri = format!("{scheme}://{}", below.unwrap_or(rest)).parse::<Uri>();
        let uri = uri.map_err(|_| bad())?;
        let target = Target::of(&uri).ok_or_else(bad)?;
        // nothing behind the host, no user before it, no `*` elsewhere
        let is_whole = uri.path_and_query().is_none_or(|path| path == "/") && !rest.ends_with('/');
        if !is_whole || target.name.contains('*') {
            return Err(bad());
        }
        let name = match (target.address(), below) {
            (None, None) => Name::Exact(target.name),
            (None, Some(_)) => Name::Below(format!(".{}", target.name)),
            (Some(address), None) => Name::Address(address),
            (Some(_), Some(_)) => return Err(bad()),
        };
        Ok(Self { text: text.to_owned(), scheme, name, port: target.port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl HostPattern {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    fn address(&self) -> Option<IpAddr> {
        match self.name {
            Name::Address(address) => Some(address),
            Name::Exact(_) | Name::Below(_) => None,
        }
    }

    pub(crate) fn matches(&self, target: &Target) -> bool {
        self.scheme == target.scheme
            && self.port == target.port
            && match &self.name {
                Name::Exact(name) => *name == target.name,
                Name::Below(end) => target.name.len() > end.len() && target.name.ends_with(end),
                Name::Address(address) => target.address() == Some(*address),
            }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    /// In lower case, an IPv6 address without its brackets, without the dot at the end.
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Target {
    /// `None` where it is no place that a request can go to.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme()?.clone();
        let usual = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let authority = uri.authority()?;
        let host = authority.host();
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // `host:` and `host:99999` have no port either, and are no host
            None if authority.as_str().len() > host.len() => return None,
            None => usual,
        };
        let name = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_legal = !name.is_empty() && !authority.as_str().contains('@');
        is_legal.then_some(Self { scheme, name, port })
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.name.parse::<IpAddr>().ok().map(|address| address.to_canonical())
    }

    /// The entry of `allow` that would fit.
    pub(crate) fn entry(&self) -> String {
        let Self { scheme, name, port } = self;
        let name = if name.contains(':') { format!("[{name}]") } else { name.clone() };
        match (scheme == &Scheme::HTTPS, port) {
            (true, 443) => name,
            (true, port) => format!("{name}:{port}"),
            (false, 80) => format!("http://{name}"),
            (false, port) => format!("http://{name}:{port}"),
        }
    }
}

/// A header that the host adds to a plugin's requests, which the plugin does not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    pub(crate) host: HostPattern,
    pub(crate) header: HeaderName,
    pub(crate) value: HeaderValue,
    pub(crate) secret: SecretValue,
}

/// Why a header cannot be added. Never says its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadInjection {
    /// Not one that a host may set.
    #[error("{0:?} is no header that can be added to a request")]
    Header(String),
    /// Line ends and the like.
    #[error("its secret has bytes that a header cannot have, such as the end of a line")]
    Value,
}

impl Injection {
    /// Adds `header` to requests to `host`: `prefix`, such as `Bearer `, and the secret.
    ///
    /// # Errors
    /// [`BadInjection`].
    pub fn new(
        host: HostPattern,
        header: &str,
        prefix: &str,
        secret: SecretValue,
    ) -> Result<Self, BadInjection> {
        let name = HeaderName::from_str(header).ok().filter(can_be_set);
        let name = name.ok_or_else(|| BadInjection::Header(header.to_owned()))?;
        let bytes = [prefix.as_bytes(), secret.as_bytes()].concat();
        let mut value = HeaderValue::from_bytes(&bytes).map_err(|_| BadInjection::Value)?;
        value.set_sensitive(true);
        Ok(Self { host, header: name, value, secret })
    }
}

/// Framing and routing are the connection's business.
fn can_be_set(name: &HeaderName) -> bool {
    let framing = [http::header::CONTENT_LENGTH, http::header::TE, http::header::TRAILER];
    !wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS.contains(name) && !framing.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Option<Target> {
        Target::of(&uri.parse().ok()?)
    }

    fn matches(pattern: &str, uri: &str) -> bool {
        pattern.parse::<HostPattern>().unwrap().matches(&target(uri).unwrap())
    }

    #[test]
    fn s3_a_pattern_allows_its_scheme_name_and_port_only() {
        assert!(matches("api.example.com", "https://API.example.com/x?y"));
        assert!(matches("api.example.com:443", "https://api.example.com./"));
        assert!(!matches("api.example.com", "http://api.example.com/"), "not in plain text");
        assert!(!matches("api.example.com", "http://api.example.com:443/"));
        assert!(!matches("api.example.com", "https://api.example.com:8443/"));
        assert!(!matches("api.example.com", "https://api.example.com.evil.org/"));
        assert!(!matches("api.example.com", "https://xapi.example.com/"));
        assert!(matches("http://localhost:8080", "http://localhost:8080/"));
        assert!(!matches("http://localhost", "http://localhost:8080/"));
        assert!(matches("*.internal:8080", "https://a.b.internal:8080/"));
        assert!(!matches("*.internal:8080", "https://internal:8080/"));
        assert!(!matches("*.internal:8080", "https://xinternal:8080/"));
        assert!(matches("http://127.0.0.1:1", "http://127.0.0.1:1/"));
        assert!(matches("http://[::1]:1", "http://[0:0::1]:1/"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let bad = [
            "",
            "*",
            "*.",
            "a.*",
            "a.*.b",
            "**.a",
            "ftp://a",
            "a/b",
            "a/",
            "a?b",
            "u@a",
            "a:",
            "a:x",
            "a:99999",
            "*.127.0.0.1",
            "https://",
            "a b",
        ];
        for bad in bad {
            assert_eq!(bad.parse::<HostPattern>(), Err(BadHost(bad.to_owned())));
        }
        assert_eq!(target("https://good.org:80@evil.org/"), None);
        assert_eq!(target("https://a:/"), None);
    }

    #[test]
    fn the_entry_that_a_target_needs_allows_it() {
        for uri in [
            "https://a.org/",
            "https://a.org:1/",
            "http://a.org/",
            "http://[::1]:9/",
            "https://[::1]/",
        ] {
            let target = target(uri).unwrap();
            assert!(matches(&target.entry(), uri), "{}", target.entry());
        }
    }

    #[test]
    fn s3_a_name_may_stand_for_public_addresses_and_those_that_were_allowed() {
        let allowed = |host: &str, addresses: &[&str]| AllowedHost {
            host: host.parse().unwrap(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        };
        let ip = |text: &str| text.parse().unwrap();
        assert!(allowed("a.org", &[]).may_be(ip("8.8.8.8")));
        assert!(!allowed("a.org", &[]).may_be(ip("127.0.0.1")));
        assert!(!allowed("localhost", &[]).may_be(ip("127.0.0.1")), "a name is not an address");
        assert!(allowed("127.0.0.1", &[]).may_be(ip("127.0.0.1")));
        assert!(!allowed("127.0.0.1", &[]).may_be(ip("127.0.0.2")));
        assert!(allowed("a.org", &["10.0.0.0/8"]).may_be(ip("10.1.1.1")));
        assert!(!allowed("a.org", &["10.0.0.0/8"]).may_be(ip("169.254.169.254")));
    }

    #[test]
    fn an_injection_never_shows_its_value() {
        let host: HostPattern = "a.org".parse().unwrap();
        let secret = |text: &str| SecretValue::new(text);
        let good =
            Injection::new(host.clone(), "Authorization", "Bearer ", secret("hunter2")).unwrap();
        assert!(!format!("{good:?}").contains("hunter2"));
        let bad = |header: &str, value: &str| {
            Injection::new(host.clone(), header, "", secret(value)).unwrap_err().to_string()
        };
        assert!(!bad("authorization", "hunter2\r\nx: y").contains("hunter2"));
        for header in ["host", "Transfer-Encoding", "content-length", "a b", "connection"] {
            assert_eq!(
                bad(header, "x"),
                format!("{header:?} is no header that can be added to a request")
            );
        }
    }
}
