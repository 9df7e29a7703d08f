//! Go: the standard toolchain makes a core module for `wasip1`. The SDK comes with this
//! crate, so that it always fits the adapter.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    BuildError, BuildRequest,
    begin::Template,
    build::{Component, absolute},
    preview1,
    tools::{capture, demand, kebab, run},
    wit,
};

pub(crate) const TEMPLATE: Template = &[
    ("go.mod", include_str!("../templates/go/go.mod.txt")),
    ("main.go", include_str!("../templates/go/main.go.txt")),
    ("main_test.go", include_str!("../templates/go/main_test.go.txt")),
    (".gitignore", ".sandbar/\n"),
];

/// Where [`build`] puts the SDK, within a plugin's folder: where Go's own tools find it.
const SDK: &str = ".sandbar/sdk";

macro_rules! sdk {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../sdk/go/", $path)))),*]
    };
}

const SDK_FILES: &[(&str, &str)] = sdk![
    "go.mod",
    "clocks/clocks.go",
    "clocks/clocks_wasip1.go",
    "config.go",
    "context.go",
    "event.go",
    "export_wasip1.go",
    "failure.go",
    "internal/host/failure.go",
    "internal/host/host.go",
    "internal/host/imports_wasip1.go",
    "internal/host/reach_standin.go",
    "internal/host/reach_wasip1.go",
    "internal/host/standin.go",
    "log.go",
    "metrics/metrics.go",
    "packed_wasip1.go",
    "panic.go",
    "plugin.go",
    "publish.go",
    "publish_standin.go",
    "publish_wasip1.go",
    "random/random.go",
    "random/random_wasip1.go",
    "sandbar.go",
    "sandbartest/sandbartest.go",
    "secrets/secrets.go",
    "state/state.go",
];

pub(crate) fn sdk(checkout: Option<&Path>) -> String {
    match checkout {
        Some(dir) => dir.join("go").display().to_string(),
        None => format!("./{SDK}"),
    }
}

pub(crate) fn build(request: &BuildRequest) -> Result<Vec<Component>, BuildError> {
    let dir = absolute(&request.dir);
    let what = dir.display().to_string();
    let go = demand("GO", "go", "install Go 1.26 or newer (https://go.dev/dl)")?;
    let go = || {
        let mut command = Command::new(&go);
        // a workspace admits no other manifest
        command.current_dir(&dir).env("GOWORK", "off");
        command.env("GOOS", "wasip1").env("GOARCH", "wasm");
        command
    };

    let scratch = request.scratch()?;
    let wit = wit::write(&scratch)?;
    let sdk = dir.join(SDK);
    write_sdk(&sdk)?;
    // the plugin's own go.mod is left alone, whatever SDK it names
    let manifest = scratch.join("go.mod");
    for (from, to) in [("go.mod", "go.mod"), ("go.sum", "go.sum")] {
        let (from, to) = (dir.join(from), scratch.join(to));
        if from.is_file() {
            fs::copy(&from, &to).map_err(BuildError::at(&from))?;
        }
    }
    let replace = format!("-replace=sandbar={}", sdk.display());
    run(go().args(["mod", "edit", &replace]).arg(&manifest), &what)?;

    let file = scratch.join("module.wasm");
    let mut build = go();
    build.arg("build").arg(format!("-modfile={}", manifest.display()));
    build.args(["-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]);
    run(build.arg(&file).arg("."), &what)?;
    let module = fs::read(&file).map_err(BuildError::at(&file))?;
    let bytes = preview1::componentize(&module, &wit)
        .map_err(|source| BuildError::Component { path: file.clone(), source })?;

    let mut name = go();
    name.args(["list", "-m"]).arg(format!("-modfile={}", manifest.display()));
    let module_path = capture(name.stdin(Stdio::null()), &what)?;
    let name = kebab(module_path.trim().rsplit('/').next().unwrap_or_default());
    Ok(vec![Component { name, bytes }])
}

fn write_sdk(to: &Path) -> Result<(), BuildError> {
    for (name, text) in SDK_FILES {
        let path = to.join(name);
        // what is as it was keeps its time: editors look at it
        if fs::read_to_string(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        let folder = path.parent().unwrap_or(to);
        fs::create_dir_all(folder).map_err(BuildError::at(folder))?;
        fs::write(&path, text).map_err(BuildError::at(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is added to the SDK must be added to the list.
    #[test]
    fn the_whole_sdk_is_written() {
        let dir = tempfile::tempdir().unwrap();
        write_sdk(dir.path()).unwrap();
        let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../sdk/go"));
        let mut folders = vec![source.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.to_string_lossy().into_owned();
                let within = path.strip_prefix(source).unwrap();
                if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".go") && !name.ends_with("_test.go") {
                    assert!(
                        dir.path().join(within).is_file(),
                        "{} is not written",
                        within.display()
                    );
                }
            }
        }
    }
}
