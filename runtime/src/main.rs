//! The `sandbar` command.

mod commands;

use std::{io, process::ExitCode};

use clap::Parser as _;
use commands::{Cli, Failed, execute, print_error};

/// Events are allocated on one thread and freed on another, at which the system's allocator is slow
/// (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 0: done. 1: failed, and standard error says why. 2: the command line is wrong (clap).
fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.global.output;
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<Failed>() {
                print_error(&error, format);
            }
            ExitCode::FAILURE
        }
    }
}

/// Whoever read our output has enough of it, as `head` has.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
