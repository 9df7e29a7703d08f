//! Publishing in the middle of a call.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use sandbar_core::{Call, ErrorClass, Outgoing, PublishRefusal, Publisher};
use sandbar_wasm::{Generation, Grant, LoadSpec};

use crate::support::{Bench, call, fails, only, run};

/// Takes what is published, or says what the topic says.
#[derive(Default)]
struct Taken(Mutex<Vec<Outgoing>>);

#[async_trait]
impl Publisher for Taken {
    async fn publish(&self, events: Vec<Outgoing>) -> Result<(), PublishRefusal> {
        match &*events[0].topic {
            "secret" => return Err(PublishRefusal::Denied("secret".into())),
            "bad" => return Err(PublishRefusal::Rejected("no such topic".into())),
            "away" => return Err(PublishRefusal::Unavailable("connection refused".into())),
            "slow" => tokio::time::sleep(Duration::from_secs(60)).await,
            _ => {}
        }
        self.0.lock().extend(events);
        Ok(())
    }
}

async fn load(
    bench: &Bench,
    taken: &Arc<Taken>,
    change: impl FnOnce(&mut LoadSpec),
) -> Arc<Generation> {
    let configure = |spec: &mut LoadSpec| {
        spec.grants = [Grant::State, Grant::Publisher].into();
        spec.publisher = Some(taken.clone());
        change(spec);
    };
    bench.load_with("keeps", configure).await
}

#[tokio::test]
async fn s2_what_was_published_stays_published_and_is_caused_by_the_event() {
    let (bench, taken) = (Bench::new(), Arc::<Taken>::default());
    let plugin = load(&bench, &taken, |_| {}).await;
    let mut event = call("publish audit 3;retry");
    event.event.attributes = [("id".to_owned(), "e7".to_owned())].into();
    run(&plugin, event).await.unwrap_err();
    let taken = taken.0.lock();
    assert_eq!((taken.len(), taken[0].payload.as_deref()), (1, Some(&b"xxx"[..])));
    assert!(taken[0].attributes.contains(&("causationid".into(), "e7".into())));
}

#[tokio::test]
async fn s2_every_refusal_is_told_as_what_it_is() {
    let (bench, taken) = (Bench::new(), Arc::<Taken>::default());
    let plugin = load(&bench, &taken, |spec| spec.limits.wall_time = Duration::from_secs(4)).await;
    let commands = "publish secret 1;publish bad 1;publish away 1;publish slow 1;publish audit 1";
    let said = only(&run(&plugin, call(commands)).await);
    insta::assert_snapshot!(said, @r#"
    Err(PublishError::Denied("secret"))
    Err(PublishError::Other("no such topic"))
    Err(PublishError::Unavailable("connection refused"))
    Err(PublishError::Timeout)
    Ok(())
    "#);
    assert_eq!(taken.0.lock().len(), 1);
}

#[tokio::test]
async fn s2_limits_count_what_is_published_and_what_is_returned_together() {
    let (bench, taken) = (Bench::new(), Arc::<Taken>::default());
    let limited = |spec: &mut LoadSpec| {
        (spec.limits.output_records, spec.limits.output_bytes) = (3, 1000);
    };
    let plugin = load(&bench, &taken, limited).await;
    let said = only(&run(&plugin, call("publish-many t 2;publish-many t 2;publish t 998")).await);
    insta::assert_snapshot!(said, @r#"
    Ok(())
    Err(PublishError::Other("more than 3 events (limits.output-records)"))
    Err(PublishError::TooLarge(1000))
    "#);
    assert_eq!(taken.0.lock().len(), 2, "what is refused is not published in part");
    // three are published and a fourth is returned
    let error = fails(&plugin, "publish-many t 3").await;
    assert_eq!(error.class, ErrorClass::Output);
    insta::assert_snapshot!(error.message, @r#"returned 4 events, more than 3 (limits.output-records)"#);
    // each event has its own
    let calls: Vec<Call> = (0..3).map(|_| call("publish-many t 2")).collect();
    assert!(plugin.call(&calls).await.results.iter().all(Result::is_ok));
}
