//! What stays after it is settled, and the cursors of groups.

use std::{sync::Arc, time::Duration};

use sandbar_core::{Connection, Event, Extent, PartitionId, ReadFrom, ResumeFrom, SourceError};
use tokio::time::{sleep, timeout};

use super::{
    Bench, PATIENCE,
    bench::{eventually, spec},
    consumer::numbers,
};

fn payloads(events: &[Event]) -> Vec<u64> {
    let number = |e: &Event| std::str::from_utf8(e.payload.as_ref()?).ok()?.parse().ok();
    let mut numbers: Vec<u64> = events.iter().filter_map(number).collect();
    assert_eq!(numbers.len(), events.len(), "each is a number");
    numbers.sort_unstable();
    numbers
}

/// A topic with the events 0 to 29; where nothing is retained, `None` once reading it is
/// refused, and the topic named.
async fn thirty(bench: &Bench, from: ReadFrom) -> Option<(Arc<dyn Connection>, String)> {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "read").await;
    if !bench.guarantees().retained {
        bench.refused("read", &topic, || connection.read(&topic, from)).await;
        return None;
    }
    bench.publish(&connection, &bench.numbered(&topic, 0, 30)).await;
    Some((connection, topic))
}

pub async fn read_from_the_start(bench: &Bench) {
    let Some((connection, topic)) = thirty(bench, ReadFrom::Start).await else { return };
    let mut reader = bench.reader(&connection, &topic, ReadFrom::Start).await;
    bench.publish(&connection, &bench.numbered(&topic, 30, 5)).await;
    let mut all = Vec::new();
    loop {
        let waited = timeout(PATIENCE, reader.next(7)).await.expect("reading stalled");
        let events = waited.expect("reads");
        assert!(events.len() <= 7);
        if events.is_empty() {
            break;
        }
        all.extend(events);
    }
    assert_eq!(payloads(&all), (0..30).collect::<Vec<_>>(), "up to the end as it was");
    for pair in all.windows(2).filter(|p| p[0].partition == p[1].partition) {
        assert!(pair[0].position < pair[1].position, "in order of position");
    }
    let again = bench.read_all(&connection, &topic, ReadFrom::Start).await;
    assert_eq!(payloads(&again), (0..35).collect::<Vec<_>>(), "and leaves no cursor behind");
}

pub async fn read_from_a_position(bench: &Bench) {
    let Some((connection, topic)) = thirty(bench, ReadFrom::Position(1)).await else { return };
    let all = bench.read_all(&connection, &topic, ReadFrom::Start).await;
    let position = all.iter().map(|e| e.position).max().expect("thirty") / 2;
    let expected: Vec<_> = all.into_iter().filter(|e| e.position >= position).collect();
    let read = bench.read_all(&connection, &topic, ReadFrom::Position(position)).await;
    assert_eq!(payloads(&read), payloads(&expected));
    let beyond = bench.read_all(&connection, &topic, ReadFrom::Position(1 << 40)).await;
    assert!(beyond.is_empty(), "{beyond:?}");
}

pub async fn read_from_a_time(bench: &Bench) {
    let Some((connection, topic)) = thirty(bench, ReadFrom::Time(0)).await else { return };
    // the second batch is later than the first by any clock
    sleep(Duration::from_millis(50)).await;
    bench.publish(&connection, &bench.numbered(&topic, 30, 5)).await;
    let all = bench.read_all(&connection, &topic, ReadFrom::Start).await;
    let first = all.iter().map(|e| e.timestamp_ms).min().expect("events");
    let second = all.iter().filter(|e| payloads(&[(*e).clone()])[0] >= 30);
    let since = second.map(|e| e.timestamp_ms).min().expect("events");
    assert!(first < since, "{first}, then {since}");
    let read = bench.read_all(&connection, &topic, ReadFrom::Time(since)).await;
    assert_eq!(payloads(&read), (30..35).collect::<Vec<_>>());
    let read = bench.read_all(&connection, &topic, ReadFrom::Time(first)).await;
    assert_eq!(payloads(&read), (0..35).collect::<Vec<_>>());
    let future = bench.read_all(&connection, &topic, ReadFrom::Time(since + 3_600_000)).await;
    assert!(future.is_empty(), "{future:?}");
}

