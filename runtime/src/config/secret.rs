//! Where secrets come from, and what is read there. The configuration holds references.

use std::{
    fmt,
    io::{self, Read as _},
    path::PathBuf,
};

use sandbar_wasm::SecretValue;

/// Largest file that a secret is read from, in bytes.
const LONGEST: u64 = 64 << 10;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a variable of this process.
    Env(String),
    /// In a file, with or without an end of line.
    File(PathBuf),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// Why a secret, or what belongs to it, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not there.
    #[error("{setting}: variable {name} is not set: set it for the runtime, and start that again")]
    Unset {
        /// The setting that refers to it.
        setting: String,
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("{setting}: cannot read {}: {source}", path.display())]
    File {
        /// The setting that refers to it.
        setting: String,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It was read and is of no use.
    #[error("{setting}: {reason}")]
    Unfit {
        /// The setting that refers to it.
        setting: String,
        /// Why, without the value.
        reason: String,
    },
}

impl SecretError {
    /// Whether the same may work later: a file may come, a variable does not.
    pub fn may_work_later(&self) -> bool {
        matches!(self, Self::File { .. })
    }
}

impl SecretSource {
    /// What is there now; `setting` is what refers to it, for messages. Blocks.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(&self, setting: &str) -> Result<SecretValue, SecretError> {
        let setting = || setting.to_owned();
        match self {
            Self::Env(name) => match std::env::var_os(name) {
                Some(value) => Ok(SecretValue::new(value.into_encoded_bytes())),
                None => Err(SecretError::Unset { setting: setting(), name: name.clone() }),
            },
            Self::File(path) => {
                let failed =
                    |source| SecretError::File { setting: setting(), path: path.clone(), source };
                let mut bytes = Vec::new();
                let file = std::fs::File::open(path).map_err(failed)?;
                file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
                if bytes.len() as u64 > LONGEST {
                    let reason = format!("{} has more than {LONGEST} bytes", path.display());
                    return Err(SecretError::Unfit { setting: setting(), reason });
                }
                // editors and `echo` end a file with it; it is no part of a password
                let end =
                    if bytes.ends_with(b"\r\n") { 2 } else { usize::from(bytes.ends_with(b"\n")) };
                bytes.truncate(bytes.len() - end);
                Ok(SecretValue::new(bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_its_last_end_of_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (text, secret) in
            [("a\nb\n", "a\nb"), ("x\r\n", "x"), ("x", "x"), ("x\n\n", "x\n"), ("", "")]
        {
            std::fs::write(&path, text).unwrap();
            let read = SecretSource::File(path.clone()).read("secrets.s").unwrap();
            assert_eq!(read, SecretValue::new(secret));
        }
    }

    #[test]
    fn what_is_missing_is_named_by_setting_and_place() {
        let error = SecretSource::Env("NO_SUCH_VARIABLE".into()).read("secrets.token").unwrap_err();
        assert_eq!(
            error.to_string(),
            "secrets.token: variable NO_SUCH_VARIABLE is not set: set it for the runtime, and start that again"
        );
        let error = SecretSource::File("/no/such/file".into()).read("secrets.token").unwrap_err();
        assert!(error.may_work_later());
        let said = error.to_string();
        assert!(said.starts_with("secrets.token: cannot read /no/such/file: "), "{said}");
    }
}
