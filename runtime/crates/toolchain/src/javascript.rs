//! JavaScript and TypeScript: the SDK's own `build.js` bundles with esbuild and runs
//! componentize-js, as npm has installed them beside the plugin.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    BuildError, BuildRequest,
    begin::Template,
    build::{Component, absolute},
    tools::{capture, demand, made},
    wit,
};

pub(crate) const TEMPLATE: Template = &[
    ("package.json", include_str!("../templates/js/package.json")),
    (".npmrc", NPMRC),
    ("handler.js", include_str!("../templates/js/handler.js")),
    ("test/handler.test.js", include_str!("../templates/js/handler.test.js")),
    (".gitignore", IGNORE),
];

pub(crate) const TYPESCRIPT: Template = &[
    ("package.json", include_str!("../templates/ts/package.json")),
    (".npmrc", NPMRC),
    ("tsconfig.json", include_str!("../templates/ts/tsconfig.json")),
    ("handler.ts", include_str!("../templates/ts/handler.ts")),
    ("test/handler.test.ts", include_str!("../templates/ts/handler.test.ts")),
    (".gitignore", IGNORE),
];

const IGNORE: &str = "node_modules/\n.sandbar/\n";
/// An SDK that is named by its path is installed like a published one, with what it needs.
const NPMRC: &str = "install-links=true\n";

pub(crate) fn sdk(checkout: Option<&Path>) -> String {
    match checkout {
        Some(dir) => format!("file:{}", dir.join("js").display()),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    }
}

pub(crate) fn build(request: &BuildRequest) -> Result<Vec<Component>, BuildError> {
    let dir = absolute(&request.dir);
    let node = demand("NODE", "node", "install Node.js 20 or newer (https://nodejs.org)")?;
    let program = build_program(&dir)?;
    let scratch = request.scratch()?;
    let wit = wit::write(&scratch)?;
    let file = scratch.join("component.wasm");
    let mut node = Command::new(node);
    node.arg(program).arg(&dir).arg("--wit").arg(wit).arg("--out").arg(&file);
    let said = capture(&mut node, &dir.display().to_string())?;
    made(&said, &file)
}

/// Found as node finds packages: in the folder or one above it.
fn build_program(dir: &Path) -> Result<PathBuf, BuildError> {
    let mut candidates = dir.ancestors().map(|d| d.join("node_modules/sandbar-sdk/build.js"));
    candidates.find(|program| program.is_file()).ok_or_else(|| BuildError::ToolMissing {
        tool: "the npm package sandbar-sdk".to_owned(),
        advice: format!(
            "run `npm install` in {} (`npm install --save-dev sandbar-sdk` where package.json does not name it)",
            dir.display()
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_sdk_is_found_in_a_folder_above_or_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("plugins/mine");
        fs::create_dir_all(&dir).unwrap();
        let error = build_program(&dir).unwrap_err().to_string();
        assert!(error.contains("npm install"), "{error}");
        let program = root.path().join("node_modules/sandbar-sdk/build.js");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        assert_eq!(build_program(&dir).unwrap(), program);
    }
}
