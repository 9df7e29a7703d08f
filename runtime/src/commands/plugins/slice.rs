//! A slice of a topic.

use std::time::SystemTime;

use anyhow::{Result, ensure};
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use sandbar::{config::Config, event_json::parse_from, reading::read_events};
use sandbar_core::{Event, ReadFrom};

use super::super::{Global, connect::open_existing};

#[derive(Debug, Args)]
pub struct SliceArgs {
    /// Which connection; the default one if left out
    #[arg(long, value_name = "NAME", env = "SANDBAR_CONNECTION")]
    pub connection: Option<String>,
    /// Where to begin: start, a position, a time such as 2026-11-21T10:00:00Z, or how long
    /// ago, such as 10m
    #[arg(long, value_name = "PLACE", env = "SANDBAR_SLICE_FROM", default_value = "start", value_parser = place)]
    pub from: ReadFrom,
    /// Events, at most
    #[arg(short = 'n', long, value_name = "N", env = "SANDBAR_SLICE_COUNT", default_value_t = 100)]
    pub count: usize,
    /// Only this partition
    #[arg(long, value_name = "N", env = "SANDBAR_SLICE_PARTITION")]
    pub partition: Option<u32>,
}

fn place(text: &str) -> Result<ReadFrom, String> {
    match parse_from(text, SystemTime::now())? {
        ReadFrom::Follow => Err("a slice is of what is there: it cannot begin at the end".into()),
        from => Ok(from),
    }
}

impl SliceArgs {
    /// The events, in order within their partition.
    ///
    /// # Errors
    /// Where the topic cannot be read, or the slice is empty.
    pub async fn read(&self, topic: &str, global: &Global, config: &Config) -> Result<Vec<Event>> {
        let connection = open_existing(global, config, self.connection.as_deref()).await?;
        let events = read_events(connection.as_ref(), topic, self.from, false).await?;
        let wanted = |event: &Event| self.partition.is_none_or(|n| n == event.partition);
        let events: Vec<_> = events
            .try_filter(|event| std::future::ready(wanted(event)))
            .take(self.count)
            .try_collect()
            .await?;
        connection.close().await;
        ensure!(!events.is_empty(), "topic {topic} holds no event there");
        Ok(events)
    }
}
