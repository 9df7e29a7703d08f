//! R8: pauses and probes.

use std::{collections::BTreeMap, time::Duration};

use sandbar_pipeline::Breaker;

use super::{Violation, facts::Facts};
use crate::trace::{Answer, CallNo, MemberNo, What};

/// The gate of one member, as it has to be.
struct Gate {
    breaker: Breaker,
    state: State,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Open,
    Paused {
        until: Duration,
        pause: Duration,
        since: usize,
    },
    /// Open, or about to probe: the trace does not show which. Only the next pause tells.
    Unsure,
    /// A batch was let through to find out.
    Probing {
        batch: usize,
        pause: Duration,
        since: usize,
    },
}

/// After so many retryable failures in a row, or when the handler asks for it, a
/// subscription pauses and then probes with one event; deferring uses no attempt up.
pub fn r8(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut gates: BTreeMap<MemberNo, Gate> = BTreeMap::new();
    for (at, entry) in facts.trace.entries.iter().enumerate() {
        match &entry.what {
            What::Started { member, .. } => {
                let plugin = facts.trace.members[member.0].plugin;
                let breaker = facts.plan.plugins[plugin.0].breaker;
                gates.insert(*member, Gate { breaker, state: State::Open, failures: 0 });
            }
            What::Began { call } => {
                let info = &facts.trace.calls[call.0];
                let gate = gates.get_mut(&info.member).expect("a member that was started");
                let pass = gate.pass(info.batch, entry.at);
                // what was on its way when the answer came could not know
                let late = pass.err().filter(|(since, _)| facts.at(*since) < entry.at);
                if let Some((since, why)) = late {
                    found.push(Violation::new("R8", format!("{call} begins {why}"), [since, at]));
                }
            }
            What::Answered { call, answer } => {
                let info = &facts.trace.calls[call.0];
                let gate = gates.get_mut(&info.member).expect("a member that was started");
                gate.answer(answer, entry.at, at);
            }
            What::Aborted { call } => {
                let info = &facts.trace.calls[call.0];
                let gate = gates.get_mut(&info.member).expect("a member that was started");
                gate.abort(info.batch, entry.at);
            }
            _ => {}
        }
    }
    found.extend(counted(facts));
    found
}

/// Attempts that count although the one before them deferred.
fn counted(facts: &Facts<'_>) -> Vec<Violation> {
    let pairs = facts.attempts.values().flat_map(|calls| calls.windows(2));
    let counted = |pair: &[CallNo]| {
        let [last, next] = *pair else { return None };
        let (at, Answer::Defer { .. }) = facts.answer(last)? else { return None };
        let (before, after) = (&facts.trace.calls[last.0], &facts.trace.calls[next.0]);
        let text = format!("{next} has another number than {last}, which deferred");
        (before.attempt != after.attempt)
            .then(|| Violation::new("R8", text, [at, facts.calls[next.0].began]))
    };
    pairs.filter_map(counted).collect()
}

impl Gate {
    fn pass(&mut self, batch: usize, now: Duration) -> Result<(), (usize, String)> {
        match self.state {
            State::Open | State::Unsure => Ok(()),
            State::Paused { until, since, .. } if now < until => {
                Err((since, format!("in a pause that ends at {until:?}")))
            }
            State::Paused { pause, since, .. } => {
                self.state = State::Probing { batch, pause, since };
                Ok(())
            }
            State::Probing { since, .. } => Err((since, "beside a probe".into())),
        }
    }

    fn answer(&mut self, answer: &Answer, now: Duration, at: usize) {
        let Breaker { failures: limit, pause: first, max_pause } = self.breaker;
        let paused = |pause| State::Paused { until: now + pause, pause, since: at };
        match answer {
            Answer::Ok { .. } | Answer::Bad(_) | Answer::Skip | Answer::Reject(_) => {
                self.failures = 0;
                // a probe may be on its way to the handler, or may not
                let due = matches!(self.state, State::Paused { until, .. } if until <= now);
                self.state = match self.state {
                    State::Probing { .. } => State::Open,
                    _ if due => State::Unsure,
                    other => other,
                };
            }
            Answer::Retry { .. } => {
                self.failures += 1;
                self.state = match self.state {
                    State::Open if limit > 0 && self.failures >= limit => paused(first),
                    State::Probing { pause, .. } if limit > 0 => {
                        paused((pause * 2).clamp(first, max_pause))
                    }
                    State::Probing { .. } => State::Open,
                    other => other,
                };
            }
            Answer::Defer { pause } => {
                let longer = match self.state {
                    State::Paused { until, .. } => now + *pause > until,
                    State::Open | State::Probing { .. } | State::Unsure => true,
                };
                if longer {
                    self.state = State::Paused { until: now + *pause, pause: first, since: at };
                }
            }
        }
    }

    fn abort(&mut self, probe: usize, now: Duration) {
        if let State::Probing { batch, pause, since } = self.state
            && batch == probe
        {
            self.state = State::Paused { until: now, pause, since };
        }
    }
}
