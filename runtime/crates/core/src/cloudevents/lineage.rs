//! The correlation extension: which flow an event belongs to, and what caused it.

use super::{binary, is_structured};
use crate::{Event, Outgoing};

const CORRELATION: &str = "correlationid";
const CAUSATION: &str = "causationid";

/// Marks `outputs` as caused by `event`: `causationid` is its id, and `correlationid` is
/// its own, or its id where a flow begins with it. What an output says of itself stays,
/// in attributes, headers or a structured envelope, and one with the id and source of the
/// event is that event passed on and not caused by it. An event without the attributes `id` and
/// `correlationid` leaves no mark, and costs none.
pub fn trace_back(event: &Event, outputs: &mut [Outgoing]) {
    let id = event.attribute("id").filter(|id| !id.is_empty());
    let correlation = event.attribute(CORRELATION).filter(|id| !id.is_empty()).or(id);
    let Some(correlation) = correlation else { return };
    for output in outputs {
        let same = |name: &str| {
            let own = output.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            own == event.attribute(name)
        };
        let is_passed_on = id.is_some() && same("id") && same("source");
        if is_passed_on || is_structured(&output.headers) {
            continue;
        }
        for (name, value) in [(CORRELATION, Some(correlation)), (CAUSATION, id)] {
            let Some(value) = value.filter(|_| !says(output, name)) else { continue };
            output.attributes.push((name.to_owned(), value.to_owned()));
        }
    }
}

/// Whether `output` has the attribute `name`.
fn says(output: &Outgoing, name: &str) -> bool {
    output.attributes.iter().any(|(n, _)| n == name)
        || output.headers.iter().any(|h| binary::bare_name(&h.name) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(event: &[(&str, &str)], output: Outgoing) -> Vec<(String, String)> {
        let event = Event {
            topic: "t".into(),
            partition: 0,
            position: 1,
            key: None,
            payload: None,
            headers: [].into(),
            timestamp_ms: 0,
            attributes: owned(event).into(),
        };
        let mut outputs = [output];
        trace_back(&event, &mut outputs);
        let [output] = outputs;
        output.attributes
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
    }

    fn output() -> Outgoing {
        Outgoing::new("out", "x")
    }

    /// The scenario in the extension's text: an order, and what follows from it.
    #[test]
    fn a_flow_keeps_its_correlation_and_each_event_names_its_cause() {
        let expected = owned(&[("correlationid", "txn-abc-123"), ("causationid", "order-123")]);
        let order = [("id", "order-123"), ("correlationid", "txn-abc-123")];
        assert_eq!(traced(&order, output()), expected);
        let first = owned(&[("correlationid", "order-123"), ("causationid", "order-123")]);
        assert_eq!(traced(&[("id", "order-123")], output()), first, "a flow begins");
        let nameless = owned(&[("correlationid", "txn-abc-123")]);
        assert_eq!(traced(&order[1..], output()), nameless);
    }

    #[test]
    fn what_an_output_says_of_itself_stays() {
        let mut own = output().with_header("ce_causationid", "mine");
        own.attributes = owned(&[("correlationid", "other")]);
        assert_eq!(traced(&[("id", "1")], own), owned(&[("correlationid", "other")]));
        let envelope = output().with_header("content-type", "application/cloudevents+json");
        assert!(traced(&[("id", "1")], envelope).is_empty());
        let mut passed_on = output();
        passed_on.attributes = owned(&[("id", "1"), ("source", "/s")]);
        assert_eq!(traced(&[("id", "1"), ("source", "/s")], passed_on.clone()).len(), 2);
        assert_eq!(traced(&[("id", "1"), ("source", "/t")], passed_on).len(), 4, "another");
    }

    #[test]
    fn an_event_without_ids_leaves_no_mark() {
        assert!(traced(&[], output()).is_empty());
        assert!(traced(&[("id", ""), ("type", "t")], output()).is_empty());
    }
}
