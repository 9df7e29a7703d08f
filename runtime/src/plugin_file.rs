//! Plugin files on disk: which ones a folder holds and what is in them.
//!
//! `NAME.wasm` is a plugin called `NAME`; `NAME.toml` beside it overrides its
//! settings. Everything here blocks and is called from blocking threads.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use crate::config::ROUTE;

/// Largest plugin file that is read, in bytes. Interpreters compiled to Wasm
/// (Python, JavaScript) are 12 to 18 MB.
pub const MAX_PLUGIN_BYTES: u64 = 128 << 20;

/// Largest `NAME.toml`, in bytes.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Length in bytes.
    pub len: u64,
    /// Last change of the content.
    pub modified: Option<SystemTime>,
    /// Inode and change time where the platform has them: a rename over a file
    /// keeps neither, even when length and modification time are equal.
    identity: (u64, u64, i64, i64),
}

impl Stamp {
    fn new(meta: &Metadata) -> Self {
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt as _;
            (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec())
        };
        #[cfg(not(unix))]
        let identity = Default::default();
        Self { len: meta.len(), modified: meta.modified().ok(), identity }
    }

    /// Time from the last change to `now`, where the platform says when that was; unlike the time
    /// of modification, no program can set it.
    fn age(&self, now: SystemTime) -> Option<Duration> {
        let (_, _, seconds, nanos) = self.identity;
        let changed = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
        if changed.is_zero() {
            return None;
        }
        now.duration_since(SystemTime::UNIX_EPOCH + changed).ok()
    }
}

/// The stamps of one plugin's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// `NAME.wasm`.
    pub wasm: Stamp,
    /// `NAME.toml`, where it exists.
    pub settings: Option<Stamp>,
}

impl Stamps {
    /// How long both have been as they are, where that is known.
    pub(crate) fn age(&self, now: SystemTime) -> Option<Duration> {
        let wasm = self.wasm.age(now)?;
        self.settings.map_or(Some(wasm), |settings| Some(wasm.min(settings.age(now)?)))
    }
}

/// One plugin in the folder, as it was when its files had settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFile {
    /// `NAME.wasm`.
    pub wasm: PathBuf,
    /// `NAME.toml`, which need not exist.
    pub settings: PathBuf,
    /// What the files looked like.
    pub stamps: Stamps,
    /// Rises each time the files settle anew, so that a rewrite within one tick
    /// of the file system's clock is looked at too.
    pub revision: u64,
}

/// What a folder holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Plugins by name.
    pub plugins: BTreeMap<String, Stamps>,
    /// Plugins whose files exist but could not be looked at just now.
    pub unknown: BTreeSet<String>,
}

/// The content of one plugin's files.
#[derive(Debug, Clone)]
pub struct Contents {
    /// `NAME.wasm`.
    pub wasm: Bytes,
    /// `NAME.toml`, where it exists.
    pub settings: Option<String>,
}

/// Why a plugin's files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// They changed while they were read; they will settle again.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// Larger than a plugin may be.
    #[error("{} has {len} bytes, more than the {max} bytes a plugin file may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The settings file is no text.
    #[error("{} is not valid UTF-8; settings are TOML text", .0.display())]
    NotText(PathBuf),
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The plugin whose file `file` is: the stem of `*.wasm` and `*.toml` that is no
/// dotfile. Editors' and downloaders' temporary names end otherwise.
pub fn plugin_of(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_string_lossy();
    let stem = name.strip_suffix(".wasm").or_else(|| name.strip_suffix(".toml"))?;
    (!stem.is_empty() && !stem.starts_with('.')).then(|| stem.to_owned())
}

/// Whether a plugin can be called `name`: it must not look like a route.
pub fn is_valid_name(name: &str) -> bool {
    is_legal_name(name) && !name.starts_with(ROUTE)
}

/// Whether `name` can be part of a consumer group and a topic on every broker.
pub(crate) fn is_legal_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 128 && name.chars().all(legal)
}

/// Lists the plugins of a folder, following symbolic links.
///
/// # Errors
/// If the folder itself cannot be read. A file that cannot be looked at is in
/// [`Listing::unknown`]: an ailing network mount must not look like a removal.
pub fn list(folder: &Path) -> io::Result<Listing> {
    let mut files: BTreeMap<String, (Option<Stamp>, Option<Stamp>)> = BTreeMap::new();
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = plugin_of(&path) else { continue };
        // not the entry's own metadata: that would be the symbolic link's
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_file() => {
                let (wasm, settings) = files.entry(name).or_default();
                let is_wasm = path.extension().is_some_and(|e| e == "wasm");
                *(if is_wasm { wasm } else { settings }) = Some(Stamp::new(&meta));
            }
            Ok(_) => {}
            // removed since the listing, or a link to nowhere
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(_) => {
                listing.unknown.insert(name);
            }
        }
    }
    for (name, (wasm, settings)) in files {
        if let Some(wasm) = wasm {
            listing.plugins.insert(name, Stamps { wasm, settings });
        }
    }
    Ok(listing)
}

/// Tells one folder from another that is later found at the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderId(u64, u64);

/// Which folder is at `path` now.
///
/// # Errors
/// If there is none, or it cannot be looked at.
pub fn folder_id(path: &Path) -> io::Result<FolderId> {
    let (device, inode, ..) = Stamp::new(&std::fs::metadata(path)?).identity;
    Ok(FolderId(device, inode))
}

/// Reads a plugin's files and makes sure that they are the ones that settled.
///
/// # Errors
/// [`ReadError::Changed`] if they are not; the others as they say.
pub fn read(file: &PluginFile) -> Result<Contents, ReadError> {
    let wasm = read_one(&file.wasm, &file.stamps.wasm, MAX_PLUGIN_BYTES)?;
    let settings = match &file.stamps.settings {
        None => None,
        Some(stamp) => {
            let bytes = read_one(&file.settings, stamp, MAX_SETTINGS_BYTES)?;
            let text = String::from_utf8(bytes);
            Some(text.map_err(|_| ReadError::NotText(file.settings.clone()))?)
        }
    };
    Ok(Contents { wasm: wasm.into(), settings })
}

fn read_one(path: &Path, settled: &Stamp, max: u64) -> Result<Vec<u8>, ReadError> {
    if settled.len > max {
        return Err(ReadError::TooLarge { path: path.to_owned(), len: settled.len, max });
    }
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let changed = || ReadError::Changed(path.to_owned());
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(changed()),
        opened => opened.map_err(io)?,
    };
    let mut bytes = Vec::new();
    (&file).take(max + 1).read_to_end(&mut bytes).map_err(io)?;
    if Stamp::new(&file.metadata().map_err(io)?) != *settled || bytes.len() as u64 != settled.len {
        return Err(changed());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
