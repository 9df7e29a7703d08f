//! Lines of `sandbar plugin dev`: what happened, and what it was.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use serde_json::{Value, json};
use tracing::{Event, Level, Subscriber, field::Visit};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

use super::super::super::output::{Output, printable};

/// Where lines go. Several tasks write to it.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    out: Output,
    colour: bool,
}

impl Screen {
    pub fn new(out: Output) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { out, colour: io::stdout().is_terminal() && !no_colour }
    }

    /// One line: text for people, `fields` for programs.
    pub fn say(self, kind: &str, fields: Value, text: impl fmt::Display) {
        // whoever read our output has enough of it: the signal that follows ends this
        let _ = if self.out.is_json() {
            let mut object = json!({ "kind": kind });
            if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
                object.extend(fields);
            }
            self.out.object(&object)
        } else {
            let text: Vec<_> = text.to_string().lines().map(printable).collect();
            let text = text.join("\n         ");
            match self.colour {
                true => {
                    self.out.line(format_args!("\u{1b}[{}m{kind:<7}\u{1b}[0m  {text}", hue(kind)))
                }
                false => self.out.line(format_args!("{kind:<7}  {text}")),
            }
        };
    }
}

fn hue(kind: &str) -> &'static str {
    match kind {
        "live" | "ready" => "32",
        "failed" | "refused" | "dead" | "warn" | "error" => "31",
        "event" => "36",
        "output" => "35",
        _ => "2",
    }
}

/// Sends what the plugin logs to the screen, and what the runtime warns of.
pub fn log(screen: Screen) {
    // a second one in this process would be a test's
    let _ = tracing_subscriber::registry().with(ToScreen(screen)).try_init();
}

struct ToScreen(Screen);

impl<S: Subscriber> Layer<S> for ToScreen {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let is_plugin = event.metadata().target() == "plugin";
        if !is_plugin && level > Level::WARN {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let level = level.as_str().to_lowercase();
        let fields = json!({ "level": level, "message": said.message });
        match is_plugin {
            true => self.0.say("log", fields, format_args!("{level}: {}", said.message)),
            false => self.0.say("warn", fields, format_args!("{}{}", said.message, said.rest)),
        }
    }
}

#[derive(Default)]
struct Said {
    message: String,
    rest: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.rest.push_str(&format!(", {name} {value:?}")),
        }
    }
}
