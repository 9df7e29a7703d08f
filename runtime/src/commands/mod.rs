//! The command line: one file per subcommand.

mod connect;
mod dlq;
mod folder;
mod init;
mod output;
mod plugins;
mod publish;
mod run;
mod schema;
mod shell;
mod state;
mod tail;
mod topics;
mod validate;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use sandbar::config::{Config, ConfigError, Overrides};

pub use output::{Failed, Format, Output, print_error};

/// Runs event handlers as sandboxed WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(name = "sandbar", version, about, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration; `sandbar.toml` in the working directory by default, if it exists
    #[arg(short, long, global = true, value_name = "FILE", env = "SANDBAR_CONFIG")]
    config: Option<PathBuf>,
    /// Form of what is printed
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORM",
        env = "SANDBAR_OUTPUT",
        default_value = "text"
    )]
    pub output: Format,
    /// Folder of the plugins, instead of the configured one
    #[arg(long, global = true, value_name = "DIR", env = "SANDBAR_PLUGINS")]
    plugins: Option<PathBuf>,
    /// Data folder, instead of the configured one
    #[arg(long, global = true, value_name = "DIR", env = "SANDBAR_DATA")]
    data: Option<PathBuf>,
    /// Address of the runtime's admin listener, instead of the configured one
    #[arg(long, global = true, value_name = "IP:PORT", env = "SANDBAR_ADMIN")]
    admin: Option<SocketAddr>,
}

impl Global {
    fn overrides(&self) -> Overrides {
        Overrides {
            plugins: self.plugins.clone(),
            data: self.data.clone(),
            admin: self.admin,
            ..Overrides::default()
        }
    }

    /// The configuration with what the command line says over it.
    fn config(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), &self.overrides())
    }

    fn out(&self) -> Output {
        Output::new(self.output)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the plugins of a folder until stopped
    Run(run::RunArgs),
    /// Write a configuration to begin with
    Init(init::InitArgs),
    /// Check the configuration and load every plugin once
    Validate(validate::ValidateArgs),
    /// Publish events, one a line
    Publish(publish::PublishArgs),
    /// Print the events of a topic
    Tail(tail::TailArgs),
    /// List topics
    Topics(topics::TopicsArgs),
    /// List, inspect, begin, build and test plugins
    #[command(subcommand, visible_alias = "plugin")]
    Plugins(plugins::PluginsCommand),
    /// Look at dead letters
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Look at the state that plugins keep, and change it
    #[command(subcommand)]
    State(state::StateCommand),
    /// Print the JSON Schema of a configuration file
    Schema(schema::SchemaArgs),
    /// Print a completion script for a shell
    Completions(shell::CompletionsArgs),
    /// Write the manual pages
    Man(shell::ManArgs),
}

/// Does what the command line says.
///
/// # Errors
/// Why it could not be done. [`Failed`] where that has been printed already.
pub fn execute(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    match command {
        Command::Init(args) => init::init(&args, &global),
        Command::Schema(args) => schema::schema(&args, &global),
        Command::Completions(args) => shell::completions(&args, &global),
        Command::Man(args) => shell::man(&args, &global),
        Command::Plugins(plugins::PluginsCommand::New(args)) => plugins::new::new(&args, &global),
        Command::Plugins(plugins::PluginsCommand::Build(args)) => {
            plugins::build::build(&args, &global)
        }
        Command::Run(args) => run::run(&args, &global),
        Command::Validate(args) => async_command(validate::validate(&args, &global)),
        Command::Publish(args) => async_command(publish::publish(&args, &global)),
        Command::Tail(args) => async_command(tail::tail(&args, &global)),
        Command::Topics(args) => async_command(topics::topics(&args, &global)),
        Command::Plugins(args) => async_command(plugins::plugins(&args, &global)),
        Command::State(args) => async_command(state::state(&args, &global)),
        Command::Dlq(args) => async_command(dlq::dlq(&args, &global)),
    }
}

fn async_command(command: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    // a thread may be blocked on a terminal that nobody types on
    runtime.shutdown_background();
    result
}
