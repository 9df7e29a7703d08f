//! What a user configures, checked before a connection is opened.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::{ConnectOptions, ServerAddr};

/// A NATS connection as configured.
#[derive(Clone)]
pub struct NatsConfig {
    /// `host:port` or `nats://host:port`, several separated by commas; `tls://` encrypts.
    /// User and password, or a token, may stand in the first URL.
    pub servers: String,
    /// User, with `password`.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<String>,
    /// Token, instead of a user.
    pub token: Option<String>,
    /// Credentials file (JWT and NKey seed), instead of a user.
    pub credentials: Option<PathBuf>,
    /// Certificates (PEM) of the authorities to trust, instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// Whether streams that do not exist may be created.
    pub create_topics: bool,
    /// Replicas of a created stream.
    pub replicas: usize,
    /// How long a created stream keeps its events; for ever where absent.
    pub max_age: Option<Duration>,
    /// Header that holds an event's key; `sandbar-key` where absent.
    pub key_header: Option<String>,
    /// Which token of an event's subject is its key, counted from 1. A topic to write to
    /// that has `*` there gets the key in its place.
    pub key_token: Option<usize>,
    /// One active reader for each group and topic, so that order is kept; others stand by.
    /// Without it processes share the events of a topic, in no order.
    pub exclusive: bool,
    /// Time after which the server takes a silent reader for dead, and gives what it held
    /// to another. Handlers may take longer.
    pub ack_wait: Duration,
    /// Subscriptions read core NATS subjects, and lose what is published while nobody
    /// reads or what is under way when a process ends.
    pub at_most_once: bool,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            servers: String::new(),
            user: None,
            password: None,
            token: None,
            credentials: None,
            tls_ca: None,
            create_topics: false,
            replicas: 1,
            max_age: None,
            key_header: None,
            key_token: None,
            exclusive: true,
            ack_wait: Duration::from_secs(10),
            at_most_once: false,
        }
    }
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.addresses().map(without_userinfo).collect();
        f.debug_struct("NatsConfig")
            .field("servers", &servers)
            .field("user", &self.user)
            .field("credentials", &self.credentials)
            .field("tls_ca", &self.tls_ca)
            .field("create_topics", &self.create_topics)
            .field("replicas", &self.replicas)
            .field("max_age", &self.max_age)
            .field("key_header", &self.key_header)
            .field("key_token", &self.key_token)
            .field("exclusive", &self.exclusive)
            .field("ack_wait", &self.ack_wait)
            .field("at_most_once", &self.at_most_once)
            .finish_non_exhaustive()
    }
}

/// Why a connection cannot be made of its configuration.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// `servers` is empty.
    #[error("`servers` is empty: give at least one `host:port`")]
    NoServers,
    /// An entry of `servers` that is no address.
    #[error("`servers`: `{0}` is no `host:port` and no `nats://` or `tls://` URL")]
    Server(String),
    /// More than one way to log in, or half of one.
    #[error("give one of `user` with `password`, `token` and `credentials`, or none")]
    Login,
    /// The credentials file cannot be used.
    #[error("`credentials` {}: {reason}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A number or time that can never work.
    #[error("`{0}` {1}")]
    Value(&'static str, &'static str),
}

impl NatsConfig {
    fn addresses(&self) -> impl Iterator<Item = &str> {
        self.servers.split(',').map(str::trim).filter(|s| !s.is_empty())
    }

