//! What `sandbar plugin test` says.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytesize::ByteSize;
use sandbar::cases::{Answer, Case, Difference, Ran};
use sandbar_wasm::Inspection;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::{
    super::output::{Output, printable},
    subject::Subject,
};

/// A case that was run.
pub struct Tested<'a> {
    pub case: &'a Case,
    pub ran: Ran,
    pub differences: Vec<Difference>,
    /// Whether it ran to its end: no request was without an answer.
    pub is_whole: bool,
    pub time: Duration,
}

/// Collects what came of the cases, and prints it: text as it comes, JSON at the end.
pub struct Report<'a> {
    out: Output,
    plugin: Value,
    began: Instant,
    pub tested: Vec<Tested<'a>>,
    /// Cases that were written anew.
    pub updated: usize,
}

#[derive(Serialize)]
struct TestedJson<'a> {
    name: &'a str,
    file: String,
    line: usize,
    passed: bool,
    ms: f64,
    differences: &'a [Difference],
    #[serde(skip_serializing_if = "Option::is_none")]
    start_error: Option<&'a str>,
    answers: &'a [Answer],
}

impl<'a> Report<'a> {
    pub fn new(subject: &Subject, inspection: &Inspection, out: Output) -> Self {
        let said = inspection.description.as_ref();
        let version = said.map(|said| said.version.as_str());
        let file = subject.file.display().to_string();
        if !out.is_json() {
            let size = ByteSize(inspection.size as u64).display().si().to_string();
            let version = version.map_or_else(String::new, |version| format!("{version}, "));
            eprintln!("{file} ({version}{size})");
        }
        let plugin = json!({
            "name": subject.name, "file": file, "version": version, "digest": inspection.digest,
        });
        Self { out, plugin, began: Instant::now(), tested: Vec::new(), updated: 0 }
    }

    pub fn add(&mut self, tested: Tested<'a>) -> Result<()> {
        if !self.out.is_json() {
            self.print(&tested)?;
        }
        self.tested.push(tested);
        Ok(())
    }

    fn print(&self, tested: &Tested<'_>) -> Result<()> {
        let Tested { case, ran, differences, .. } = tested;
        let name = printable(&case.name);
        if differences.is_empty() {
            return self.out.line(format_args!("ok    {name}"));
        }
        self.out.line(format_args!("FAIL  {name} ({}:{})", case.file.display(), case.line))?;
        print_differences(self.out, differences)?;
        // what the plugin says of itself is where one looks first
        let log = ran.answers.iter().flat_map(|answer| &answer.log);
        for line in log.filter(|_| !differences.iter().any(|d| d.at.ends_with("log"))) {
            let message = printable(&line.message);
            self.out.line(format_args!("      it logged {}: {message}", line.level))?;
        }
        Ok(())
    }

    pub fn failed(&self) -> usize {
        self.tested.iter().filter(|tested| !tested.differences.is_empty()).count()
    }

    pub fn finish(&self) -> Result<()> {
        let (failed, all) = (self.failed(), self.tested.len());
        if self.out.is_json() {
            let cases: Vec<_> = self.tested.iter().map(json_of).collect();
            return self.out.document(&json!({
                "plugin": self.plugin,
                "passed": all - failed,
                "failed": failed,
                "updated": self.updated,
                "cases": cases,
            }));
        }
        let cases = if all == 1 { "1 case".to_owned() } else { format!("{all} cases") };
        let ended = match (failed, self.updated) {
            (0, _) => "passed".to_owned(),
            (_, 0) => format!("{} passed, {failed} FAILED", all - failed),
            (_, updated) if updated == failed => {
                format!("{} passed, {updated} written anew", all - failed)
            }
            (_, updated) => {
                let (passed, left) = (all - failed, failed - updated);
                format!("{passed} passed, {updated} written anew, {left} FAILED")
            }
        };
        let seconds = self.began.elapsed().as_secs_f64();
        self.out.line(format_args!("{cases}: {ended} in {seconds:.2} s"))
    }
}

/// Each difference on lines of its own.
pub fn print_differences(out: Output, differences: &[Difference]) -> Result<()> {
    let mut lines = differences.iter().flat_map(Difference::lines);
    lines.try_for_each(|line| out.line(format_args!("      {}", printable(&line))))
}

fn json_of<'a>(tested: &'a Tested<'_>) -> TestedJson<'a> {
    let Tested { case, ran, differences, time, .. } = tested;
    TestedJson {
        name: &case.name,
        file: case.file.display().to_string(),
        line: case.line,
        passed: differences.is_empty(),
        ms: time.as_secs_f64() * 1000.0,
        differences,
        start_error: ran.start_error.as_deref(),
        answers: &ran.answers,
    }
}
