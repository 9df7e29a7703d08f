//! From a plugin's folder to `NAME.wasm`.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{BuildError, Language};

/// What to build and where to put it.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The plugin's folder; for Rust also a folder of the workspace that `packages` are in.
    pub dir: PathBuf,
    /// Rust: packages to build; empty: the one in `dir`.
    pub packages: Vec<String>,
    /// Rust: cargo features to switch on.
    pub features: Vec<String>,
    /// Rust: cargo profile.
    pub profile: String,
    /// Rust: build the packages' examples instead of their libraries; each example with
    /// `crate-type = ["cdylib"]` is a plugin.
    pub examples: bool,
    /// Folder that receives `NAME.wasm`; made if it is not there.
    pub out: PathBuf,
    /// Folder for intermediate files; `None`: as cargo finds it for Rust, else `.sandbar` in `dir`.
    pub target_dir: Option<PathBuf>,
    /// Put before each plugin's name.
    pub prefix: String,
    /// Put after each plugin's name.
    pub suffix: String,
}

impl BuildRequest {
    /// Builds the plugin in `dir`, optimised, into `out`.
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

    /// The folder for intermediate files of languages other than Rust, made.
    pub(crate) fn scratch(&self) -> Result<PathBuf, BuildError> {
        let dir = self.target_dir.clone().unwrap_or_else(|| self.dir.join(".sandbar"));
        fs::create_dir_all(&dir).map_err(BuildError::at(&dir))?;
        Ok(absolute(&dir))
    }
}

/// A plugin that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Built {
    /// Plugin name in kebab-case with prefix and suffix.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// `OUT/NAME.wasm`.
    pub path: PathBuf,
    /// Bytes of the component.
    pub size: u64,
    /// `false`: the file held these very bytes already and was not touched, so a
    /// runtime that watches the folder sees no change.
    pub changed: bool,
}

/// What a language's toolchain made.
pub(crate) struct Component {
    /// Plugin name in kebab-case.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Builds plugins and writes one component each. A file is replaced in one step
/// (written beside it, then renamed), so a watching runtime never sees half of it.
/// Compiler messages go to standard error.
///
/// # Errors
/// [`BuildError`]; nothing is written for a plugin that did not encode.
pub fn build(request: &BuildRequest) -> Result<Vec<Built>, BuildError> {
    // cargo finds packages from any folder of their workspace
    let language =
        if request.packages.is_empty() { Language::of(&request.dir)? } else { Language::Rust };
    let only_rust = request.examples || !request.features.is_empty();
    if only_rust && language != Language::Rust {
        return Err(BuildError::OnlyRust { dir: request.dir.clone(), language });
    }
    let components = language.build(request)?;
    fs::create_dir_all(&request.out).map_err(BuildError::at(&request.out))?;
    components.into_iter().map(|component| finish(request, language, component)).collect()
}

fn finish(
    request: &BuildRequest,
    language: Language,
    component: Component,
) -> Result<Built, BuildError> {
    let name = format!("{}{}{}", request.prefix, component.name, request.suffix);
    let path = request.out.join(format!("{name}.wasm"));
    let changed = fs::read(&path).map_or(true, |old| old != component.bytes);
    if changed {
        replace(&path, &request.out, &component.bytes).map_err(BuildError::at(&path))?;
    }
    Ok(Built { name, language, path, size: component.bytes.len() as u64, changed })
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

/// The path without symlinks, as cargo reports it.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_the_same_bytes_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let mut wanted = BuildRequest::new("/p", dir.path());
        wanted.suffix = "-v2".into();
        let write = |bytes: &[u8]| {
            let component = Component { name: "p".into(), bytes: bytes.to_vec() };
            finish(&wanted, Language::Rust, component).unwrap()
        };
        let first = write(b"one");
        assert!(first.changed && first.path.ends_with("p-v2.wasm"));
        assert_eq!(fs::metadata(&first.path).unwrap().len(), first.size);
        assert!(!write(b"one").changed);
        assert!(write(b"other").changed);
        let names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(names.len(), 1, "a temporary file stayed behind: {names:?}");
    }

    #[test]
    fn a_missing_folder_is_not_reported_as_a_missing_compiler() {
        let error = build(&BuildRequest::new("/no/such/plugin", "/out")).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/plugin: "), "{error}");
        let packages = vec!["p".to_owned()];
        let request = BuildRequest { packages, ..BuildRequest::new("/no/such/plugin", "/out") };
        let error = build(&request).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/plugin: "), "{error}");
    }

    #[test]
    fn options_of_cargo_are_refused_for_other_languages() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("handler.py"), "").unwrap();
        let request = BuildRequest { examples: true, ..BuildRequest::new(dir.path(), "/out") };
        let error = build(&request).unwrap_err().to_string();
        assert!(error.contains("Rust's") && error.ends_with("is python"), "{error}");
    }
}
