//! Requests to where they may not go, and more of them than anybody needs.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use sandbar_core::HandlerError;
use sandbar_wasm::{Generation, HttpAccess, Injection, LoadSpec, SecretValue};
use tokio::net::TcpListener;

use super::strict;
use crate::{
    beside::harms_only_its_own_event,
    http::{Bench, at, bench},
    server::{Answer, Server},
    support::{again, call, only, program, run},
};

/// A program that is to go to `url`, and how it fails where it does not.
struct Requests {
    name: &'static str,
    url: String,
    access: HttpAccess,
}

impl Requests {
    /// One that may go to the server.
    fn to(name: &'static str, server: &Server) -> Self {
        let url = server.url("127.0.0.1", "");
        let access = HttpAccess::new(vec![at(&url, &[])]);
        Self { name, url, access }
    }

    fn configure(self, spec: &mut LoadSpec) {
        strict(spec);
        // what they are to run into are other limits
        spec.limits.cpu_time = Duration::from_secs(10);
        spec.config = [("url".into(), self.url)].into();
        spec.http = Some(self.access);
    }

    async fn load(self, bench: &Bench) -> Arc<Generation> {
        let name = self.name;
        let mut spec = LoadSpec::new(name);
        self.configure(&mut spec);
        bench.host.load(program(name), spec).await.unwrap()
    }

    /// What the program says of its first attempt.
    async fn says(self, bench: &Bench) -> String {
        let plugin = self.load(bench).await;
        only(&run(&plugin, call("")).await)
    }

    async fn harms_only_its_own_event(self) -> HandlerError {
        let name = self.name;
        let hurried = |spec: &mut LoadSpec| {
            self.configure(spec);
            spec.limits.wall_time = Duration::from_millis(500);
        };
        harms_only_its_own_event(name, hurried).await.1
    }
}

#[tokio::test]
async fn s3_reaches_inside() {
    let server = Server::new(Answer::ok("inside")).await;
    let port = server.address.port();
    // what the system's resolver makes of addresses in disguise
    let names: &[(&str, &[&str])] = &[
        ("127.1", &["127.0.0.1"]),
        ("2130706433", &["127.0.0.1"]),
        ("0x7f000001", &["127.0.0.1"]),
        ("0177.0.0.1", &["127.0.0.1"]),
        ("localhost", &["127.0.0.1 ::1"]),
        ("metadata.internal", &["169.254.169.254"]),
    ];
    let said = async |allow: Vec<_>| {
        let url = server.url("api.test", "");
        let access = HttpAccess::new(allow);
        let program = Requests { name: "reaches-inside", url, access };
        program.says(&bench(names)).await
    };
    let ends = |said: &str, with: &str| said.lines().filter(|l| l.ends_with(with)).count();

    let one = said(vec![at(&format!("http://api.test:{port}"), &[])]).await;
    assert_eq!(ends(&one, "HttpRequestDenied"), one.lines().count() - 2, "{one}");
    assert_eq!(ends(&one, "HttpRequestUriInvalid"), 2, "a user is no host: {one}");
    // the operator allows the names, not knowing where they lead
    let allow = names.iter().map(|(name, _)| at(&format!("http://{name}:{port}"), &[]));
    let named = said(allow.collect()).await;
    // `localhost.` is the same name
    assert_eq!(ends(&named, "DestinationIpProhibited"), names.len() + 1, "{named}");
    assert_eq!(ends(&named, " 200"), 0, "{named}");
    assert_eq!(server.requests(), Vec::<String>::new());
}

/// A name that is at an address that it may be at, and the next time somewhere inside.
#[tokio::test]
async fn s3_asks_again() {
    let server = Server::new(Answer::ok("outside")).await;
    let port = server.address.port();
    let inside = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let [out, inn] = ["127.0.0.1", "127.0.0.2"];
    let bench = bench(&[("turns.test", &[out, inn, out, inn, out, inn])]);
    let url = format!("http://turns.test:{port}");
    let access = HttpAccess::new(vec![at(&url, &[out])]);
    let said = Requests { name: "asks-again", url, access }.says(&bench).await;
    let refused = "ErrorCode::DestinationIpProhibited";
    assert_eq!(said, ["200", refused].repeat(3).join("\n"));
    assert_eq!(server.requests().len(), 3);
    assert!(inside.accept().now_or_never().is_none(), "nobody went inside");
}

