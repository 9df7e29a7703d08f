//! WASI 0.2 as far as it was granted, by wasmtime's own implementation, with nothing
//! of the host behind it: no folders, no addresses, no environment of the host.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{
    WasiCtx, WasiCtxView, WasiView,
    cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView},
    filesystem::{WasiFilesystem, WasiFilesystemView},
    p2::{
        OutputStream, Pollable, StreamResult,
        bindings::{LinkOptions, cli, filesystem, io as wasi_io, random, sockets},
    },
    random::WasiRandom,
    sockets::{WasiSockets, WasiSocketsView},
};

use super::{
    Grant, Grants, allows,
    logging::{LogLevel, PluginLog},
};
use crate::state::{Facts, State};

/// Streams, pollables and the like that one instance may hold.
const MOST_RESOURCES: usize = 1000;
/// Bytes without an end of line that are held back; more make a line by themselves.
const LONGEST_LINE: usize = 16 << 10;

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// WASI state of one store. Made at first use: most plugins never do.
pub(crate) struct Wasi {
    context: Option<WasiCtx>,
    pub(crate) table: ResourceTable,
}

impl Wasi {
    pub(crate) fn new() -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MOST_RESOURCES);
        Self { context: None, table }
    }

    /// Where all resources of the instance are.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { context, table } = &mut self.wasi;
        let ctx = context.get_or_insert_with(|| build(&self.facts, &self.log));
        WasiCtxView { ctx, table }
    }
}

fn build(facts: &Facts, log: &Arc<PluginLog>) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    if allows(&facts.grants, Grant::Environment) {
        for (key, value) in &facts.config {
            builder.env(key, value);
        }
    }
    if allows(&facts.grants, Grant::Stdio) {
        builder.stdout(Lines::new(log, LogLevel::Info, "stdout"));
        builder.stderr(Lines::new(log, LogLevel::Warn, "stderr"));
    }
    if let Some(clock) = &facts.clock {
        super::clocks::repeat(&mut builder, clock);
    }
    builder.build()
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    let l = linker;
    wasi_io::error::add_to_linker::<State, Table>(l, |state| &mut state.wasi.table)?;
    wasi_io::poll::add_to_linker::<State, Table>(l, |state| &mut state.wasi.table)?;
    wasi_io::streams::add_to_linker::<State, Table>(l, |state| &mut state.wasi.table)?;
    if allows(grants, Grant::Clocks) {
        super::clocks::add_to_linker(l)?;
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
    if allows(grants, Grant::Wasi) {
        let options = LinkOptions::default();
        cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
        filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
        filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
        sockets::tcp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
        sockets::udp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
        sockets::tcp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
        sockets::udp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
        sockets::instance_network::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
        sockets::network::add_to_linker::<State, WasiSockets>(
            l,
            &(&options).into(),
            State::sockets,
        )?;
        sockets::ip_name_lookup::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    }
    Ok(())
}

/// A standard stream that writes lines into the plugin's log; all handles of the
/// stream share the line that was begun.
#[derive(Clone)]
struct Lines(Arc<Mutex<Begun>>);

struct Begun {
    log: Arc<PluginLog>,
    level: LogLevel,
    context: &'static str,
    line: Vec<u8>,
}

impl Lines {
    fn new(log: &Arc<PluginLog>, level: LogLevel, context: &'static str) -> Self {
        let begun = Begun { log: Arc::clone(log), level, context, line: Vec::new() };
        Self(Arc::new(Mutex::new(begun)))
    }

    fn push(&self, bytes: &[u8]) {
        let mut begun = self.0.lock();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            begun.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || begun.line.len() > LONGEST_LINE {
                begun.end();
            }
        }
    }
}

impl Begun {
    fn end(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        self.log.line(self.level, self.context, text.trim_end_matches(['\r', '\n']));
        self.line.clear();
    }
}

/// The last line may have no end.
impl Drop for Begun {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.end();
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LONGEST_LINE)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
