//! Certificates for tests: authorities made on the spot, what they sign, and clients that trust them.

use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use reqwest::{Certificate, Client, Identity};

/// An authority that signs certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For this machine, as a server and as a client.
    pub(crate) fn sign(&self) -> Result<Signed> {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Signed { certificate, key: key.serialize_pem() })
    }

    /// A client that trusts this authority alone, and shows a certificate if it has one.
    pub(crate) fn client(&self, own: Option<&Signed>) -> Result<Client> {
        let trusted = Certificate::from_pem(self.pem().as_bytes())?;
        let mut builder = Client::builder().tls_certs_only([trusted]);
        if let Some(Signed { certificate, key }) = own {
            builder =
                builder.identity(Identity::from_pem(format!("{certificate}{key}").as_bytes())?);
        }
        Ok(builder.build()?)
    }
}

impl Signed {
    /// Writes `server.pem` and `server.key` into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        std::fs::write(folder.join("server.pem"), &self.certificate)?;
        Ok(std::fs::write(folder.join("server.key"), &self.key)?)
    }
}
