//! Every way in which a file is no plugin: what, where, and what to do.

use sandbar_wasm::{Host, HostConfig, LoadError, LoadSpec};

use crate::support::{Bench, component, config, program};

#[tokio::test]
async fn files_that_are_no_component() {
    let bench = Bench::new();
    insta::assert_snapshot!(bench.refused("".into()).await, @"the file is empty: write it under another name and rename it when it is complete");
    insta::assert_snapshot!(bench.refused("<!doctype html>".into()).await, @r#"the file is no WebAssembly: it begins with "<!doctyp", a component begins with "\0asm"; build it with `sandbar plugin build`"#);
    insta::assert_snapshot!(bench.refused("\0as".into()).await, @"the file is cut short: it ends at byte 3, inside what begins at byte 0; write it under another name and rename it when it is complete");
    insta::assert_snapshot!(bench.refused(component("(module)")).await, @"the file is a core WebAssembly module, not a component: build it with `sandbar plugin build`, or encode it with `wasm-tools component new`");
    let mut unknown = component("(component)").to_vec();
    unknown.extend([99, 0]);
    insta::assert_snapshot!(bench.refused(unknown.into()).await, @"the component is not valid: failed to parse WebAssembly module: malformed section id: 99 (at offset 0xa); build it anew with a current toolchain");
}

/// Wherever a copy breaks off, the message is about that. Only at the boundary of an
/// outer section does a shorter file look whole, and then it exports nothing.
#[tokio::test]
async fn a_file_cut_short_anywhere_is_found_out() {
    let bench = Bench::new();
    let whole = program("echo");
    // where its sections begin depends on the compiler
    let error = bench.refused(whole.slice(..1000)).await;
    let LoadError::Truncated { size: 1000, offset } = error else { panic!("{error}") };
    let expected = format!(
        "the file is cut short: it ends at byte 1000, inside what begins at byte {offset}; \
         write it under another name and rename it when it is complete"
    );
    assert_eq!(error.to_string(), expected);
    let mut boundaries = 0;
    for length in (8..whole.len()).step_by(whole.len() / 199) {
        match bench.refused(whole.slice(..length)).await {
            LoadError::Truncated { size, offset } => assert!(size == length && offset <= length),
            LoadError::NoHandler { .. } => boundaries += 1,
            other => panic!("cut at {length}: {other}"),
        }
    }
    assert!(boundaries < 5, "{boundaries} cuts went unnoticed");
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_even_read_through() {
    let host = Host::new(HostConfig { max_file_size: 1000, ..config() }).unwrap();
    let error = host.load("\0asm".repeat(251).into(), LoadSpec::new("p")).await.unwrap_err();
    insta::assert_snapshot!(error, @"the file has 1004 bytes, more than the 1000 that the host takes: build it in release mode and strip it");
}

#[tokio::test]
async fn components_without_a_handler_that_is_served() {
    let bench = Bench::new();
    insta::assert_snapshot!(bench.refused(component("(component)")).await, @"the component exports no handler: it must export sandbar:events/handler@0.1.0, sandbar:events/batch-handler@0.1.0 or sandbar:events-async/handler@0.1.0 (or wasi:messaging/incoming-handler@0.2.0-draft, wasmcloud:messaging/handler@0.2.0 or @0.3.0), but exports nothing");
    let other = r#"(component (component $c) (instance $i (instantiate $c))
        (export "wasi:cli/run@0.2.0" (instance $i)))"#;
    insta::assert_snapshot!(bench.refused(component(other)).await, @"the component exports no handler: it must export sandbar:events/handler@0.1.0, sandbar:events/batch-handler@0.1.0 or sandbar:events-async/handler@0.1.0 (or wasi:messaging/incoming-handler@0.2.0-draft, wasmcloud:messaging/handler@0.2.0 or @0.3.0), but exports wasi:cli/run@0.2.0");
    let newer = other.replace("wasi:cli/run@0.2.0", "sandbar:events/handler@0.2.0");
    insta::assert_snapshot!(bench.refused(component(&newer)).await, @"built for sandbar:events 0.2, this host serves 0.1 (seen at sandbar:events/handler@0.2.0): rebuild the plugin or upgrade the host");
    let imports = r#"(component (import "sandbar:events/context@0.2.0" (instance)))"#;
    insta::assert_snapshot!(bench.refused(component(imports)).await, @"built for sandbar:events 0.2, this host serves 0.1 (seen at sandbar:events/context@0.2.0): rebuild the plugin or upgrade the host");
}

/// Names fit, types do not.
#[tokio::test]
async fn components_that_do_not_fit() {
    let bench = Bench::new();
    let empty = r#"(component (component $c) (instance $i (instantiate $c))
        (export "sandbar:events/handler@0.1.0" (instance $i)))"#;
    insta::assert_snapshot!(bench.refused(component(empty)).await, @"does not fit this host: instance export `sandbar:events/handler@0.1.1` does not have export `handle`; rebuild it against sandbar:events 0.1");
    insta::assert_snapshot!(bench.refused(component(&handler("", ""))).await, @"does not fit this host: failed to convert function to given type: type mismatch with parameters: expected 1-tuple, found 0-tuple; rebuild it against sandbar:events 0.1");
    let later = r#"(component (import "sandbar:events/context@0.1.5" (instance (export "new" (func))))
        (component $c) (instance $i (instantiate $c))
        (export "sandbar:events/handler@0.1.0" (instance $i)))"#;
    insta::assert_snapshot!(bench.refused(component(later)).await, @"does not fit this host: component imports instance `sandbar:events/context@0.1.5`, but a matching implementation was not found in the linker: instance export `new` has the wrong type: function implementation is missing; rebuild it against sandbar:events 0.1");
}

