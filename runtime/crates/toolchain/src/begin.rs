//! A new plugin's folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{BuildError, Language, build::absolute};

/// Files of a new plugin: path within its folder, and text, in which `{{name}}` stands for the
/// plugin's name, `{{ident}}` for the same as an identifier, and `{{sdk}}` for where the SDK is.
pub(crate) type Template = &'static [(&'static str, &'static str)];

/// The cases of a new plugin: it does the same in each language.
const CASES: (&str, &str) = ("cases.toml", include_str!("../templates/cases.toml"));

/// What plugin to begin, and where.
#[derive(Debug, Clone)]
pub struct BeginRequest {
    /// What it is to be written in.
    pub language: Language,
    /// Its name, in kebab-case.
    pub name: String,
    /// The folder in which its own is made.
    pub parent: PathBuf,
    /// The `sdk` folder of a checkout, instead of the published package.
    pub sdk: Option<PathBuf>,
}

/// A plugin that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Its folder.
    pub dir: PathBuf,
    /// Commands to run there: its tests, its cases, and what builds it at each save.
    pub next: Vec<&'static str>,
}

/// Writes a plugin to begin with: a handler, tests and cases of it, and what its build needs.
///
/// # Errors
/// [`BuildError::BadName`], [`BuildError::Occupied`] where its folder has anything in it, and
/// [`BuildError::Io`].
pub fn begin(request: &BeginRequest) -> Result<Begun, BuildError> {
    let BeginRequest { language, name, parent, sdk } = request;
    if !is_plugin_name(name) {
        return Err(BuildError::BadName { name: name.clone() });
    }
    let dir = parent.join(name);
    if fs::read_dir(&dir).is_ok_and(|mut files| files.next().is_some()) {
        return Err(BuildError::Occupied { path: dir });
    }
    let sdk = language.sdk(sdk.as_deref().map(absolute).as_deref());
    for (file, text) in language.template().iter().chain([&CASES]) {
        let text = text
            .replace("{{name}}", name)
            .replace("{{ident}}", &name.replace('-', "_"))
            .replace("{{sdk}}", &sdk);
        write(&dir.join(file), &text)?;
    }
    Ok(Begun { dir, next: [language.first_steps(), &["sandbar plugin dev"]].concat() })
}

fn is_plugin_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits)
}

fn write(path: &Path, text: &str) -> Result<(), BuildError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(BuildError::at(folder))?;
    }
    fs::write(path, text).map_err(BuildError::at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(language: Language, parent: &Path) -> BeginRequest {
        BeginRequest { language, name: "order-alerts".into(), parent: parent.into(), sdk: None }
    }

    #[test]
    fn every_language_begins_a_folder_that_is_told_as_its_own() {
        for language in Language::ALL {
            let parent = tempfile::tempdir().unwrap();
            let dir = begin(&request(language, parent.path())).unwrap().dir;
            assert_eq!(Language::of(&dir).unwrap(), language);
            for (file, _) in language.template().iter().chain([&CASES]) {
                let text = fs::read_to_string(dir.join(file)).unwrap();
                assert!(!text.contains("{{"), "{language}: {file} has a place left open:\n{text}");
            }
        }
    }

    #[test]
    fn a_checkout_s_sdk_is_named_by_its_path() {
        for language in Language::ALL {
            let parent = tempfile::tempdir().unwrap();
            let sdk = Some(parent.path().join("sdk"));
            let dir = begin(&BeginRequest { sdk, ..request(language, parent.path()) }).unwrap().dir;
            let texts = language.template().iter().map(|(file, _)| dir.join(file));
            let texts: String = texts.map(|file| fs::read_to_string(file).unwrap()).collect();
            let sdk = absolute(parent.path()).join("sdk");
            assert!(texts.contains(&*sdk.to_string_lossy()), "{language}: {texts}");
        }
    }

    #[test]
    fn a_folder_with_something_in_it_and_an_odd_name_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let wanted = request(Language::Python, parent.path());
        begin(&wanted).unwrap();
        let again = begin(&wanted).unwrap_err();
        assert!(matches!(again, BuildError::Occupied { .. }), "{again}");
        for name in ["", "Order", "order_alerts", "-order", "../order", "1st"] {
            let error = begin(&BeginRequest { name: name.into(), ..wanted.clone() }).unwrap_err();
            assert!(matches!(error, BuildError::BadName { .. }), "{name}: {error}");
        }
    }
}
