//! A `sandbar run` process under test.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{eventually, eventually_within};

/// Where a runtime says the address of its admin listener.
const ADDRESS: &str = "data/admin.addr";
/// Bytes of a reply that are read at the most.
const BODY_LIMIT: u64 = 1 << 32;

/// A running `sandbar run` whose folder holds `sandbar.toml`, `plugins/`, `data/`
/// and, after its end, `sandbar.log`. Dropping it kills it.
pub struct Runtime {
    folder: PathBuf,
    child: Child,
    admin: String,
    agent: ureq::Agent,
}

/// The binary under test: `SANDBAR_BIN`, or the one built beside this program.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SANDBAR_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("path of this program");
    let near = own.ancestors().skip(1).take(2).map(|dir| dir.join("sandbar"));
    let found = near.into_iter().find(|path| path.is_file());
    found.expect(
        "the `sandbar` binary is missing: run `cargo build -p sandbar` with the same profile",
    )
}

impl Runtime {
    /// Starts the runtime in `folder`, which holds `sandbar.toml`, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends before it is ready; the error holds the end of its log.
    pub fn start(folder: &Path) -> Result<Self> {
        let mut runtime = Self::spawn(folder, &[])?;
        eventually("sandbar is ready", || runtime.is_ready().transpose())?;
        Ok(runtime)
    }

    /// Starts the runtime without waiting. `wrapper` is a program with its first arguments
    /// that is given the command line to run; empty for none.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn(folder: &Path, wrapper: &[&str]) -> Result<Self> {
        let _ = fs::remove_file(folder.join(ADDRESS));
        let log = File::options().create(true).append(true).open(folder.join("sandbar.log"))?;
        let binary = binary();
        let mut line = wrapper.iter().map(OsStr::new).chain([binary.as_os_str()]);
        let child = Command::new(line.next().context("no program")?)
            .args(line)
            .args(["run", "--config", "sandbar.toml"])
            .current_dir(folder)
            .env_remove("SANDBAR_CONFIG")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start sandbar")?;
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        Ok(Self { folder: folder.to_owned(), child, admin: String::new(), agent })
    }

    /// `Some` once the runtime has said that it is ready.
    ///
    /// # Errors
    /// When it has ended; the error holds the end of its log.
    pub fn is_ready(&mut self) -> Result<Option<()>> {
        if let Some(status) = self.ended() {
            anyhow::bail!("sandbar ended with {status}:\n{}", self.log());
        }
        let Ok(admin) = fs::read_to_string(self.folder.join(ADDRESS)) else { return Ok(None) };
        admin.trim().clone_into(&mut self.admin);
        let reply = self.agent.get(format!("http://{}/readyz", self.admin)).call();
        Ok(reply.is_ok_and(|reply| reply.status().is_success()).then_some(()))
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Starts another `sandbar` command in the same folder. Nobody reads what it prints.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn begin(folder: &Path, args: &[&str]) -> Result<Child> {
        let mut command = Command::new(binary());
        command.args(args).current_dir(folder).stdin(Stdio::null());
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Runs another `sandbar` command in the same folder and returns its standard output.
    ///
    /// # Errors
    /// When it fails; the error holds what it printed.
    pub fn command(folder: &Path, args: &[&str], input: &[u8]) -> Result<String> {
        let mut child = Command::new(binary())
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        let input = input.to_vec();
        // a thread of its own: the child may print more than a pipe holds before it has read all
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output()?;
        let _ = writer.join();
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "sandbar {args:?} ended with {}:\n{text}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Folder the process runs in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `host:port` of the admin listener; empty before it was seen to be ready.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// GETs JSON from the admin API; `None` while it does not answer.
    pub fn get(&self, path: &str) -> Option<Value> {
        let mut reply = self.agent.get(format!("http://{}{path}", self.admin)).call().ok()?;
        let text = reply.body_mut().with_config().limit(BODY_LIMIT).read_to_string().ok()?;
        serde_json::from_str(&text).ok()
    }

    /// GETs text, such as `/metrics`.
    ///
    /// # Errors
    /// When the request fails.
    pub fn text(&self, path: &str) -> Result<String> {
        let mut reply = self.agent.get(format!("http://{}{path}", self.admin)).call()?;
        ensure!(reply.status().is_success(), "GET {path}: {}", reply.status());
        Ok(reply.body_mut().with_config().limit(BODY_LIMIT).read_to_string()?)
    }

    /// GETs newline-delimited JSON from the admin API.
    ///
    /// # Errors
    /// When the request fails or a line is no JSON.
    pub fn get_lines(&self, path: &str) -> Result<Vec<Value>> {
        let text = self.text(path)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// POSTs newline-delimited envelopes to a topic and returns the answer.
    ///
    /// # Errors
    /// When the request fails.
    pub fn post(&self, path: &str, body: &[u8]) -> Result<Value> {
        let mut reply = self.agent.post(format!("http://{}{path}", self.admin)).send(body)?;
        let text = reply.body_mut().with_config().limit(BODY_LIMIT).read_to_string()?;
        serde_json::from_str(&text).with_context(|| format!("POST {path} answered {text:?}"))
    }

    /// What the admin API says of one plugin; `None` while it is unknown.
    pub fn plugin(&self, name: &str) -> Option<Value> {
        self.get(&format!("/api/plugins/{name}")).filter(|v| v.get("error").is_none())
    }

    /// Puts a plugin into the folder by copy and rename, as `install` and `cp` of a
    /// careful deployment do.
    ///
    /// # Errors
    /// When the file cannot be copied.
    pub fn install(folder: &Path, component: &Path, name: &str) -> Result<()> {
        let plugins = folder.join("plugins");
        fs::create_dir_all(&plugins)?;
        let part = plugins.join(format!(".{name}.part"));
        fs::copy(component, &part)?;
        fs::rename(part, plugins.join(format!("{name}.wasm")))?;
        Ok(())
    }

    /// Ends the process as a power cut would.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill_9(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().try_into()?), signal)?)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, then waits for the graceful end.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        Ok(eventually_within(Duration::from_secs(60), "sandbar ends after SIGTERM", || {
            self.ended()
        }))
    }

    /// Resident memory in bytes.
    pub fn resident_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }

    /// The end of what the process logged.
    pub fn log(&self) -> String {
        log_tail(&self.folder)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // of a process that hangs, the log says nothing
        let threads = std::thread::panicking().then(|| threads(self.child.id()));
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(threads) = threads {
            eprintln!("--- end of {}:\n{}", self.folder.join("sandbar.log").display(), self.log());
            eprintln!(
                "--- its threads were (name, where the kernel has it, system call):\n{threads}"
            );
        }
    }
}

/// What the threads of a process are doing, as far as the system tells.
fn threads(pid: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let said = |task: fs::DirEntry| {
        let word = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let words = ["comm", "wchan", "syscall"].map(|file| word(file).trim().to_owned());
        words.join("  ")
    };
    tasks.map(said).collect::<Vec<_>>().join("\n")
}

fn log_tail(folder: &Path) -> String {
    let text = fs::read(folder.join("sandbar.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
