//! Requests go where they may, carry what they should, and end in time (S2, S3).

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use sandbar_core::{ErrorClass, HandlerError, Outcome};
use sandbar_wasm::{
    AllowedHost, Generation, Grant, Host, HostConfig, HttpAccess, Injection, LoadSpec, Resolve,
    SecretValue,
};
use serde_json::json;

use crate::{
    server::{Answer, Server},
    support::{Log, attributes, call, config, only, program_of, run},
};

/// Answers with the next address of a name each time, with the last one from then on.
#[derive(Debug, Default)]
struct Names(Mutex<BTreeMap<String, Vec<&'static str>>>);

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut names = self.0.lock().unwrap();
        let answers = names.get_mut(host).ok_or(io::ErrorKind::NotFound)?;
        let now = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
        Ok(now.split(' ').map(|address| SocketAddr::new(address.parse().unwrap(), port)).collect())
    }
}

pub struct Bench {
    pub host: Arc<Host>,
    pub log: Log,
}

/// A host whose resolver knows these names.
pub fn bench(names: &[(&str, &[&'static str])]) -> Bench {
    let log = Log::default();
    let names = names.iter().map(|(name, answers)| ((*name).to_owned(), answers.to_vec()));
    let resolver = Arc::new(Names(Mutex::new(names.collect())));
    let config = HostConfig { log: Arc::new(log.clone()), resolver, ..config() };
    Bench { host: Host::new(config).unwrap(), log }
}

pub fn at(host: &str, addresses: &[&str]) -> AllowedHost {
    AllowedHost {
        host: host.parse().unwrap(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    }
}

impl Bench {
    async fn load(&self, access: HttpAccess) -> Arc<Generation> {
        self.load_with(access, |_| {}).await
    }

    async fn load_with(
        &self,
        access: HttpAccess,
        change: impl FnOnce(&mut LoadSpec),
    ) -> Arc<Generation> {
        let mut spec = LoadSpec { http: Some(access), ..LoadSpec::new("requests") };
        change(&mut spec);
        self.host.load(program_of("sdk-requests"), spec).await.unwrap()
    }

    fn metrics(&self) -> String {
        self.host.stats().text()
    }
}

async fn get(plugin: &Generation, url: &str) -> Outcome {
    run(plugin, call(&json!({ "url": url }).to_string())).await
}

async fn refused(plugin: &Generation, url: &str) -> HandlerError {
    get(plugin, url).await.expect_err("it must not get an answer")
}

#[tokio::test]
async fn s3_the_error_of_a_plugin_without_the_grant_names_the_line() {
    let bench = bench(&[]);
    let error = bench
        .host
        .load(program_of("sdk-requests"), LoadSpec::new("p"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("not granted: wasi:http/types@"), "{error}");
    assert!(error.contains(r#"wasi:http/outgoing-handler@0.2.12 (needs "http")"#), "{error}");
    assert!(
        error.ends_with(r#"to allow it write `http = { allow = ["HOST"] }` in p.toml"#),
        "{error}"
    );
    let needed = bench.host.inspect(program_of("sdk-requests")).await.unwrap().grants;
    assert_eq!(needed, [Grant::Http].into());
}

#[tokio::test]
async fn a_request_arrives_whole_and_its_answer_comes_back_whole() {
    let server =
        Server::new(Answer::status("201 Created", &[("X-A", "1"), ("x-b", "2")], "done")).await;
    let bench = bench(&[("api.test", &["127.0.0.1"])]);
    let entry = format!("http://api.test:{}", server.address.port());
    let plugin = bench.load(HttpAccess::new(vec![at(&entry, &["127.0.0.1"])])).await;
    let body = "b".repeat(3 << 20);
    let wish = json!({
        "method": "POST", "url": server.url("api.test", "/path?q=1#part"),
        "headers": { "X-Mine": "yes" }, "body": body,
    });
    let outcome = run(&plugin, call(&wish.to_string())).await;
    assert_eq!(only(&outcome), "done");
    assert_eq!(attributes(&outcome), [("status".to_owned(), "201".to_owned())]);
    let outputs = outcome.unwrap();
    let headers: Vec<_> = outputs.outputs[0].headers.iter().map(|h| &*h.name).collect();
    assert_eq!(headers, ["x-a", "x-b", "content-length"]);

    let requests = server.requests();
    let (head, sent) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /path?q=1 HTTP/1.1\r\n"), "{head}");
    let host = format!("host: api.test:{}", server.address.port());
    for line in [&*host, "x-mine: yes", "content-length: 3145728"] {
        assert!(head.lines().any(|l| l == line), "no {line} in {head}");
    }
    assert!(sent == body, "{} bytes", sent.len());

    let metrics = bench.metrics();
    let series = |status: &str| {
        format!(
            "sandbar_plugin_http_requests_total{{plugin=\"requests\",host=\"{entry}\",status=\"{status}\"}}"
        )
    };
    for line in [series("201") + " 1", series("failed") + " 0"] {
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
    assert!(metrics.contains("http_request_duration_seconds_count"), "{metrics}");
}

#[tokio::test]
async fn s3_a_host_that_is_not_allowed_is_refused_and_the_line_is_told() {
    let server = Server::new(Answer::ok("")).await;
    let bench = bench(&[("evil.test", &["127.0.0.1"]), ("api.test", &["127.0.0.1"])]);
    let entry = format!("http://api.test:{}", server.address.port());
    let plugin = bench.load(HttpAccess::new(vec![at(&entry, &["127.0.0.0/8"])])).await;
    let port = server.address.port();
    for (url, needs) in [
        (server.url("evil.test", "/"), format!("http://evil.test:{port}")),
        (server.url("127.0.0.1", "/"), format!("http://127.0.0.1:{port}")),
        ("http://api.test/".into(), "http://api.test".into()),
        (format!("https://api.test:{port}/"), format!("api.test:{port}")),
    ] {
        let error = refused(&plugin, &url).await;
        assert!(error.message.contains(" is not allowed: add \""), "{}", error.message);
        let last = bench.log.lines().pop().unwrap();
        let expected = format!(
            "requests Warn http: request refused: {needs} is not allowed; to allow it write \
             `http.allow = [{{ host = \"{entry}\", addresses = [\"127.0.0.0/8\"] }}, \"{needs}\"]`"
        );
        assert_eq!(last, expected);
    }
    // what is written as a user is not the host
    let error = refused(&plugin, &format!("http://api.test:{port}@evil.test:{port}/")).await;
    assert!(error.message.contains("cannot be sent"), "{}", error.message);
    assert_eq!(server.requests(), Vec::<String>::new());
    let line = r#"http_requests_total{plugin="requests",host="(not allowed)",status="refused"} 5"#;
    assert!(bench.metrics().contains(line), "{}", bench.metrics());
}

#[tokio::test]
async fn s3_methods_that_tunnel_or_echo_are_refused() {
    let server = Server::new(Answer::ok("")).await;
    let bench = bench(&[]);
    let url = server.url("127.0.0.1", "");
    let plugin = bench.load(HttpAccess::new(vec![at(&url, &[])])).await;
    for method in ["CONNECT", "TRACE"] {
        let wish = json!({ "method": method, "url": url }).to_string();
        let error = run(&plugin, call(&wish)).await.unwrap_err();
        assert!(error.message.contains("cannot be sent"), "{}", error.message);
    }
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn s3_a_name_at_a_private_address_is_refused_unless_it_was_allowed() {
    let server = Server::new(Answer::ok("inside")).await;
    let port = server.address.port();
    let names: &[(&str, &[&str])] =
        &[("api.test", &["127.0.0.1"]), ("meta.test", &["169.254.169.254 ::ffff:10.0.0.1"])];
    let bench = bench(names);
    let allow = vec![at(&format!("http://api.test:{port}"), &[]), at("http://meta.test", &[])];
    let plugin = bench.load(HttpAccess::new(allow)).await;
    let error = refused(&plugin, &server.url("api.test", "/")).await;
    assert!(error.message.contains("not public"), "{}", error.message);
    let last = bench.log.lines().pop().unwrap();
    let expected = format!(
        "requests Warn http: request refused: http://api.test:{port} is at 127.0.0.1, which is no \
         public address; to allow it write `http.allow = [\"http://meta.test\", {{ host = \
         \"http://api.test:{port}\", addresses = [\"127.0.0.1\"] }}]`"
    );
    assert_eq!(last, expected);
    refused(&plugin, "http://meta.test/").await;
    assert!(bench.log.lines().pop().unwrap().contains("http://meta.test is at 169.254.169.254"));
    assert_eq!(server.requests(), Vec::<String>::new());
    let counted = format!(
        "http_requests_total{{plugin=\"requests\",host=\"http://api.test:{port}\",status=\"refused\"}} 1"
    );
    assert!(bench.metrics().contains(&counted), "{}", bench.metrics());

    let allow = vec![at(&format!("http://api.test:{port}"), &["127.0.0.0/8"])];
    let plugin = bench.load(HttpAccess::new(allow)).await;
    assert_eq!(only(&get(&plugin, &server.url("api.test", "/")).await), "inside");
}

/// The first answer is public, the second one is not: only the address that was checked is
/// ever connected to.
#[tokio::test]
async fn s3_a_second_answer_of_the_resolver_leads_nowhere() {
    let server = Server::new(Answer::ok("inside")).await;
    let port = server.address.port();
    // 192.0.2.0/24 is for documentation: nobody answers there, and here it stands for a
    // public address
    let bench = bench(&[("turns.test", &["192.0.2.1", "127.0.0.1"])]);
    let mut access =
        HttpAccess::new(vec![at(&format!("http://turns.test:{port}"), &["192.0.2.1"])]);
    access.timeout = Duration::from_millis(200);
    let plugin = bench.load(access).await;
    // the address that was checked, which does not answer
    refused(&plugin, &server.url("turns.test", "/")).await;
    // the other one, which is found out
    let error = refused(&plugin, &server.url("turns.test", "/")).await;
    assert!(error.message.contains("not public"), "{}", error.message);
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn s3_of_several_addresses_only_those_that_are_allowed_are_used() {
    let server = Server::new(Answer::ok("there")).await;
    let bench = bench(&[("both.test", &["127.0.0.2 127.0.0.1"])]);
    let entry = format!("http://both.test:{}", server.address.port());
    let plugin = bench.load(HttpAccess::new(vec![at(&entry, &["127.0.0.1"])])).await;
    assert_eq!(only(&get(&plugin, &server.url("both.test", "/")).await), "there");
}

#[tokio::test]
async fn s3_a_redirect_is_the_plugins_own_new_request() {
    let inside = Server::new(Answer::ok("secret")).await;
    let to = inside.url("127.0.0.1", "/");
    let front = Server::new(Answer::status("302 Found", &[("location", &to)], "")).await;
    let bench = bench(&[]);
    let plugin = bench.load(HttpAccess::new(vec![at(&front.url("127.0.0.1", ""), &[])])).await;
    let outcome = get(&plugin, &front.url("127.0.0.1", "/")).await;
    assert_eq!(attributes(&outcome), [("status".to_owned(), "302".to_owned())]);
    let wish = json!({ "url": front.url("127.0.0.1", "/"), "follow": 1 }).to_string();
    let error = run(&plugin, call(&wish)).await.unwrap_err();
    assert!(error.message.contains("is not allowed"), "{}", error.message);
    assert_eq!((front.requests().len(), inside.requests().len()), (2, 0));
}

#[tokio::test]
async fn s3_an_injected_credential_is_sent_and_never_in_the_plugin() {
    // a server that gives away what it was sent, once plainly
    let server = Server::start(|request| Answer::ok(&request.len().to_string()), None).await;
    let bench = bench(&[]);
    let url = server.url("127.0.0.1", "");
    let other = Server::new(Answer::ok("")).await;
    let other_url = other.url("127.0.0.1", "");
    let mut access = HttpAccess::new(vec![at(&url, &[]), at(&other_url, &[])]);
    let secret = SecretValue::new("opensesame");
    let host = url.parse().unwrap();
    access.inject = vec![Injection::new(host, "authorization", "Bearer ", secret).unwrap()];
    let plugin = bench.load(access).await;
    // the plugin's own header of that name goes nowhere, in whatever case it is written
    for name in ["authorization", "Authorization"] {
        let wish = json!({ "url": url, "headers": { name: "Bearer mine" } }).to_string();
        run(&plugin, call(&wish)).await.unwrap();
    }
    get(&plugin, &other_url).await.unwrap();
    for request in server.requests() {
        let sent: Vec<_> = request.lines().filter(|l| l.starts_with("authorization")).collect();
        assert_eq!(sent, ["authorization: Bearer opensesame"]);
    }
    assert_eq!(server.requests().len(), 2);
    assert!(!other.requests()[0].contains("authorization"), "it is for one host only");
    // nothing that the plugin could look at has it: what it built, and all that came back
    let lines = bench.log.lines().join("\n");
    assert!(!lines.contains("opensesame"), "{lines}");
}

#[tokio::test]
async fn s2_a_response_ends_at_its_limit_whether_it_says_its_length_or_not() {
    let large = "x".repeat(2000);
    let says = Server::new(Answer::ok(&large)).await;
    let chunks = "64\r\n".to_owned() + &"y".repeat(100) + "\r\n";
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let hides = Server::new(Answer::Hang((head + &chunks.repeat(20)).into_bytes())).await;
    let bench = bench(&[]);
    let urls = [says.url("127.0.0.1", ""), hides.url("127.0.0.1", "")];
    let mut access = HttpAccess::new(urls.iter().map(|url| at(url, &[])).collect());
    access.max_response = 1000;
    let plugin = bench.load(access.clone()).await;
    for url in &urls {
        let error = refused(&plugin, url).await;
        assert!(error.message.contains("`http.max-response`"), "{}", error.message);
    }
    access.max_response = 2000;
    let plugin = bench.load(access).await;
    assert_eq!(only(&get(&plugin, &urls[0]).await), large);
}

#[tokio::test]
async fn s2_an_endless_head_is_cut_off() {
    let head = "HTTP/1.1 200 OK\r\nx: ".to_owned() + &"x".repeat(1 << 20);
    let server = Server::new(Answer::Hang(head.into_bytes())).await;
    let bench = bench(&[]);
    let url = server.url("127.0.0.1", "");
    let plugin = bench.load(HttpAccess::new(vec![at(&url, &[])])).await;
    let error = refused(&plugin, &url).await;
    assert!(error.message.contains("no response"), "{}", error.message);
}

/// A server that takes a request and says nothing; the call ends all the same.
#[tokio::test]
async fn s2_the_wall_clock_ends_a_call_that_hangs_in_a_request() {
    let bench = bench(&[]);
    for answer in [
        Answer::Hang(Vec::new()),
        Answer::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
    ] {
        let server = Server::new(answer).await;
        let url = server.url("127.0.0.1", "");
        let access = HttpAccess::new(vec![at(&url, &[])]);
        let limit = |spec: &mut LoadSpec| spec.limits.wall_time = Duration::from_millis(300);
        let plugin = bench.load_with(access, limit).await;
        let began = std::time::Instant::now();
        let error = refused(&plugin, &url).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        // at the same moment the request is given up: either may be first
        let is_late = error.class == ErrorClass::Deadline || error.message == "no response in time";
        assert!(is_late, "{error:?}");
    }
}

#[tokio::test]
async fn s2_a_request_has_a_deadline_of_its_own() {
    let server = Server::new(Answer::Hang(Vec::new())).await;
    let bench = bench(&[]);
    let url = server.url("127.0.0.1", "");
    let mut access = HttpAccess::new(vec![at(&url, &[])]);
    access.timeout = Duration::from_millis(100);
    let plugin = bench.load(access.clone()).await;
    let error = refused(&plugin, &url).await;
    assert_eq!(error.message, "no response in time");
    // the plugin may be more impatient
    access.timeout = Duration::from_secs(60);
    let plugin = bench.load(access).await;
    let wish = json!({ "url": url, "timeout_ms": 50 }).to_string();
    assert_eq!(run(&plugin, call(&wish)).await.unwrap_err().message, "no response in time");
    let counted = "status=\"failed\"} 2";
    assert!(bench.metrics().contains(counted), "{}", bench.metrics());
}

#[expect(clippy::disallowed_methods, reason = "the server's own thread: no worker is blocked")]
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn s2_requests_beyond_the_bound_wait_for_a_place() {
    for bound in [1, 4] {
        // how many the server has in hand, and the most it ever had
        let counts = Arc::new(Mutex::new((0, 0)));
        let in_server = Arc::clone(&counts);
        let answer = move |_: &str| {
            let enter =
                |counts: &mut (i32, i32)| *counts = (counts.0 + 1, counts.1.max(counts.0 + 1));
            enter(&mut in_server.lock().unwrap());
            std::thread::sleep(Duration::from_millis(50));
            in_server.lock().unwrap().0 -= 1;
            Answer::ok("")
        };
        let server = Server::start(answer, None).await;
        let bench = bench(&[]);
        let url = server.url("127.0.0.1", "");
        let mut access = HttpAccess::new(vec![at(&url, &[])]);
        access.max_requests = bound;
        let plugin = bench.load_with(access, |spec| spec.concurrency = 4).await;
        let all = (0..8).map(|_| {
            let (plugin, url) = (Arc::clone(&plugin), url.clone());
            tokio::spawn(async move { get(&plugin, &url).await.is_ok() })
        });
        let all = futures::future::join_all(all).await;
        assert!(all.into_iter().all(|ok| ok.unwrap()));
        let most = counts.lock().unwrap().1;
        assert!(if bound == 1 { most == 1 } else { most > 1 }, "{most} at once of {bound}");
    }
}

#[tokio::test]
async fn failures_of_the_network_are_told_apart() {
    let bench = bench(&[("gone.test", &["127.0.0.1"])]);
    let gone = Server::new(Answer::ok("")).await;
    let entry = format!("http://gone.test:{}", gone.address.port());
    let url = gone.url("gone.test", "/");
    let silent = Server::new(Answer::Bytes(Vec::new())).await;
    let silent_url = silent.url("127.0.0.1", "");
    let allow =
        vec![at(&entry, &["127.0.0.1"]), at("http://nowhere.test", &[]), at(&silent_url, &[])];
    let plugin = bench.load(HttpAccess::new(allow)).await;
    drop(gone);
    let said = |error: HandlerError| error.message;
    assert!(said(refused(&plugin, &url).await).contains("ConnectionRefused"));
    assert!(said(refused(&plugin, "http://nowhere.test/").await).contains("DnsError"));
    let error = said(refused(&plugin, &silent_url).await);
    assert!(error.contains("ConnectionTerminated"), "{error}");
}

#[tokio::test]
async fn https_is_spoken_with_servers_that_prove_who_they_are() {
    let signed = rcgen::generate_simple_self_signed(["api.test".to_owned()]).unwrap();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let server = Server::start(|_| Answer::ok("private"), Some(Arc::new(tls).into())).await;
    let port = server.address.port();
    let bench = bench(&[("api.test", &["127.0.0.1"]), ("other.test", &["127.0.0.1"])]);
    let allow =
        ["api.test", "other.test"].map(|name| at(&format!("{name}:{port}"), &["127.0.0.1"]));
    let mut access = HttpAccess::new(allow.into());
    let stranger = bench.load(access.clone()).await;
    let error = refused(&stranger, &format!("https://api.test:{port}/")).await;
    assert!(error.message.contains("TlsCertificateError"), "{}", error.message);

    access.tls_ca = Some(signed.cert.pem().into_bytes());
    let plugin = bench.load(access.clone()).await;
    assert_eq!(only(&get(&plugin, &format!("https://api.test:{port}/")).await), "private");
    let error = refused(&plugin, &format!("https://other.test:{port}/")).await;
    assert!(error.message.contains("TlsCertificateError"), "{}", error.message);

    access.tls_ca = Some(b"nothing".to_vec());
    let spec = LoadSpec { http: Some(access), ..LoadSpec::new("p") };
    let error = bench.host.load(program_of("sdk-requests"), spec).await.unwrap_err();
    insta::assert_snapshot!(error, @"the certificates of http.tls-ca cannot be used: there is no certificate in it; it must be a PEM file");
}
