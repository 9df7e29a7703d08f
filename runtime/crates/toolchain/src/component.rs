//! From a core module to a component.

use std::ops::Range;

use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

/// Where bindings generators leave the world that a module was built for.
const WORLD_SECTION: &str = "component-type";

/// Why a module could not be made a component.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The bytes are no WebAssembly at all, or cut short.
    #[error("not a valid WebAssembly module: {0}")]
    Malformed(#[source] wasmparser::BinaryReaderError),
    /// A module that was not built against a WIT world.
    #[error(
        "the module has no `component-type` section: does the crate use the sandbar SDK \
         (`#[sandbar::handler]` on one function) and `crate-type = [\"cdylib\"]`?"
    )]
    NoWorld,
    /// The module does not fit the world it says it was built for.
    #[error("the module does not fit its world: {0}")]
    Encode(String),
}

/// Encodes a core module into a component and validates the result. DWARF is left
/// out: it multiplies the size and the host shows guest backtraces by function
/// name. Bytes that are a component already are returned as they are.
///
/// # Errors
/// [`ComponentError`]; every case names what is wrong with the module.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, ComponentError> {
    let scan = scan(module).map_err(ComponentError::Malformed)?;
    if scan.is_component {
        return Ok(module.to_vec());
    }
    if !scan.has_world {
        return Err(ComponentError::NoWorld);
    }
    let lean = without(module, &scan.dwarf);
    ComponentEncoder::default()
        .validate(true)
        .module(&lean)
        .and_then(ComponentEncoder::encode)
        // the chain of causes names the import or export that does not fit
        .map_err(|e| ComponentError::Encode(format!("{e:#}")))
}

struct Scan {
    is_component: bool,
    has_world: bool,
    /// Whole sections, with their headers.
    dwarf: Vec<Range<usize>>,
}

fn scan(module: &[u8]) -> Result<Scan, wasmparser::BinaryReaderError> {
    let mut scan = Scan { is_component: false, has_world: false, dwarf: Vec::new() };
    let mut end_of_last = 0;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        match &payload {
            Payload::Version { encoding, range, .. } => {
                end_of_last = range.end;
                scan.is_component = *encoding == Encoding::Component;
                if scan.is_component {
                    break;
                }
            }
            Payload::CustomSection(section) => {
                scan.has_world |= section.name().starts_with(WORLD_SECTION);
                if section.name().starts_with(".debug_") {
                    // offsets into a slice always fit
                    scan.dwarf.push(end_of_last as usize..section.range().end as usize);
                }
            }
            _ => {}
        }
        if let Some((_, range)) = payload.as_section() {
            end_of_last = range.end;
        }
    }
    Ok(scan)
}

fn without(module: &[u8], cuts: &[Range<usize>]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(module.len());
    let mut from = 0;
    for cut in cuts {
        kept.extend_from_slice(&module[from..cut.start]);
        from = cut.end;
    }
    kept.extend_from_slice(&module[from..]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(text: &str) -> Vec<u8> {
        wat::parse_str(text).expect("the test's own module is valid")
    }

    #[test]
    fn a_module_without_a_world_is_told_what_to_do() {
        let error = componentize(&module("(module (func (export \"f\")))")).unwrap_err();
        assert!(matches!(error, ComponentError::NoWorld));
        assert!(error.to_string().contains("crate-type = [\"cdylib\"]"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_wasm_are_refused() {
        for bytes in [&b""[..], b"\0asm", b"hello, world", b"\0asm\x01\0\0\0\x01\xff"] {
            let result = componentize(bytes);
            assert!(matches!(result, Err(ComponentError::Malformed(_))), "{bytes:?}: {result:?}");
        }
    }

    #[test]
    fn a_component_is_left_alone() {
        let component = module("(component)");
        assert_eq!(componentize(&component).unwrap(), component);
    }

    #[test]
    fn dwarf_is_cut_and_everything_else_kept_byte_for_byte() {
        let text = |dwarf: &str| {
            format!(
                "(module (@custom \"keep\" \"k\") (func (export \"f\")) {dwarf} \
                 (@custom \"last\" \"l\"))"
            )
        };
        let fat =
            module(&text("(@custom \".debug_info\" \"xxxx\") (@custom \".debug_str\" \"y\")"));
        let lean = module(&text(""));
        assert_ne!(fat, lean);
        assert_eq!(without(&fat, &scan(&fat).unwrap().dwarf), lean);
    }

    #[test]
    fn a_world_that_the_module_does_not_fit_is_named() {
        use wit_component::{StringEncoding, embed_component_metadata};
        let mut resolve = wit_parser::Resolve::default();
        let package = resolve
            .push_str("t.wit", "package a:b; world w { export run: func() -> u32; }")
            .unwrap();
        let world = resolve.select_world(&[package], Some("w")).unwrap();
        let mut good = module("(module (func (export \"run\") (result i32) i32.const 7))");
        embed_component_metadata(&mut good, &resolve, world, StringEncoding::UTF8, false).unwrap();
        let component = componentize(&good).unwrap();
        assert!(scan(&component).unwrap().is_component);

        let mut bad = module("(module (func (export \"other\")))");
        embed_component_metadata(&mut bad, &resolve, world, StringEncoding::UTF8, false).unwrap();
        let error = componentize(&bad).unwrap_err().to_string();
        assert!(error.contains("run"), "{error}");
    }
}
