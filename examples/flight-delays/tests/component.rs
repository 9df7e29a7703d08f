//! The built plugin on the production engine, against `expected.py`;
//! `scripts/build-guests.sh` builds it.

use std::{collections::BTreeMap, io::Write, process::Command};

use sandbar_test::{Outgoing, TestHost, guest};

const HEADER: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
    arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour";

/// Lines with every mix of early, late, cancelled and unknown.
fn flights() -> Vec<String> {
    let delay = |n: usize| match n % 11 {
        0 => "NA".to_owned(),
        1 => String::new(),
        k => (k as i64 * 20 - 60).to_string(),
    };
    let flight = |n: usize| {
        let aircraft = if n.is_multiple_of(13) { "NA".to_owned() } else { format!("N{}", n % 7) };
        let (month, day, hour, minute) = (n % 12 + 1, n % 28 + 1, n % 24, n % 60);
        let (departure, arrival) = (delay(n), delay(n / 11));
        format!(
            "2013,{month},{day},1,{time},{departure},1,1,{arrival},UA,{n},{aircraft},EWR,IAH,1,1,{hour},{minute},x",
            time = hour * 100 + minute
        )
    };
    (1..=1000).map(flight).collect()
}

/// What `expected.py` says: alerts by aircraft, in order.
fn expected(lines: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    writeln!(file, "{HEADER}\n{}", lines.join("\n")).unwrap();
    let output = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/expected.py"))
        .arg("--keys")
        .arg(file.path())
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut alerts = BTreeMap::<_, Vec<_>>::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (key, alert) = line.split_once('\t').unwrap();
        alerts.entry(key.to_owned()).or_default().push(alert.to_owned());
    }
    alerts
}

fn event(line: &str) -> Outgoing {
    let event = Outgoing::new("flights", line.to_owned());
    match line.split(',').nth(11) {
        Some(aircraft) if aircraft != "NA" => event.with_key(aircraft.to_owned()),
        _ => event,
    }
}

#[tokio::test]
async fn o1_alerts_are_those_that_an_independent_script_computes() {
    let lines = flights();
    let host =
        TestHost::builder(guest("flight-delays").unwrap()).partitions(3).load().await.unwrap();
    host.publish(lines.iter().map(|l| event(l))).await.unwrap();
    host.publish(["bad", HEADER].map(event)).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let mut alerts = BTreeMap::<String, Vec<String>>::new();
    for output in outcome.topic("flight.alerts") {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let key = output.key.as_deref().map(text).unwrap_or_default();
        alerts.entry(key).or_default().push(text(output.payload.as_deref().unwrap()));
    }
    let mut expected = expected(&lines);
    // what has no key has no order
    for alerts in [&mut alerts, &mut expected] {
        alerts.get_mut("").expect("some flights have no known aircraft").sort();
    }
    assert_eq!(alerts, expected);
    assert_eq!(outcome.stats.handled, 1000);
    let mut dead: Vec<_> =
        outcome.dead_letters.iter().map(|d| d.event.payload.as_deref().unwrap()).collect();
    dead.sort_unstable();
    assert_eq!(dead, [b"bad".as_slice(), HEADER.as_bytes()]);
}

#[tokio::test]
async fn the_threshold_is_a_setting() {
    let line = "2013,1,1,1,1200,30,1,1,0,UA,1,N1,EWR,IAH,1,1,12,0,x";
    let plugin = TestHost::builder(guest("flight-delays").unwrap());
    for (threshold, alerts) in [("30", 1), ("31", 0)] {
        let host = plugin.clone().config("threshold", threshold).load().await.unwrap();
        host.publish([event(line)]).await.unwrap();
        assert_eq!(host.drain().await.unwrap().topic("flight.alerts").len(), alerts);
    }
    let refused = plugin.config("threshold", "an hour").load().await;
    let Err(error) = refused else { panic!("it started") };
    assert!(format!("{error:#}").contains("config `threshold` is \"an hour\""), "{error:#}");
}
