//! `sandbar dlq purge`

use anyhow::{Result, bail};
use clap::Args;
use sandbar::{
    client::percent_encoded,
    redrive::{self, Cut, PurgeRequest, Purged},
};

use super::target::TargetArgs;
use crate::commands::{Global, Output, connect::Found};

#[derive(Debug, Args)]
pub struct PurgeArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    much: MuchArgs,
    /// This partition alone
    #[arg(long, value_name = "N", env = "SANDBAR_DLQ_PARTITION")]
    partition: Option<u32>,
    /// Really delete them
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct MuchArgs {
    /// Everything before this position
    #[arg(long, value_name = "POSITION")]
    before: Option<u64>,
    /// Everything that has been there for longer, such as 7d
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
}

pub async fn purge(args: &PurgeArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let target = args.target.find(global, &config).await?;
    let request = PurgeRequest {
        partition: args.partition,
        before: args.much.before,
        older_than: args.much.older_than.clone(),
        all: args.much.all,
        dry_run: !args.yes,
    };
    let topic = &target.topic;
    let purged = match &target.found {
        Found::Here(connection) => redrive::purge(connection.as_ref(), topic, &request).await?,
        Found::InRuntime { client, name } => {
            let (topic, name) = (percent_encoded(topic), percent_encoded(name));
            let path = format!("/api/dead-letters/{topic}/purge?connection={name}");
            client.post(&path, &request).await?
        }
    };
    target.found.connection().close().await;
    print(global.out(), &purged, args.yes)?;
    if !args.yes && purged.positions() > 0 {
        bail!(
            "nothing was deleted: add --yes to delete them for good, of whatever plugin they are"
        );
    }
    Ok(())
}

fn print(out: Output, purged: &Purged, done: bool) -> Result<()> {
    if out.is_json() {
        return out.document(purged);
    }
    let (topic, count) = (&purged.topic, purged.positions());
    let what = if done { "deleted" } else { "would be deleted" };
    out.line(format_args!("{count} positions of {topic} {what}"))?;
    if purged.partitions.is_empty() {
        return Ok(());
    }
    let row = |cut: &Cut| [cut.first, cut.before, cut.end].map(|n| n.to_string());
    let rows = purged.partitions.iter().map(|cut| {
        let mut cells = vec![cut.partition.to_string()];
        cells.extend(row(cut));
        cells
    });
    out.table(&["PARTITION", "FROM", "BEFORE", "END"], &rows.collect::<Vec<_>>())
}
