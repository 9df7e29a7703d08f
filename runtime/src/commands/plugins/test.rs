//! `sandbar plugin test`

mod junit;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sandbar::cases::{self, Case, Ran, Runner};

pub(super) use self::report::print_differences;
use self::report::{Report, Tested};
use super::{
    super::{Failed, Global},
    subject::{SourceArgs, Subject},
};

#[derive(Debug, Args)]
pub struct TestArgs {
    /// The plugin's folder, which is built first, or a .wasm file
    #[arg(default_value = ".")]
    plugin: PathBuf,
    /// File or folder of cases, several times for several; `cases.toml` and `cases/*.toml`
    /// beside the plugin by default
    #[arg(long, value_name = "PATH", env = "SANDBAR_TEST_CASES")]
    cases: Vec<PathBuf>,
    /// Only cases with this text in their name or file
    #[arg(short, long, value_name = "TEXT", env = "SANDBAR_TEST_FILTER")]
    filter: Option<String>,
    /// Write what came of cases that fail into their files, as what is expected from now on
    #[arg(long, env = "SANDBAR_TEST_UPDATE")]
    update: bool,
    /// Write a JUnit report too
    #[arg(long, value_name = "FILE", env = "SANDBAR_TEST_JUNIT")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
}

pub async fn test(args: &TestArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let subject = Subject::find(&args.plugin, &args.source, &config)?;
    // before it is compiled: a mistake in a case should not wait for that
    let selected = select(&args.cases, args.filter.as_deref(), &subject.dir)?;
    let runner = subject.runner().await?;
    let mut report = Report::new(&subject, runner.inspection(), global.out());
    for case in &selected {
        report.add(run(&runner, case).await)?;
    }
    if args.update {
        report.updated = update(&report.tested)?;
    }
    if let Some(file) = &args.junit {
        fs::write(file, junit::report(&subject.name, &report.tested))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    report.finish()?;
    match report.failed() == report.updated {
        true => Ok(()),
        false => Err(Failed.into()),
    }
}

async fn run<'a>(runner: &Runner, case: &'a Case) -> Tested<'a> {
    let began = Instant::now();
    let ran = runner.run(case).await;
    let time = began.elapsed();
    let unanswered = cases::unanswered(&ran);
    let is_whole = unanswered.is_empty();
    let differences = unanswered.into_iter().chain(cases::compare(case, &ran)).collect();
    Tested { case, differences, is_whole, ran, time }
}

/// The cases of `paths`, or those beside the plugin.
///
/// # Errors
/// Mistakes in the files, and that there is no case.
pub fn select(paths: &[PathBuf], filter: Option<&str>, beside: &Path) -> Result<Vec<Case>> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => files.extend(of_folder(path)?),
            false => files.push(path.clone()),
        }
    }
    if paths.is_empty() {
        files = cases::find(beside)?;
    }
    let mut found = Vec::new();
    for file in &files {
        found.extend(cases::read(file)?);
    }
    if found.is_empty() {
        let here = match paths {
            [] if beside.as_os_str().is_empty() => ".".to_owned(),
            [] => beside.display().to_string(),
            paths => paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
        };
        bail!(
            "there is no case in {here}: write cases.toml or cases/NAME.toml, or let \
             `sandbar plugin record` write it"
        );
    }
    if let Some(text) = filter {
        found.retain(|c| c.name.contains(text) || c.file.to_string_lossy().contains(text));
        if found.is_empty() {
            bail!("no case has `{text}` in its name or file");
        }
    }
    Ok(found)
}

/// The files of a folder that was named: those in it, or as beside a plugin.
fn of_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = listed.flatten().map(|entry| entry.path());
    let is_cases = |path: &PathBuf| path.extension().is_some_and(|e| e == "toml");
    let mut files: Vec<_> = paths.filter(is_cases).collect();
    files.sort();
    match cases::find(folder)? {
        beside if !beside.is_empty() => Ok(beside),
        _ => Ok(files),
    }
}

/// Writes what came of the cases that failed; how many there were. Where a request had no answer,
/// what came of it is worth nothing.
fn update(tested: &[Tested<'_>]) -> Result<usize> {
    let failed = || tested.iter().filter(|t| !t.differences.is_empty() && t.is_whole);
    let mut files: Vec<&Path> = failed().map(|tested| tested.case.file.as_path()).collect();
    files.dedup();
    for file in files {
        let of_file = failed().filter(|tested| tested.case.file == file);
        let ran: Vec<(&Case, &Ran)> = of_file.map(|tested| (tested.case, &tested.ran)).collect();
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let text = cases::update(&text, &ran)
            .with_context(|| format!("cannot update {}", file.display()))?;
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(failed().count())
}
