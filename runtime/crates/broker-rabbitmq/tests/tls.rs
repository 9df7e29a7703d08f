//! RabbitMQ behind TLS, with a certificate that no system knows.

mod common;

use std::{io::Write, sync::Arc, time::Duration};

use common::*;
use sandbar_broker_rabbitmq::RabbitMqConfig;
use sandbar_core::{Connection, SourceError};
use sandbar_testkit::Authority;
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// Ends TLS, and passes on to the broker at `upstream` what comes. Gives its port.
async fn front(authority: &Authority, upstream: String) -> u16 {
    let certificate = CertificateDer::from_pem_slice(authority.server.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(authority.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
            tokio::spawn(async move {
                // a client that does not trust us goes away
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut broker = TcpStream::connect(upstream).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn amqps_trusts_the_authorities_that_it_is_told_of_and_no_others() {
    let Some(broker) = broker() else { return };
    let authority = Authority::new();
    let (user, address) = broker
        .uri
        .trim_start_matches("amqp://")
        .split_once('@')
        .unwrap_or(("guest:guest", &broker.uri));
    let address = address.trim_start_matches("amqp://").split('/').next().unwrap().to_owned();
    let uri = format!("amqps://{user}@localhost:{}", front(&authority, address).await);
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(authority.certificate.as_bytes()).unwrap();
    let with = |ca_file| {
        let change = |config: &mut RabbitMqConfig| {
            config.uri.clone_from(&uri);
            config.ca_file = ca_file;
        };
        broker.connect(change)
    };

    let stranger = with(None);
    let refused = stranger.ensure_topics(&[unique("tls")]).await;
    let Err(SourceError::Unavailable(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.to_lowercase().contains("certificate"), "{reason}");

    let rabbit = with(Some(file.path().to_owned()));
    let topic = unique("tls");
    let mut source = rabbit.subscribe(spec(&unique("g"), &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    publish(&rabbit, &numbered(&topic, 0, 3, 1)).await;
    let got = recv_all(&mut partition, 3).await;
    assert_eq!(got.iter().map(number).collect::<Vec<_>>(), [0, 1, 2]);
    partition.settle(&got.iter().map(done).collect::<Vec<_>>()).await.unwrap();
    drop(partition);
    tokio::time::timeout(Duration::from_secs(30), source.close()).await.unwrap().unwrap();
}
