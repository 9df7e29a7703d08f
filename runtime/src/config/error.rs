//! What is wrong with a configuration, where, and what to do about it.

use std::{fmt, ops::Range, path::Path, sync::Arc};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

/// A mistake in a configuration file, in what a plugin says of itself, or between the two.
///
/// [`Display`](fmt::Display) gives one line with the place, for logs;
/// [`render`](Self::render) the excerpt of the file, for people.
#[derive(Clone)]
pub struct ConfigError(Box<Mistake>);

#[derive(Debug, Clone)]
struct Mistake {
    message: String,
    help: Option<String>,
    place: Option<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    text: Text,
    span: Range<usize>,
    label: String,
}

/// The text of a configuration file and its name, kept for excerpts.
#[derive(Clone)]
pub struct Text {
    name: Arc<str>,
    text: Arc<str>,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // secrets may stand in it
        f.debug_tuple("Text").field(&self.name).finish()
    }
}

impl Text {
    /// The text of the file that is called `name` in messages.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A mistake at `span`.
    pub fn error(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> ConfigError {
        let end = span.end.min(self.text.len());
        let place =
            Place { text: self.clone(), span: span.start.min(end)..end, label: label.into() };
        ConfigError(Box::new(Mistake { message: message.into(), help: None, place: Some(place) }))
    }
}

impl ConfigError {
    /// A mistake that is not in a file.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Mistake { message: message.into(), help: None, place: None }))
    }

    /// A file that cannot be read.
    pub fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self::new(format!("{} cannot be read: {error}", path.display()))
    }

    /// The same mistake with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// What is wrong, without place and advice.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// File, line and column (both from 1), where the mistake is in a file.
    pub fn place(&self) -> Option<(&str, usize, usize)> {
        let place = self.0.place.as_ref()?;
        let before = &place.text.text.as_bytes()[..place.span.start];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        Some((&place.text.name, line, column))
    }

    /// The mistake with the excerpt of the file, `width` columns wide.
    pub fn render(&self, colour: bool, width: usize) -> String {
        let theme =
            if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut out = String::new();
        GraphicalReportHandler::new_themed(theme)
            .with_links(false)
            .with_width(width)
            .render_report(&mut out, &Shown::new(&self.0))
            .unwrap_or_else(|_| out = self.to_string());
        out
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line, column)) = self.place() {
            write!(f, "{file}:{line}:{column}: ")?;
        }
        f.write_str(self.message())?;
        self.help().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the whole file is part of the value and must not get into logs
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

/// A mistake as miette wants to see it.
#[derive(Debug)]
struct Shown<'a> {
    mistake: &'a Mistake,
    source: Option<NamedSource<String>>,
}

impl<'a> Shown<'a> {
    fn new(mistake: &'a Mistake) -> Self {
        let named = |p: &Place| NamedSource::new(&p.text.name, p.text.text.to_string());
        Self { mistake, source: mistake.place.as_ref().map(named) }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistake.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.mistake.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.mistake.place.as_ref()?;
        let label = LabeledSpan::new_with_span(Some(place.label.clone()), place.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// Advice for an unknown name: the nearest known one, else all of them.
pub fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let distance =
        |k: &str| strsim::damerau_levenshtein(&unknown.to_lowercase(), &k.to_lowercase());
    let nearest = known.iter().map(|k| (distance(k), *k)).min();
    match nearest {
        Some((distance, name)) if distance <= 1 + name.len() / 4 => {
            format!("did you mean `{name}`?")
        }
        Some(_) => format!("known here: `{}`", known.join("`, `")),
        None => "none is known here".to_owned(),
    }
}
