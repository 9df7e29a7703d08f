//! Compiled plugins on disk, so that a start costs milliseconds instead of seconds.
//!
//! An artifact `KEY.cwasm` is native code. It is run only if it is the very file that
//! this host wrote: the folder belongs to this user and no one else may write to it,
//! and `KEY.sum` holds the digest of the artifact. The key covers the plugin's bytes,
//! wasmtime's version, and every setting of the engine that changes code.

use std::{
    fs::{self, File},
    hash::{Hash, Hasher},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tempfile::NamedTempFile;
use wasmtime::{Engine, component::Component};

use crate::HostError;

/// Artifacts not used for this long are deleted at start.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// A folder of compiled plugins.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    /// Held while a plugin is compiled. That uses all cores by itself; several at once would only
    /// need the memory of several, and copies of one file would be compiled once each.
    pub(crate) compiling: Mutex<()>,
}

impl Cache {
    pub(crate) fn open(dir: PathBuf) -> Result<Self, HostError> {
        let cache = Self { dir, compiling: Mutex::default() };
        match cache.prepare() {
            Ok(()) => Ok(cache),
            Err(e) => Err(HostError::Cache { path: cache.dir, reason: e.to_string() }),
        }
    }

    fn prepare(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.dir)?;
        // also finds out whether it can be written to at all
        let probe = NamedTempFile::new_in(&self.dir)?;
        #[cfg(unix)]
        demand_private(&self.dir, &probe)?;
        drop(probe);
        self.sweep()
    }

    fn sweep(&self) -> io::Result<()> {
        let too_old = |entry: &fs::DirEntry| {
            let age = entry.metadata()?.modified()?.elapsed();
            io::Result::Ok(age.is_ok_and(|age| age > KEEP))
        };
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            // another process may sweep as well
            if too_old(&entry).unwrap_or(false) {
                fs::remove_file(entry.path()).or_else(gone)?;
            }
        }
        Ok(())
    }

    /// The compiled plugin, if it is there and undamaged.
    pub(crate) fn get(&self, engine: &Engine, key: &str) -> Option<Component> {
        match self.read(engine, key) {
            Ok(component) => component,
            Err(reason) => {
                tracing::warn!(key, reason, "a compiled plugin is damaged, compiling it again");
                None
            }
        }
    }

    fn read(&self, engine: &Engine, key: &str) -> Result<Option<Component>, String> {
        let artifact = self.artifact(key);
        let written = match fs::read_to_string(self.sum(key)) {
            Ok(written) => written,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        if written != digest_of(&artifact).map_err(|e| e.to_string())? {
            return Err("its digest is not the one written down".into());
        }
        // SAFETY: the file is native code that this host compiled: it lies in a folder
        // that only this user may write to (checked in `prepare`), its digest is the one
        // written down beside it, and it is only ever replaced by a rename.
        #[expect(unsafe_code, reason = "running compiled artifacts has no safe form")]
        let component = unsafe { Component::deserialize_file(engine, &artifact) };
        let component = component.map_err(|e| format!("{e:#}"))?;
        // only for `sweep`; a file system without times sweeps too early, no more
        let used = File::options().append(true).open(&artifact);
        if let Err(e) = used.and_then(|file| file.set_modified(SystemTime::now())) {
            tracing::debug!(key, error = %e, "cannot note the use of a compiled plugin");
        }
        Ok(Some(component))
    }

    /// Keeps an artifact. A crash at any point leaves it whole, absent, or found damaged.
    pub(crate) fn put(&self, key: &str, artifact: &[u8]) -> io::Result<()> {
        self.replace(&self.artifact(key), artifact)?;
        self.replace(&self.sum(key), blake3::hash(artifact).to_hex().as_bytes())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.dir)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    }

    fn artifact(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.cwasm"))
    }

    fn sum(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.sum"))
    }
}

fn digest_of(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn gone(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

#[cfg(unix)]
fn demand_private(dir: &Path, probe: &NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let folder = fs::metadata(dir)?;
    if folder.uid() != probe.as_file().metadata()?.uid() {
        return Err(io::Error::other(
            "it belongs to another user, who could change the code that is run from it: use a \
             folder of your own",
        ));
    }
    if folder.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "others may write to it (mode {:03o}) and so change the code that is run from it: \
             run `chmod 700` on it",
            folder.mode() & 0o777
        )));
    }
    Ok(())
}

/// Name of a compiled plugin: two plugins, two versions of wasmtime, or two settings
/// never share one.
pub(crate) fn key(engine: &Engine, digest: &blake3::Hash) -> String {
    struct Feed(blake3::Hasher);
    impl Hasher for Feed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut feed = Feed(blake3::Hasher::new());
    feed.write(digest.as_bytes());
    // covers wasmtime's version, the target, and all settings that change code
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.0.finalize().to_hex().to_string()
}
