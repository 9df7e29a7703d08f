//! A server of the test's own that speaks TLS and lets in who has credentials of its operator.

mod common;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use common::*;
use nkeys::KeyPair;
use sandbar_broker_nats::{Nats, NatsConfig};
use sandbar_core::{Connection, SourceError};
use sandbar_testkit::{Authority, root};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What `issuer` says of `subject`, signed.
fn token(issuer: &KeyPair, subject: &KeyPair, name: &str, claims: Value) -> String {
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({
        "jti": unique(name), "iat": 1_700_000_000, "iss": issuer.public_key(),
        "name": name, "sub": subject.public_key(), "nats": claims,
    });
    let [head, body] = [head, body].map(|part| BASE64.encode(part.to_string()));
    let signed = format!("{head}.{body}");
    let signature = BASE64.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

/// An account, and what its operator says of it; with `storage`, that it may use JetStream.
fn account(operator: &KeyPair, storage: i64) -> (KeyPair, String) {
    let account = KeyPair::new_account();
    let limits = json!({
        "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1,
        "wildcards": true, "mem_storage": storage, "disk_storage": storage, "streams": storage,
        "consumer": storage,
    });
    let claims = json!({ "type": "account", "version": 2, "limits": limits });
    let token = token(operator, &account, "account", claims);
    (account, token)
}

/// The file of credentials of a new user of `account`.
fn credentials(account: &KeyPair) -> String {
    let user = KeyPair::new_user();
    let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let user_token = token(account, &user, "user", claims);
    format!(
        "-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )
}

struct Secured {
    dir: TempDir,
    port: u16,
}

impl Secured {
    /// Starts a server that knows one account and shows a certificate of `authority`.
    fn start(authority: &Authority, operator: &KeyPair, account_of: &KeyPair, is: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let claims = json!({ "type": "operator", "version": 2 });
        // JetStream's own messages need an account beside those that use it
        let (system, is_system) = account(operator, 0);
        let system = system.public_key();
        let config = format!(
            "operator: {}\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload: {{ {system}: {is_system}, {}: {is} }}\n\
             tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n",
            token(operator, operator, "operator", claims),
            account_of.public_key(),
            file("server.pem", &authority.server),
            file("server.key", &authority.key),
        );
        let config = file("nats.conf", &config);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut start = script("start", dir.path());
        let started = start.arg(port.to_string()).env("SANDBAR_NATS_CONFIG", config).status();
        assert!(started.unwrap().success(), "the server did not start");
        Self { dir, port }
    }

    fn connect(&self, credentials: PathBuf, tls_ca: Option<PathBuf>) -> Nats {
        let config = NatsConfig {
            servers: format!("tls://localhost:{}", self.port),
            credentials: Some(credentials),
            tls_ca,
            create_topics: true,
            ..NatsConfig::default()
        };
        Nats::connect("secured", config).unwrap()
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = script("stop", self.dir.path()).status();
    }
}

fn script(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(root().join("scripts/nats").join(name));
    // its output is not waited for: the server would keep a pipe open
    command.arg(dir).stdout(Stdio::null());
    command
}

async fn refusal(nats: &Nats) -> String {
    match nats.ensure_topics(&[unique("refused")]).await {
        Err(SourceError::Unavailable(reason)) => reason.to_lowercase(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_an_authority_of_ones_own_open_a_server_that_is_shut_to_others() {
    // for the program: where there is a server to test against, there is one to start
    if server().is_none() {
        return;
    }
    let (authority, operator) = (Authority::new(), KeyPair::new_operator());
    let (user_of, is) = account(&operator, -1);
    let server = Secured::start(&authority, &operator, &user_of, &is);
    let file = |name: &str, text: &str| {
        let path = server.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let ca = file("ca.pem", &authority.certificate);
    let own = file("user.creds", &credentials(&user_of));

    let nats = server.connect(own.clone(), Some(ca.clone()));
    let topic = unique("secured");
    let mut source = nats.subscribe(spec(&unique("g"), &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    publish(&nats, &numbered(&topic, 3, 1)).await;
    let got = recv_all(&mut partition, 3).await;
    assert_eq!(numbers(&got), [0, 1, 2]);
    settle(&mut partition, &got).await;
    drop(partition);
    source.close().await.unwrap();

    // of an account that the server does not know
    let (stranger, _) = account(&operator, -1);
    let strange = file("strange.creds", &credentials(&stranger));
    let reason = refusal(&server.connect(strange, Some(ca))).await;
    assert!(reason.contains("authorization"), "{reason}");
    // signed by nobody that this machine trusts, which the client only calls an error
    let reason = refusal(&server.connect(own, None)).await;
    assert!(!reason.contains("authorization"), "it did not come that far: {reason}");
}
