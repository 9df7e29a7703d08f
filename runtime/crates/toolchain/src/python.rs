//! Python: the SDK's own `sandbar.build` runs componentize-py, in the Python that the plugin's
//! packages are installed for.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    BuildError, BuildRequest,
    begin::Template,
    build::{Component, absolute},
    tools::{capture, find, made},
    wit,
};

pub(crate) const TEMPLATE: Template = &[
    ("pyproject.toml", include_str!("../templates/python/pyproject.toml")),
    ("requirements.txt", "{{sdk}}\npytest\n"),
    ("handler.py", include_str!("../templates/python/handler.py.txt")),
    ("tests/test_handler.py", include_str!("../templates/python/test_handler.py.txt")),
    (".gitignore", ".venv/\n.sandbar/\n__pycache__/\n"),
];

pub(crate) fn sdk(checkout: Option<&Path>) -> String {
    match checkout {
        Some(dir) => dir.join("python").display().to_string(),
        None => concat!("sandbar-sdk==", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

pub(crate) fn build(request: &BuildRequest) -> Result<Vec<Component>, BuildError> {
    let dir = absolute(&request.dir);
    let scratch = request.scratch()?;
    let wit = wit::write(&scratch)?;
    let file = scratch.join("component.wasm");
    let mut python = python(&dir)?;
    python.args(["-m", "sandbar.build"]).arg(&dir);
    python.arg("--wit").arg(wit).arg("--out").arg(&file);
    let said = capture(&mut python, &dir.display().to_string())?;
    made(&said, &file)
}

/// A Python that has the SDK.
fn python(dir: &Path) -> Result<Command, BuildError> {
    let program = interpreter(dir);
    if let Some(program) = &program {
        let mut probe = Command::new(program);
        probe.args(["-c", "import sandbar.build, componentize_py"]);
        let probed =
            probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if probed.is_ok_and(|status| status.success()) {
            return Ok(Command::new(program));
        }
    }
    // without anything installed by hand
    let requirements = dir.join("requirements.txt");
    if let Some(uv) = find("UV", "uv").filter(|_| requirements.is_file()) {
        let mut command = Command::new(uv);
        command.args(["run", "--no-project", "--with-requirements"]).arg(requirements);
        command.arg("python");
        return Ok(command);
    }
    let tool = match program {
        Some(program) => format!("the Python package sandbar-sdk (for {})", program.display()),
        None => "python3".to_owned(),
    };
    let advice = format!(
        "with Python 3.11 or newer run `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` \
         in {}, or install uv (https://docs.astral.sh/uv), or set PYTHON to the path of a Python that has it",
        dir.display()
    );
    Err(BuildError::ToolMissing { tool, advice })
}

/// The nearest: the one that is named, the folder's own, the active environment's, the system's.
fn interpreter(dir: &Path) -> Option<PathBuf> {
    let bin = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };
    let active = env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let of_environment = || {
        let environments = [Some(dir.join(".venv")), active];
        environments.into_iter().flatten().map(|e| e.join(bin)).find(|python| python.is_file())
    };
    env::var_os("PYTHON")
        .filter(|given| !given.is_empty())
        .map(PathBuf::from)
        .or_else(of_environment)
        .or_else(|| find("PYTHON", "python3"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_folder_s_own_environment_comes_before_the_system_s() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join(".venv/bin/python");
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        fs::write(&own, "").unwrap();
        assert_eq!(interpreter(dir.path()), Some(own));
    }

    #[test]
    fn a_python_without_the_sdk_is_told_what_to_install() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join(".venv/bin/python");
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        fs::write(&own, "not to be run").unwrap();
        let error = python(dir.path()).unwrap_err().to_string();
        assert!(error.contains(".venv/bin/pip install -r requirements.txt"), "{error}");
    }
}
