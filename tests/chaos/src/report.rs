//! What a run is reported as, for people and for programs.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::{
    faults::Kind,
    logs::Told,
    options::{BrokerKind, Delivery, Options, Scenario},
    run::Outcome,
    timeline::{Millis, Window},
    verifier::{Tallies, Tally},
    world::World,
};

/// Everything that is known of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    command: String,
    broker: BrokerKind,
    scenario: Scenario,
    seed: u64,
    processes: usize,
    keys: u32,
    rate: f64,
    seconds: u64,
    subscriptions: Vec<SubscriptionReport>,
    faults: Vec<Window>,
    told: Told,
    /// What the run shows to be wrong; empty where all is well.
    pub violations: Vec<String>,
    examples: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SubscriptionReport {
    delivery: Delivery,
    total: Tally,
    by_fault: Vec<ByFault>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ByFault {
    /// `None` is calm.
    fault: Option<Kind>,
    #[serde(flatten)]
    tally: Tally,
}

impl Report {
    pub fn new(world: &World, outcome: &Outcome) -> Self {
        let Options { broker, scenario, seed, processes, keys, .. } = world.options;
        let subscriptions: Vec<_> = world
            .subscriptions
            .iter()
            .enumerate()
            .map(|(n, subscription)| SubscriptionReport {
                delivery: subscription.delivery,
                total: outcome.verdict.total(n),
                by_fault: by_fault(&outcome.verdict.tallies[n]),
            })
            .collect();
        let mut violations = outcome.complaints.clone();
        for SubscriptionReport { delivery, total, .. } in &subscriptions {
            violations.extend(broken(&world.options, *delivery, total));
        }
        let flaws = outcome.verdict.flaws;
        if flaws > 0 {
            violations.push(format!("{flaws} records of the input are missing, double or foreign"));
        }
        let mut forbid = |count: u64, what: &str| {
            if count > 0 {
                violations.push(format!("{count} {what}"));
            }
        };
        forbid(outcome.told.panics, "panics of a runtime");
        if scenario == Scenario::Storm {
            forbid(outcome.told.missed_polls, "members thrown out because they did not poll");
            // sessions may expire: a member that is told to stop while it still joins cannot say
            // good-bye
            forbid(outcome.told.partitions_lost, "partitions lost instead of handed over");
        }
        Self {
            command: std::env::args().collect::<Vec<_>>().join(" "),
            broker,
            scenario,
            seed,
            processes,
            keys,
            rate: world.options.rate(),
            seconds: outcome.took.as_secs(),
            subscriptions,
            faults: world.timeline.windows(),
            told: outcome.told,
            violations,
            examples: outcome.verdict.examples.clone(),
        }
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // writing into a string cannot fail
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let broker = self.broker.title();
        writeln!(out, "## {broker}, {} min, seed {}\n", self.seconds.div_ceil(60), self.seed)?;
        writeln!(out, "`{}`\n", self.command)?;
        writeln!(
            out,
            "{} runtime(s), {} events per second over {} keys, {} faults.\n",
            self.processes,
            self.rate,
            self.keys,
            self.faults.len()
        )?;
        writeln!(
            out,
            "| delivery | sent | handled | dead-lettered | lost | out of order | duplicated | overlapping | wrong |"
        )?;
        writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for SubscriptionReport { delivery, total, .. } in &self.subscriptions {
            writeln!(out, "| {} | {} |", delivery.name(), columns(total))?;
        }
        for SubscriptionReport { delivery, by_fault, .. } in &self.subscriptions {
            writeln!(
                out,
                "\n### {}, by fault\n\n| fault | times | recovery, median | longest | sent under it | handled | dead-lettered | lost | out of order | duplicated | overlapping | wrong |",
                delivery.name()
            )?;
            writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
            for ByFault { fault, tally } in by_fault {
                let name = fault.map_or_else(|| "(calm)".to_owned(), Kind::name);
                let (times, median, longest) = self.recoveries(*fault);
                writeln!(out, "| {name} | {times} | {median} | {longest} | {} |", columns(tally))?;
            }
        }
        let Told { missed_polls, sessions_expired, partitions_lost, panics } = self.told;
        writeln!(
            out,
            "\nIn the logs: {missed_polls} members thrown out for missed polls, {sessions_expired} sessions \
             expired, {partitions_lost} partitions lost instead of handed over, {panics} panics.\n"
        )?;
        match self.violations.as_slice() {
            [] => writeln!(out, "No violation."),
            all => {
                writeln!(out, "**Violations:**\n")?;
                let all = all.iter().chain(&self.examples);
                all.into_iter().try_for_each(|one| writeln!(out, "- {}", one.replace('\n', "\n  ")))
            }
        }
    }

    /// How often a fault came, and the median and longest time until all was well again.
    fn recoveries(&self, fault: Option<Kind>) -> (String, String, String) {
        let windows: Vec<_> = self.faults.iter().filter(|w| Some(w.kind) == fault).collect();
        let mut times: Vec<Millis> = windows.iter().filter_map(|w| w.recovery()).collect();
        times.sort_unstable();
        let show = |ms: Option<&Millis>| {
            ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1?}", Duration::from_millis(*ms)))
        };
        let count = if fault.is_some() { windows.len().to_string() } else { "-".to_owned() };
        (count, show(times.get(times.len() / 2)), show(times.last()))
    }
}

fn by_fault(tallies: &Tallies) -> Vec<ByFault> {
    let kinds: BTreeSet<_> = tallies.keys().copied().collect();
    let row = |fault| ByFault { fault, tally: tallies[&fault] };
    kinds.into_iter().map(row).collect()
}

fn columns(tally: &Tally) -> String {
    let Tally { sent, handled, dead_lettered, lost, duplicated, out_of_order, overlapping, wrong } =
        tally;
    let all = [sent, handled, dead_lettered, lost, out_of_order, duplicated, overlapping, wrong];
    all.map(u64::to_string).join(" | ")
}

/// The promises that the counts of a subscription break.
fn broken(options: &Options, delivery: Delivery, total: &Tally) -> Vec<String> {
    // on the embedded log outputs and position are one step whatever was asked for
    let once = delivery == Delivery::ExactlyOnce || options.broker == BrokerKind::Log;
    let storm = options.scenario == Scenario::Storm;
    let checks = [
        (true, total.lost, "lost"),
        (true, total.out_of_order, "out of order"),
        (true, total.wrong, "handled, buried or changed wrongly"),
        (once, total.duplicated, "duplicated"),
        // elsewhere a process that was stopped past its session may wake up over an attempt
        (storm, total.overlapping, "pairs of overlapping attempts"),
    ];
    let broken = checks.iter().filter(|(counts, n, _)| *counts && *n > 0);
    let mut broken: Vec<_> =
        broken.map(|(_, n, what)| format!("{}: {n} {what}", delivery.name())).collect();
    if total.sent == 0 {
        broken.push("nothing was sent".to_owned());
    }
    broken
}
