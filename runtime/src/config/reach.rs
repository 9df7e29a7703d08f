//! What a plugin may reach outside of itself: checked, with paths resolved, and read when
//! the plugin is loaded.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use sandbar_wasm::{
    AddressRange, AllowedHost, HostPattern, HttpAccess, Injection, LoadSpec, SecretValue,
};
use serde_json::{Value, json};
use toml::Spanned;

use super::{
    ConfigError, PluginConfig, Text,
    layers::{Layer, mistake},
    secret::{SecretError, SecretSource},
    settings::{AllowSetting, HttpSettings, InjectSettings, PluginSettings, SecretSettings},
};

/// Where a plugin may send requests, with secrets by reference.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// Hosts that it may reach; never empty.
    pub allow: Vec<AllowedHost>,
    /// Headers that are added.
    pub inject: Vec<InjectConfig>,
    /// Bytes of one response.
    pub max_response: u64,
    /// Requests under way at once.
    pub max_requests: usize,
    /// Longest time of one request.
    pub timeout: Duration,
    /// A PEM file instead of the system's certificates.
    pub tls_ca: Option<PathBuf>,
}

/// A header that is added to requests.
#[derive(Debug, Clone, PartialEq)]
pub struct InjectConfig {
    /// The entry of `allow` whose requests get it.
    pub host: HostPattern,
    /// Name of the header.
    pub header: String,
    /// What stands before the secret.
    pub prefix: String,
    /// Where the secret is.
    pub secret: SecretSource,
}

/// Makes paths relative to the file that says them.
pub(super) fn resolve(settings: &mut PluginSettings, folder: &Path) {
    let secrets = settings.secrets.values_mut().map(Spanned::as_mut);
    let injected = settings.http.inject.iter_mut().flatten().map(|i| &mut i.as_mut().secret);
    let files = secrets.chain(injected).filter_map(|secret| secret.file.as_mut());
    for file in files.chain(&mut settings.http.tls_ca) {
        *file = folder.join(&*file);
    }
}

/// Checks what serde cannot.
pub(super) fn check(text: &Text, settings: &PluginSettings) -> Result<(), ConfigError> {
    for (name, secret) in &settings.secrets {
        if name.is_empty() || name.contains(char::is_control) {
            return Err(text.error(secret.span(), "a secret needs a name", "this one"));
        }
        if source(secret.get_ref()).is_none() {
            return Err(no_source(text, secret, &format!("secret `{name}`")));
        }
    }
    for entry in settings.http.allow.iter().flatten() {
        allowed(entry.get_ref()).map_err(|e| text.error(entry.span(), e, "not a host"))?;
    }
    for entry in settings.http.inject.iter().flatten() {
        let InjectSettings { host, header, prefix, secret } = entry.get_ref();
        if source(secret).is_none() {
            return Err(no_source(text, entry, &format!("the secret of header `{header}`")));
        }
        let host = host.parse::<HostPattern>();
        let host = host.map_err(|e| text.error(entry.span(), e.to_string(), "not a host"))?;
        Injection::new(host, header, prefix, SecretValue::new("x"))
            .map_err(|e| text.error(entry.span(), e.to_string(), "not a header to add"))?;
    }
    Ok(())
}

fn no_source<T>(text: &Text, at: &Spanned<T>, what: &str) -> ConfigError {
    let message = format!("{what} must say where it is, once");
    text.error(at.span(), message, "neither one place nor the other, or both")
        .with_help("write `{ env = \"VARIABLE\" }` or `{ file = \"/run/secrets/name\" }`")
}

fn source(written: &SecretSettings) -> Option<SecretSource> {
    match (&written.env, &written.file) {
        (Some(name), None) if !name.is_empty() => Some(SecretSource::Env(name.clone())),
        (None, Some(path)) => Some(SecretSource::File(path.clone())),
        _ => None,
    }
}

fn allowed(written: &AllowSetting) -> Result<AllowedHost, String> {
    let (host, addresses) = match written {
        AllowSetting::Host(host) => (host, &[][..]),
        AllowSetting::At(at) => (&at.host, &at.addresses[..]),
    };
    let addresses: Result<Vec<AddressRange>, _> = addresses.iter().map(|a| a.parse()).collect();
    Ok(AllowedHost {
        host: host.parse().map_err(|e: sandbar_wasm::BadHost| e.to_string())?,
        addresses: addresses.map_err(|e| e.to_string())?,
    })
}

/// The secrets of settings that were checked.
pub(super) fn secrets(
    written: &BTreeMap<String, Spanned<SecretSettings>>,
) -> BTreeMap<String, SecretSource> {
    let known = |(name, secret): (&String, &Spanned<_>)| {
        Some((name.clone(), source(Spanned::get_ref(secret))?))
    };
    written.iter().filter_map(known).collect()
}

