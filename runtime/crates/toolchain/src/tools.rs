//! Finding and running the programs of a toolchain.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde::Deserialize;

use crate::{BuildError, build::Component};

/// The program that `variable` names, else the one on `PATH`.
pub(crate) fn find(variable: &str, program: &str) -> Option<PathBuf> {
    if let Some(given) = env::var_os(variable).filter(|v| !v.is_empty()) {
        return Some(given.into());
    }
    let file = format!("{program}{}", env::consts::EXE_SUFFIX);
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(&file)).find(|candidate| candidate.is_file())
}

/// As [`find`], or the error that says what to install.
pub(crate) fn demand(variable: &str, program: &str, advice: &str) -> Result<PathBuf, BuildError> {
    find(variable, program).ok_or_else(|| BuildError::ToolMissing {
        tool: program.to_owned(),
        advice: format!("{advice}, or set {variable} to its path"),
    })
}

/// Runs a program; what it prints goes to standard error. `what` is what it builds.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<(), BuildError> {
    capture(command, what).map(|said| eprint!("{said}"))
}

/// Runs a program and returns what it prints; its errors go to standard error.
pub(crate) fn capture(command: &mut Command, what: &str) -> Result<String, BuildError> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let Output { status, stdout, .. } =
        done.map_err(|source| not_started(source, command, "is it installed?"))?;
    let said = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(said);
    }
    eprint!("{said}");
    Err(BuildError::ToolFailed { tool, what: what.to_owned(), status })
}

/// A program that cannot be started; `advice` says what to do where it is not there.
pub(crate) fn not_started(source: io::Error, command: &Command, advice: &str) -> BuildError {
    let tool = command.get_program().to_string_lossy().into_owned();
    match command.get_current_dir() {
        // a missing working directory gives the same error as a missing program
        Some(dir) if !dir.is_dir() => BuildError::Io { path: dir.to_owned(), source },
        _ if source.kind() == io::ErrorKind::NotFound => {
            BuildError::ToolMissing { tool, advice: advice.to_owned() }
        }
        _ => BuildError::Io { path: tool.into(), source },
    }
}

/// A name as plugins have it: `my_plugin` becomes `my-plugin`.
pub(crate) fn kebab(name: &str) -> String {
    name.replace(['_', '.', ' '], "-").to_lowercase()
}

/// What an SDK's own build program has made in `file`; the last line that it printed is
/// `{"name": "..."}`.
pub(crate) fn made(said: &str, file: &Path) -> Result<Vec<Component>, BuildError> {
    #[derive(Deserialize)]
    struct Made {
        name: String,
    }
    let last = said.lines().next_back().unwrap_or_default();
    let Made { name } = serde_json::from_str(last)
        .map_err(|error| BuildError::at(file)(io::Error::other(error)))?;
    let bytes = fs::read(file).map_err(BuildError::at(file))?;
    // it is in the plugins folder soon, and tens of megabytes
    fs::remove_file(file).map_err(BuildError::at(file))?;
    Ok(vec![Component { name: kebab(&name), bytes }])
}
