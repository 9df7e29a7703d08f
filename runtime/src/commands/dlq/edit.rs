//! `sandbar dlq edit`

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use clap::Args;
use sandbar::{
    client::percent_encoded,
    event_json::BytesJson,
    redrive::{self, Edit, Edited, Routes},
};
use sandbar_core::Event;

use super::{settings, show::PlaceArgs, target::TargetArgs};
use crate::commands::{Global, Output, connect::Found, publish::header};

#[derive(Debug, Args)]
pub struct EditArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// File with the new payload; `-`: standard input
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// Set a header, instead of all others of its name; may be given several times
    #[arg(long = "set-header", value_name = "NAME=VALUE", value_parser = header)]
    set_headers: Vec<(String, String)>,
    /// Remove the headers of this name; may be given several times
    #[arg(long = "remove-header", value_name = "NAME")]
    remove_headers: Vec<String>,
}

pub async fn edit(args: &EditArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let target = args.target.find(global, &config).await?;
    let topic = &target.topic;
    let PlaceArgs { partition, position } = args.place;
    let connection = target.found.connection();
    let letter = redrive::find(connection.as_ref(), topic, partition, position).await?;
    let Some(letter) = letter else { bail!("there is no event at {topic}/{partition}/{position}") };
    let edit = args.edit(&letter)?;
    let edited = match &target.found {
        Found::Here(connection) => {
            let mut routes = Routes::new(connection.clone());
            settings::add_routes(&mut routes, topic, global, &config).await?;
            edit.send(&letter, &routes).await?
        }
        Found::InRuntime { client, name } => {
            let (topic, name) = (percent_encoded(topic), percent_encoded(name));
            let place = format!("/api/dead-letters/{topic}/{partition}/{position}");
            client.post(&format!("{place}/edit?connection={name}"), &edit).await?
        }
    };
    connection.close().await;
    print(global.out(), &edited)
}

impl EditArgs {
    fn edit(&self, letter: &Event) -> Result<Edit> {
        let only_headers = !self.set_headers.is_empty() || !self.remove_headers.is_empty();
        let payload = match &self.payload {
            Some(file) if file.as_os_str() == "-" => Some(standard_input()?),
            Some(file) => {
                let read = std::fs::read(file);
                Some(read.with_context(|| format!("cannot read {}", file.display()))?)
            }
            None if only_headers => None,
            None if !io::stdin().is_terminal() => Some(standard_input()?),
            None => Some(in_editor(letter.payload.as_ref())?),
        };
        let text = |text: &String| BytesJson(text.clone().into());
        Ok(Edit {
            payload: payload.map(|payload| Some(BytesJson(payload.into()))),
            set_headers: self.set_headers.iter().map(|(n, v)| (n.clone(), text(v))).collect(),
            remove_headers: self.remove_headers.clone(),
        })
    }
}

fn standard_input() -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    io::stdin().lock().read_to_end(&mut payload).context("cannot read standard input")?;
    Ok(payload)
}

/// Lets the user write the payload.
fn in_editor(payload: Option<&Bytes>) -> Result<Vec<u8>> {
    let payload = payload.map_or(&[][..], |payload| payload);
    ensure!(
        std::str::from_utf8(payload).is_ok(),
        "the payload is no text: give the new one with --payload FILE"
    );
    let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let Some(editor) = set("VISUAL").or_else(|| set("EDITOR")) else {
        bail!("no $EDITOR is set: give the new payload with --payload FILE");
    };
    let mut file = tempfile::Builder::new().prefix("sandbar-").suffix(".json").tempfile()?;
    file.write_all(payload)?;
    file.flush()?;
    // as git does: the variable may hold arguments
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "editor"])
        .arg(file.path())
        .status()
        .with_context(|| format!("cannot run {editor}"))?;
    ensure!(status.success(), "{editor} ended with {status}: nothing was sent");
    // an editor may have put a new file in its place
    let mut edited = std::fs::read(file.path()).context("cannot read what was edited")?;
    if !payload.ends_with(b"\n") && edited.ends_with(b"\n") {
        // editors end a file with a line end of their own
        edited.pop();
    }
    Ok(edited)
}

fn print(out: Output, edited: &Edited) -> Result<()> {
    if out.is_json() {
        return out.document(edited);
    }
    let Edited { letter, event, connection, inbox } = edited;
    out.line(format_args!(
        "{event} is sent to {inbox} on {connection}; the dead letter {letter} stays"
    ))
}
