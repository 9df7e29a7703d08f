//! The broker's process, and requests to it.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandbar_testkit::root;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::{acl, proxy::Proxy};

/// The version that is started, unless SANDBAR_KAFKA_VERSION says otherwise: the last one that loses
/// nothing when the only broker is killed. A broker that comes back has no leader for a moment in
/// the middle of its start. From 4.1 on the transaction coordinator then takes a partition for
/// deleted and leaves its transaction open for ever (`KRaftMetadataCache.getPartitionLeaderEndpoint`);
/// the group coordinator of 4.0 goes back to a snapshot and hands out positions of long ago.
const VERSION: &str = "3.9.2";
/// Ports of brokers begin here, ten apart. A broker takes the first three of its ten, below those
/// that systems hand out by themselves.
const FIRST_PORT: u16 = 29_192;
const BROKERS: u32 = 350;
/// A request to a broker that may be starting is repeated for so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A broker with data of its own. Dropping it stops it.
pub struct Broker {
    folder: PathBuf,
    address: String,
    proxy: Proxy,
}

impl Broker {
    /// Starts a broker that keeps everything in `folder`.
    pub async fn start(folder: &Path) -> Result<Self> {
        let port = free_port().context("no three free ports in a row")?;
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port + 2))).await?;
        let address = format!("127.0.0.1:{port}");
        let broker = Self { folder: folder.to_owned(), address, proxy };
        let proxied = broker.proxy.port().to_string();
        broker.script("start", &[&port.to_string(), &proxied]).await?;
        Ok(broker)
    }

    async fn script(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(root().join("scripts/kafka").join(name));
        command.arg(&self.folder).args(arguments);
        if std::env::var_os("SANDBAR_KAFKA_VERSION").is_none() {
            command.env("SANDBAR_KAFKA_VERSION", VERSION);
        }
        // without its output: the broker inherits it and would keep a pipe open
        let status = spawn_blocking(move || command.stdout(std::process::Stdio::null()).status());
        let status = status.await??;
        ensure!(status.success(), "scripts/kafka/{name} ended with {status}");
        Ok(())
    }

    /// Where the harness itself connects to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the runtimes' connections pass through.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Where the broker writes its log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("kafka.log")
    }

    /// Ends the broker as a power cut would.
    pub fn kill(&self) -> Result<()> {
        let pid = std::fs::read_to_string(self.folder.join("kafka.pid"))?;
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

    /// Lets nobody write to `topics`, or everybody again.
    pub async fn deny_writes(&self, topics: &[String], deny: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for topic in topics {
            loop {
                let said = match deny {
                    true => acl::deny_writes(&self.address, topic).await,
                    false => acl::allow_all(&self.address, topic).await,
                };
                match said {
                    Ok(()) => break,
                    Err(error) if Instant::now() >= deadline => return Err(error),
                    // it may be just starting
                    Err(_) => sleep(Duration::from_millis(200)).await,
                }
            }
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // nothing can be done about one that will not stop
        let _ = Command::new(root().join("scripts/kafka/stop")).arg(&self.folder).status();
    }
}

/// The first of three free ports. Each process begins to look somewhere else: the ports of another
/// run are free, too, while its broker is down.
fn free_port() -> Option<u16> {
    let is_free =
        |port: &u16| (*port..port + 3).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    let broker = |n| u16::try_from((std::process::id() + n) % BROKERS).ok();
    (0..BROKERS).filter_map(broker).map(|n| FIRST_PORT + 10 * n).find(is_free)
}
