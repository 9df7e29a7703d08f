//! C: zig or the WASI SDK's clang makes a core module. The SDK comes with this crate, so
//! that it always fits the adapter.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    BuildError, BuildRequest,
    begin::Template,
    build::{Component, absolute},
    preview1,
    tools::{find, kebab, run},
    wit,
};

pub(crate) const TEMPLATE: Template = &[
    ("handler.c", include_str!("../templates/c/handler.c.txt")),
    (FLAGS, "-I{{sdk}}\n"),
    (".gitignore", ".sandbar/\n"),
];

/// Compiler flags, one a line: what clangd reads too.
const FLAGS: &str = "compile_flags.txt";
/// Where [`build`] puts the SDK, within a plugin's folder: where editors find it.
const SDK: &str = ".sandbar/sdk";

macro_rules! sdk {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../sdk/c/", $path)))),*]
    };
}

const SDK_FILES: &[(&str, &str)] = sdk![
    "sandbar.c",
    "sandbar.h",
    "sandbar_abi.c",
    "sandbar_internal.h",
    "sandbar_json.c",
    "sandbar_json.h",
    "sandbar_json_write.c",
    "sandbar_packed.c",
    "sandbar_reach.c",
    "sandbar_reach.h",
];

pub(crate) fn sdk(checkout: Option<&Path>) -> String {
    match checkout {
        Some(dir) => dir.join("c").display().to_string(),
        None => SDK.to_owned(),
    }
}

pub(crate) fn build(request: &BuildRequest) -> Result<Vec<Component>, BuildError> {
    let dir = absolute(&request.dir);
    let scratch = request.scratch()?;
    let wit = wit::write(&scratch)?;
    let sdk = dir.join(SDK);
    fs::create_dir_all(&sdk).map_err(BuildError::at(&sdk))?;
    for (name, text) in SDK_FILES {
        let path = sdk.join(name);
        fs::write(&path, text).map_err(BuildError::at(&path))?;
    }

    let file = scratch.join("module.wasm");
    let mut compile = compiler()?;
    compile.current_dir(&dir);
    // names of functions stay, for the host's backtraces
    compile.args(["-mexec-model=reactor", "-Os", "-g0", "-Wall", "-Wextra"]);
    compile.args([
        "-fno-sanitize=undefined",
        "-UNDEBUG",
        "-ffile-prefix-map=.sandbar/sdk/=sandbar/",
    ]);
    compile.args(flags(&dir)?).args(["-I", SDK, "-I", "."]).args(sources(&dir)?);
    compile.args(sources(&sdk)?.iter().map(|file| Path::new(SDK).join(file)));
    run(compile.arg("-o").arg(&file), &dir.display().to_string())?;

    let module = fs::read(&file).map_err(BuildError::at(&file))?;
    let bytes = preview1::componentize(&module, &wit)
        .map_err(|source| BuildError::Component { path: file.clone(), source })?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    Ok(vec![Component { name: kebab(&name), bytes }])
}

/// The first that is there: zig, the WASI SDK, zig as a Python package.
fn compiler() -> Result<Command, BuildError> {
    const ZIG: [&str; 3] = ["cc", "-target", "wasm32-wasi"];
    if let Some(zig) = find("ZIG", "zig") {
        let mut command = Command::new(zig);
        command.args(ZIG);
        return Ok(command);
    }
    if let Some(folder) = env::var_os("WASI_SDK_PATH").filter(|v| !v.is_empty()) {
        let mut command = Command::new(PathBuf::from(folder).join("bin/clang"));
        command.arg("--target=wasm32-wasip1");
        return Ok(command);
    }
    if let Some(python) = find("PYTHON", "python3") {
        let mut probe = Command::new(&python);
        probe.args(["-c", "import ziglang"]).stdin(Stdio::null());
        if probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
            let mut command = Command::new(python);
            command.args(["-m", "ziglang"]).args(ZIG);
            return Ok(command);
        }
    }
    Err(BuildError::ToolMissing {
        tool: "a C compiler for WebAssembly".to_owned(),
        advice: "run `pip install ziglang`, or install zig 0.14 or newer (https://ziglang.org), \
                 or set ZIG to its path, or WASI_SDK_PATH to the folder of the WASI SDK"
            .to_owned(),
    })
}

/// C files of a folder and of its `src`, relative to it, in order.
fn sources(dir: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let mut found = Vec::new();
    for part in ["", "src"] {
        let folder = dir.join(part);
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder).map_err(BuildError::at(&folder))? {
            let name = entry.map_err(BuildError::at(&folder))?.file_name();
            let path = Path::new(part).join(name);
            if path.extension().is_some_and(|extension| extension == "c") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn flags(dir: &Path) -> Result<Vec<String>, BuildError> {
    let path = dir.join(FLAGS);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let lines = text.lines().map(str::trim);
            Ok(lines.filter(|line| !line.is_empty()).map(str::to_owned).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(BuildError::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_those_of_the_folder_and_its_src_in_order() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        for file in ["handler.c", "a.h", "src/b.c", "src/a.c", FLAGS] {
            fs::write(dir.path().join(file), "-DX=1\n\n -DY \n").unwrap();
        }
        let expected = ["handler.c", "src/a.c", "src/b.c"].map(PathBuf::from);
        assert_eq!(sources(dir.path()).unwrap(), expected);
        assert_eq!(flags(dir.path()).unwrap(), ["-DX=1", "-DY"]);
    }

    #[test]
    fn the_whole_sdk_is_written() {
        let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../sdk/c"));
        for entry in fs::read_dir(source).unwrap() {
            let path = entry.unwrap().path();
            let is_source = path.extension().is_some_and(|e| e == "c" || e == "h");
            let name = path.file_name().unwrap().to_string_lossy();
            assert!(
                !is_source || SDK_FILES.iter().any(|(n, _)| *n == name),
                "{name} is not written"
            );
        }
    }
}
