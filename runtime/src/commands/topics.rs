//! `sandbar topics`

use anyhow::Result;
use clap::Args;
use sandbar_core::TopicInfo;

use super::{Global, connect::open_existing, output::count_text};

#[derive(Debug, Args)]
pub struct TopicsArgs {
    /// Which connection; the default one if left out
    #[arg(long, value_name = "NAME", env = "SANDBAR_CONNECTION")]
    connection: Option<String>,
}

pub async fn topics(args: &TopicsArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let connection = open_existing(global, &config, args.connection.as_deref()).await?;
    let topics = connection.topics().await?;
    connection.close().await;
    let out = global.out();
    if out.is_json() {
        return out
            .document(&serde_json::json!({ "connection": connection.name(), "topics": topics }));
    }
    let row = |t: &TopicInfo| {
        vec![t.name.clone(), t.partitions.to_string(), count_text(t.events), count_text(t.bytes)]
    };
    out.table(
        &["TOPIC", "PARTITIONS", "EVENTS", "BYTES"],
        &topics.iter().map(row).collect::<Vec<_>>(),
    )
}
