//! From files to cases, with the place of every mistake.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use sandbar_core::{Event, Outgoing};
use sandbar_test::HttpResponse;
use sandbar_wasm::Grant;
use toml::Spanned;

use super::{
    Case, Content, Expected, ExpectedOutput, Fake, FakeRequest, Settings, Step,
    answer::Kind,
    payload::{Base64, JsonText, ValueText},
    text::{
        CaseText, EventText, FileText, HttpText, OutputText, Payload, RequestText, ResponseText,
        StepText,
    },
};
use crate::config::{self, ConfigError, Text, known_grant};

/// 2026-01-01T00:00:00Z: what plugins read from their clock where a file does not say.
pub(super) const TIME: Duration = Duration::from_secs(1_767_225_600);

/// The files of cases in `dir`: `cases.toml` and `cases/*.toml`, in order of their names.
///
/// # Errors
/// Where the folder cannot be read.
pub fn find(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files: Vec<_> = [dir.join("cases.toml")].into_iter().filter(|f| f.is_file()).collect();
    let folder = dir.join("cases");
    if folder.is_dir() {
        let listed = fs::read_dir(&folder).map_err(|e| ConfigError::unreadable(&folder, &e))?;
        let paths = listed.flatten().map(|entry| entry.path());
        let mut found: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// The cases of one file.
///
/// # Errors
/// The first mistake found.
pub fn read(file: &Path) -> Result<Vec<Case>, ConfigError> {
    let text = fs::read_to_string(file).map_err(|e| ConfigError::unreadable(file, &e))?;
    parse(file, &Text::new(file.display().to_string(), text))
}

/// The cases of a file's text.
fn parse(file: &Path, text: &Text) -> Result<Vec<Case>, ConfigError> {
    let file_text: FileText = config::literal(text)?;
    let FileText { time, config, secrets, state, grants, publish, limits, http, case } = file_text;
    let reader = Reader { text, folder: file.parent().unwrap_or(Path::new("")) };
    let of_file = Settings {
        config: config.into_iter().map(|(key, value)| (key, value.0)).collect(),
        secrets,
        state: state.into_iter().map(|(key, value)| (key, value.bytes)).collect(),
        http: reader.fakes(http)?,
        grants: grants.as_deref().map(|names| granted(text, names)).transpose()?,
        publish: publish.map(|topics| topics.into_iter().map(|t| t.0).collect()),
        limits: config::limits(&limits),
        time: time.map_or(TIME, |time| time.0),
    };
    let mut names = BTreeSet::new();
    let mut cases = Vec::with_capacity(case.len());
    for (index, written) in case.into_iter().enumerate() {
        let span = written.span();
        let case = reader.case(written, &of_file)?;
        if !names.insert(case.name.clone()) {
            let message = format!("two cases are called `{}`", case.name);
            return Err(text.error(span, message, "the second one"));
        }
        cases.push(Case { file: file.to_owned(), index, ..case });
    }
    Ok(cases)
}

fn granted(text: &Text, names: &[Spanned<String>]) -> Result<BTreeSet<Grant>, ConfigError> {
    names.iter().map(|name| known_grant(text, name)).collect()
}

struct Reader<'a> {
    text: &'a Text,
    folder: &'a Path,
}

impl Reader<'_> {
    fn case(&self, case: Spanned<CaseText>, of_file: &Settings) -> Result<Case, ConfigError> {
        let span = case.span();
        let line = self.text.as_str()[..span.start].matches('\n').count() + 1;
        let mut case = case.into_inner();
        let name = match case.name.take() {
            Some(name) if !name.trim().is_empty() => name,
            _ => {
                return Err(self
                    .text
                    .error(span, "a case has no name", "this case")
                    .with_help("add `name = \"...\"`: what the case shows, in a few words"));
            }
        };
        let mut settings = of_file.clone();
        let config = std::mem::take(&mut case.config).into_iter();
        settings.config.extend(config.map(|(key, value)| (key, value.0)));
        settings.secrets.append(&mut case.secrets);
        let state = std::mem::take(&mut case.state).into_iter();
        settings.state.extend(state.map(|(key, value)| (key, value.bytes)));
        let mut own = self.fakes(std::mem::take(&mut case.http))?;
        settings.http.retain(|fake| !own.iter().any(|mine| mine.request == fake.request));
        own.append(&mut settings.http);
        settings.http = own;
        if let Some(grants) = &case.grants {
            settings.grants = Some(granted(self.text, grants)?);
        }
        if let Some(time) = case.time {
            settings.time = time.0;
        }
        let start_error = case.start_error.take();
        let in_steps = !case.step.is_empty();
        let steps = match (in_steps, &case.event, &start_error) {
            (true, Some(event), _) => {
                return Err(self
                    .text
                    .error(event.span(), "a case has both `event` and `step`", "one too many")
                    .with_help("move the event into the first `[[case.step]]`"));
            }
            (true, None, None) => std::mem::take(&mut case.step),
            (false, Some(_), None) => vec![Spanned::new(span, case.into_step())],
            (false, None, Some(_)) => Vec::new(),
            (_, _, Some(_)) => {
                let message = format!("case `{name}` has a `start-error` and an event");
                return Err(self
                    .text
                    .error(span, message, "this case")
                    .with_help("a plugin that does not start gets no event: remove one of them"));
            }
            (false, None, None) => {
                return Err(self
                    .text
                    .error(span, format!("case `{name}` has no event"), "this case")
                    .with_help("add `event = { topic = \"...\", json = { } }`"));
            }
        };
        let mut now = settings.time;
        let mut read = Vec::with_capacity(steps.len());
        for (at, step) in steps.into_iter().enumerate() {
            let step = self.step(step, at as u64, now)?;
            now = step.time.unwrap_or(now);
            read.push(step);
        }
        let file = PathBuf::new();
        Ok(Case { name, file, index: 0, line, settings, start_error, steps: read, in_steps })
    }

    fn step(
        &self,
        step: Spanned<StepText>,
        at: u64,
        before: Duration,
    ) -> Result<Step, ConfigError> {
        let span = step.span();
        let step = step.into_inner();
        let time = step.time.map(|time| time.0);
        let Some(event) = step.event else {
            return Err(self
                .text
                .error(span, "a step has no event", "this step")
                .with_help("add `event = { topic = \"...\", json = { } }`"));
        };
        let now = time.unwrap_or(before);
        let attempt = event.get_ref().attempt.map_or(1, Into::into);
        let event = self.event(event, at, now)?;
        let verdict = step.verdict.as_ref().map_or(Kind::Ok, |verdict| *verdict.get_ref());
        if let (Some(written), true) =
            (&step.verdict, verdict != Kind::Ok && !step.output.is_empty())
        {
            let message = format!("verdict `{}` with outputs", verdict.as_str());
            return Err(self
                .text
                .error(written.span(), message, "an attempt that fails publishes nothing")
                .with_help("remove `output`, or the verdict"));
        }
        let outputs = |outputs: Vec<_>| -> Result<Vec<_>, ConfigError> {
            outputs.into_iter().map(|output| self.output(output)).collect()
        };
        let content = |state: BTreeMap<String, ValueText>| {
            let content = |ValueText { bytes, as_json }| Content { bytes, as_json };
            state.into_iter().map(|(key, value)| (key, content(value))).collect()
        };
        let expected = Expected {
            verdict,
            code: step.code,
            message: step.message,
            after: step.after.map(|after| after.0),
            outputs: outputs(step.output)?,
            published: step.published.map(outputs).transpose()?,
            state: step.state_after.map(content),
            metrics: step.metrics,
            log: step.log,
        };
        Ok(Step { event, attempt, time, expected })
    }

    fn event(
        &self,
        event: Spanned<EventText>,
        at: u64,
        now: Duration,
    ) -> Result<Event, ConfigError> {
        let span = event.span();
        let mut event = event.into_inner();
        let payload = self.payload(event.payload(), event.tombstone, span)?;
        let timestamp = event.timestamp.map_or(now, |time| time.0);
        Ok(Event {
            topic: event.topic.into(),
            partition: event.partition,
            position: event.position.unwrap_or(at),
            key: event.key.map(|key| key.0),
            payload: payload.map(|payload| payload.bytes),
            headers: event.headers.0.into(),
            timestamp_ms: u64::try_from(timestamp.as_millis()).unwrap_or(u64::MAX),
            attributes: event.attributes.into_iter().collect(),
        })
    }

    fn output(&self, output: Spanned<OutputText>) -> Result<ExpectedOutput, ConfigError> {
        let span = output.span();
        let mut output = output.into_inner();
        let payload = self.payload(output.payload(), output.tombstone, span)?;
        let as_json = payload.as_ref().is_some_and(|payload| payload.as_json);
        let event = Outgoing {
            connection: output.connection.map(Into::into),
            topic: output.topic.into(),
            key: output.key.map(|key| key.0),
            payload: payload.map(|payload| payload.bytes),
            headers: output.headers.0,
            attributes: output.attributes.into_iter().collect(),
        };
        Ok(ExpectedOutput { event, as_json })
    }

    /// An event's payload, which has one form; `None` is a tombstone.
    fn payload(
        &self,
        payload: Payload,
        tombstone: bool,
        span: Range<usize>,
    ) -> Result<Option<Content>, ConfigError> {
        const FORMS: &str = "write one of `json`, `text`, `base64`, `file` and `tombstone = true`";
        let message = match payload.given() + usize::from(tombstone) {
            0 => "an event has no payload",
            1 => return self.content(payload),
            _ => "an event has several payloads",
        };
        Err(self.text.error(span, message, "this event").with_help(FORMS))
    }

    /// The body of a request or a response, which may have none.
    fn body(&self, body: Payload, span: Range<usize>) -> Result<Option<Content>, ConfigError> {
        if body.given() > 1 {
            let error = self.text.error(span, "several bodies", "here");
            return Err(error.with_help("write one of `json`, `text`, `base64` and `file`"));
        }
        self.content(body)
    }

    fn content(&self, payload: Payload) -> Result<Option<Content>, ConfigError> {
        let Payload { json, text, base64, file } = payload;
        let (bytes, as_json): (Bytes, bool) = match (json, text, base64, file) {
            (Some(JsonText(json)), ..) => (json.into(), true),
            (_, Some(text), ..) => (text.into(), false),
            (_, _, Some(Base64(bytes)), _) => (bytes.into(), false),
            (.., Some(file)) => {
                let path = self.folder.join(file.get_ref());
                let bytes = fs::read(&path).map_err(|e| {
                    let message = format!("{} cannot be read: {e}", path.display());
                    self.text.error(file.span(), message, "this file")
                })?;
                (bytes.into(), true)
            }
            _ => return Ok(None),
        };
        Ok(Some(Content { bytes, as_json }))
    }

    fn fakes(&self, http: Vec<HttpText>) -> Result<Vec<Fake>, ConfigError> {
        let fake = |HttpText { request, response }| {
            Ok(Fake { request: self.request(request)?, response: self.response(response)? })
        };
        http.into_iter().map(fake).collect()
    }

    fn request(&self, request: Spanned<RequestText>) -> Result<FakeRequest, ConfigError> {
        let span = request.span();
        let mut request = request.into_inner();
        let url = match request.url.split_once("://").map(|(_, rest)| rest.contains(['/', '*'])) {
            Some(true) => request.url.clone(),
            // as it is sent
            Some(false) => format!("{}/", request.url),
            None if request.url.contains('*') => request.url.clone(),
            None => {
                let message = format!("`{}` is no URL", request.url);
                let help = "write all of it, such as `https://api.example.com/rates?to=EUR`; `*` \
                            stands for anything";
                return Err(self.text.error(span, message, "of this request").with_help(help));
            }
        };
        let body = self.body(request.payload(), span)?;
        let method = request.method.unwrap_or_else(|| "GET".to_owned());
        Ok(FakeRequest { method, url, headers: request.headers.0, body })
    }

    fn response(&self, response: Spanned<ResponseText>) -> Result<HttpResponse, ConfigError> {
        let span = response.span();
        let mut response = response.into_inner();
        let body = self.body(response.payload(), span)?;
        let status = match &response.status {
            None => 200,
            Some(status) if (200..=999).contains(status.get_ref()) => *status.get_ref(),
            Some(status) => {
                let message = format!("{} is no status of a response", status.get_ref());
                let help = "write a number from 200 to 999, such as 404";
                return Err(self.text.error(status.span(), message, "here").with_help(help));
            }
        };
        let value = |value: Option<Bytes>| value.unwrap_or_default();
        let headers = response.headers.0.into_iter();
        Ok(HttpResponse {
            status,
            headers: headers.map(|h| (h.name.to_string(), value(h.value))).collect(),
            body: body.map_or_else(Bytes::new, |body| body.bytes),
        })
    }
}
