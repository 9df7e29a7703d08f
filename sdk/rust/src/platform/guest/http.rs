//! Requests over `wasi:http`.

use super::bindings::http::wasi::{
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
            RequestOptions, Scheme, http_error_code,
        },
    },
    io::streams::StreamError,
};
use crate::http::{HttpError, Request, Response};

/// Bytes read at once.
const CHUNK: u64 = 64 << 10;

pub(crate) fn send(request: Request) -> Result<Response, HttpError> {
    let invalid = |why: &str| HttpError::Invalid(why.to_owned());
    let url =
        Url::parse(&request.url).ok_or_else(|| invalid("its URL is not http(s)://HOST/..."))?;
    let failed = |code| error(code, &url);

    let headers = Fields::new();
    for (name, value) in &request.headers {
        headers
            .append(name, value)
            .map_err(|e| HttpError::Invalid(format!("header {name:?}: {e}")))?;
    }
    let length = request.body.len().to_string();
    if !request.body.is_empty() && !headers.has("content-length") {
        // a length that is a number is always accepted
        let _ = headers.append("content-length", length.as_bytes());
    }
    let outgoing = OutgoingRequest::new(headers);
    let set = [
        outgoing.set_method(&method(&request.method)),
        outgoing.set_scheme(Some(if url.tls { &Scheme::Https } else { &Scheme::Http })),
        outgoing.set_authority(Some(url.authority)),
        outgoing.set_path_with_query(Some(&url.path)),
    ];
    if set.iter().any(Result::is_err) {
        return Err(invalid("its method or its URL is malformed"));
    }
    let options = request.timeout.map(|timeout| {
        let options = RequestOptions::new();
        let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        // a host that cannot do this has its own limit
        let _ = options.set_first_byte_timeout(Some(nanoseconds));
        let _ = options.set_connect_timeout(Some(nanoseconds));
        options
    });

    // the host takes the body while it sends: first hand over the request
    let body = outgoing.body().map_err(|()| invalid("its content-length is no number"))?;
    let response = outgoing_handler::handle(outgoing, options).map_err(failed)?;
    let written = write(body, &request.body);
    response.subscribe().block();
    let response = match response.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return Err(failed(code)),
        Some(Err(())) | None => return Err(HttpError::Unreachable("it was lost".into())),
    };
    // an answer may come before all was sent; without one the reason is the better error
    drop(written);
    read(response, &url)
}

fn write(body: OutgoingBody, mut bytes: &[u8]) -> Result<(), ErrorCode> {
    let closed = |_| ErrorCode::ConnectionTerminated;
    let stream = body.write().map_err(closed)?;
    let closed = |_| ErrorCode::ConnectionTerminated;
    while !bytes.is_empty() {
        let room = stream.check_write().map_err(closed)?;
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) =
            bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        stream.write(now).map_err(closed)?;
        bytes = later;
    }
    drop(stream);
    OutgoingBody::finish(body, None)
}

fn read(response: IncomingResponse, url: &Url<'_>) -> Result<Response, HttpError> {
    let mut whole = Response::new(response.status());
    whole.headers = response.headers().entries();
    let lost = |()| HttpError::Unreachable("its body was lost".into());
    let body = response.consume().map_err(lost)?;
    let stream = body.stream().map_err(lost)?;
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(bytes) => whole.body.extend_from_slice(&bytes),
            Err(StreamError::Closed) => return Ok(whole),
            Err(StreamError::LastOperationFailed(failed)) => {
                return Err(match http_error_code(&failed) {
                    Some(code) => error(code, url),
                    // not every host gives the codes of what goes wrong within a body
                    None => unnamed(failed.to_debug_string()),
                });
            }
        }
    }
}

fn unnamed(said: String) -> HttpError {
    match said.to_ascii_lowercase() {
        text if text.contains("response body size") => HttpError::TooLarge,
        text if text.contains("timeout") || text.contains("timed out") => HttpError::Timeout,
        _ => HttpError::Unreachable(said),
    }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn error(code: ErrorCode, url: &Url<'_>) -> HttpError {
    match code {
        ErrorCode::HttpRequestDenied => HttpError::Denied(url.entry()),
        ErrorCode::DestinationIpProhibited => HttpError::Prohibited(url.entry()),
        ErrorCode::HttpResponseBodySize(_) => HttpError::TooLarge,
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::DnsTimeout
        | ErrorCode::HttpResponseTimeout => HttpError::Timeout,
        ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong
        | ErrorCode::HttpRequestBodySize(_)
        | ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpRequestHeaderSize(_) => HttpError::Invalid(code.to_string()),
        other => HttpError::Unreachable(other.to_string()),
    }
}

struct Url<'a> {
    tls: bool,
    authority: &'a str,
    path: String,
}

impl<'a> Url<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let slash = if path.starts_with('/') { "" } else { "/" };
        (!authority.is_empty()).then(|| Self { tls, authority, path: format!("{slash}{path}") })
    }

    /// As `http.allow` has it.
    fn entry(&self) -> String {
        let scheme = if self.tls { "" } else { "http://" };
        format!("{scheme}{}", self.authority)
    }
}
