//! What the tests on servers share.
#![allow(dead_code)] // each test file uses its own part of this

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use sandbar_broker_sqs::{Sqs, SqsConfig};

/// How long a message stays invisible, unless that is extended.
pub const LEASE: Duration = Duration::from_secs(6);

/// A server that speaks SQS.
#[derive(Debug, Clone)]
pub struct Server {
    pub endpoint: String,
    /// Folder of `scripts/elasticmq/start`, where the server keeps its data and tests may kill it.
    pub dir: Option<PathBuf>,
}

/// moto, by `SANDBAR_SQS`. Its queues are in memory: it is not to be killed.
pub fn moto() -> Option<Server> {
    server("moto", "SANDBAR_SQS", "scripts/sqs/start")
        .map(|endpoint| Server { endpoint, dir: None })
}

/// ElasticMQ, by `SANDBAR_ELASTICMQ`, and `SANDBAR_ELASTICMQ_DIR` where it may be killed.
pub fn elasticmq() -> Option<Server> {
    let endpoint = server("ElasticMQ", "SANDBAR_ELASTICMQ", "scripts/elasticmq/start")?;
    let dir = std::env::var_os("SANDBAR_ELASTICMQ_DIR").map(PathBuf::from);
    Some(Server { endpoint, dir: dir.filter(|dir| !dir.as_os_str().is_empty()) })
}

/// Without a server the test says so and passes, unless `CI=true`.
fn server(name: &str, variable: &str, script: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|address| !address.is_empty());
    if found.is_none() {
        let missing =
            format!("MISSING BROKER: {name} (set {variable}=http://host:port, see {script})");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        println!("{missing}");
    }
    found
}

impl Server {
    pub fn connect(&self, change: impl FnOnce(&mut SqsConfig)) -> Sqs {
        let mut config = SqsConfig {
            endpoint: Some(self.endpoint.clone()),
            region: Some("us-east-1".into()),
            access_key_id: Some("test".into()),
            secret_access_key: Some("test".into()),
            create_topics: true,
            visibility_timeout: LEASE,
            wait: Duration::from_secs(1),
            ..SqsConfig::default()
        };
        change(&mut config);
        Sqs::connect("test", config).unwrap()
    }

    /// AWS's own client, as others would use it.
    pub fn raw(&self) -> aws_sdk_sqs::Client {
        use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .credentials_provider(Credentials::new("test", "test", None, None, "test"));
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    pub async fn kill(&self) {
        let pid = std::fs::read_to_string(self.dir().join("elasticmq.pid")).unwrap();
        let killed = Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
        assert!(killed.success(), "pid {pid}");
        let running = script("elasticmq/running");
        while Command::new(&running).arg(pid.trim()).status().unwrap().success() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn start(&self) {
        let started = Command::new(script("elasticmq/start")).arg(self.dir()).status().unwrap();
        assert!(started.success(), "ElasticMQ did not start again");
    }

    fn dir(&self) -> &Path {
        self.dir.as_deref().expect("only a server with a folder is killed")
    }
}

fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../scripts").join(path)
}

/// A name that no other test and no earlier run has used.
pub fn unique(what: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    format!("{what}-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
