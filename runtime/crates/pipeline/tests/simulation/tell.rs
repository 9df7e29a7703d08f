//! Entries as lines for people.

use crate::trace::{AssignmentNo, CallNo, Entry, MemberNo, PlaceNo, RecordNo, Trace, What};

impl Trace {
    /// One line about `entry`.
    pub fn tell(&self, entry: &Entry) -> String {
        let text = match &entry.what {
            What::Written { record, by } => {
                format!("written    {} by {by:?}", self.record(*record))
            }
            What::Assigned { assignment, from } => {
                format!("assigned   {} from {from}", self.assignment(*assignment))
            }
            What::Delivered { assignment, record } => {
                format!("delivered  {} to {assignment}", self.record(*record))
            }
            What::Settled { assignment, record, done } => {
                let how = if *done { "done" } else { "released" };
                format!("settled    {} by {assignment}: {how}", self.record(*record))
            }
            What::Committed { assignment, position, ahead } => {
                let at = self.assignment(*assignment);
                format!("committed  {at} up to {position}, finished ahead {ahead:?}")
            }
            What::Revoking { assignment, deadline } => {
                format!("revoking   {} until {deadline:.3?}", self.assignment(*assignment))
            }
            What::Drained { assignment } => format!("drained    {}", self.assignment(*assignment)),
            What::Dropped { assignment } => format!("dropped    {}", self.assignment(*assignment)),
            What::Fenced { assignment, lost } => {
                let how = if *lost { ", lost" } else { "" };
                format!("fenced     {}{how}", self.assignment(*assignment))
            }
            What::Began { call } => format!("began      {}", self.call(*call)),
            What::Answered { call, answer } => {
                format!("answered   {}: {answer:?}", self.call(*call))
            }
            What::Aborted { call } => format!("aborted    {}", self.call(*call)),
            What::Started { member, group } => {
                format!("started    {} of group {group}", self.member(*member))
            }
            What::Told { member, condition, in_flight } => {
                format!(
                    "asked      {}: {:?}, {in_flight} in flight",
                    self.member(*member),
                    condition.0
                )
            }
            What::Stalled { place, position, end, .. } => {
                format!("stalled    {} at {position} of {end}", self.place_name(*place))
            }
            other => format!("{other:?}"),
        };
        format!("{:>12.3} s  {text}", entry.at.as_secs_f64())
    }

    fn place_name(&self, place: PlaceNo) -> String {
        self.places[place.0].id.to_string()
    }

    fn record(&self, no: RecordNo) -> String {
        let record = &self.records[no.0];
        let key = match &record.event.key {
            Some(key) => format!("key {}", key.len()),
            None => "no key".into(),
        };
        let event = record.number.map_or_else(String::new, |n| format!("event {n}, "));
        let place = self.place_name(record.place);
        format!("{no} at {place}@{} ({event}{key})", record.event.position)
    }

    fn assignment(&self, no: AssignmentNo) -> String {
        let assignment = &self.assignments[no.0];
        format!("{} ({no} of {})", self.place_name(assignment.place), assignment.member)
    }

    fn member(&self, no: MemberNo) -> String {
        let member = &self.members[no.0];
        format!("{no} ({} in process {})", member.plugin, member.process)
    }

    fn call(&self, no: CallNo) -> String {
        let call = &self.calls[no.0];
        format!(
            "{no}, attempt {} at {} of {}, version {}, batch-{}",
            call.attempt,
            self.record(call.record),
            call.assignment,
            call.version,
            call.batch
        )
    }
}
