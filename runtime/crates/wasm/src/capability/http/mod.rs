//! `wasi:http/outgoing-handler`: requests to the hosts that were allowed, by wasmtime's own
//! implementation. What is ours is what happens between the plugin and the network:
//!
//! 1. the host must be in `http.allow`, with its scheme and port ([`access`]);
//! 2. its name is resolved, every address checked ([`address`]), and the connection made to
//!    an address that was checked, so that a second answer of the resolver changes nothing;
//! 3. headers of `http.inject` are put over those of the plugin, which never sees them;
//! 4. the response is cut at its limit, and everything at its deadline ([`exchange`]).
//!
//! A redirect is an answer like any other: following it is a new request of the plugin's,
//! and checked as such.

pub mod access;
pub mod address;
mod exchange;
mod fake;
mod tls;

use std::{error::Error as _, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, Method, Request, Response};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use wasmtime::component::Linker;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    p2::bindings::{LinkOptions, http as bindings, http::types::ErrorCode},
    p3::bindings::http::{self as bindings3, types::ErrorCode as ErrorCode3},
};

pub use self::fake::{HttpRequest, HttpResponse, Respond};
use self::{
    access::{AllowedHost, HttpAccess, Target},
    tls::Tls,
};
use super::logging::{LogLevel, PluginLog};
use crate::{LoadError, state::State};

/// Finds the addresses of a host. The system's resolver by default; a fake one in tests.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// All addresses of `host`.
    ///
    /// # Errors
    /// Where it has none, or nobody can tell.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let options = LinkOptions::default();
    bindings::outgoing_handler::add_to_linker::<State, WasiHttp>(linker, State::http)?;
    bindings::types::add_to_linker::<State, WasiHttp>(linker, &(&options).into(), State::http)
}

/// `wasi:http/client` of WASI 0.3.
pub(crate) fn add_concurrent_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    bindings3::client::add_to_linker::<State, WasiHttp>(linker, State::http)?;
    bindings3::types::add_to_linker::<State, WasiHttp>(linker, State::http)
}

/// Where the requests of one plugin go.
#[derive(Debug, Clone)]
pub(crate) enum Gateway {
    Network(Arc<Outlet>),
    Fake(Arc<dyn Respond>),
}

/// The way of one plugin's requests to the network, shared by its instances.
pub(crate) struct Outlet {
    access: HttpAccess,
    tls: Tls,
    resolver: Arc<dyn Resolve>,
    places: Arc<Semaphore>,
    log: Arc<PluginLog>,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("access", &self.access).finish_non_exhaustive()
    }
}

/// Why a request is not sent.
struct Refused {
    code: Error,
    /// For the plugin's log.
    reason: String,
}

impl Outlet {
    /// # Errors
    /// Where the certificates cannot be used.
    pub(crate) fn new(
        access: HttpAccess,
        resolver: Arc<dyn Resolve>,
        log: Arc<PluginLog>,
    ) -> Result<Arc<Self>, LoadError> {
        let tls = Tls::new(access.tls_ca.as_deref())?;
        let places = Arc::new(Semaphore::new(access.max_requests.max(1)));
        for allowed in &access.allow {
            // a series that is there from the start: its first increase can be seen
            log.stats().http.expect(allowed.host.as_str());
        }
        Ok(Arc::new(Self { access, tls, resolver, places, log }))
    }

    async fn send(
        &self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        deadline: Instant,
    ) -> Result<(Response<WasiBody>, exchange::Connection), Error> {
        let allowed = match self.check(&request) {
            Ok(allowed) => allowed,
            Err(refused) => {
                self.log.stats().http.refused();
                return Err(self.tell(refused));
            }
        };
        let mut attempt = self.log.stats().http.begin(allowed.1.host.as_str());
        let until = deadline.min(Instant::now() + self.access.timeout);
        let late = |_| Error::HttpResponseTimeout;
        let answer = self.exchange(allowed, request, options.unwrap_or_default(), until);
        match timeout_at(until, answer).await.map_err(late) {
            Ok(Ok(answer)) => {
                attempt.answered(answer.0.status());
                Ok(answer)
            }
            Ok(Err(Refused { code, reason })) => {
                match code {
                    Error::DestinationIpProhibited => attempt.refused(),
                    _ => attempt.failed(),
                }
                Err(if reason.is_empty() { code } else { self.tell(Refused { code, reason }) })
            }
            Err(code) => {
                attempt.failed();
                Err(code)
            }
        }
    }

    /// Whether the request may be sent at all, and what allows it.
    fn check(&self, request: &Request<WasiBody>) -> Result<(Target, &AllowedHost), Refused> {
        let (method, uri) = (request.method(), request.uri());
        if [Method::CONNECT, Method::TRACE].contains(method) {
            let reason =
                format!("{method} requests cannot be sent: one tunnels, one echoes headers");
            return Err(Refused { code: Error::HttpRequestMethodInvalid, reason });
        }
        let target = Target::of(uri).ok_or_else(|| Refused {
            code: Error::HttpRequestUriInvalid,
            reason: "the URL names no host that a request can be sent to".into(),
        })?;
        match self.access.allow.iter().find(|allowed| allowed.host.matches(&target)) {
            Some(allowed) => Ok((target, allowed)),
            None => {
                let entry = target.entry();
                let line = self.line(format!("\"{entry}\""), None);
                let reason = format!("{entry} is not allowed; to allow it write `{line}`");
                Err(Refused { code: Error::HttpRequestDenied, reason })
            }
        }
    }

