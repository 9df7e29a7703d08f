//! `sandbar plugin diff`

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use clap::Args;
use sandbar::cases::{self, Case, Difference, Ran};
use serde::Serialize;
use serde_json::json;

use super::{
    super::{Failed, Global, output::printable, publish::header as pair},
    slice::SliceArgs,
    subject::{SourceArgs, Subject},
    test::{print_differences, select},
};

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The old version: a name in the plugins folder, a .wasm file, or a folder of source
    old: PathBuf,
    /// The new version
    new: PathBuf,
    /// File or folder of cases whose events both get, several times for several; what the cases
    /// expect does not matter. Those beside the new version by default
    #[arg(long, value_name = "PATH", env = "SANDBAR_DIFF_CASES", conflicts_with = "topic")]
    cases: Vec<PathBuf>,
    /// Only cases with this text in their name or file
    #[arg(short, long, value_name = "TEXT", env = "SANDBAR_DIFF_FILTER", conflicts_with = "topic")]
    filter: Option<String>,
    /// Take the events from this topic instead
    #[arg(long, value_name = "NAME", env = "SANDBAR_DIFF_TOPIC")]
    topic: Option<String>,
    /// Value of the plugin's configuration, with events of a topic; may be given several times
    #[arg(long = "config-value", value_name = "KEY=VALUE", env = "SANDBAR_DIFF_CONFIG_VALUE", value_parser = pair, requires = "topic")]
    values: Vec<(String, String)>,
    #[command(flatten)]
    slice: SliceArgs,
    #[command(flatten)]
    source: SourceArgs,
}

/// Where two versions part.
#[derive(Serialize)]
struct Parted {
    name: String,
    differences: Vec<Difference>,
}

pub async fn diff(args: &DiffArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let old = Subject::find(&args.old, &args.source, &config)?;
    let new = Subject::find(&args.new, &args.source, &config)?;
    let selected = match &args.topic {
        None => select(&args.cases, args.filter.as_deref(), &new.dir)?,
        Some(topic) => {
            let events = args.slice.read(topic, global, &config).await?;
            let values: BTreeMap<_, _> = args.values.iter().cloned().collect();
            let case = |event| Case::of_event(event, values.clone());
            events.into_iter().map(case).collect()
        }
    };
    let [old_runner, new_runner] = [old.runner().await?, new.runner().await?];
    let out = global.out();
    let mut parted = Vec::new();
    for case in &selected {
        let before = old_runner.run(case).await;
        let after = new_runner.run(case).await;
        let differences = cases::compare(&expecting(case, &before), &after);
        if differences.is_empty() {
            continue;
        }
        if !out.is_json() {
            out.line(printable(&case.name))?;
            print_differences(out, &differences)?;
        }
        parted.push(Parted { name: case.name.clone(), differences });
    }
    if out.is_json() {
        let name = |subject: &Subject| subject.file.display().to_string();
        out.document(&json!({
            "old": name(&old), "new": name(&new), "cases": selected.len(), "different": parted,
        }))?;
    } else {
        out.line(format_args!("{} of {} differ (- old, + new)", parted.len(), selected.len()))?;
    }
    match parted.is_empty() {
        true => Ok(()),
        false => Err(Failed.into()),
    }
}

/// The case, expecting of the new version what the old one did.
fn expecting(case: &Case, before: &Ran) -> Case {
    let mut case = case.clone();
    case.start_error.clone_from(&before.start_error);
    for (step, answer) in case.steps.iter_mut().zip(&before.answers) {
        step.expected = cases::expected_of(answer);
    }
    case
}
