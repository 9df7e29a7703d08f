//! Compiled plugins on disk.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use sandbar_wasm::{Host, HostConfig, Inspection};
use tempfile::TempDir;

use crate::support::{config, program};

fn host(dir: &Path) -> Arc<Host> {
    Host::new(HostConfig { cache_dir: Some(dir.to_owned()), ..config() }).unwrap()
}

async fn inspect(dir: &Path) -> Inspection {
    host(dir).inspect(program("echo")).await.unwrap()
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}

#[tokio::test]
async fn a_plugin_is_compiled_once() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("new/cache");
    assert!(!inspect(&dir).await.cached);
    assert!(inspect(&dir).await.cached);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!((files(&dir, "cwasm").len(), files(&dir, "sum").len()), (1, 1));
    // another plugin is not mistaken for it
    assert!(!host(&dir).inspect(program("counts")).await.unwrap().cached);
}

/// Native code whose bytes changed on disk must never run.
#[tokio::test]
async fn a_damaged_artifact_is_compiled_again() {
    let temp = TempDir::new().unwrap();
    inspect(temp.path()).await;
    let artifact = files(temp.path(), "cwasm").remove(0);
    let whole = fs::read(&artifact).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [flipped, whole[..whole.len() / 2].to_vec(), Vec::new()] {
        // by a new file, as a running process may have the old one mapped
        fs::remove_file(&artifact).unwrap();
        fs::write(&artifact, damaged).unwrap();
        assert!(!inspect(temp.path()).await.cached, "a damaged file was used");
        assert!(inspect(temp.path()).await.cached, "it was not mended");
    }
    fs::remove_file(&artifact).unwrap();
    assert!(!inspect(temp.path()).await.cached);
    fs::write(files(temp.path(), "sum").remove(0), "").unwrap();
    assert!(!inspect(temp.path()).await.cached);
}

#[tokio::test]
async fn a_folder_that_others_may_write_to_is_refused() {
    let temp = TempDir::new().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let config = HostConfig { cache_dir: Some(temp.path().to_owned()), ..config() };
    let error = Host::new(config).unwrap_err().to_string();
    let error = error.replace(temp.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(error, @"cannot keep compiled plugins in DIR: others may write to it (mode 777) and so change the code that is run from it: run `chmod 700` on it");
}

#[tokio::test]
async fn artifacts_that_no_one_uses_are_deleted() {
    let temp = TempDir::new().unwrap();
    let old = temp.path().join("old.cwasm");
    let file = fs::File::create(&old).unwrap();
    let age = std::time::Duration::from_secs(31 * 24 * 3600);
    file.set_modified(std::time::SystemTime::now() - age).unwrap();
    inspect(temp.path()).await;
    assert!(!old.exists());
    assert_eq!(files(temp.path(), "cwasm").len(), 1, "what is in use stays");
}
