//! One request and its response on a connection of their own.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, io::TokioIo};

use super::{AllowedHost, Outlet, Refused, Target, address::AddressRange, inject, within, written};

/// Bytes of a response's head.
const LONGEST_HEAD: usize = 64 << 10;

/// Drives the connection until the response is through, and keeps its place until then.
pub(super) type Connection = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

impl From<Error> for Refused {
    fn from(code: Error) -> Self {
        Self { code, reason: String::new() }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Outlet {
    /// Sends `request` and returns the response's head, its body still to come.
    pub(super) async fn exchange(
        &self,
        (target, allowed): (Target, &AllowedHost),
        mut request: Request<WasiBody>,
        options: RequestOptions,
        until: Instant,
    ) -> Result<(Response<WasiBody>, Connection), Refused> {
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(|_| Error::ConnectionLimitReached)?;
        let connecting = self.connect(&target, allowed);
        let stream = timeout_at(within(options.connect_timeout, until), connecting)
            .await
            .map_err(|_| Error::ConnectionTimeout)??;

        inject(&self.access, &target, request.headers_mut());
        // only a proxy is told where the request goes
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);

        let mut builder = http1::Builder::new();
        builder.max_buf_size(LONGEST_HEAD);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(Error::from)?;
        let connection = tokio::spawn(drive(connection, until, place));
        // where this future is dropped, the connection goes with it
        let connection = tokio_util::task::AbortOnDropHandle::new(connection);
        let waiting = sender.send_request(request);
        let response = timeout_at(within(options.first_byte_timeout, until), waiting)
            .await
            .map_err(|_| Error::HttpResponseTimeout)?
            .map_err(Error::from)?;

        let most = self.access.max_response;
        if response.body().size_hint().lower() > most {
            return Err(self.too_large(most));
        }
        let limited = response.map(|body| Limited { body, left: most, most, until }.boxed_unsync());
        let connection = async move { connection.await.unwrap_or(Ok(())) };
        Ok((limited, Box::pin(connection)))
    }

    fn too_large(&self, most: u64) -> Refused {
        let reason = format!(
            "the response has more than {most} bytes; to take more set `http.max-response`"
        );
        Refused { code: Error::HttpResponseBodySize(Some(most)), reason }
    }

    /// To an address that was checked: what the resolver says later does not matter.
    async fn connect(
        &self,
        target: &Target,
        allowed: &AllowedHost,
    ) -> Result<Box<dyn Stream>, Refused> {
        let addresses = self.addresses(target).await?;
        let (fit, unfit): (Vec<SocketAddr>, Vec<_>) =
            addresses.into_iter().partition(|address| allowed.may_be(address.ip()));
        if let (true, Some(address)) = (fit.is_empty(), unfit.first()) {
            return Err(self.prohibited(target, allowed, address));
        }
        let stream = TcpStream::connect(&*fit).await.map_err(Error::Connect)?;
        // requests are written whole
        let _ = stream.set_nodelay(true);
        if target.scheme == Scheme::HTTPS {
            let encrypted = self.tls.connect(target, stream).await.map_err(Error::Tls)?;
            return Ok(Box::new(encrypted));
        }
        Ok(Box::new(stream))
    }

    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Refused> {
        if let Some(address) = target.address() {
            return Ok(vec![SocketAddr::new(address, target.port)]);
        }
        let nobody = |error: io::Error| Refused {
            code: Error::DnsError { rcode: None, info_code: None },
            reason: format!("{} has no address: {error}", target.name),
        };
        let found = self.resolver.resolve(&target.name, target.port).await.map_err(nobody)?;
        if found.is_empty() {
            return Err(nobody(io::Error::from(io::ErrorKind::NotFound)));
        }
        Ok(found)
    }

    fn prohibited(&self, target: &Target, allowed: &AllowedHost, address: &SocketAddr) -> Refused {
        let ip = address.ip();
        let mut explicit = allowed.clone();
        explicit.addresses.extend(ip.to_string().parse::<AddressRange>());
        let line = self.line(written(&explicit), Some(allowed));
        let entry = target.entry();
        let reason =
            format!("{entry} is at {ip}, which is no public address; to allow it write `{line}`");
        Refused { code: Error::DestinationIpProhibited, reason }
    }
}

/// Until the response is through or the time is up.
async fn drive<B>(
    connection: http1::Connection<TokioIo<Box<dyn Stream>>, B>,
    until: Instant,
    _place: OwnedSemaphorePermit,
) -> Result<(), Error>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match timeout_at(until, connection).await {
        Ok(done) => done.map_err(Error::from),
        Err(_) => Err(Error::HttpResponseTimeout),
    }
}

/// A response's body, as far as it may go.
struct Limited {
    body: hyper::body::Incoming,
    left: u64,
    most: u64,
    until: Instant,
}

impl Body for Limited {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| match frame? {
            Ok(frame) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                match self.left.checked_sub(bytes) {
                    Some(left) => {
                        self.left = left;
                        Some(Ok(frame))
                    }
                    None => Some(Err(Error::HttpResponseBodySize(Some(self.most)))),
                }
            }
            Err(_) if Instant::now() >= self.until => Some(Err(Error::HttpResponseTimeout)),
            Err(error) => Some(Err(error.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
