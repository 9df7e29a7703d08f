//! TLS of requests, by rustls.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::access::Target;
use crate::LoadError;

/// How servers are checked. Sessions are resumed within one plugin.
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// Servers are checked against `ca`, or against the system's certificates.
    pub(super) fn new(ca: Option<&[u8]>) -> Result<Self, LoadError> {
        let bad = |reason: String| LoadError::HttpCertificates { reason };
        let mut roots = RootCertStore::empty();
        match ca {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|e| bad(e.to_string()))?;
                    roots.add(certificate).map_err(|e| bad(e.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(bad("there is no certificate in it".into()));
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    tracing::warn!(
                        "this system has no certificates: plugins reach no https server unless \
                         `http.tls-ca` names a file of them"
                    );
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| LoadError::Host(format!("TLS cannot be set up: {e}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Encrypts `stream` and makes sure who is at its other end.
    pub(super) async fn connect(
        &self,
        target: &Target,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(target.name.clone()).map_err(std::io::Error::other)?;
        self.0.connect(name, stream).await
    }
}
