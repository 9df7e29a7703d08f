//! Requests that are answered in this process, for tests: nothing goes to any network.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::{Error, WasiBody};

use super::exchange::Connection;

/// A request of a plugin, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST`, ...
    pub method: String,
    /// `https://host[:port]/path?query`.
    pub url: String,
    /// Names in lower case, and values; without `host`, which the URL says.
    pub headers: Vec<(String, Bytes)>,
    /// The body; may be empty.
    pub body: Bytes,
}

/// The response to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Such as 200.
    pub status: u16,
    /// Names and values, in order.
    pub headers: Vec<(String, Bytes)>,
    /// The body; may be empty.
    pub body: Bytes,
}

/// Answers the requests of a plugin instead of the network.
pub trait Respond: fmt::Debug + Send + Sync + 'static {
    /// The response; `None`: the plugin is told that the host is not allowed.
    fn respond(&self, request: HttpRequest) -> Option<HttpResponse>;
}

/// The answer of `fake` to a request, once the plugin has written all of it.
pub(super) async fn answer(
    fake: Arc<dyn Respond>,
    request: Request<WasiBody>,
    deadline: Instant,
) -> Result<(Response<WasiBody>, Connection), Error> {
    let (head, body) = request.into_parts();
    let body = timeout_at(deadline, body.collect()).await;
    let body = body.map_err(|_| Error::HttpResponseTimeout)??.to_bytes();
    let headers = head.headers.iter().filter(|(name, _)| **name != header::HOST);
    let request = HttpRequest {
        method: head.method.to_string(),
        url: head.uri.to_string(),
        headers: headers
            .map(|(name, value)| (name.to_string(), Bytes::copy_from_slice(value.as_bytes())))
            .collect(),
        body,
    };
    let HttpResponse { status, headers, body } =
        fake.respond(request).ok_or(Error::HttpRequestDenied)?;
    let mut response = Response::builder().status(status);
    for (name, value) in &headers {
        response = response.header(name, &**value);
    }
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    let response = response.body(body).map_err(|_| Error::HttpProtocolError)?;
    Ok((response, Box::pin(async { Ok(()) })))
}
