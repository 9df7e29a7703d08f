//! The report: Markdown for people, JSON for programs.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    figures::{Row, Section, Summary, Unit},
    goals::{self, Judged},
    machine::Machine,
};

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub quick: bool,
    /// Seconds that the run took.
    pub seconds: u64,
    pub suites: Vec<Measured>,
    pub goals: Vec<Judged>,
}

/// One suite's outcome.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub name: &'static str,
    pub title: &'static str,
    /// Seconds that it took.
    pub seconds: u64,
    #[serde(flatten)]
    pub section: Section,
    /// Why it broke off, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Report {
    pub fn new(machine: Machine, quick: bool, took: Duration, suites: Vec<Measured>) -> Self {
        let rows: Vec<&Row> = suites.iter().flat_map(|s| &s.section.rows).collect();
        let goals = goals::judge(&rows);
        Self { machine, quick, seconds: took.as_secs(), suites, goals }
    }

    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // writing to a string cannot fail
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let machine = &self.machine;
        let versions: Vec<_> =
            machine.versions.iter().map(|(what, version)| format!("{what} {version}")).collect();
        writeln!(
            to,
            "Measured on {} cores of {}, {} of memory, Linux {}; load average {} before the run, which took {} s{}.",
            machine.cores,
            machine.processor,
            machine.memory,
            machine.kernel,
            machine.load,
            self.seconds,
            if self.quick { " (`QUICK=1`: too short to be quoted)" } else { "" },
        )?;
        writeln!(to, "Versions: {}.", versions.join("; "))?;
        if !self.goals.is_empty() {
            writeln!(to, "\n### Goals\n\n| what | goal | measured | |\n|---|---|--:|---|")?;
            for goal in &self.goals {
                writeln!(
                    to,
                    "| {} | {} | {} | {} |",
                    goal.what, goal.goal, goal.measured, goal.verdict
                )?;
            }
        }
        for suite in &self.suites {
            writeln!(
                to,
                "\n### {}\n\n`make bench ONLY={}`, {} s\n",
                suite.title, suite.name, suite.seconds
            )?;
            if !suite.section.rows.is_empty() {
                writeln!(to, "| what | measured | reference | ratio |\n|---|--:|--:|--:|")?;
            }
            for row in &suite.section.rows {
                write_row(to, row)?;
            }
            if !suite.section.notes.is_empty() {
                writeln!(to)?;
            }
            for note in &suite.section.notes {
                writeln!(to, "- {note}")?;
            }
            if let Some(error) = &suite.error {
                writeln!(to, "\n**Broke off:** {error}")?;
            }
        }
        Ok(())
    }
}

/// Between these marks of a page the tables stand.
const MARKS: [&str; 2] = ["<!-- tables: begin -->\n", "<!-- tables: end -->"];

/// `page` with `tables` between its marks, in place of those that were there.
///
/// # Errors
/// For a page without marks.
pub fn put_into(page: &str, tables: &str) -> Result<String> {
    let [begin, end] = MARKS;
    let marked = page.split_once(begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some(format!("{before}{begin}{tables}{end}{after}"))
    });
    marked.with_context(|| format!("the page has no `{}` and `{end}`", begin.trim_end()))
}

fn write_row(to: &mut String, row: &Row) -> std::fmt::Result {
    let (reference, ratio) = match &row.reference {
        None => (String::new(), String::new()),
        Some(reference) => {
            let ratio = &reference.ratio;
            (
                format!("{}: {}", reference.what, spread(row.unit, &reference.value)),
                format!("{:.2} ({:.2}..{:.2})", ratio.median, ratio.min, ratio.max),
            )
        }
    };
    writeln!(to, "| {} | {} | {reference} | {ratio} |", row.what, spread(row.unit, &row.value))
}

/// Median, and least to most where there is more than one.
pub fn spread(unit: Unit, summary: &Summary) -> String {
    let median = shown(unit, summary.median);
    match summary.runs {
        1 => median,
        _ => format!("{median} ({}..{})", shown(unit, summary.min), shown(unit, summary.max)),
    }
}

/// Three digits, in the unit that fits.
pub fn shown(unit: Unit, value: f64) -> String {
    let (value, suffix) = match unit {
        Unit::EventsPerSecond if value >= 1e6 => (value / 1e6, " M/s"),
        Unit::EventsPerSecond if value >= 1e4 => (value / 1e3, " k/s"),
        Unit::EventsPerSecond => (value, "/s"),
        Unit::Seconds if value >= 1.0 => (value, " s"),
        Unit::Seconds if value >= 1e-3 => (value * 1e3, " ms"),
        Unit::Seconds if value >= 1e-6 => (value * 1e6, " us"),
        Unit::Seconds => (value * 1e9, " ns"),
        Unit::Bytes if value >= 1e9 => (value / f64::from(1 << 30), " GiB"),
        Unit::Bytes if value >= 1e6 => (value / f64::from(1 << 20), " MiB"),
        Unit::Bytes => (value / 1024.0, " KiB"),
        Unit::Count => (value, ""),
    };
    let digits = match value.abs() {
        v if v >= 99.5 || (unit == Unit::Count && v.fract() == 0.0) => 0,
        v if v >= 9.95 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_fitting_unit() {
        assert_eq!(shown(Unit::Seconds, 0.000_000_944), "944 ns");
        assert_eq!(shown(Unit::Seconds, 0.001_234), "1.23 ms");
        assert_eq!(shown(Unit::EventsPerSecond, 123_456.0), "123 k/s");
        assert_eq!(shown(Unit::Bytes, 64.0 * 1024.0), "64.0 KiB");
        assert_eq!(shown(Unit::Count, 12.0), "12");
    }

    #[test]
    fn tables_are_put_in_place_of_the_old_ones() {
        let page = "a\n<!-- tables: begin -->\nold\n<!-- tables: end -->\nb\n";
        let new = put_into(page, "new\n").unwrap();
        assert_eq!(new, page.replace("old", "new"));
        assert!(put_into("a page without marks", "new\n").is_err());
    }

    #[test]
    fn a_row_shows_its_reference_and_the_ratio_of_the_rounds() {
        let row = Row::new("x", "typed", Unit::Seconds, &[2e-6, 4e-6]).beside(
            "native",
            &[2e-6, 4e-6],
            &[1e-6, 1e-6],
        );
        let mut text = String::new();
        write_row(&mut text, &row).unwrap();
        assert_eq!(
            text,
            "| typed | 3.00 us (2.00 us..4.00 us) | native: 1.00 us (1.00 us..1.00 us) | 3.00 (2.00..4.00) |\n"
        );
    }
}
