//! Programs written by hand as core modules (`tests/programs/modules`): what no compiler
//! would make of any source.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use wasmparser::{BinaryReaderError, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");
/// Packages that the modules may name, each after those that it uses.
const WASI: [&str; 5] = ["io", "clocks", "random", "filesystem", "cli"];

/// Where the module of this name would be.
pub fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(format!("tests/programs/modules/{name}.wat"))
}

/// Makes a component of a module. Its world is what it imports and exports, read off the
/// names that the canonical ABI gives to functions.
pub fn component(path: &Path) -> anyhow::Result<Vec<u8>> {
    let text = fs::read_to_string(path)?;
    let mut module = wat::parse_str(&text)?;
    let mut resolve = Resolve::default();
    // the version that it names
    let version = if text.contains("sandbar:events/handler@0.1.1") { "0.1.1" } else { "0.1.0" };
    resolve.push_dir(Path::new(ROOT).join("wit").join(version))?;
    for package in WASI {
        resolve.push_file(Path::new(ROOT).join(format!("tests/programs/wit/{package}.wit")))?;
    }
    let items: String = items(&module)?.into_iter().collect();
    let world = format!("package sandbar:program; world program {{ {items} }}");
    let package = resolve.push_str("program.wit", &world)?;
    let world = resolve.select_world(&[package], Some("program"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

fn items(module: &[u8]) -> Result<BTreeSet<String>, BinaryReaderError> {
    let mut items = BTreeSet::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    items.insert(format!("import {}; ", import?.module));
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let interface = export?.name.split_once('#').map(|(interface, _)| interface);
                    if let Some(interface) = interface.filter(|i| !i.starts_with("cabi_post_")) {
                        items.insert(format!("export {interface}; "));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(items)
}
