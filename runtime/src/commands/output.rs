//! What commands print: text for people, JSON for programs.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

use anyhow::Result;
use sandbar::config::ConfigError;
pub use sandbar::event_json::time_text;
use serde::Serialize;

/// Form of what is printed: text for people; one JSON document, or one JSON object
/// a line where there is no end.
// no comments on the values: clap would take them for help and make every page long
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// The command failed, and has said why.
#[derive(Debug)]
pub struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

/// Standard output. A reader that goes away early is an error of kind `BrokenPipe`,
/// which `main` takes for success.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub format: Format,
}

impl Output {
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// One line of text.
    pub fn line(self, line: impl fmt::Display) -> Result<()> {
        Ok(writeln!(io::stdout().lock(), "{line}")?)
    }

    /// One document.
    pub fn document(self, value: &impl Serialize) -> Result<()> {
        self.line(serde_json::to_string_pretty(value)?)
    }

    /// One object on one line.
    pub fn object(self, value: &impl Serialize) -> Result<()> {
        self.line(serde_json::to_string(value)?)
    }

    /// Rows under headings; columns of numbers are aligned to the right.
    pub fn table(self, headings: &[&str], rows: &[Vec<String>]) -> Result<()> {
        let mut out = io::stdout().lock();
        for line in table(headings, rows) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let chars = |cell: &str| cell.chars().count();
    let column = |at: usize| rows.iter().filter_map(move |row| row.get(at));
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(at, heading)| column(at).map(|c| chars(c)).fold(chars(heading), usize::max))
        .collect();
    let is_number = |cell: &String| cell == "-" || cell.chars().all(|c| c.is_ascii_digit());
    let numbers: Vec<bool> =
        (0..headings.len()).map(|at| !rows.is_empty() && column(at).all(is_number)).collect();
    let shown = |cells: &[&str]| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(at, cell)| match numbers[at] {
                true => format!("{cell:>width$}", width = widths[at]),
                false => format!("{cell:<width$}", width = widths[at]),
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![shown(headings)];
    lines.extend(rows.iter().map(|row| shown(&row.iter().map(String::as_str).collect::<Vec<_>>())));
    lines
}

/// `text` without what could steer a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Bytes as text for people.
pub fn bytes_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => printable(text),
        Err(_) => {
            use base64::Engine as _;
            format!("base64:{}", base64::engine::general_purpose::STANDARD.encode(bytes))
        }
    }
}

/// A count that the broker may not know.
pub fn count_text(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

/// Says on standard error why the command failed.
pub fn print_error(error: &anyhow::Error, format: Format) {
    let config = error.downcast_ref::<ConfigError>();
    match format {
        Format::Json => eprintln!("{}", error_json(error, config)),
        Format::Text => match config {
            Some(mistake) => eprint!("{}", config_error_text(mistake)),
            None => eprintln!("error: {error:#}"),
        },
    }
}

/// The mistake with the excerpt of the file, fit for standard error.
pub fn config_error_text(mistake: &ConfigError) -> String {
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    mistake.render(colour, 100)
}

/// The mistake as JSON.
pub fn config_error_json(mistake: &ConfigError) -> serde_json::Value {
    let (file, line, column) =
        mistake.place().map_or((None, None, None), |(f, l, c)| (Some(f), Some(l), Some(c)));
    serde_json::json!({
        "error": mistake.message(), "help": mistake.help(), "file": file, "line": line, "column": column,
    })
}

fn error_json(error: &anyhow::Error, config: Option<&ConfigError>) -> serde_json::Value {
    match config {
        Some(mistake) => config_error_json(mistake),
        None => serde_json::json!({ "error": format!("{error:#}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let rows =
            [["a", "10", "x y"], ["longer", "-", ""]].map(|row| row.map(str::to_owned).to_vec());
        let lines = table(&["NAME", "EVENTS", "NOTE"], &rows);
        assert_eq!(lines, ["NAME    EVENTS  NOTE", "a           10  x y", "longer       -"]);
        assert_eq!(table(&["A", "B"], &[]), ["A  B"]);
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\tü\n"), "a\\u{1b}[2Jb\\tü\\n");
        assert_eq!(bytes_text(b"\xff"), "base64:/w==");
    }
}
