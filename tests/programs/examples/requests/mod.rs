//! What programs that send requests share, written directly against `wasi:http`: nothing is
//! checked before the host sees it. No part of the library, or all programs would import it.
#![allow(dead_code, unused_imports, reason = "no program needs all of it")]

wit_bindgen::generate!({
    path: "../../wit/0.1.1",
    inline: "
        package sandbar:requests;
        world requests {
            include sandbar:events/event-handler@0.1.1;
            import wasi:http/outgoing-handler@0.2.12;
        }
    ",
    world: "sandbar:requests/requests",
    generate_all,
    pub_export_macro: true,
});

pub use self::{
    exports::sandbar::events::handler,
    wasi::{
        http::types::{
            ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody,
            OutgoingRequest, Scheme,
        },
        io::streams::{InputStream, OutputStream, StreamError},
    },
};
use self::{
    handler::{Event, Failure, Outgoing},
    wasi::{config::store, http::outgoing_handler},
};

/// Exports a handler that does `$attempt`, a function from the URL that its configuration has
/// as `url` to a text, and publishes the text. Well-behaved after the first attempt.
macro_rules! program {
    ($attempt:ident) => {
        struct Program;
        crate::requests::export!(Program with_types_in crate::requests);

        impl crate::requests::handler::Guest for Program {
            fn handle(
                event: crate::requests::handler::Event,
            ) -> Result<Vec<crate::requests::handler::Outgoing>, crate::requests::handler::Failure>
            {
                crate::requests::handle(event, $attempt)
            }
        }
    };
}
pub(crate) use program;

/// What [`program!`] exports.
pub fn handle(event: Event, attempt: fn(String) -> String) -> Result<Vec<Outgoing>, Failure> {
    if event.attempt > 1 {
        return Ok(Vec::new());
    }
    let url = store::get("url").ok().flatten().unwrap_or_default();
    Ok(vec![Outgoing {
        connection: None,
        topic: "said".into(),
        key: None,
        payload: Some(attempt(url).into_bytes()),
        headers: Vec::new(),
        attributes: Vec::new(),
    }])
}

/// A request to a URL of `http`, as far as it can be put into words.
pub fn request(url: &str, headers: Fields) -> OutgoingRequest {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(headers);
    // what does not go in here is missed by the host
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some(if path.is_empty() { "/" } else { path }));
    request
}

/// Begins to send a request.
pub fn send(request: OutgoingRequest) -> Result<FutureIncomingResponse, ErrorCode> {
    outgoing_handler::handle(request, None)
}

/// Sends a request and waits for the head of its response.
pub fn exchange(request: OutgoingRequest) -> Result<IncomingResponse, ErrorCode> {
    let response = send(request)?;
    response.subscribe().block();
    response.get().expect("it is there").expect("once")
}

/// Asks for what is at a URL.
pub fn get(url: &str) -> Result<IncomingResponse, ErrorCode> {
    exchange(request(url, Fields::new()))
}

/// The status of a response, or why there is none.
pub fn status(response: &Result<IncomingResponse, ErrorCode>) -> String {
    match response {
        Ok(response) => response.status().to_string(),
        Err(code) => format!("{code:?}"),
    }
}
