//! `wasi:config/store`: the plugin's own configuration, nothing of the host's. Always linked.

use std::collections::BTreeMap;

use wasmtime::component::{HasData, Linker};

use crate::{
    bindings::wasi::config::store::{self, Error, Host},
    state::State,
};

/// The configuration of one store, borrowed for one host call.
pub(crate) struct ConfigView<'a>(&'a BTreeMap<String, String>);

struct Config;

impl HasData for Config {
    type Data<'a> = ConfigView<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, Config>(linker, |state| ConfigView(&state.facts.config))
}

impl Host for ConfigView<'_> {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        Ok(Ok(self.0.get(&key).cloned()))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, Error>> {
        Ok(Ok(self.0.iter().map(|(k, v)| (k.clone(), v.clone())).collect()))
    }
}
