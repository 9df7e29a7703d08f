//! Rust: cargo makes core modules for `wasm32-unknown-unknown`.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::{
    BuildError, BuildRequest,
    begin::Template,
    build::{Component, absolute},
    componentize,
    tools::{kebab, not_started},
};

/// What plugins are compiled for: it has no WASI, so a plugin that needs none imports none.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Bytes of stack in a plugin's memory. rustc's own 1 MiB is cleared or mapped for each fresh instance,
/// which costs more than all else of it; a quarter holds serde_json's deepest nesting (128) many times over.
const STACK: usize = 256 << 10;
/// Without optimisation frames are several times as large: it keeps rustc's stack.
const UNOPTIMISED: &str = "dev";

pub(crate) const TEMPLATE: Template = &[
    ("Cargo.toml", include_str!("../templates/rust/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("../templates/rust/lib.rs.txt")),
    (".gitignore", "/target\n.sandbar/\n"),
];

pub(crate) fn sdk(checkout: Option<&Path>) -> String {
    match checkout {
        Some(dir) => format!("path = \"{}\"", dir.join("rust").display()),
        None => format!("version = \"{}\"", env!("CARGO_PKG_VERSION")),
    }
}

pub(crate) fn build(request: &BuildRequest) -> Result<Vec<Component>, BuildError> {
    demand_target(&request.dir)?;
    let artifacts = cargo_build(request)?;
    if artifacts.is_empty() {
        return Err(BuildError::NoCdylib { what: what(request) });
    }
    artifacts.into_iter().map(Artifact::encode).collect()
}

fn what(request: &BuildRequest) -> String {
    let subject = if request.packages.is_empty() {
        request.dir.display().to_string()
    } else {
        request.packages.join(", ")
    };
    if request.examples { format!("the examples of {subject}") } else { subject }
}

fn command(request: &BuildRequest) -> Command {
    let mut cargo = Command::new(program("CARGO", "cargo"));
    cargo
        .current_dir(&request.dir)
        .args(["build", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .args(["--profile", &request.profile])
        .arg(if request.examples { "--examples" } else { "--lib" });
    if request.profile != UNOPTIMISED {
        // joined with the flags of the author's own configuration; RUSTFLAGS goes before both
        let flags =
            format!("target.{TARGET}.rustflags=[\"-C\", \"link-arg=-zstack-size={STACK}\"]");
        cargo.args(["--config", &flags]);
    }
    for package in &request.packages {
        cargo.args(["--package", package]);
    }
    if !request.features.is_empty() {
        cargo.arg("--features").arg(request.features.join(","));
    }
    if let Some(target_dir) = &request.target_dir {
        // cargo runs in `dir`, while the caller meant its own working directory
        cargo.arg("--target-dir").arg(absolute(target_dir));
    }
    cargo
}

/// A core module that cargo made.
struct Artifact {
    name: String,
    module: PathBuf,
}

impl Artifact {
    fn encode(self) -> Result<Component, BuildError> {
        let module = fs::read(&self.module).map_err(BuildError::at(&self.module))?;
        match componentize(&module) {
            Ok(bytes) => Ok(Component { name: self.name, bytes }),
            Err(source) => Err(BuildError::Component { path: self.module, source }),
        }
    }
}

fn cargo_build(request: &BuildRequest) -> Result<Vec<Artifact>, BuildError> {
    let mut command = command(request);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| not_started(source, &command, ADVICE))?;
    let mut artifacts = Vec::new();
    let stdout = child.stdout.take().expect("stdout is piped two lines above");
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(BuildError::at(&request.dir))?;
        // other messages (build scripts, "build finished") have another shape
        if let Ok(message) = serde_json::from_str::<Message>(&line) {
            artifacts.extend(message.plugin(request));
        }
    }
    let status = child.wait().map_err(BuildError::at(&request.dir))?;
    if !status.success() {
        return Err(BuildError::ToolFailed { tool: "cargo".into(), what: what(request), status });
    }
    Ok(artifacts)
}

/// The part that is used here of cargo's `compiler-artifact` message.
#[derive(Deserialize)]
struct Message {
    reason: String,
    package_id: String,
    manifest_path: PathBuf,
    target: Target,
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    crate_types: Vec<String>,
}

impl Message {
    fn plugin(self, request: &BuildRequest) -> Option<Artifact> {
        let is_cdylib = self.target.crate_types.iter().any(|t| t == "cdylib");
        if self.reason != "compiler-artifact" || !is_cdylib {
            return None;
        }
        let package = package_name(&self.package_id);
        // a plugin may depend on another one's rlib, which makes its cdylib on the way
        let asked_for = if request.packages.is_empty() {
            self.manifest_path.starts_with(absolute(&request.dir))
        } else {
            request.packages.iter().any(|p| p == package)
        };
        let is_example = self.target.kind.iter().any(|k| k == "example");
        if !asked_for || is_example != request.examples {
            return None;
        }
        let name = kebab(if is_example { &self.target.name } else { package });
        let module =
            self.filenames.into_iter().find(|f| f.extension().is_some_and(|e| e == "wasm"))?;
        Some(Artifact { name, module })
    }
}

/// From a package id: `path+file:///a/name#0.1.0` or `registry+https://x#name@0.1.0`.
fn package_name(id: &str) -> &str {
    let (url, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name,
        None => url.rsplit('/').next().unwrap_or(url),
    }
}

fn demand_target(dir: &Path) -> Result<(), BuildError> {
    let mut command = Command::new(program("RUSTC", "rustc"));
    command.current_dir(dir).args(["--print", "target-libdir", "--target", TARGET]);
    let output = command
        .stderr(Stdio::null())
        .output()
        .map_err(|source| not_started(source, &command, ADVICE))?;
    let libdir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let has_std = fs::read_dir(&libdir).is_ok_and(|mut files| {
        files.any(|f| f.is_ok_and(|f| f.file_name().to_string_lossy().starts_with("libstd-")))
    });
    if has_std {
        return Ok(());
    }
    Err(BuildError::TargetMissing { rustc: command.get_program().to_string_lossy().into_owned() })
}

const ADVICE: &str = "install Rust (https://rustup.rs), or set CARGO and RUSTC to their paths";

/// Not looked up: cargo and rustc may be rustup's, which look at the folder they are run in.
fn program(variable: &str, default: &str) -> OsString {
    env::var_os(variable).filter(|v| !v.is_empty()).unwrap_or_else(|| default.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> BuildRequest {
        BuildRequest::new("/p", "/out")
    }

    fn message(package_id: &str, kind: &str, target: &str) -> Message {
        serde_json::from_value(serde_json::json!({
            "reason": "compiler-artifact",
            "package_id": package_id,
            "manifest_path": "/p/Cargo.toml",
            "target": { "name": target, "kind": [kind], "crate_types": ["cdylib", "rlib"] },
            "filenames": ["/t/lib.rlib", "/t/lib.wasm"],
        }))
        .unwrap()
    }

    #[test]
    fn packages_are_named_by_either_form_of_their_id() {
        assert_eq!(package_name("path+file:///a/github-router#0.1.0"), "github-router");
        assert_eq!(package_name("path+file:///a/dir#real-name@0.1.0"), "real-name");
        assert_eq!(package_name("registry+https://h/i#x@1.0.0"), "x");
    }

    #[test]
    fn a_library_takes_the_package_name_and_an_example_its_own() {
        let library = message("path+file:///p#my_plugin@1.0.0", "cdylib", "my_plugin");
        assert_eq!(library.plugin(&request()).unwrap().name, "my-plugin");

        let example = || message("path+file:///p#programs@1.0.0", "example", "stack_overflow");
        assert!(example().plugin(&request()).is_none(), "examples were not asked for");
        let mut wanted = request();
        wanted.examples = true;
        let artifact = example().plugin(&wanted).unwrap();
        assert_eq!(artifact.name, "stack-overflow");
        assert_eq!(artifact.module, Path::new("/t/lib.wasm"));
    }

    #[test]
    fn the_cdylib_of_a_dependency_is_no_plugin() {
        let mut wanted = request();
        wanted.packages = vec!["mine".into()];
        let other = message("path+file:///p/other#1.0.0", "cdylib", "other");
        assert!(other.plugin(&wanted).is_none());
    }
}
