//! A certificate authority of a test's own.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority, and a server that it vouches for as `localhost` and `127.0.0.1`. All in PEM.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Certificate of the authority: whoever trusts it trusts the server.
    pub certificate: String,
    /// Certificate of the server.
    pub server: String,
    /// Private key of the server.
    pub key: String,
}

impl Authority {
    /// A new one, whose keys nobody else has.
    ///
    /// # Panics
    /// Where the system has no randomness.
    pub fn new() -> Self {
        Self::make().expect("keys and certificates")
    }

    fn make() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = authority.self_signed(&key)?.pem();
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let server = CertificateParams::new(names)?.signed_by(&key, &issuer)?.pem();
        Ok(Self { certificate, server, key: key.serialize_pem() })
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
