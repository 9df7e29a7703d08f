//! From a plugin crate to `NAME.wasm`.

use std::{
    env,
    ffi::OsString,
    fs, io,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::{ComponentError, componentize};

/// What plugins are compiled for: it has no WASI, so a plugin that needs none imports none.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// What to build and where to put it.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The plugin's crate, or a folder of the workspace that `packages` are in.
    pub dir: PathBuf,
    /// Packages to build; empty: the one in `dir`.
    pub packages: Vec<String>,
    /// Cargo features to switch on.
    pub features: Vec<String>,
    /// Cargo profile.
    pub profile: String,
    /// Build the packages' examples instead of their libraries; each example with
    /// `crate-type = ["cdylib"]` is a plugin.
    pub examples: bool,
    /// Folder that receives `NAME.wasm`; made if it is not there.
    pub out: PathBuf,
    /// Cargo's target folder; `None`: as cargo finds it.
    pub target_dir: Option<PathBuf>,
    /// Put before each plugin's name.
    pub prefix: String,
    /// Put after each plugin's name.
    pub suffix: String,
}

impl BuildRequest {
    /// Builds the crate in `dir` with cargo's `release` profile into `out`.
    pub fn new(dir: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            packages: Vec::new(),
            features: Vec::new(),
            profile: "release".to_owned(),
            examples: false,
            out: out.into(),
            target_dir: None,
            prefix: String::new(),
            suffix: String::new(),
        }
    }
}

