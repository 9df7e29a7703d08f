//! State, publisher, secrets and metrics, used by a plugin in every language (the fixtures
//! `reach-LANGUAGE`), and HTTP by those that have a client (`fetch-LANGUAGE`).

use std::time::Duration;

use sandbar_languages::{OTHERS, as_built, built};
use sandbar_test::{AllowedHost, Grant, HttpAccess, Outgoing, RetryPolicy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const TOKEN: &str = "open-sesame-42";

fn once() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 1,
        initial_delay: Duration::from_millis(1),
        ..RetryPolicy::default()
    }
}

#[tokio::test]
async fn every_language_reaches_what_was_granted() {
    for language in OTHERS {
        let Some(file) = built("reach", language) else { continue };
        let builder = as_built(file)
            .grant(Grant::State)
            .grant(Grant::Publisher)
            .grant(Grant::Metrics)
            .secret("token", TOKEN)
            .retry(once());
        let host = builder.load().await.unwrap();
        let wishes = ["count", "count", "keep", "forget", "swap", "elsewhere", "secret", "tell"];
        host.publish(wishes.map(|wish| Outgoing::new("in", wish))).await.unwrap();
        let outcome = host.drain().await.unwrap();
        let letters: Vec<_> = outcome
            .dead_letters
            .iter()
            .map(|l| (l.info.error_code.as_str(), l.info.message.as_str()))
            .collect();
        // the failed attempt's write to the state is gone, its event is published
        let expected = [("unwanted", "by the test"), ("told", "it is [redacted]")];
        assert_eq!(letters, expected, "{language}: {:#?}", outcome.log);
        let outputs = ["2", "4", "one none a/1 a/2", "new conflict", "denied", "14 none"];
        assert_eq!(outcome.texts("out"), outputs, "{language}: {letters:?}");
        assert_eq!(outcome.texts("now"), ["published all the same"], "{language}");
        let metrics = host.metrics();
        let plugin = format!("plugin=\"reach-{language}\"");
        for line in [
            format!("sandbar_plugin_user_seen_total{{{plugin},kind=\"a\"}} 6"),
            format!("sandbar_plugin_user_size_sum{{{plugin}}} 3.0"),
        ] {
            assert!(metrics.contains(&line), "{language}: no {line} in {metrics}");
        }
        assert!(!metrics.contains(TOKEN) && !format!("{:?}", outcome.log).contains(TOKEN));
    }
}

/// A component imports what its plugin uses and nothing else: it loads without any grant.
#[tokio::test]
async fn what_a_plugin_does_not_use_it_does_not_import() {
    for language in OTHERS {
        let Some(file) = built("crash", language) else { continue };
        let host = as_built(file).load().await.unwrap();
        let imports = host.inspection().imports;
        for part in ["state", "publisher", "secrets", "metrics"] {
            let name = format!("sandbar:events/{part}@");
            assert!(!imports.iter().any(|i| i.starts_with(&name)), "{language}: {imports:?}");
        }
        assert!(!imports.iter().any(|i| i.starts_with("wasi:http/")), "{language}: {imports:?}");
    }
}

/// A server that answers every request with the request.
async fn echo() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = vec![0; 64 << 10];
                let mut len = 0;
                // the body of these requests is one word, and may come after their head
                let is_whole = |request: &[u8]| match request {
                    [b'P', ..] => request.ends_with(b"ping"),
                    _ => request.ends_with(b"\r\n\r\n"),
                };
                while !is_whole(&request[..len]) {
                    len += stream.read(&mut request[len..]).await.unwrap();
                }
                let method = request.split(|b| *b == b' ').next().unwrap().to_vec();
                let body = request[..len].rsplit(|b| *b == b'\n').next().unwrap();
                let answer = [&method[..], b" ", body].concat();
                let head = format!(
                    "HTTP/1.1 201 Created\r\nx-answer: yes\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    answer.len()
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn python_and_js_send_requests_where_they_may() {
    let server = echo().await;
    for language in ["python", "js"] {
        let Some(file) = built("fetch", language) else { continue };
        let allowed = AllowedHost::from(server.parse::<sandbar_test::HostPattern>().unwrap());
        let host =
            as_built(file).http(HttpAccess::new(vec![allowed])).retry(once()).load().await.unwrap();
        let wishes = [
            format!(r#"{{"url": "{server}/a?b=c"}}"#),
            format!(r#"{{"url": "{server}/", "method": "POST", "body": "ping"}}"#),
            r#"{"url": "http://elsewhere.example/"}"#.to_owned(),
        ];
        host.publish(wishes.map(|wish| Outgoing::new("in", wish))).await.unwrap();
        let outcome = host.drain().await.unwrap();
        let (texts, letters) = (outcome.texts("out"), &outcome.dead_letters);
        let said: Vec<_> = letters.iter().map(|l| l.info.message.as_str()).collect();
        assert_eq!(texts, ["201 yes GET ", "201 yes POST ping"], "{language}: {said:?}");
        assert_eq!(letters.len(), 1, "{language}: {said:?}");
        // the host says which line would allow it, whatever the language makes of the error
        let told = outcome.log.iter().find(|l| l.context == "http").unwrap();
        let line = format!(r#"`http.allow = ["{server}", "http://elsewhere.example"]`"#);
        assert!(told.message.contains(&line), "{language}: {}", told.message);
    }
}