/// A handler without parameters, whose core module holds `inside`.
fn handler(inside: &str, export: &str) -> String {
    format!(
        r#"(component
            (core module $m (func $f (export "handle") {export}) {inside})
            (core instance $i (instantiate $m))
            (func $handle (canon lift (core func $i "handle")))
            (instance $h (export "handle" (func $handle)))
            (export "sandbar:events/handler@0.1.0" (instance $h)))"#
    )
}

#[tokio::test]
async fn components_of_which_no_instance_can_be_made() {
    let bench = Bench::new();
    let starts = handler("(start $f)", "unreachable");
    insta::assert_snapshot!(bench.refused(component(&starts)).await, @"cannot make an instance (trap): wasm trap: wasm `unreachable` instruction executed");
    let large = handler("(memory 2000)", "");
    insta::assert_snapshot!(bench.refused(component(&large)).await, @"cannot make an instance (memory): asked for 131072000 bytes of memory, more than 67108864 (limits.memory)");
    let table = handler("(table 100001 funcref)", "");
    insta::assert_snapshot!(bench.refused(component(&table)).await, @"the component is not valid: module table does not fit in pooling allocator requirements: table index 0 has a minimum element size of 100001 which exceeds the limit of 100000; build it anew with a current toolchain");
    let mut spec = LoadSpec::new("p");
    spec.limits.memory = 2 << 30;
    insta::assert_snapshot!(bench.host.load(program("echo"), spec).await.unwrap_err(), @"limits.memory is 2147483648 bytes, the host gives at most 1073741824: lower it, or raise the host's `max_memory`");
}

#[tokio::test]
async fn program_describe_traps() {
    let error = Bench::new().refused(program("describe-traps")).await;
    insta::assert_snapshot!(error, @"describe failed (trap): wasm trap: wasm `unreachable` instruction executed; it must return constants, no capability is there while it runs");
}

#[tokio::test]
async fn program_describe_loops() {
    let error = Bench::new().refused(program("describe-loops")).await;
    insta::assert_snapshot!(error, @"describe failed (cpu-time): used more than 500 ms of CPU time (all that describe gets); it must return constants, no capability is there while it runs");
}

#[tokio::test]
async fn program_describe_lies() {
    let error = Bench::new().refused(program("describe-lies")).await;
    insta::assert_snapshot!(error, @"describe returned a bad subscriptions[0].topics[0]: it is empty");
}

#[tokio::test]
async fn s3_describe_calls() {
    let error = Bench::new().refused(program("describe-calls")).await;
    insta::assert_snapshot!(error, @"describe failed (trap): it called sandbar:events/context@0.1.0#connection; it must return constants, no capability is there while it runs");
}
