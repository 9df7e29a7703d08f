//! The contract between host and plugins, for the generators of bindings: a plugin's folder
//! has no copy of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::BuildError;

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../wit/0.1.1/", $path)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "context.wit",
    "handler.wit",
    "metrics.wit",
    "packed.wit",
    "plugin.wit",
    "publisher.wit",
    "secrets.wit",
    "state.wit",
    "types.wit",
    "worlds.wit",
    "deps/wasi-clocks/clocks.wit",
    "deps/wasi-config/store.wit",
    "deps/wasi-http/http.wit",
    "deps/wasi-io/io.wit",
    "deps/wasi-logging/logging.wit",
];

/// Writes it to `dir/wit` and returns that folder.
pub(crate) fn write(dir: &Path) -> Result<PathBuf, BuildError> {
    let root = dir.join("wit");
    for (name, text) in FILES {
        let path = root.join(name);
        let folder = path.parent().unwrap_or(&root);
        fs::create_dir_all(folder).map_err(BuildError::at(folder))?;
        fs::write(&path, text).map_err(BuildError::at(&path))?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is added to the contract must be added to the list.
    #[test]
    fn the_whole_contract_is_written() {
        fn all(dir: &Path) -> Vec<PathBuf> {
            let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
            entries.flat_map(|path| if path.is_dir() { all(&path) } else { vec![path] }).collect()
        }
        let dir = tempfile::tempdir().unwrap();
        let written = write(dir.path()).unwrap();
        let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../wit/0.1.1"));
        assert_eq!(all(&written).len(), all(source).len());
        let mut resolve = wit_parser::Resolve::default();
        let (package, _) = resolve.push_dir(&written).unwrap();
        for world in ["event-plugin", "batch-plugin", "packed-plugin", "packed-batch-plugin"] {
            resolve.select_world(&[package], Some(world)).unwrap();
        }
    }
}