    /// The servers, and how to connect to them.
    pub(crate) fn checked(&self) -> Result<(Vec<ServerAddr>, ConnectOptions), ConnectError> {
        let parse = |s: &str| {
            let supported = |a: &ServerAddr| matches!(a.scheme(), "nats" | "tls");
            let parsed = s.parse().ok().filter(supported);
            parsed.ok_or_else(|| ConnectError::Server(without_userinfo(s)))
        };
        let servers: Vec<ServerAddr> = self.addresses().map(parse).collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err(ConnectError::NoServers);
        }
        if self.ack_wait < Duration::from_secs(1) {
            return Err(ConnectError::Value("ack-wait", "is shorter than one second"));
        }
        if !(1..=5).contains(&self.replicas) {
            return Err(ConnectError::Value("replicas", "is not between 1 and 5"));
        }
        if self.key_token == Some(0) {
            return Err(ConnectError::Value("key-token", "is 0: tokens are counted from 1"));
        }
        if self.key_header.as_deref().is_some_and(|h| h.parse::<async_nats::HeaderName>().is_err())
        {
            return Err(ConnectError::Value("key-header", "is no header name"));
        }
        let options = ConnectOptions::new();
        let (user, password, token) = self.login(&servers)?;
        let options = match (user, password, token, &self.credentials) {
            (None, None, None, None) => options,
            (Some(user), Some(password), None, None) => options.user_and_password(user, password),
            (None, None, Some(token), None) => options.token(token),
            (None, None, None, Some(path)) => {
                let bad = |e: std::io::Error| ConnectError::Credentials {
                    path: path.clone(),
                    reason: e.to_string(),
                };
                let text = std::fs::read_to_string(path).map_err(bad)?;
                options.credentials(&text).map_err(bad)?
            }
            _ => return Err(ConnectError::Login),
        };
        let options = match &self.tls_ca {
            Some(path) => options.add_root_certificates(path.clone()),
            None => options,
        };
        Ok((servers, options))
    }

    /// User, password and token as configured, or else as the first URL has them: the
    /// client passes over that.
    fn login(&self, servers: &[ServerAddr]) -> Result<Login, ConnectError> {
        let text = |s: &str| s.to_owned();
        let url = servers.iter().find(|s| s.has_user_pass());
        let Some((user, url)) = url.and_then(|url| Some((url.username()?, url))) else {
            return Ok((self.user.clone(), self.password.clone(), self.token.clone()));
        };
        if self.user.is_some() || self.password.is_some() || self.token.is_some() {
            return Err(ConnectError::Login);
        }
        if user.contains('%') || url.password().is_some_and(|p| p.contains('%')) {
            let instead =
                "has a user or password with special characters: use `user` and `password`";
            return Err(ConnectError::Value("servers", instead));
        }
        Ok(match url.password() {
            Some(password) => (Some(text(user)), Some(text(password)), None),
            None => (None, None, Some(text(user))),
        })
    }
}

type Login = (Option<String>, Option<String>, Option<String>);

/// An address as it may be shown: user and password may stand before its `@`.
fn without_userinfo(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(servers: &str) -> NatsConfig {
        NatsConfig { servers: servers.into(), ..NatsConfig::default() }
    }

    #[test]
    fn what_can_never_work_is_refused_by_name() {
        assert!(config("a:4222, tls://u:p@b:4222").checked().is_ok());
        let error = |config: NatsConfig| config.checked().map(|_| ()).unwrap_err().to_string();
        assert!(error(config(" ,")).contains("`servers` is empty"));
        assert!(
            error(config("http://u:secret@a"))
                .ends_with("`http://a` is no `host:port` and no `nats://` or `tls://` URL")
        );
        let with = |change: fn(&mut NatsConfig)| {
            let mut config = config("a");
            change(&mut config);
            error(config)
        };
        assert!(with(|c| c.user = Some("u".into())).contains("`user` with `password`"));
        assert!(error(config("nats://u:p%40@a")).contains("special characters"));
        let twice = NatsConfig { token: Some("t".into()), ..config("nats://u:p@a") };
        assert!(error(twice).contains("give one of"));
        assert!(with(|c| c.key_token = Some(0)).contains("key-token"));
        assert!(with(|c| c.key_header = Some("a:b".into())).contains("key-header"));
        assert!(with(|c| c.ack_wait = Duration::ZERO).contains("ack-wait"));
        assert!(with(|c| c.replicas = 0).contains("replicas"));
        assert!(with(|c| c.credentials = Some("/none".into())).contains("`credentials` /none"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = NatsConfig {
            password: Some("secret1".into()),
            token: Some("secret2".into()),
            ..config("nats://u:secret3@a:1")
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("nats://a:1") && !shown.contains("secret"), "{shown}");
    }
}