/// The hosts of settings that were checked; `None` where there are none.
///
/// # Errors
/// Where a header is to be added to requests that are not allowed.
pub(super) fn http(
    plugin: &str,
    written: &HttpSettings,
    layers: &[Layer<'_>],
) -> Result<Option<HttpConfig>, ConfigError> {
    let allow: Vec<_> = written.allow.iter().flatten().collect();
    let allow: Vec<_> = allow.into_iter().filter_map(|e| allowed(e.get_ref()).ok()).collect();
    let mut inject = Vec::new();
    for entry in written.inject.iter().flatten() {
        let InjectSettings { host, header, prefix, secret } = entry.get_ref();
        let (Ok(host), Some(secret)) = (host.parse(), source(secret)) else { continue };
        if !allow.iter().any(|allowed| allowed.host == host) {
            let place = |s: &PluginSettings| {
                let of_host =
                    |e: &&Spanned<InjectSettings>| e.get_ref().host == entry.get_ref().host;
                Some(s.http.inject.iter().flatten().find(of_host)?.span())
            };
            let message = format!(
                "plugin `{plugin}`: header `{header}` is for `{host}`, which is not in `http.allow`"
            );
            return Err(mistake(layers, place, message, "no request gets it")
                .with_help("write the host as it stands in `http.allow`, or add it there"));
        }
        let (header, prefix) = (header.clone(), prefix.clone());
        inject.push(InjectConfig { host, header, prefix, secret });
    }
    if allow.is_empty() {
        return Ok(None);
    }
    let built_in = HttpAccess::new(Vec::new());
    Ok(Some(HttpConfig {
        allow,
        inject,
        max_response: written.max_response.map_or(built_in.max_response, |size| size.0),
        max_requests: written.max_requests.map_or(built_in.max_requests, Into::into),
        timeout: written.timeout.map_or(built_in.timeout, |p| p.0),
        tls_ca: written.tls_ca.clone(),
    }))
}

impl PluginConfig {
    /// What the Wasm host is asked for. Reads the secrets: blocks.
    ///
    /// # Errors
    /// Where one of them is not there.
    pub fn load_spec(&self) -> Result<LoadSpec, SecretError> {
        let secret = |(name, source): (&String, &SecretSource)| {
            Ok((name.clone(), source.read(&format!("secrets.{name}"))?))
        };
        Ok(LoadSpec {
            connection: self.connection.clone(),
            limits: self.limits.clone(),
            grants: self.grants.clone(),
            secrets: self.secrets.iter().map(secret).collect::<Result<_, _>>()?,
            http: self.http.as_ref().map(HttpConfig::read).transpose()?,
            config: self.config.clone(),
            concurrency: self.concurrency,
            isolation: self.isolation,
            on_errors: self.on_error.clone(),
            ..LoadSpec::new(&self.name)
        })
    }
}

impl HttpConfig {
    fn read(&self) -> Result<HttpAccess, SecretError> {
        let inject = |of: &InjectConfig| {
            let setting = || format!("http.inject of header `{}`", of.header);
            let secret = of.secret.read(&setting())?;
            Injection::new(of.host.clone(), &of.header, &of.prefix, secret)
                .map_err(|e| SecretError::Unfit { setting: setting(), reason: e.to_string() })
        };
        let certificates = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| SecretError::File {
                setting: "http.tls-ca".into(),
                path: path.clone(),
                source,
            })
        };
        Ok(HttpAccess {
            inject: self.inject.iter().map(inject).collect::<Result<_, _>>()?,
            max_response: self.max_response,
            max_requests: self.max_requests,
            timeout: self.timeout,
            tls_ca: self.tls_ca.as_ref().map(certificates).transpose()?,
            ..HttpAccess::new(self.allow.clone())
        })
    }

    /// For people: secrets by reference.
    pub fn shown(&self) -> Value {
        let allow = |allowed: &AllowedHost| {
            let addresses: Vec<_> = allowed.addresses.iter().map(ToString::to_string).collect();
            match addresses.is_empty() {
                true => json!(allowed.host.to_string()),
                false => json!(format!("{} ({})", allowed.host, addresses.join(", "))),
            }
        };
        let inject = |InjectConfig { host, header, prefix, secret }: &InjectConfig| {
            json!(format!("{host}: {header}: {prefix}[{secret}]"))
        };
        json!({
            "allow": self.allow.iter().map(allow).collect::<Vec<_>>(),
            "inject": self.inject.iter().map(inject).collect::<Vec<_>>(),
            "max-response": self.max_response,
            "max-requests": self.max_requests,
            "timeout": humantime::format_duration(self.timeout).to_string(),
            "tls-ca": self.tls_ca,
        })
    }
}