/// A plugin that was built.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Built {
    /// Plugin name: package or example name in kebab-case with prefix and suffix.
    pub name: String,
    /// `OUT/NAME.wasm`.
    pub path: PathBuf,
    /// Bytes of the component.
    pub size: u64,
    /// `false`: the file held these very bytes already and was not touched, so a
    /// runtime that watches the folder sees no change.
    pub changed: bool,
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No cargo to run.
    #[error(
        "{program} was not found: install Rust (https://rustup.rs) or set {variable} to its path"
    )]
    NotFound {
        /// What was to be run.
        program: String,
        /// The variable that names another one.
        variable: &'static str,
    },
    /// The compiler has no standard library for [`TARGET`].
    #[error(
        "the Rust target {TARGET} is not installed for {rustc}: run `rustup target add {TARGET}`, \
         or in sandbar's own repository `eval \"$(scripts/wasm-rust.sh)\"`"
    )]
    TargetMissing {
        /// The compiler that was asked.
        rustc: String,
    },
    /// Cargo ran and failed; its own messages went to standard error.
    #[error("cargo could not build {what} ({status}): its messages are above")]
    Cargo {
        /// What was built.
        what: String,
        /// How cargo ended.
        status: std::process::ExitStatus,
    },
    /// Everything compiled, but no plugin came of it.
    #[error(
        "{what} has no cdylib: add `[lib] crate-type = [\"cdylib\", \"rlib\"]` to its Cargo.toml \
         (for an example: `[[example]] crate-type = [\"cdylib\"]`)"
    )]
    NoCdylib {
        /// What was built.
        what: String,
    },
    /// The module is no plugin.
    #[error("{}: {source}", path.display())]
    Component {
        /// The core module.
        path: PathBuf,
        /// What is wrong with it.
        source: ComponentError,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Builds plugins and writes one component each. A file is replaced in one step
/// (written beside it, then renamed), so a watching runtime never sees half of it.
/// Compiler messages go to standard error as cargo prints them.
///
/// # Errors
/// [`BuildError`]; nothing is written for a plugin that did not encode.
pub fn build(request: &BuildRequest) -> Result<Vec<Built>, BuildError> {
    demand_target(&request.dir)?;
    let artifacts = cargo_build(request)?;
    if artifacts.is_empty() {
        return Err(BuildError::NoCdylib { what: request.what() });
    }
    fs::create_dir_all(&request.out).map_err(at(&request.out))?;
    artifacts.iter().map(|artifact| finish(request, artifact)).collect()
}

impl BuildRequest {
    fn what(&self) -> String {
        let subject = if self.packages.is_empty() {
            self.dir.display().to_string()
        } else {
            self.packages.join(", ")
        };
        if self.examples { format!("the examples of {subject}") } else { subject }
    }

    fn command(&self) -> Command {
        let mut cargo = Command::new(program("CARGO", "cargo"));
        cargo
            .current_dir(&self.dir)
            .args(["build", "--target", TARGET, "--message-format=json-render-diagnostics"])
            .args(["--profile", &self.profile])
            .arg(if self.examples { "--examples" } else { "--lib" });
        for package in &self.packages {
            cargo.args(["--package", package]);
        }
        if !self.features.is_empty() {
            cargo.arg("--features").arg(self.features.join(","));
        }
        if let Some(target_dir) = &self.target_dir {
            // cargo runs in `dir`, while the caller meant its own working directory
            cargo.arg("--target-dir").arg(absolute(target_dir));
        }
        cargo
    }
}

/// A core module that cargo made.
struct Artifact {
    name: String,
    module: PathBuf,
}

fn cargo_build(request: &BuildRequest) -> Result<Vec<Artifact>, BuildError> {
    let mut command = request.command();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| not_started(source, &command, "CARGO", &request.dir))?;
    let mut artifacts = Vec::new();
    let stdout = child.stdout.take().expect("stdout is piped two lines above");
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(at(&request.dir))?;
        // other messages (build scripts, "build finished") have another shape
        if let Ok(message) = serde_json::from_str::<Message>(&line) {
            artifacts.extend(message.plugin(request));
        }
    }
    let status = child.wait().map_err(at(&request.dir))?;
    if !status.success() {
        return Err(BuildError::Cargo { what: request.what(), status });
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
        let name = if is_example { &self.target.name } else { package };
        let name = format!("{}{}{}", request.prefix, name.replace('_', "-"), request.suffix);
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

fn finish(request: &BuildRequest, artifact: &Artifact) -> Result<Built, BuildError> {
    let module = fs::read(&artifact.module).map_err(at(&artifact.module))?;
    let component = componentize(&module)
        .map_err(|source| BuildError::Component { path: artifact.module.clone(), source })?;
    let path = request.out.join(format!("{}.wasm", artifact.name));
    let changed = fs::read(&path).map_or(true, |old| old != component);
    if changed {
        replace(&path, &request.out, &component).map_err(at(&path))?;
    }
    Ok(Built { name: artifact.name.clone(), path, size: component.len() as u64, changed })
}

fn replace(path: &Path, dir: &Path, bytes: &[u8]) -> io::Result<()> {
    // the name begins with a dot and does not end in .wasm: no watcher loads it
    let mut file = tempfile::Builder::new().prefix(".building-").tempfile_in(dir)?;
    file.write_all(bytes)?;
    readable(file.as_file())?;
    file.persist(path)?;
    Ok(())
}

/// Temporary files are private to their owner, and the runtime may be another user.
#[cfg(unix)]
fn readable(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &fs::File) -> io::Result<()> {
    Ok(())
}

fn demand_target(dir: &Path) -> Result<(), BuildError> {
    let mut command = Command::new(program("RUSTC", "rustc"));
    command.current_dir(dir).args(["--print", "target-libdir", "--target", TARGET]);
    let output = command
        .stderr(Stdio::null())
        .output()
        .map_err(|source| not_started(source, &command, "RUSTC", dir))?;
    let libdir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let has_std = fs::read_dir(&libdir).is_ok_and(|mut files| {
        files.any(|f| f.is_ok_and(|f| f.file_name().to_string_lossy().starts_with("libstd-")))
    });
    if has_std {
        return Ok(());
    }
    Err(BuildError::TargetMissing { rustc: command.get_program().to_string_lossy().into_owned() })
}

fn program(variable: &str, default: &str) -> OsString {
    env::var_os(variable).filter(|v| !v.is_empty()).unwrap_or_else(|| default.into())
}

fn not_started(
    source: io::Error,
    command: &Command,
    variable: &'static str,
    dir: &Path,
) -> BuildError {
    // a missing working directory gives the same error as a missing program
    if source.kind() == io::ErrorKind::NotFound && dir.is_dir() {
        let program = command.get_program().to_string_lossy().into_owned();
        return BuildError::NotFound { program, variable };
    }
    BuildError::Io { path: dir.to_owned(), source }
}

/// Cargo reports paths without symlinks.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Io { path, source }
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
        let mut wanted = request();
        wanted.suffix = "-v2".into();
        assert_eq!(library.plugin(&wanted).unwrap().name, "my-plugin-v2");

        let example = || message("path+file:///p#programs@1.0.0", "example", "stack_overflow");
        assert!(example().plugin(&request()).is_none(), "examples were not asked for");
        let mut wanted = request();
        wanted.examples = true;
        wanted.prefix = "program-".into();
        let artifact = example().plugin(&wanted).unwrap();
        assert_eq!(artifact.name, "program-stack-overflow");
        assert_eq!(artifact.module, Path::new("/t/lib.wasm"));
    }

    #[test]
    fn the_cdylib_of_a_dependency_is_no_plugin() {
        let mut wanted = request();
        wanted.packages = vec!["mine".into()];
        let other = message("path+file:///p/other#1.0.0", "cdylib", "other");
        assert!(other.plugin(&wanted).is_none());
    }

    #[test]
    fn a_file_with_the_same_bytes_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let mut wanted = request();
        wanted.out = dir.path().into();
        let module = dir.path().join("m");
        fs::write(&module, wat::parse_str("(component)").unwrap()).unwrap();
        let artifact = Artifact { name: "p".into(), module };
        let first = finish(&wanted, &artifact).unwrap();
        assert!(first.changed);
        assert_eq!(fs::metadata(&first.path).unwrap().len(), first.size);
        assert!(!finish(&wanted, &artifact).unwrap().changed);
        fs::write(&first.path, b"other").unwrap();
        assert!(finish(&wanted, &artifact).unwrap().changed);
        let names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "a temporary file stayed behind: {names:?}");
    }

    #[test]
    fn a_missing_folder_is_not_reported_as_a_missing_compiler() {
        let error = build(&BuildRequest::new("/no/such/plugin", "/out")).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/plugin: "), "{error}");
    }
}
