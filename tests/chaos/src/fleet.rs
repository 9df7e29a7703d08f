//! The runtimes: started, killed, stopped and started again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sandbar_testkit::{Runtime, guest};
use tokio::{sync::Mutex, task::spawn_blocking, time::sleep};

/// Versions of the plugin, by the names of their components.
const VERSIONS: [&str; 2] = ["program-chaos", "program-chaos-v2"];
/// A file that outgrows its limit is an error to the writer, not its end.
const IGNORE_XFSZ: [&str; 3] = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];

/// One runtime, running or not.
struct Member {
    folder: PathBuf,
    runtime: Option<Runtime>,
}

/// All runtimes of a run.
pub struct Fleet {
    members: Vec<Mutex<Member>>,
    plugins: Vec<String>,
}

impl Fleet {
    /// `size` runtimes below `folder`, none of them running. Each has `config` as its
    /// `sandbar.toml` and the plugins given by name and settings.
    pub fn new(
        folder: &Path,
        size: usize,
        config: &str,
        plugins: &[(String, String)],
    ) -> Result<Self> {
        let member = |n| -> Result<_> {
            let folder = folder.join(format!("runtime-{n}"));
            fs::create_dir_all(folder.join("plugins"))?;
            fs::write(folder.join("sandbar.toml"), config)?;
            for (name, settings) in plugins {
                fs::write(folder.join(format!("plugins/{name}.toml")), settings)?;
                Runtime::install(&folder, &guest(VERSIONS[0]), name)?;
            }
            Ok(Mutex::new(Member { folder, runtime: None }))
        };
        let members = (0..size).map(member).collect::<Result<_>>()?;
        Ok(Self { members, plugins: plugins.iter().map(|(name, _)| name.clone()).collect() })
    }

    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Starts a runtime that is not running, without waiting for it.
    pub async fn start(&self, n: usize) -> Result<()> {
        let mut member = self.members[n].lock().await;
        if member.runtime.is_none() {
            member.runtime = Some(Runtime::spawn(&member.folder, &IGNORE_XFSZ)?);
        }
        Ok(())
    }

    /// Starts all that are not running, and waits until they are ready.
    pub async fn start_all(&self) -> Result<()> {
        for n in 0..self.size() {
            self.start(n).await?;
        }
        for n in 0..self.size() {
            self.ready(n).await?;
        }
        Ok(())
    }

    /// Waits until a running runtime is ready. Returns the address of its admin listener.
    pub async fn ready(&self, n: usize) -> Result<String> {
        loop {
            let mut member = self.members[n].lock().await;
            let runtime = member.runtime.as_mut().context("the runtime is not running")?;
            if runtime.is_ready()?.is_some() {
                return Ok(runtime.admin().to_owned());
            }
            drop(member);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where a runtime said last that its admin listener is. Does not ask it: one that is paused
    /// would not answer.
    pub async fn admin(&self, n: usize) -> Result<String> {
        let file = self.folder(n).await.join("data/admin.addr");
        Ok(fs::read_to_string(&file).with_context(|| file.display().to_string())?.trim().to_owned())
    }

    /// Whether a runtime runs.
    pub async fn is_running(&self, n: usize) -> bool {
        self.members[n].lock().await.runtime.is_some()
    }

    /// Ends a runtime as a power cut would.
    pub async fn kill(&self, n: usize) -> Result<()> {
        let runtime = self.members[n].lock().await.runtime.take();
        runtime.map_or(Ok(()), |runtime| runtime.kill_9())
    }

    /// Ends a runtime gracefully.
    pub async fn terminate(&self, n: usize) -> Result<()> {
        let mut member = self.members[n].lock().await;
        let Some(runtime) = member.runtime.take() else { return Ok(()) };
        let ended = spawn_blocking(|| runtime.terminate()).await;
        let status = ended.with_context(|| format!("runtime {n} does not end on SIGTERM"))??;
        ensure!(status.success(), "runtime {n} ended with {status} on SIGTERM");
        Ok(())
    }

    /// Sends a signal to a running runtime.
    pub async fn signal(&self, n: usize, signal: Signal) -> Result<()> {
        let member = self.members[n].lock().await;
        member.runtime.as_ref().map_or(Ok(()), |runtime| runtime.signal(signal))
    }

    /// Limits how far the files may grow that a runtime writes, or lifts the limit.
    pub async fn limit_files(&self, n: usize, bytes: Option<u64>) -> Result<()> {
        let member = self.members[n].lock().await;
        let runtime = member.runtime.as_ref().context("the runtime is not running")?;
        let soft = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let status = std::process::Command::new("prlimit")
            .arg(format!("--pid={}", runtime.pid()))
            .arg(format!("--fsize={soft}:unlimited"))
            .status()
            .context("cannot run prlimit (util-linux)")?;
        ensure!(status.success(), "prlimit ended with {status}");
        Ok(())
    }

    /// Writes over the file of every plugin of every runtime, in place or by renaming.
    pub async fn reload(&self, version: usize, in_place: bool) -> Result<()> {
        let component = guest(VERSIONS[version % VERSIONS.len()]);
        for member in &self.members {
            let folder = member.lock().await.folder.clone();
            for name in &self.plugins {
                if in_place {
                    fs::copy(&component, folder.join(format!("plugins/{name}.wasm")))?;
                } else {
                    Runtime::install(&folder, &component, name)?;
                }
            }
        }
        Ok(())
    }

    /// Starts runtimes again that ended without having been asked to.
    ///
    /// # Errors
    /// Where there was one; the error holds the end of its log.
    pub async fn revive(&self) -> Result<()> {
        for (n, member) in self.members.iter().enumerate() {
            let mut member = member.lock().await;
            let Some(runtime) = member.runtime.as_mut() else { continue };
            if let Some(status) = runtime.ended() {
                let log = runtime.log();
                member.runtime = Some(Runtime::spawn(&member.folder, &IGNORE_XFSZ)?);
                bail!("runtime {n} ended by itself with {status}:\n{log}");
            }
        }
        Ok(())
    }

    /// Where the runtimes write their logs.
    pub async fn logs(&self) -> Vec<PathBuf> {
        let mut logs = Vec::new();
        for member in &self.members {
            logs.push(member.lock().await.folder.join("sandbar.log"));
        }
        logs
    }

    /// Folder of a runtime.
    pub async fn folder(&self, n: usize) -> PathBuf {
        self.members[n].lock().await.folder.clone()
    }
}
