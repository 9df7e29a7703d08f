//! Gives the events of cases to a plugin, on the production engine.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use anyhow::Result;
use bytes::Bytes;
use sandbar_test::{Bench, BenchConfig, Loaded};
use sandbar_wasm::{Examined, Grant, Inspection, LoadError, LoadSpec, SecretValue};

use super::{Answer, Case, Settings, Step, http::Fakes};

/// Runs cases of one plugin.
pub struct Runner {
    bench: Bench,
    name: String,
    plugin: Examined,
}

/// What came of a case.
#[derive(Debug)]
pub struct Ran {
    /// Why the plugin did not start.
    pub start_error: Option<String>,
    /// One for each step, where it did.
    pub answers: Vec<Answer>,
}

impl Runner {
    /// Compiles the plugin, and keeps what comes of that in `cache`.
    ///
    /// # Errors
    /// Where the file is no plugin, or the engine does not start.
    pub async fn new(name: &str, wasm: Bytes, cache: Option<PathBuf>) -> Result<Self> {
        let bench = Bench::new(BenchConfig { cache, time: Some(std::time::Duration::ZERO) })?;
        let plugin = bench.examine(wasm).await?;
        Ok(Self { bench, name: name.to_owned(), plugin })
    }

    /// What is known of the plugin's file.
    pub fn inspection(&self) -> &Inspection {
        self.plugin.inspection()
    }

    /// Runs a case in an instance of its own.
    pub async fn run(&self, case: &Case) -> Ran {
        let session = match self.start(&case.settings).await {
            Ok(session) => session,
            Err(e) => return Ran { start_error: Some(e.to_string()), answers: Vec::new() },
        };
        let mut answers = Vec::with_capacity(case.steps.len());
        for step in &case.steps {
            answers.push(session.step(step).await);
        }
        Ran { start_error: None, answers }
    }

    /// Loads the plugin for events that come one after the other. There must be one
    /// session at a time: they share the clock.
    ///
    /// # Errors
    /// Why the plugin does not start.
    pub async fn start(&self, settings: &Settings) -> Result<Session<'_>, LoadError> {
        self.bench.set_time(settings.time);
        let needed = || -> BTreeSet<Grant> { self.inspection().grants.clone() };
        let mut grants = settings.grants.clone().unwrap_or_else(needed);
        if !settings.http.is_empty() {
            grants.insert(Grant::Http);
        }
        let secret =
            |(name, value): (&String, &String)| (name.clone(), SecretValue::new(value.as_bytes()));
        let requests = Arc::new(Fakes::new(settings.http.clone()));
        let state = self.bench.state(&self.name, settings.state.clone()).await;
        let spec = LoadSpec {
            limits: settings.limits.clone(),
            grants,
            secrets: settings.secrets.iter().map(secret).collect(),
            fake_http: Some(requests.clone()),
            state: Some(state.map_err(|e| LoadError::Host(e.to_string()))?),
            config: settings.config.clone(),
            ..LoadSpec::new(&self.name)
        };
        let mut plugin = self.bench.load(self.plugin.clone(), spec).await?;
        if let Some(topics) = &settings.publish {
            plugin.allow(topics.clone());
        }
        Ok(Session { bench: &self.bench, plugin, requests })
    }
}

/// A plugin that has started.
pub struct Session<'a> {
    bench: &'a Bench,
    plugin: Loaded,
    requests: Arc<Fakes>,
}

impl Session<'_> {
    /// Gives it the event of a step.
    pub async fn step(&self, step: &Step) -> Answer {
        if let Some(time) = step.time {
            self.bench.move_to(time);
        }
        let attempt = self.plugin.attempt(step.event.clone(), step.attempt).await;
        Answer { requests: self.requests.take(), ..attempt.into() }
    }
}
