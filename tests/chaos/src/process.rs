//! A broker's process: started, killed and started again by its scripts, behind a proxy.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandbar_testkit::root;
use tokio::{task::spawn_blocking, time::Instant};

use crate::proxy::Proxy;

/// Ports of brokers begin here, ten apart. A broker takes the first three of its ten, below those
/// that systems hand out by themselves.
const FIRST_PORT: u16 = 29_192;
const BROKERS: u32 = 350;
/// A broker that was killed is up again within this.
const PATIENCE: Duration = Duration::from_secs(120);

/// What there is to know about a broker's scripts.
#[derive(Debug, Clone, Copy)]
pub struct Scripts {
    /// Folder below `scripts`, and name of the broker's log and pid files.
    pub name: &'static str,
    /// The port of the three of a broker that clients are sent to by the proxy.
    pub proxied: u16,
    /// Whether `start` must know the proxy's port, because the broker tells its clients where to
    /// connect to.
    pub advertises: bool,
    /// An environment variable of the scripts and its value where it is not set.
    pub version: Option<(&'static str, &'static str)>,
}

/// A broker with data of its own. Dropping it stops it.
pub struct Process {
    scripts: Scripts,
    folder: PathBuf,
    port: u16,
    proxy: Proxy,
}

impl Process {
    /// Starts a broker that keeps everything in `folder`.
    pub async fn start(scripts: Scripts, folder: &Path) -> Result<Self> {
        let port = free_port().context("no three free ports in a row")?;
        let upstream = SocketAddr::from(([127, 0, 0, 1], port + scripts.proxied));
        let proxy = Proxy::start(upstream).await?;
        let process = Self { scripts, folder: folder.to_owned(), port, proxy };
        let proxied = process.proxy.port().to_string();
        let port = port.to_string();
        let arguments: &[&str] = if scripts.advertises { &[&port, &proxied] } else { &[&port] };
        process.script("start", arguments).await?;
        Ok(process)
    }

    async fn script(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(script(self.scripts, name));
        command.arg(&self.folder).args(arguments);
        if let Some((variable, value)) = self.scripts.version
            && std::env::var_os(variable).is_none()
        {
            command.env(variable, value);
        }
        // without its output: the broker inherits it and would keep a pipe open
        let status = spawn_blocking(move || command.stdout(Stdio::null()).status()).await??;
        ensure!(status.success(), "scripts/{}/{name} ended with {status}", self.scripts.name);
        Ok(())
    }

    /// Where the harness itself connects to, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What the runtimes' connections pass through.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Where the broker writes its log.
    pub fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.scripts.name))
    }

    /// Ends the broker as a power cut would.
    pub fn kill(&self) -> Result<()> {
        let file = self.folder.join(format!("{}.pid", self.scripts.name));
        let pid = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(kill(Pid::from_raw(pid.trim().parse()?), Signal::SIGKILL)?)
    }

    /// Starts it again on its data. On a busy machine that may need more than one attempt.
    pub async fn restart(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.script("start", &[]).await {
                Err(error) if Instant::now() < deadline => eprintln!("{error}; once more"),
                result => return result,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nothing can be done about one that will not stop
        let _ = Command::new(script(self.scripts, "stop")).arg(&self.folder).status();
    }
}

fn script(scripts: Scripts, name: &str) -> PathBuf {
    root().join("scripts").join(scripts.name).join(name)
}

/// The first of three free ports. Each process begins to look somewhere else: the ports of another
/// run are free, too, while its broker is down.
fn free_port() -> Option<u16> {
    let is_free =
        |port: &u16| (*port..port + 3).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    let broker = |n| u16::try_from((std::process::id() + n) % BROKERS).ok();
    (0..BROKERS).filter_map(broker).map(|n| FIRST_PORT + 10 * n).find(is_free)
}
