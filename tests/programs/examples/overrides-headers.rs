//! Says of itself what only the host may say: another `Host`, a credential of its own, where
//! its body ends, a second request inside the first. Says what was refused, and what came of
//! the rest.

mod requests;

use requests::{Fields, Method, exchange, request, status};

requests::program!(attempt);

const HEADERS: &[(&str, &str)] = &[
    ("host", "evil.test"),
    ("Host", "evil.test"),
    ("connection", "authorization"),
    ("keep-alive", "timeout=1000"),
    ("proxy-authorization", "Basic evil"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "h2c"),
    ("content-length", "0"),
    ("content-length", "5"),
    ("x", "1\r\nhost: evil.test"),
    ("x\r\nhost", "evil.test"),
    ("authorization", "Bearer evil"),
    ("Authorization", "Bearer evil"),
    ("AUTHORIZATION", "Bearer evil"),
];

fn attempt(url: String) -> String {
    let mut said = Vec::new();
    let headers = Fields::new();
    for (name, value) in HEADERS {
        if headers.append(name, value.as_bytes()).is_err() {
            said.push(format!("header {name:?}"));
        }
    }
    let whole = request(&url, headers);
    let inside = "GET / HTTP/1.1\r\nhost: evil.test\r\n\r\n";
    let mut set = |what: &str, done: Result<(), ()>| {
        if done.is_err() {
            said.push(what.to_owned());
        }
    };
    set("method", whole.set_method(&Method::Other(inside.into())));
    set("path", whole.set_path_with_query(Some(&format!("/ HTTP/1.1\r\n\r\n{inside}"))));
    set("host", whole.set_authority(Some("api.test\r\nhost: evil.test")));
    said.push(status(&exchange(whole)));
    // a body that is not there
    let headers = Fields::from_list(&[("content-length".into(), b"5".into())]).expect("a length");
    said.push(status(&exchange(request(&url, headers))));
    said.join("\n")
}
