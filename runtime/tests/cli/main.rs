//! The `sandbar` command as a user meets it.

mod case_files;
mod case_reach;
mod cases;
mod dlq;
mod events;
#[path = "../control/support/guest.rs"]
mod guest;
mod plugins;
mod project;
mod runtime;

use std::{fs, path::Path, time::Duration};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// `sandbar` in `dir`, untouched by the variables of whoever runs the tests.
fn sandbar(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::from_std(plain(dir));
    command.args(args).timeout(Duration::from_secs(60));
    command
}

fn plain(dir: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandbar"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SANDBAR_") {
            command.env_remove(name);
        }
    }
    command.current_dir(dir);
    command
}

/// Standard output of a command that must succeed.
fn ok(dir: &Path, args: &[&str]) -> String {
    stdout(sandbar(dir, args))
}

fn stdout(mut command: Command) -> String {
    let done = command.assert().success();
    String::from_utf8(done.get_output().stdout.clone()).unwrap()
}

/// Standard error of a command that must fail with code 1.
fn fails(mut command: Command) -> String {
    let done = command.assert().code(1);
    String::from_utf8(done.get_output().stderr.clone()).unwrap()
}

fn lines_of_json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn shells_and_manuals() {
    let dir = folder();
    assert!(ok(dir.path(), &["completions", "bash"]).contains("_sandbar"));
    ok(dir.path(), &["man", "--out", "."]);
    let page = fs::read_to_string(dir.path().join("sandbar-publish.1")).unwrap();
    assert!(page.contains("\\-\\-envelope"), "{page}");
}
