//! A handler does not see whether its events came one by one or many in a frame.

use std::{fs, sync::Arc};

use sandbar_core::{Call, Event, Header, Outcome};
use sandbar_languages::built;
use sandbar_wasm::{Generation, HandlerKind, Host, HostConfig, LoadSpec};

async fn load(wasm: &[u8], packed_frames: bool) -> Arc<Generation> {
    let host = Host::new(HostConfig { max_instances: 4, ..HostConfig::default() }).unwrap();
    let spec = LoadSpec { packed_frames, ..LoadSpec::new("crash") };
    let plugin = host.load(wasm.to_vec().into(), spec).await.unwrap();
    assert_eq!(plugin.inspection().handler == HandlerKind::Packed, packed_frames);
    plugin
}

/// Every part of an event is there, empty, or absent.
fn call(number: usize, text: &str) -> Call {
    let given = |n: usize, bytes: &'static str| match number / n % 3 {
        0 => None,
        1 => Some(bytes),
        _ => Some(""),
    };
    let mut headers = vec![Header::new("h", "value")];
    headers.extend(given(2, "more").map(|value| Header::new("", value)));
    let mut attributes = vec![("type".to_owned(), "t".to_owned())];
    attributes.extend(given(5, "last").map(|value| ("id".to_owned(), value.to_owned())));
    let event = Event {
        topic: "in".into(),
        partition: number as u32,
        position: number as u64 * 1_000_000_007,
        key: given(1, "key").map(Into::into),
        payload: Some(text.to_owned().into()),
        headers: if text == "event" || number.is_multiple_of(2) { headers } else { Vec::new() }
            .into(),
        timestamp_ms: 1,
        attributes: if text == "event" || number % 4 < 2 { attributes } else { Vec::new() }.into(),
    };
    Call { event, attempt: 1 + number as u32 % 3 }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Ok(handled) => format!("{:?}", handled.outputs),
        // a backtrace says how the handler was called
        Err(e) => format!("{:?} {:?} {} {}", e.verdict, e.class, e.code, e.message),
    }
}

async fn says_the_same(language: &str, more: &[&str]) {
    let Some(file) = built("crash", language) else { return };
    let wasm = fs::read(file).unwrap();
    let (packed, plain) = (load(&wasm, true).await, load(&wasm, false).await);

    let texts = [&["event", "retry", "reject", "skip", "context", "config"], more].concat();
    let calls: Vec<_> = (0..60).map(|n| call(n, texts[n % texts.len()])).collect();
    for _ in 0..3 {
        let (one, other) = (packed.call(&calls).await.results, plain.call(&calls).await.results);
        let (one, other): (Vec<_>, Vec<_>) =
            (one.iter().map(told).collect(), other.iter().map(told).collect());
        for (n, (one, other)) in one.iter().zip(&other).enumerate() {
            assert_eq!(one, other, "event {n}: {}", &texts[n % texts.len()][..1]);
        }
        assert!(other[0].contains("in 0 1 "), "{}", other[0]);
    }

    // who breaks the instance is found, and nobody else suffers
    let calls = ["event", "crash", "skip"].map(|text| call(1, text));
    let (one, other) = (packed.call(&calls).await.results, plain.call(&calls).await.results);
    assert_eq!(
        one.iter().map(told).collect::<Vec<_>>(),
        other.iter().map(told).collect::<Vec<_>>()
    );
    assert!(told(&one[1]).contains("on purpose: "), "{}", told(&one[1]));
}

#[tokio::test]
async fn c_says_the_same_in_packed_frames() {
    // more than a block of the plugin's memory
    let long = format!("{{\"long\":\"{}\",\"n\":[1,null,{{\"yes\":true}}]}}", "x".repeat(70_000));
    says_the_same("c", &["{\"a\":{\"b\":[\"\\u00e4\"]}}", "{", &long]).await;
}

#[tokio::test]
async fn go_says_the_same_in_packed_frames() {
    says_the_same("go", &[]).await;
}
