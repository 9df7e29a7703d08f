//! The languages that plugins are written in.

use std::{fmt, path::Path, str::FromStr};

use serde::Serialize;

use crate::{
    BuildError, BuildRequest, begin::Template, build::Component, c, go, javascript, python, rust,
};

/// A language that plugins are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Compiled by cargo.
    Rust,
    /// Bundled with an engine by componentize-js.
    #[serde(rename = "js")]
    JavaScript,
    /// As JavaScript, with its types checked first.
    #[serde(rename = "ts")]
    TypeScript,
    /// Bundled with an interpreter by componentize-py.
    Python,
    /// Compiled by the Go toolchain.
    Go,
    /// Compiled by clang or zig.
    C,
}

impl Language {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Rust, Self::JavaScript, Self::TypeScript, Self::Python, Self::Go, Self::C];

    /// The name that `sandbar plugin new --lang` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::TypeScript => "ts",
            Self::Python => "python",
            Self::Go => "go",
            Self::C => "c",
        }
    }

    /// What the plugin in `dir` is written in, by the files that are there.
    ///
    /// # Errors
    /// [`BuildError::NoLanguage`], and [`BuildError::Io`] where the folder cannot be read.
    pub fn of(dir: &Path) -> Result<Self, BuildError> {
        let listed = std::fs::read_dir(dir).map_err(BuildError::at(dir))?;
        let names: Vec<_> =
            listed.flatten().map(|f| f.file_name().to_string_lossy().into_owned()).collect();
        let has = |name: &str| names.iter().any(|n| n == name);
        let has_source = |extension: &str| names.iter().any(|n| n.ends_with(extension));
        // a manifest says more than a source: a Rust plugin may hold a C file
        Ok(match () {
            () if has("Cargo.toml") => Self::Rust,
            () if has("go.mod") => Self::Go,
            () if has("package.json") && has("tsconfig.json") => Self::TypeScript,
            () if has("package.json") => Self::JavaScript,
            () if has("pyproject.toml") || has_source(".py") => Self::Python,
            () if has_source(".c") || holds_c(&dir.join("src")) => Self::C,
            () => return Err(BuildError::NoLanguage { dir: dir.to_owned() }),
        })
    }

    pub(crate) fn build(self, request: &BuildRequest) -> Result<Vec<Component>, BuildError> {
        match self {
            Self::Rust => rust::build(request),
            Self::JavaScript | Self::TypeScript => javascript::build(request),
            Self::Python => python::build(request),
            Self::Go => go::build(request),
            Self::C => c::build(request),
        }
    }

    pub(crate) fn template(self) -> Template {
        match self {
            Self::Rust => rust::TEMPLATE,
            Self::JavaScript => javascript::TEMPLATE,
            Self::TypeScript => javascript::TYPESCRIPT,
            Self::Python => python::TEMPLATE,
            Self::Go => go::TEMPLATE,
            Self::C => c::TEMPLATE,
        }
    }

    /// What to run in a new plugin's folder, up to its tests and cases.
    pub(crate) fn first_steps(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["cargo test", "sandbar plugin test"],
            Self::JavaScript | Self::TypeScript => {
                &["npm install", "npm test", "sandbar plugin test"]
            }
            Self::Python => &[
                "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
                ".venv/bin/pytest",
                "sandbar plugin test",
            ],
            // its first build brings the SDK
            Self::Go => &["sandbar plugin test", "go test ./..."],
            Self::C => &["sandbar plugin test"],
        }
    }

    /// How a plugin's manifest names its SDK: the published package, or the one in the `sdk`
    /// folder of a checkout.
    pub(crate) fn sdk(self, checkout: Option<&Path>) -> String {
        match self {
            Self::Rust => rust::sdk(checkout),
            Self::JavaScript | Self::TypeScript => javascript::sdk(checkout),
            Self::Python => python::sdk(checkout),
            Self::Go => go::sdk(checkout),
            Self::C => c::sdk(checkout),
        }
    }
}

fn holds_c(dir: &Path) -> bool {
    let is_c = |path: &Path| path.extension().is_some_and(|e| e == "c");
    std::fs::read_dir(dir).is_ok_and(|files| files.flatten().any(|f| is_c(&f.path())))
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no language that plugins are made of: use one of rust, js, ts, python, go, c")]
pub struct UnknownLanguage(pub String);

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(name: &str) -> Result<Self, UnknownLanguage> {
        let found = Self::ALL.into_iter().find(|language| language.as_str() == name);
        found.ok_or_else(|| UnknownLanguage(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(files: &[&str]) -> Result<Language, BuildError> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        Language::of(dir.path())
    }

    #[test]
    fn the_language_is_told_by_the_files() {
        for (files, language) in [
            (&["Cargo.toml", "shim.c"][..], Language::Rust),
            (&["go.mod", "main.go"], Language::Go),
            (&["package.json", "handler.js"], Language::JavaScript),
            (&["package.json", "tsconfig.json", "handler.ts"], Language::TypeScript),
            (&["pyproject.toml"], Language::Python),
            (&["handler.py"], Language::Python),
            (&["handler.c", "README.md"], Language::C),
            (&["src/handler.c"], Language::C),
        ] {
            assert_eq!(of(files).unwrap(), language, "{files:?}");
        }
        let error = of(&["README.md", "src/notes.txt"]).unwrap_err().to_string();
        assert!(error.contains("go.mod") && error.contains("plugin new"), "{error}");
    }

    #[test]
    fn every_language_is_found_by_its_name() {
        for language in Language::ALL {
            assert_eq!(language.as_str().parse(), Ok(language));
        }
        let error = "perl".parse::<Language>().unwrap_err().to_string();
        assert!(Language::ALL.iter().all(|l| error.contains(l.as_str())), "{error}");
    }
}
