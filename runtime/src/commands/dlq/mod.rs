//! `sandbar dlq`: one file per subcommand.

mod edit;
mod filter;
mod list;
mod purge;
mod redrive;
mod release;
mod settings;
mod show;
mod target;

use anyhow::Result;
use clap::Subcommand;

pub use settings::plugins;

use super::Global;

#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// Count dead letters by plugin and error, and list the newest
    List(list::ListArgs),
    /// Show one dead letter whole
    Show(show::ShowArgs),
    /// Send dead letters back to the plugin that failed
    ///
    /// They go to the subscription that failed, and to no other one of their topic. Each is sent
    /// once: the same command made again goes on where it was, also after it was killed, and sends
    /// what arrived since. The letters stay where they are; `sandbar dlq purge` deletes them.
    Redrive(redrive::RedriveArgs),
    /// Change one dead letter, and send it back to the plugin that failed
    ///
    /// The new payload is read from a file or standard input, or written in $EDITOR. The key stays,
    /// and so does the letter.
    Edit(edit::EditArgs),
    /// Delete dead letters for good
    ///
    /// A log can only be cut from the front: everything before a position goes, of whatever
    /// plugin, and nothing after it.
    Purge(purge::PurgeArgs),
    /// Let keys go on that wait behind a dead letter (`on-dead-letter = "halt-key"`)
    ///
    /// New events of the key are handled again. Those that followed the dead letter lie in the
    /// dead-letter topic and are sent by `sandbar dlq redrive`: do that first to keep their order.
    Release(release::ReleaseArgs),
}

pub async fn dlq(command: &DlqCommand, global: &Global) -> Result<()> {
    match command {
        DlqCommand::List(args) => list::list(args, global).await,
        DlqCommand::Show(args) => show::show(args, global).await,
        DlqCommand::Redrive(args) => redrive::redrive(args, global).await,
        DlqCommand::Edit(args) => edit::edit(args, global).await,
        DlqCommand::Purge(args) => purge::purge(args, global).await,
        DlqCommand::Release(args) => release::release(args, global).await,
    }
}
