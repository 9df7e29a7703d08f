//! `run`, and commands that talk to it.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{events::EVENTS, fails, folder, lines_of_json, ok, plain, sandbar, stdout};

/// A running `sandbar`, killed when the test ends early.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // gone already, most of the time
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// `sandbar run`, up and listening.
    pub fn start(dir: &Path) -> Self {
        let running = Self::spawn(dir, &["run", "--admin", "127.0.0.1:0", "-o", "json"]);
        wait_for("the runtime's address", || dir.join("data/admin.addr").exists().then_some(()));
        running
    }

    pub fn spawn(dir: &Path, args: &[&str]) -> Self {
        let mut command = plain(dir);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let kill = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(kill.unwrap().success());
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits for the end, which must be a success, and returns what it printed.
    pub fn output(self) -> String {
        let (code, text) = self.end();
        assert_eq!(code, Some(0), "{text}");
        text
    }

    /// Waits for the end, and returns its code and what it printed.
    pub fn end(mut self) -> (Option<i32>, String) {
        let status = wait_for("the end", || self.0.try_wait().unwrap());
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        (status.code(), text)
    }
}

pub fn wait_for<T>(what: &str, mut is_there: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = is_there() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        #[expect(
            clippy::disallowed_methods,
            reason = "no runtime here, and the condition ends it"
        )]
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn commands_talk_to_the_runtime_that_holds_the_log() {
    let dir = folder();
    fs::create_dir(dir.path().join("plugins")).unwrap();
    let runtime = Running::start(dir.path());

    let mut publish = sandbar(dir.path(), &["publish", "in", "--key", "/repo/name"]);
    publish.write_stdin(EVENTS);
    assert_eq!(stdout(publish), "published 3 events to in on log\n");
    let topics: Value = serde_json::from_str(&ok(dir.path(), &["topics", "-o", "json"])).unwrap();
    assert_eq!(topics["topics"][0]["events"], 3, "{topics}");
    let events = lines_of_json(&ok(dir.path(), &["tail", "in", "-o", "json"]));
    assert_eq!(events.len(), 3);
    let said = fails(sandbar(dir.path(), &["tail", "other"]));
    assert!(said.contains("other"), "{said}");
    let plugins: Value =
        serde_json::from_str(&ok(dir.path(), &["plugins", "list", "-o", "json"])).unwrap();
    assert_eq!(plugins, json!({ "running": true, "plugins": [] }));

    // what is there and what comes, without a gap
    let tail = Running::spawn(dir.path(), &["tail", "in", "--follow", "-n", "5", "-o", "json"]);
    let mut publish = sandbar(dir.path(), &["publish", "in", "--rate", "1000"]);
    publish.write_stdin("4\n5\n");
    stdout(publish);
    let positions: Vec<_> = lines_of_json(&tail.output())
        .iter()
        .map(|event| event["position"].as_u64().unwrap())
        .collect();
    assert_eq!(positions, [0, 1, 2, 3, 4]);

    runtime.terminate();
    let summary: Value = serde_json::from_str(&runtime.output()).unwrap();
    assert_eq!(summary, json!({ "plugins": [] }));
    assert!(!dir.path().join("data/admin.addr").exists());
    // now the log is free and read without it
    assert_eq!(ok(dir.path(), &["tail", "in"]).lines().count(), 5);
}

#[test]
fn a_run_with_nothing_to_do_ends_by_itself_when_asked() {
    let dir = folder();
    fs::create_dir(dir.path().join("plugins")).unwrap();
    let table = ok(dir.path(), &["run", "--until-idle", "--admin", "127.0.0.1:0"]);
    assert!(table.starts_with("PLUGIN  RECEIVED"), "{table}");
}
