//! What the tests on servers share.
#![allow(dead_code)] // each test file uses its own part of this

use std::time::{Duration, SystemTime};

use sandbar_broker_sqs::{Sqs, SqsConfig};
use sandbar_testkit::server::{ELASTICMQ, MOTO, Server as Node};

/// How long a message stays invisible, unless that is extended.
pub const LEASE: Duration = Duration::from_secs(10);

/// A server that speaks SQS.
pub struct Server {
    pub endpoint: String,
    /// Where it may be killed.
    pub node: Option<Node>,
}

/// moto, where there is one.
pub fn moto() -> Option<Server> {
    Some(Server { endpoint: MOTO.address()?, node: None })
}

/// ElasticMQ, where there is one.
pub fn elasticmq() -> Option<Server> {
    Some(Server { endpoint: ELASTICMQ.address()?, node: ELASTICMQ.killable_if_any() })
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
}

/// A name that no other test and no earlier run has used.
pub fn unique(what: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    format!("{what}-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
