//! WASI 0.3 as far as it was granted, for plugins that handle many events at a time: the same
//! powers as [`wasi`](super::wasi), with nothing more of the host behind them.

use wasmtime::component::Linker;
use wasmtime_wasi::{
    WasiView,
    cli::{WasiCli, WasiCliView},
    p3::{
        bindings::{cli, random},
        filesystem, sockets,
    },
    random::WasiRandom,
};

use super::{Grant, Grants, allows};
use crate::state::State;

pub(crate) fn add_to_linker(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    let l = linker;
    if allows(grants, Grant::Clocks) {
        super::clocks::add_concurrent_to_linker(l)?;
    }
    if allows(grants, Grant::Random) {
        random::random::add_to_linker::<State, WasiRandom>(l, |s| s.ctx().ctx.random())?;
        random::insecure::add_to_linker::<State, WasiRandom>(l, |s| s.ctx().ctx.random())?;
        random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |s| s.ctx().ctx.random())?;
    }
    if allows(grants, Grant::Stdio) {
        cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
        cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
        cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
        cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
        cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
        cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
        cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
        cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    }
    if allows(grants, Grant::Environment) {
        cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    }
    if allows(grants, Grant::Http) {
        super::http::add_concurrent_to_linker(l)?;
    }
    if allows(grants, Grant::Wasi) {
        cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
        filesystem::add_to_linker(l)?;
        sockets::add_to_linker(l)?;
    }
    Ok(())
}
