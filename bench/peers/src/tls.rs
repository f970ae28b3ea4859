//! The certificate of every server here, and TLS 1.3 with AES-128-GCM as the only choice, so that
//! all contestants encrypt the same way.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::Protocol;

/// The files that the contestants read, and the configurations of stub and client.
pub(crate) struct Tls {
    ca: CertificateDer<'static>,
    server_pem: String,
}

impl Tls {
    /// Makes the certificates and writes them to `directory`: `ca.pem`; `server.pem` with the
    /// certificate and the key; and both of these alone.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "CA of the comparison");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &ca)?.pem();
        let key = key.serialize_pem();
        let server_pem = format!("{certificate}{key}");
        for (name, text) in [
            ("ca.pem", &ca.pem()),
            ("server.pem", &server_pem),
            ("tls.crt", &certificate),
            ("tls.key", &key),
        ] {
            fs::write(directory.join(name), text)?;
        }
        Ok(Self {
            ca: ca.der().clone(),
            server_pem,
        })
    }

    /// For the stub, in both protocols.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>> {
        let pem = self.server_pem.as_bytes();
        let certificate = CertificateDer::from_pem_slice(pem)?;
        let key = PrivateKeyDer::from_pem_slice(pem)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// For the client, in one protocol.
    pub(crate) fn client(&self, protocol: Protocol) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    })
}