#[tokio::test]
async fn s3_follows_redirects() {
    let inside = Server::new(Answer::ok("inside")).await;
    let to = inside.url("127.0.0.1", "/");
    let name = inside.url("api.test", "/");
    let answer = move |request: &str| {
        let host = request.lines().find_map(|l| l.strip_prefix("host: ")).unwrap_or_default();
        let path = request.split(' ').nth(1).unwrap_or_default();
        let location = match path {
            "/address" => to.clone(),
            "/name" => name.clone(),
            "/metadata" => "http://169.254.169.254/latest/meta-data/".to_owned(),
            _ => format!("http://{host}{path}"),
        };
        Answer::status("302 Found", &[("location", &location)], "")
    };
    let front = Server::start(answer, None).await;
    let program = |path: &str| {
        let mut program = Requests::to("follows-redirects", &front);
        program.access.allow.push(at(&inside.url("api.test", ""), &[]));
        Requests { url: front.url("127.0.0.1", path), ..program }
    };
    let bench = bench(&[("api.test", &["127.0.0.1"])]);
    let said = async |path| program(path).says(&bench).await;
    assert_eq!(said("/address").await, "ErrorCode::HttpRequestDenied");
    assert_eq!(said("/metadata").await, "ErrorCode::HttpRequestDenied");
    assert_eq!(said("/name").await, "ErrorCode::DestinationIpProhibited");
    assert_eq!(inside.requests(), Vec::<String>::new());
    // round and round
    let error = program("/around").harms_only_its_own_event().await.to_string();
    assert_eq!(error, "deadline: took longer than 500 ms (limits.wall-time)");
}

#[tokio::test]
async fn s2_reads_a_response_without_end() {
    let floods = Answer::Endless(vec![b'x'; 1 << 16], Duration::ZERO);
    let drips = Answer::Endless(b"x".to_vec(), Duration::from_millis(1));
    for answer in [floods, drips, Answer::Hang(b"HTTP/1.1 200 OK\r\n".to_vec())] {
        let server = Server::new(answer).await;
        let program = Requests::to("reads-a-response-without-end", &server);
        let error = program.harms_only_its_own_event().await.to_string();
        assert_eq!(error, "deadline: took longer than 500 ms (limits.wall-time)");
        server.all_gone().await;
    }
}

/// Only so many are under way at once, and with the call all of them are gone.
#[tokio::test]
async fn s2_hoards_requests() {
    let server = Server::new(Answer::Hang(Vec::new())).await;
    let mut program = Requests::to("hoards-requests", &server);
    program.access.max_requests = 4;
    let plugin = program.load(&bench(&[])).await;
    let error = run(&plugin, call("")).await.unwrap_err();
    assert_eq!(error.to_string(), "trap: resource table has no free keys");
    server.all_gone().await;
    assert!(server.requests().len() <= 4, "{}", server.requests().len());
    // their places are free again
    assert!(run(&plugin, again("")).await.is_ok());
}

/// What a plugin lets the host keep for it is not more than it may have itself.
#[tokio::test]
async fn s2_hoards_bodies() {
    let server = Server::new(Answer::ok("")).await;
    let said = Requests::to("hoards-bodies", &server).says(&bench(&[])).await;
    let bytes: usize = said.parse().unwrap();
    assert!((1..=LoadSpec::new("").limits.memory).contains(&bytes), "{bytes} bytes");
}

#[tokio::test]
async fn s2_hoards_headers() {
    let server = Server::new(Answer::ok("")).await;
    let program = Requests::to("hoards-headers", &server);
    let error = program.harms_only_its_own_event().await.to_string();
    assert_eq!(error, "trap: total size of fields exceeds limit");
}

#[tokio::test]
async fn s3_overrides_headers() {
    let server = Server::new(Answer::ok("")).await;
    let mut program = Requests::to("overrides-headers", &server);
    let (host, secret) = (program.url.parse().unwrap(), SecretValue::new("opensesame"));
    let credential = Injection::new(host, "authorization", "Bearer ", secret).unwrap();
    program.access.inject = vec![credential];
    let said = program.says(&bench(&[])).await;
    insta::assert_snapshot!(said, @r#"
    header "host"
    header "Host"
    header "connection"
    header "keep-alive"
    header "proxy-authorization"
    header "transfer-encoding"
    header "upgrade"
    header "content-length"
    header "x"
    header "x\r\nhost"
    method
    path
    host
    200
    ErrorCode::HttpRequestBodySize(Some(0))
    "#);
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let head = requests[0].to_ascii_lowercase();
    assert!(!head.contains("evil"), "{head}");
    let lines = |name: &str| head.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((lines("host:"), lines("authorization: bearer opensesame")), (1, 1), "{head}");
}
