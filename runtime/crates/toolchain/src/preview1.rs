//! WASI preview 1 for the modules of Go and C, which call it whether they need it or not.
//!
//! The usual adapter allocates while it is instantiated, before Go's runtime can, and
//! imports half of WASI. This one answers inside of the plugin; only clocks and random
//! numbers are asked of the host, and only for a plugin that says so (see the SDKs).

use std::path::Path;

use wasmparser::{BinaryReaderError, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

use crate::ComponentError;

/// The world of a plugin made with an SDK whose modules do not carry theirs.
const WORLD: &str = "event-plugin";
/// The same where the SDK has the packed fast path, and the function by which that shows.
const PACKED_WORLD: &str = "packed-plugin";
const PACKED: &str = "sandbar:events/packed-handler@0.1.1#handle-packed";
/// The name by which modules import the adapter.
const NAME: &str = "wasi_snapshot_preview1";

const BASE: &str = include_str!("preview1/base.wat");
const CLOCK: &str = include_str!("preview1/clock.wat");
const CLOCK_LOCAL: &str = include_str!("preview1/clock-local.wat");
const CLOCK_HOST: &str = include_str!("preview1/clock-host.wat");
const RANDOM: &str = include_str!("preview1/random.wat");
const RANDOM_LOCAL: &str = include_str!("preview1/random-local.wat");
const RANDOM_HOST: &str = include_str!("preview1/random-host.wat");
const WASI: &str = include_str!("preview1/wasi.wit");

/// Encodes a core module that exports [`WORLD`] or [`PACKED_WORLD`] and imports preview 1 into a component.
/// `wit` is the folder of the contract.
///
/// # Errors
/// [`ComponentError`] for a module that is no plugin.
pub(crate) fn componentize(module: &[u8], wit: &Path) -> Result<Vec<u8>, ComponentError> {
    let wants = Wants::of(module).map_err(ComponentError::Malformed)?;
    encode(module, wants, wit).map_err(|e| ComponentError::Encode(format!("{e:#}")))
}

type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

fn encode(module: &[u8], wants: Wants, wit: &Path) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = if is_packed(module)? { PACKED_WORLD } else { WORLD };
    let world = resolve.select_world(&[package], Some(world))?;
    let module = with_world(module.to_vec(), &resolve, world)?;
    let package = resolve.push_str("adapter.wit", &wants.world())?;
    let world = resolve.select_world(&[package], Some("adapter"))?;
    let adapter = with_world(wat::parse_str(wants.text())?, &resolve, world)?;
    ComponentEncoder::default().validate(true).module(&module)?.adapter(NAME, &adapter)?.encode()
}

fn is_packed(module: &[u8]) -> Result<bool> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(exports) = payload? {
            for export in exports {
                if export?.name == PACKED {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

fn with_world(mut module: Vec<u8>, resolve: &Resolve, world: WorldId) -> Result<Vec<u8>> {
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8, false)?;
    Ok(module)
}

/// What a module asks of the host besides its log: it imports a marker from [`NAME`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wants {
    clocks: bool,
    random: bool,
}

impl Wants {
    fn of(module: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut wants = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            let Payload::ImportSection(section) = payload? else { continue };
            for import in section.into_imports() {
                let import = import?;
                if import.module == NAME {
                    wants.clocks |= import.name == "sandbar_host_clocks";
                    wants.random |= import.name == "sandbar_host_random";
                }
            }
        }
        Ok(wants)
    }

    fn text(self) -> String {
        let clock = if self.clocks { CLOCK_HOST } else { CLOCK_LOCAL };
        let random = if self.random { RANDOM_HOST } else { RANDOM_LOCAL };
        let lines = [BASE, clock, CLOCK, random, RANDOM].into_iter().flat_map(str::lines);
        // the text format wants imports before everything else; each has a line of its own
        let (imports, rest): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("(import"));
        format!("(module\n{}\n{}\n)", imports.join("\n"), rest.join("\n"))
    }

    fn world(self) -> String {
        let clocks =
            "import wasi:clocks/wall-clock@0.2.0; import wasi:clocks/monotonic-clock@0.2.0;";
        let random = "import wasi:random/random@0.2.0;";
        format!(
            "package sandbar:adapter;\nworld adapter {{ import wasi:logging/logging@0.1.0-draft; {} {} }}\n{WASI}",
            if self.clocks { clocks } else { "" },
            if self.random { random } else { "" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wit;

    /// A plugin that imports `names` of preview 1, each as a function of type `() -> ()`.
    fn plugin(names: &[&str]) -> Vec<u8> {
        let import = |name: &&str| format!("(import \"{NAME}\" \"{name}\" (func))");
        let imports: String = names.iter().map(import).collect();
        let text = format!(
            "(module {imports} (memory (export \"memory\") 1) \
             (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) unreachable) \
             (func (export \"sandbar:events/plugin@0.1.1#describe\") (result i32) unreachable) \
             (func (export \"sandbar:events/lifecycle@0.1.1#init\") (result i32) unreachable) \
             (func (export \"sandbar:events/handler@0.1.1#handle\") \
               (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32) \
               (result i32) unreachable))"
        );
        wat::parse_str(text).unwrap()
    }

    fn imports(component: &[u8]) -> Vec<String> {
        let decoded = wit_component::decode(component).unwrap();
        let resolve = decoded.resolve();
        let (_, world) = resolve.worlds.iter().next_back().unwrap();
        let names = world.imports.keys().map(|key| resolve.name_world_key(key));
        names.filter(|name| !name.starts_with("sandbar:")).collect()
    }

    #[test]
    fn only_what_a_module_says_is_asked_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let wit = wit::write(dir.path()).unwrap();
        let of = |names: &[&str]| imports(&componentize(&plugin(names), &wit).unwrap());
        assert!(of(&[]).is_empty());
        assert!(of(&["sandbar_live"]).is_empty());
        assert_eq!(of(&["sandbar_flush"]), ["wasi:logging/logging@0.1.0-draft"]);
        assert!(of(&["sandbar_host_random"]).is_empty(), "it does not call for any");
        let clocks = Wants { clocks: true, random: false };
        assert_eq!(Wants::of(&plugin(&["sandbar_host_clocks"])).unwrap(), clocks);
    }

    /// What nobody imports is left out of a component, and so would be its mistakes.
    #[test]
    fn every_choice_of_parts_is_a_valid_module() {
        for (clocks, random) in [(false, false), (true, false), (false, true), (true, true)] {
            let wants = Wants { clocks, random };
            let module = wat::parse_str(wants.text()).unwrap();
            wasmparser::Validator::new().validate_all(&module).unwrap();
            let markers = [("sandbar_host_clocks", clocks), ("sandbar_host_random", random)];
            let names = markers.iter().filter(|(_, on)| *on).map(|(name, _)| *name);
            assert_eq!(Wants::of(&plugin(&names.collect::<Vec<_>>())).unwrap(), wants);
        }
    }

    #[test]
    fn a_module_without_the_sdk_is_told_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let wit = wit::write(dir.path()).unwrap();
        let module = wat::parse_str("(module (memory (export \"memory\") 1))").unwrap();
        let error = componentize(&module, &wit).unwrap_err().to_string();
        assert!(error.contains("sandbar:events/"), "{error}");
    }
}
