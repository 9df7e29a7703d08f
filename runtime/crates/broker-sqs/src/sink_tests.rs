use super::*;
use crate::{
    api::fake::{Asked, Fake},
    config::SqsConfig,
    queues::SIZE_MAX,
};

fn sink(fifo: bool) -> (Arc<Fake>, SqsSink) {
    let fake = Arc::new(Fake::default());
    let config = SqsConfig { fifo, ..SqsConfig::default() };
    let queues = Queues::new(fake.clone(), config, "c".into());
    (fake, SqsSink::new(Arc::new(queues)))
}

fn sent(fake: &Fake) -> Vec<Vec<String>> {
    let send = |asked: &Asked| match asked {
        Asked::Send(bodies) => Some(bodies.clone()),
        _ => None,
    };
    fake.asked.lock().iter().filter_map(send).collect()
}

fn records(count: usize) -> Vec<Outgoing> {
    (0..count).map(|n| Outgoing::new("t", n.to_string())).collect()
}

fn failing(code: &'static str, body: &'static str) -> impl Fn(&str) -> Result<(), Failure> {
    move |entry| if entry == body { Err(Failure::answered(code, "no")) } else { Ok(()) }
}

#[tokio::test]
async fn records_go_ten_a_call_and_each_has_its_own_result() {
    let (fake, sink) = sink(false);
    fake.entries(failing("InternalError", "12"));
    let results = sink.publish(&records(25)).await;
    assert_eq!(sent(&fake).iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    for (n, result) in results.iter().enumerate() {
        match n {
            12 => assert!(matches!(result, Err(PublishError::Unavailable(_))), "{result:?}"),
            _ => assert!(result.is_ok(), "{n}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn one_bad_entry_of_a_refused_call_rejects_no_other() {
    let (fake, sink) = sink(false);
    fake.calls(failing("InvalidMessageContents", "1"));
    let results = sink.publish(&records(3)).await;
    assert!(
        matches!(&results[1], Err(PublishError::Rejected(reason)) if reason.contains("topic t"))
    );
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(sent(&fake), [vec!["0", "1", "2"], vec!["0"], vec!["1"], vec!["2"]]);
}

#[tokio::test]
async fn what_is_too_large_is_rejected_before_it_is_sent() {
    let (fake, sink) = sink(false);
    let large = |payload: Vec<u8>| Outgoing::new("t", payload);
    let mut records = vec![large(vec![b'x'; SIZE_MAX]), large(vec![b'x'; SIZE_MAX + 1])];
    // base64 makes four bytes of three
    records.push(large(vec![0; SIZE_MAX * 3 / 4 + 1]));
    records.push(large(vec![b'x'; SIZE_MAX - 8]).with_header("a", "bc"));
    let results = sink.publish(&records).await;
    assert!(results[0].is_ok());
    for (result, size) in [(&results[1], 262_145), (&results[2], 262_172), (&results[3], 262_145)] {
        let Err(PublishError::Rejected(reason)) = result else { panic!("{result:?}") };
        let sizes = format!("it is {size} bytes as a message");
        assert!(reason.contains(&sizes) && reason.contains("`t` takes 262144"), "{reason}");
    }
    assert_eq!(sent(&fake).len(), 1);
}

#[tokio::test]
async fn large_records_share_no_call_beyond_its_limit() {
    let (fake, sink) = sink(false);
    let records: Vec<_> = (0..5).map(|_| Outgoing::new("t", vec![b'x'; 100 * 1024])).collect();
    assert!(sink.publish(&records).await.iter().all(Result::is_ok));
    assert_eq!(sent(&fake).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test]
async fn what_comes_from_several_sides_meanwhile_shares_calls() {
    for (fifo, lengths) in [(false, [1, 1, 1, 1, 10, 10, 6]), (true, [1, 1, 1, 1, 10, 10, 6])] {
        let (fake, sink) = sink(fifo);
        let one = |record| {
            let sink = &sink;
            async move { sink.publish(&[record]).await }
        };
        let results = futures::future::join_all(records(30).into_iter().map(one)).await;
        assert!(results.iter().flatten().all(Result::is_ok));
        assert_eq!(sent(&fake).iter().map(Vec::len).collect::<Vec<_>>(), lengths, "{fifo}");
    }
}

#[tokio::test]
async fn a_record_that_failed_elsewhere_holds_up_none_of_its_key() {
    let (fake, sink) = sink(true);
    fake.entries(failing("InternalError", "a1"));
    let keyed = |body: &str| [Outgoing::new("t", body.to_owned()).with_key("a")];
    let (one, two) = (keyed("a1"), keyed("a2"));
    let (one, two) = tokio::join!(sink.publish(&one), sink.publish(&two));
    assert!(one[0].is_err() && two[0].is_ok());
    assert_eq!(sent(&fake), [["a1"], ["a2"]], "one after the other");
}

#[tokio::test]
async fn no_record_overtakes_an_earlier_one_of_its_key() {
    let (fake, sink) = sink(true);
    fake.entries(failing("InternalError", "a2"));
    let keyed = |body: &str| Outgoing::new("t", body.to_owned()).with_key(body[..1].to_owned());
    let records: Vec<_> = ["a1", "b1", "a2", "b2", "a3", "a4"].map(keyed).into();
    let results = sink.publish(&records).await;
    assert_eq!(sent(&fake), [vec!["a1", "b1"], vec!["a2", "b2"]]);
    let ok: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, true, false, true, false, false]);
    assert!(results[4..].iter().all(|r| matches!(r, Err(PublishError::Unavailable(_)))));
}

#[tokio::test]
async fn a_record_that_can_never_be_sent_holds_up_none_of_its_key() {
    let (fake, sink) = sink(true);
    let keyed = |payload: Vec<u8>| Outgoing::new("t", payload).with_key("k");
    let records = [keyed(vec![b'x'; SIZE_MAX + 1]), keyed(b"next".to_vec())];
    let results = sink.publish(&records).await;
    assert!(results[0].is_err() && results[1].is_ok());
    assert_eq!(sent(&fake), [["next"]]);
}

#[tokio::test]
async fn a_topic_that_can_be_no_queue_is_rejected_by_its_name() {
    let (_, sink) = sink(false);
    let results = sink.publish(&[Outgoing::new("a/b", "x"), Outgoing::new("t", "x")]).await;
    assert!(matches!(&results[0], Err(PublishError::Rejected(m)) if m.contains("`a/b`")));
    assert!(results[1].is_ok());
}
