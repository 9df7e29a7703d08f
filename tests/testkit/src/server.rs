//! Real brokers, as the environment names them and `scripts/test.sh` starts them.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{conformance::Switch, root};

/// A kind of broker: where the environment and the scripts have it.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Name, for people.
    pub name: &'static str,
    /// Holds its address; with `_DIR`, the folder of one that tests may kill.
    pub variable: &'static str,
    /// Folder below `scripts`, and name of the file with its process id.
    pub scripts: &'static str,
}

/// Apache Kafka, `host:port`.
pub const KAFKA: Kind = Kind { name: "Apache Kafka", variable: "SANDBAR_KAFKA", scripts: "kafka" };
/// Apache Kafka 3.9, `host:port`: the last one that, as the only broker, can be killed without losing
/// positions and transactions (`docs/reliability.md`).
pub const KAFKA_3: Kind =
    Kind { name: "Apache Kafka 3.9", variable: "SANDBAR_KAFKA_3", scripts: "kafka" };
/// NATS with JetStream, `host:port`.
pub const NATS: Kind = Kind { name: "NATS", variable: "SANDBAR_NATS", scripts: "nats" };
/// RabbitMQ, `amqp://..`.
pub const RABBITMQ: Kind =
    Kind { name: "RabbitMQ", variable: "SANDBAR_RABBITMQ", scripts: "rabbitmq" };
/// SQS by moto, `http://..`. Its queues are in memory: it is not to be killed.
pub const MOTO: Kind = Kind { name: "moto", variable: "SANDBAR_SQS", scripts: "sqs" };
/// SQS by ElasticMQ, `http://..`.
pub const ELASTICMQ: Kind =
    Kind { name: "ElasticMQ", variable: "SANDBAR_ELASTICMQ", scripts: "elasticmq" };

impl Kind {
    /// Its address, or `None` with a line that names what is missing.
    ///
    /// # Panics
    /// In CI, where no broker may be missing.
    pub fn address(self) -> Option<String> {
        self.told(self.variable, "the address of one")
    }

    /// One that tests may kill, or `None` with a line that names what is missing.
    ///
    /// # Panics
    /// As [`address`](Self::address).
    pub fn killable(self) -> Option<Server> {
        let dir = self.told(&self.folder(), "the folder of one to be killed")?;
        Some(Server { kind: self, dir: dir.into() })
    }

    /// The same without a word: for tests that do less where there is none.
    pub fn killable_if_any(self) -> Option<Server> {
        Some(Server { kind: self, dir: set(&self.folder())?.into() })
    }

    fn folder(self) -> String {
        format!("{}_DIR", self.variable)
    }

    fn told(self, variable: &str, what: &str) -> Option<String> {
        let found = set(variable);
        if found.is_none() {
            let Self { name, scripts, .. } = self;
            let missing = format!(
                "MISSING BROKER: {name} (set {variable} to {what}, see scripts/{scripts}/start)"
            );
            assert!(env::var("CI").as_deref() != Ok("true"), "{missing}");
            println!("{missing}");
        }
        found
    }
}

fn set(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

/// A broker of `scripts/KIND/start` that tests may kill.
#[derive(Debug, Clone)]
pub struct Server {
    kind: Kind,
    dir: PathBuf,
}

impl Server {
    async fn script(&self, name: &str, argument: impl AsRef<OsStr>) -> bool {
        let mut command = Command::new(root().join("scripts").join(self.kind.scripts).join(name));
        // its output is not waited for: what it starts would keep a pipe open
        command.arg(argument).stdout(Stdio::null());
        let status = spawn_blocking(move || command.status()).await.expect("no panic");
        status.unwrap_or_else(|e| panic!("scripts/{}/{name}: {e}", self.kind.scripts)).success()
    }
}

#[async_trait]
impl Switch for Server {
    async fn kill(&self) {
        let file = self.dir.join(self.kind.scripts).with_extension("pid");
        let pid = fs::read_to_string(&file).expect("the file with its process id");
        // what a broker loses that no kill has to cost, such as a queue just made, is written out
        if root().join("scripts").join(self.kind.scripts).join("flush").exists() {
            assert!(self.script("flush", &self.dir).await, "{} writes nothing out", self.kind.name);
        }
        let killed = Command::new("kill").args(["-9", pid.trim()]).status().expect("kill");
        assert!(killed.success(), "process {pid}");
        while self.script("running", pid.trim()).await {
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn start(&self) {
        assert!(self.script("start", &self.dir).await, "{} did not start again", self.kind.name);
    }
}
