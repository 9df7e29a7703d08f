use super::*;
use crate::api::fake::message;

const VISIBILITY: Duration = Duration::from_secs(30);

fn inflight(fifo: bool) -> InFlight {
    InFlight::new("t".into(), "sandbar-key".into(), fifo, VISIBILITY)
}

fn admitted(messages: &[(&str, Option<&str>)]) -> InFlight {
    let mut inflight = inflight(messages.iter().any(|(_, group)| group.is_some()));
    let received = messages.iter().map(|(id, group)| message(id, *group)).collect();
    inflight.admit(received, Instant::now());
    inflight
}

fn tokens(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|d| d.token.0).collect()
}

fn settling(inflight: &mut InFlight) -> Vec<(u64, Fate)> {
    inflight.next_settling(100).into_iter().map(|s| (s.token, s.fate)).collect()
}

#[tokio::test]
async fn entries_that_failed_are_told_again_and_lapsed_ones_given_up() {
    let mut inflight = admitted(&[("a", None), ("b", None), ("c", None)]);
    inflight.take(3);
    for token in 0..3 {
        assert!(inflight.settle(AckToken(token), Fate::Delete));
    }
    assert!(!inflight.settle(AckToken(0), Fate::Delete), "settled twice");
    let told = inflight.next_settling(10);
    let results = [
        Ok(()),
        Err(Failure::answered("InternalError", "later")),
        Err(Failure::answered("ReceiptHandleIsInvalid", "never")),
    ];
    let why = inflight.answered(told.into_iter().zip(results).collect());
    assert!(why.unwrap().message.contains("later"));
    assert_eq!(settling(&mut inflight), [(1, Fate::Delete)]);
    assert_eq!(inflight.unsettled(), 1);
}

#[tokio::test]
async fn what_is_received_again_while_it_is_here_is_delivered_once_with_its_newest_receipt() {
    let mut inflight = admitted(&[("a", None), ("b", None)]);
    assert_eq!(inflight.take(2).len(), 2);
    inflight.settle(AckToken(1), Fate::Delete);
    let again = |id: &str| Received { receipt: format!("{id}-new"), ..message(id, None) };
    inflight.admit(vec![again("a"), again("b")], Instant::now());
    assert_eq!(inflight.ready(), 0);
    inflight.settle(AckToken(0), Fate::Delete);
    let receipts: Vec<_> = inflight.next_settling(2).into_iter().map(|s| s.receipt).collect();
    assert_eq!(receipts, ["b-new", "a-new"]);
}

#[tokio::test]
async fn what_is_received_again_while_sqs_is_told_is_told_again_with_its_newest_receipt() {
    for answer in [Ok(()), Err(Failure::answered("ReceiptHandleIsInvalid", "an older one"))] {
        let mut inflight = admitted(&[("a", None)]);
        inflight.take(1);
        inflight.settle(AckToken(0), Fate::Delete);
        let told = inflight.next_settling(1).remove(0);
        let again = Received { receipt: "newest".into(), ..message("a", None) };
        inflight.admit(vec![again], Instant::now());
        assert_eq!(inflight.answered(vec![(told, answer)]), None);
        let told = inflight.next_settling(1).remove(0);
        assert_eq!((told.fate, told.receipt.as_str()), (Fate::Delete, "newest"));
        inflight.answered(vec![(told, Ok(()))]);
        assert_eq!(inflight.unsettled(), 0);
        assert_eq!(inflight.ready(), 0, "delivered once");
    }
}

#[tokio::test]
async fn what_was_released_is_delivered_again() {
    let mut inflight = admitted(&[("a", None)]);
    inflight.take(1);
    inflight.release(vec![(AckToken(0), Duration::ZERO)]);
    let told = inflight.next_settling(1);
    // it comes back before the answer to its release
    inflight.admit(vec![Received { receives: 2, ..message("a", None) }], Instant::now());
    inflight.answered(told.into_iter().map(|s| (s, Ok(()))).collect());
    let again = inflight.take(1);
    assert_eq!((tokens(&again), again[0].redeliveries), (vec![1], 1));
    assert!(inflight.settle(AckToken(1), Fate::Delete));
}

#[tokio::test]
async fn a_release_takes_along_what_of_its_group_is_not_delivered() {
    let (a, b) = (Some("a"), Some("b"));
    let mut inflight = admitted(&[("a1", a), ("b1", b), ("a2", a), ("b2", b), ("a3", a)]);
    assert_eq!(tokens(&inflight.take(2)), [0, 1]);
    let after = Duration::from_secs(7);
    inflight.release(vec![(AckToken(0), after)]);
    assert_eq!(tokens(&inflight.take(10)), [3], "of the other group");
    let released = [4, 2, 0].map(|token| (token, Fate::Release(after)));
    assert_eq!(settling(&mut inflight), released, "the last one first");
}

#[tokio::test]
async fn messages_without_a_group_are_released_alone() {
    let mut inflight = admitted(&[("a", None), ("b", None)]);
    inflight.take(1);
    inflight.release(vec![(AckToken(0), Duration::ZERO)]);
    assert_eq!(inflight.ready(), 1);
    inflight.release_all();
    assert_eq!(settling(&mut inflight).len(), 2);
    assert_eq!(inflight.ready(), 0);
}

#[tokio::test]
async fn what_is_open_is_extended_at_half_time_until_sqs_refuses() {
    let mut inflight = inflight(false);
    let start = Instant::now();
    inflight.admit(["a", "b", "c", "d"].map(|id| message(id, None)).into(), start);
    inflight.settle(AckToken(3), Fate::Delete);
    assert!(inflight.to_extend(start).is_empty());
    let half = inflight.extend_at().unwrap();
    assert_eq!(half - start, VISIBILITY / 2);
    let due: Vec<_> = inflight.to_extend(half).into_iter().map(|(token, _)| token).collect();
    assert_eq!(due, [0, 1, 2], "what is done need not be");
    let answers = [
        Ok(()),
        Err(Failure::answered("InternalError", "later")),
        Err(Failure::answered("InvalidParameterValue", "beyond twelve hours")),
    ];
    inflight.extended(half, due.into_iter().zip(answers).collect());
    let soon = inflight.extend_at().unwrap();
    assert!(soon < half + VISIBILITY / 2, "what failed is tried again before it lapses");
    let again = inflight.to_extend(half + VISIBILITY / 2);
    assert_eq!(again.into_iter().map(|(token, _)| token).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn positions_on_a_fifo_queue_rise_from_delivery_to_delivery() {
    let positions = |messages: &[(&str, Option<&str>)]| -> Vec<u64> {
        admitted(messages).take(10).iter().map(|d| d.event.position).collect()
    };
    let group = Some("g");
    let all = positions(&[("a", group), ("b", group), ("c", group)]);
    assert!(all.is_sorted_by(|a, b| a < b));
    assert!(positions(&[("d", group)])[0] >= all[0], "of a later process");
    // without order, a message has the same whoever receives it
    assert_eq!(positions(&[("a", None)]), positions(&[("a", None)]));
}