pub async fn follow(bench: &Bench) {
    let Some((connection, topic)) = thirty(bench, ReadFrom::Follow).await else { return };
    let mut reader = bench.reader(&connection, &topic, ReadFrom::Follow).await;
    let waited = timeout(Duration::from_millis(200), reader.next(10)).await;
    assert!(waited.is_err(), "it gave {waited:?} and did not wait");
    bench.publish(&connection, &bench.numbered(&topic, 30, 5)).await;
    let mut all = Vec::new();
    while all.len() < 5 {
        let waited = timeout(PATIENCE, reader.next(10)).await.expect("nothing came");
        all.extend(waited.expect("reads"));
    }
    assert_eq!(payloads(&all), (30..35).collect::<Vec<_>>());
}

pub async fn extents(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "extents").await;
    let ask = || connection.extents(&topic);
    if !bench.guarantees().retained {
        return bench.refused("extents", &topic, ask).await;
    }
    let empty = bench.answered("extents", ask).await;
    assert!(empty.iter().all(|e| e.first == e.end), "{empty:?}");
    bench.publish(&connection, &bench.numbered(&topic, 0, 10)).await;
    let extents = bench.answered("extents", ask).await;
    let partitions: Vec<_> = extents.iter().map(|e| e.id.partition).collect();
    assert_eq!(partitions, (0..bench.declared().partitions).collect::<Vec<_>>(), "in order");
    for event in bench.read_all(&connection, &topic, ReadFrom::Start).await {
        let Extent { id, first, end } = &extents[event.partition as usize];
        assert_eq!(*id.topic, *topic);
        assert!((first.0..end.0).contains(&event.position), "{event:?} is not in {extents:?}");
    }
}

pub async fn trim(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "trim").await;
    if !bench.guarantees().retained {
        let id = PartitionId { topic: topic.as_str().into(), partition: 0 };
        return bench.refused("trim", &topic, || connection.trim(&id, ResumeFrom(1))).await;
    }
    bench.publish(&connection, &bench.numbered(&topic, 0, 30)).await;
    let all = bench.read_all(&connection, &topic, ReadFrom::Start).await;
    let Event { partition, position, .. } = all.iter().max_by_key(|e| e.position).expect("thirty");
    let id = PartitionId { topic: topic.as_str().into(), partition: *partition };
    bench.answered("trim", || connection.trim(&id, ResumeFrom(*position))).await;
    let kept = |e: &&Event| e.partition != *partition || e.position >= *position;
    let expected: Vec<_> = all.iter().filter(kept).cloned().collect();
    let read = bench.read_all(&connection, &topic, ReadFrom::Start).await;
    assert_eq!(payloads(&read), payloads(&expected));
    let extents = bench.answered("extents", || connection.extents(&topic)).await;
    assert_eq!(extents[*partition as usize].first, ResumeFrom(*position));
}

pub async fn cursors(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "cursors").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered(&topic, 0, 10)).await;
    bench.handle(&mut consumer, 10).await;
    consumer.close().await;
    bench.publish(&connection, &bench.numbered(&topic, 10, 3)).await;
    let behind = || async {
        match connection.cursors(&spec.group).await {
            Ok(cursors) => {
                let ours = cursors.iter().filter(|(id, ..)| *id.topic == *topic);
                let behind: Vec<_> = ours.map(|(_, at, end)| end.0 - at.0).collect();
                (behind.iter().sum::<u64>() == 3).then_some(true)
            }
            Err(SourceError::Unavailable(_)) => None,
            Err(e) if bench.guarantees().retained => panic!("cursors: {e}"),
            Err(_) => Some(false),
        }
    };
    let can = eventually("the group is 3 events behind", behind).await;
    if !can {
        println!("conformance of {}: cursors: the broker cannot say", bench.declared().name);
    }
}

pub async fn move_cursor(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "move").await;
    let spec = spec(&topic);
    let group = spec.group.as_str();
    if !bench.guarantees().retained {
        let id = PartitionId { topic: topic.as_str().into(), partition: 0 };
        let moving = || connection.move_cursor(group, &id, ResumeFrom(0));
        return bench.refused("move_cursor", &topic, moving).await;
    }
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered(&topic, 0, 30)).await;
    let got = consumer.take(30).await;
    consumer.done(&got).await.expect("settles");
    let last = got.iter().max_by_key(|g| g.event().position).expect("thirty").event();
    let id = PartitionId { topic: last.topic.clone(), partition: last.partition };
    let to = ResumeFrom(last.position / 2);
    bench.refused("moving a cursor in use", group, || connection.move_cursor(group, &id, to)).await;
    consumer.close().await;
    bench.answered("move_cursor", || connection.move_cursor(group, &id, to)).await;
    let again = |e: &Event| e.partition == id.partition && e.position >= to.0;
    let expected = numbers(got.iter().filter(|g| again(g.event())));
    assert_eq!(numbers(&bench.left(&connection, &spec).await), expected);
}
