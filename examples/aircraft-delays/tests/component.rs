//! The built plugin on the production engine, beside a count of our own;
//! `scripts/build-guests.sh` builds it.

use std::collections::BTreeMap;

use sandbar_test::{Grant, Outgoing, RetryPolicy, TestHost, guest};

/// Delay, carrier and aircraft of each flight; some did not arrive, some are nonsense.
fn flights() -> Vec<(String, String, String)> {
    let delay = |n: usize| match n % 13 {
        0 => "NA".to_owned(),
        1 => "late".to_owned(),
        k => (k as i64 * 9 - 50).to_string(),
    };
    let flight = |n: usize| (delay(n), format!("C{}", n % 3), format!("N{}", n * n % 17));
    (0..2000).map(flight).collect()
}

fn event((delay, carrier, aircraft): &(String, String, String)) -> Outgoing {
    let line = format!("2013,1,1,1,1,1,1,1,{delay},{carrier},1,{aircraft},EWR,IAH,1,1,1,1,x");
    Outgoing::new("flights", line).with_key(aircraft.clone())
}

#[tokio::test]
async fn t1_t3_t4_state_is_that_of_the_flights_that_were_handled() {
    let flights = flights();
    let host = TestHost::builder(guest("aircraft-delays").unwrap())
        .grant(Grant::State)
        .partitions(3)
        .retry(RetryPolicy { max_attempts: 1, ..RetryPolicy::default() })
        .load()
        .await
        .unwrap();
    host.publish(flights.iter().map(event)).await.unwrap();
    let outcome = host.drain().await.unwrap();

    let mut expected = BTreeMap::<String, String>::new();
    let (mut aircraft, mut carriers) = (BTreeMap::new(), BTreeMap::<_, u32>::new());
    for (delay, carrier, name) in &flights {
        let Ok(minutes) = delay.parse::<i64>() else { continue };
        let (flights, sum): &mut (u32, i64) = aircraft.entry(name).or_default();
        (*flights, *sum) = (*flights + 1, *sum + minutes);
        *carriers.entry(carrier).or_default() += 1;
    }
    for (name, (flights, minutes)) in &aircraft {
        let record = format!(r#"{{"flights":{flights},"minutes":{minutes}}}"#);
        expected.insert(format!("aircraft/{name}"), record);
    }
    for (carrier, flights) in &carriers {
        expected.insert(format!("carrier/{carrier}"), flights.to_string());
    }
    let state: BTreeMap<_, _> =
        outcome.state.keys().map(|key| (key.clone(), outcome.state_text(key).unwrap())).collect();
    assert_eq!(state, expected);

    // the last report of each aircraft is the whole of it
    let mut last = BTreeMap::new();
    for report in outcome.topic("aircraft.delays") {
        let report: serde_json::Value =
            serde_json::from_slice(report.payload.as_deref().unwrap()).unwrap();
        last.insert(report["aircraft"].as_str().unwrap().to_owned(), report["flights"].clone());
    }
    assert_eq!(last.len(), aircraft.len());
    assert!(aircraft.iter().all(|(name, (flights, _))| last[*name] == *flights));
}

#[tokio::test]
async fn s3_without_its_grant_it_does_not_load_and_the_error_says_what_to_write() {
    let refused = TestHost::load(guest("aircraft-delays").unwrap()).await;
    let Err(error) = refused else { panic!("it loaded") };
    let error = format!("{error:#}");
    assert!(error.contains(r#"grants = ["state"]` in aircraft-delays.toml"#), "{error}");
}
