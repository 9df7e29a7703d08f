//! Plugins made here, from a few lines of WebAssembly text: tests of the control
//! plane need no guest toolchain, and each version they need is made in a moment.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A plugin that relays each event to a topic, with its version as header.
///
/// The first byte of a payload may ask for something else: `!` rejects, `~` traps,
/// `?` takes some ten milliseconds of looping first, `&` fifty times that, `%` for ever.
#[derive(Debug, Clone)]
pub struct Guest {
    pub version: String,
    pub from: String,
    pub to: String,
    pub describe: Describe,
}

/// What it says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Describe {
    Truth,
    /// It exports no `describe`.
    Nothing,
    Trap,
}

impl Guest {
    pub fn new(version: &str) -> Self {
        let describe = Describe::Truth;
        Self { version: version.into(), from: "in".into(), to: "out".into(), describe }
    }

    pub fn from(mut self, topic: &str) -> Self {
        self.from = topic.into();
        self
    }

    pub fn to(mut self, topic: &str) -> Self {
        self.to = topic.into();
        self
    }

    pub fn describe(mut self, describe: Describe) -> Self {
        self.describe = describe;
        self
    }

    /// The component.
    pub fn build(&self) -> Vec<u8> {
        let world = match self.describe {
            Describe::Nothing => "silent",
            _ => "described",
        };
        component(&self.core(), world)
    }

    /// The core module.
    pub fn core(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap()
    }