    /// The setting with one more entry, in place of `instead`.
    fn line(&self, entry: String, instead: Option<&AllowedHost>) -> String {
        let others = self.access.allow.iter().filter(|allowed| Some(*allowed) != instead);
        let mut entries: Vec<_> = others.map(written).collect();
        entries.push(entry);
        format!("http.allow = [{}]", entries.join(", "))
    }

    /// Says it where the operator looks, since the codes of `wasi:http` have no text.
    fn tell(&self, Refused { code, reason }: Refused) -> Error {
        self.log.line(LogLevel::Warn, "http", &format!("request refused: {reason}"));
        code
    }
}

/// An entry as it stands in the configuration.
fn written(AllowedHost { host, addresses }: &AllowedHost) -> String {
    if addresses.is_empty() {
        return format!("\"{host}\"");
    }
    let addresses: Vec<_> = addresses.iter().map(|range| format!("\"{range}\"")).collect();
    format!("{{ host = \"{host}\", addresses = [{}] }}", addresses.join(", "))
}

/// What one instance has of it.
pub(crate) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    way: Option<Gateway>,
    /// Of the call in progress.
    deadline: Instant,
}

/// Bytes of the headers that a plugin puts together for a request. A plugin may have a thousand
/// such resources: what the host keeps for all of them is to be less than the plugin may have
/// itself.
const MOST_HEADERS: usize = 32 << 10;
/// Bytes of a request's body that wait to be sent, in each of two parts; for the same reason.
const BODY_PART: usize = 64 << 10;

impl Http {
    pub(crate) fn new(way: Option<Gateway>) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(MOST_HEADERS);
        Self { ctx, hooks: Hooks { way, deadline: Instant::now() } }
    }
}

impl State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.hooks.deadline = self.deadline;
        WasiHttpCtxView {
            ctx: &mut self.http.ctx,
            table: self.wasi.table(),
            hooks: &mut self.http.hooks,
        }
    }
}

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (way, deadline) = (self.way.clone(), self.deadline);
        Box::new(async move {
            let (response, connection) = match way {
                Some(Gateway::Network(outlet)) => outlet.send(request, options, deadline).await?,
                Some(Gateway::Fake(fake)) => fake::answer(fake, request, deadline).await?,
                None => return Err(Error::HttpRequestDenied),
            };
            Ok((response, Box::new(connection) as Box<_>))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_PART
    }

    // the defaults of these write to the host's own log

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        let is_io = error.source().is_some_and(|cause| cause.is::<io::Error>());
        match is_io || error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            true => ErrorCode::ConnectionTerminated,
            false => ErrorCode::HttpProtocolError,
        }
    }

    fn p2_error_from_connect(&mut self, error: &io::Error) -> ErrorCode {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
            io::ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
            _ => ErrorCode::DestinationUnavailable,
        }
    }

    fn p2_error_from_tls(&mut self, error: &io::Error) -> ErrorCode {
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_)) => ErrorCode::TlsCertificateError,
            _ => ErrorCode::TlsProtocolError,
        }
    }

    fn p3_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode3 {
        of_wasi3(self.p2_error_from_hyper(error))
    }

    fn p3_error_from_connect(&mut self, error: &io::Error) -> ErrorCode3 {
        of_wasi3(self.p2_error_from_connect(error))
    }

    fn p3_error_from_tls(&mut self, error: &io::Error) -> ErrorCode3 {
        of_wasi3(self.p2_error_from_tls(error))
    }
}

/// The same code in WASI 0.3, of those that are given above.
fn of_wasi3(code: ErrorCode) -> ErrorCode3 {
    match code {
        ErrorCode::ConnectionTerminated => ErrorCode3::ConnectionTerminated,
        ErrorCode::ConnectionRefused => ErrorCode3::ConnectionRefused,
        ErrorCode::ConnectionTimeout => ErrorCode3::ConnectionTimeout,
        ErrorCode::DestinationUnavailable => ErrorCode3::DestinationUnavailable,
        ErrorCode::TlsCertificateError => ErrorCode3::TlsCertificateError,
        ErrorCode::TlsProtocolError => ErrorCode3::TlsProtocolError,
        _ => ErrorCode3::HttpProtocolError,
    }
}

/// Puts the headers of `http.inject` over those of the plugin.
fn inject(access: &HttpAccess, target: &Target, headers: &mut HeaderMap) {
    for injection in access.inject.iter().filter(|i| i.host.matches(target)) {
        headers.insert(injection.header.clone(), injection.value.clone());
    }
}

/// The shorter of what the guest asks for and what is left.
fn within(asked: Option<Duration>, until: Instant) -> Instant {
    asked.map_or(until, |time| until.min(Instant::now() + time))
}
