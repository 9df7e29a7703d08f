//! Plugins that `make bench` measures: each file in `examples/` is one, built by `make guests` into
//! `guests/bench-NAME.wasm`. The programs of `sandbar-programs` are measured beside them, as what
//! a plugin costs that was built by nobody's SDK.