    fn text(&self) -> String {
        let mut data = Data::default();
        let version = data.string(&self.version);
        let from = data.string(&self.from);
        let to = data.string(&self.to);
        let name = data.string("relay");
        let label = data.string("version");
        let code = data.string("refused");
        // list<header> of one, list<string> of one each
        let headers = data.words(&[label.0, label.1, version.0, version.1]);
        let topics = data.words(&[from.0, from.1]);
        let publishes = data.words(&[to.0, to.1]);
        let subscriptions = data.words(&[0, 0, 0, topics, 1, 0, 0]);
        let (n, v) = (name, version);
        let metadata = data.words(&[
            n.0,
            n.1,
            v.0,
            v.1,
            n.0,
            n.1,
            subscriptions,
            1,
            publishes,
            1,
            0,
            0,
            0,
            0,
            0,
        ]);
        let describe = match self.describe {
            Describe::Nothing => String::new(),
            Describe::Truth => {
                format!("(func (export \"{PLUGIN}\") (result i32) (i32.const {metadata}))")
            }
            Describe::Trap => format!("(func (export \"{PLUGIN}\") (result i32) unreachable)"),
        };
        let segment: String = data.bytes.iter().map(|b| format!("\\{b:02x}")).collect();
        format!(
            r#"(module
  (memory (export "memory") 1)
  (data (i32.const {DATA}) "{segment}")
  (global $heap (mut i32) (i32.const {HEAP}))
  (func (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (block $fits (loop $grow
      (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
      (br $grow)))
    (local.get $at))
  {describe}
  (func (export "{HANDLE}")
    (param $topic i32) (param i32) (param $partition i32) (param $position i64)
    (param $has_key i32) (param $key i32) (param $key_len i32)
    (param $has_payload i32) (param $payload i32) (param $payload_len i32)
    (param $headers i32) (param i32) (param $timestamp i64) (param $attempt i32)
    (param $attributes i32) (param i32) (result i32)
    (local $wish i32) (local $rounds i32)
    (if (local.get $payload_len) (then (local.set $wish (i32.load8_u (local.get $payload)))))
    (if (i32.eq (local.get $wish) (i32.const 0x7e)) (then unreachable))
    (if (i32.eq (local.get $wish) (i32.const 0x25)) (then (loop $ever (br $ever))))
    (if (i32.eq (local.get $wish) (i32.const 0x21)) (then
      (i32.store8 (i32.const {RESULT}) (i32.const 1))
      (i32.store8 (i32.const {RESULT_8}) (i32.const 1))
      (i32.store (i32.const {RESULT_16}) (i32.const {code}))
      (i32.store (i32.const {RESULT_20}) (i32.const {code_len}))
      (i32.store (i32.const {RESULT_24}) (i32.const {code}))
      (i32.store (i32.const {RESULT_28}) (i32.const {code_len}))
      (return (i32.const {RESULT}))))
    (if (i32.eq (local.get $wish) (i32.const 0x3f)) (then
      (local.set $rounds (i32.const {ROUNDS}))))
    (if (i32.eq (local.get $wish) (i32.const 0x26)) (then
      (local.set $rounds (i32.mul (i32.const 50) (i32.const {ROUNDS})))))
    (if (local.get $rounds) (then
      (loop $spin
        (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
        (br_if $spin (local.get $rounds)))))
    (i32.store8 (i32.const {RESULT}) (i32.const 0))
    (i32.store (i32.const {RESULT_8}) (i32.const {OUTGOING}))
    (i32.store (i32.const {RESULT_12}) (i32.const 1))
    (i32.store (i32.const {OUT_12}) (i32.const {to}))
    (i32.store (i32.const {OUT_16}) (i32.const {to_len}))
    (i32.store (i32.const {OUT_20}) (local.get $has_key))
    (i32.store (i32.const {OUT_24}) (local.get $key))
    (i32.store (i32.const {OUT_28}) (local.get $key_len))
    (i32.store (i32.const {OUT_32}) (local.get $has_payload))
    (i32.store (i32.const {OUT_36}) (local.get $payload))
    (i32.store (i32.const {OUT_40}) (local.get $payload_len))
    (i32.store (i32.const {OUT_44}) (i32.const {headers}))
    (i32.store (i32.const {OUT_48}) (i32.const 1))
    (i32.const {RESULT}))
  (func (export "cabi_post_{HANDLE}") (param i32)
    (global.set $heap (i32.const {HEAP}))))"#,
            code = code.0,
            code_len = code.1,
            to = to.0,
            to_len = to.1,
            RESULT_8 = RESULT + 8,
            RESULT_12 = RESULT + 12,
            RESULT_16 = RESULT + 16,
            RESULT_20 = RESULT + 20,
            RESULT_24 = RESULT + 24,
            RESULT_28 = RESULT + 28,
            OUT_12 = OUTGOING + 12,
            OUT_16 = OUTGOING + 16,
            OUT_20 = OUTGOING + 20,
            OUT_24 = OUTGOING + 24,
            OUT_28 = OUTGOING + 28,
            OUT_32 = OUTGOING + 32,
            OUT_36 = OUTGOING + 36,
            OUT_40 = OUTGOING + 40,
            OUT_44 = OUTGOING + 44,
            OUT_48 = OUTGOING + 48,
        )
    }
}

/// A component of another world: it exports something, but no handler.
pub fn wrong_world() -> Vec<u8> {
    let core = wat::parse_str(r#"(module (func (export "answer") (result i32) (i32.const 42)))"#);
    component(&core.unwrap(), "wrong")
}

const HANDLE: &str = "sandbar:events/handler@0.1.0#handle";
const PLUGIN: &str = "sandbar:events/plugin@0.1.0#describe";
/// Where the returned `result<list<outgoing>, failure>` lies (40 bytes), the one
/// `outgoing` (60 bytes), the constants, and what the host allocates per call.
const RESULT: u32 = 64;
const OUTGOING: u32 = 128;
const DATA: u32 = 256;
const HEAP: u32 = 4096;
/// Some ten milliseconds.
const ROUNDS: u32 = 20_000_000;

const WORLDS: &str = "
package test:worlds;
world silent {
  include sandbar:events/imports@0.1.0;
  export sandbar:events/handler@0.1.0;
}
world described {
  include silent;
  export sandbar:events/plugin@0.1.0;
}
world wrong {
  export answer: func() -> u32;
}
";

fn component(core: &[u8], world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/0.1.0")).unwrap();
    let package = resolve.push_str("worlds.wit", WORLDS).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = core.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// Constants of a module, and where they lie.
#[derive(Default)]
struct Data {
    bytes: Vec<u8>,
}

impl Data {
    fn string(&mut self, text: &str) -> (u32, u32) {
        let at = self.end();
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        (at, text.len() as u32)
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        let at = self.end();
        words.iter().for_each(|w| self.bytes.extend_from_slice(&w.to_le_bytes()));
        at
    }

    fn end(&self) -> u32 {
        DATA + self.bytes.len() as u32
    }
}
