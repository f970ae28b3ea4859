//! A certificate of the proxy's own with its key: the one that clients see, or the one that it shows
//! to kube-apiserver. It is a pair of files, reloaded on change. If the new files are not usable, the
//! last good pair stays in use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ServerConfig, SignatureScheme};
use rustls_pki_types::CertificateDer;

use super::chain::{self, CLIENT};
use super::client_auth::SeenNotTrusted;
use super::x509::X509;
use super::{H2, HTTP1, TlsError, pem, provider};

/// A certificate and its key. Connections made after a reload get the new one. Open connections keep
/// theirs.
pub struct OwnCertificate {
    certificate_file: PathBuf,
    private_key_file: PathBuf,
    /// Whether there are files to reload. A generated pair has none.
    reloads: bool,
    /// Whether kube-apiserver must accept it as that of a client.
    for_client: bool,
    current: ArcSwap<Loaded>,
}

struct Loaded {
    certified: Arc<CertifiedKey>,
    not_after: SystemTime,
    /// The content as read, to detect a change. The kubelet swaps symlinks, so times and inodes are
    /// no help.
    certificate: Vec<u8>,
    private_key: Vec<u8>,
}

impl OwnCertificate {
    /// Loads a PEM chain in any order, and the private key of one of its certificates. Both may be
    /// in one file.
    pub fn from_files(certificate: &Path, private_key: &Path) -> Result<Self, TlsError> {
        Self::read(certificate, private_key, false)
    }

    /// As [`OwnCertificate::from_files`], for a certificate that the proxy shows to kube-apiserver,
    /// which refuses one that is not for clients.
    pub fn of_client(certificate: &Path, private_key: &Path) -> Result<Self, TlsError> {
        Self::read(certificate, private_key, true)
    }

    fn read(certificate: &Path, private_key: &Path, for_client: bool) -> Result<Self, TlsError> {
        let loaded = Loaded::new(
            certificate,
            private_key,
            pem::read(certificate)?,
            pem::read(private_key)?,
            for_client,
        )?;
        let mut own = Self::new(certificate, private_key, true, loaded);
        own.for_client = for_client;
        Ok(own)
    }

    /// Uses a generated pair. The paths only name it in errors.
    pub(super) fn generated(
        certificate: &Path,
        private_key: &Path,
        pair: (Vec<u8>, Vec<u8>),
    ) -> Result<Self, TlsError> {
        let loaded = Loaded::new(certificate, private_key, pair.0, pair.1, false)?;
        Ok(Self::new(certificate, private_key, false, loaded))
    }

    fn new(certificate: &Path, private_key: &Path, reloads: bool, loaded: Loaded) -> Self {
        let current = ArcSwap::from_pointee(loaded);
        Self {
            certificate_file: certificate.to_owned(),
            private_key_file: private_key.to_owned(),
            reloads,
            for_client: false,
            current,
        }
    }

    /// Reads the files again and returns whether they changed. On an error the last good pair stays
    /// in use. If only one file has been replaced yet, that is an error too, and the next call
    /// succeeds.
    pub fn reload(&self) -> Result<bool, TlsError> {
        if !self.reloads {
            return Ok(false);
        }
        let (certificate, private_key) = (
            pem::read(&self.certificate_file)?,
            pem::read(&self.private_key_file)?,
        );
        let current = self.current.load();
        if current.certificate == certificate && current.private_key == private_key {
            return Ok(false);
        }
        let loaded = Loaded::new(
            &self.certificate_file,
            &self.private_key_file,
            certificate,
            private_key,
            self.for_client,
        )?;
        self.current.store(Arc::new(loaded));
        Ok(true)
    }

    /// When the certificate in use expires.
    pub fn not_after(&self) -> SystemTime {
        self.current.load().not_after
    }
}

impl Loaded {
    fn new(
        certificate_file: &Path,
        private_key_file: &Path,
        certificate: Vec<u8>,
        private_key: Vec<u8>,
        for_client: bool,
    ) -> Result<Self, TlsError> {
        let origin = certificate_file.display().to_string();
        let chain = pem::certificates(&certificate, &origin)?;
        let parsed = chain.iter().enumerate().map(|(index, certificate)| {
            X509::parse(certificate).map_err(|source| TlsError::Certificate {
                origin: origin.clone(),
                number: index + 1,
                source,
            })
        });
        let parsed: Vec<_> = parsed.collect::<Result<_, _>>()?;
        let keys = signing_keys(&private_key, private_key_file)?;
        let pair = keys.into_iter().find_map(|key| {
            let public = key.public_key();
            let of_key = |certificate: &&X509<'_>| {
                let public = public.as_ref().map(AsRef::as_ref);
                public.is_none_or(|public| public == certificate.public_key_info)
            };
            let leaf = parsed.iter().find(of_key)?;
            Some((key, leaf))
        });
        let Some((key, leaf)) = pair else {
            return Err(TlsError::Key {
                certificate: certificate_file.to_owned(),
                key: private_key_file.to_owned(),
            });
        };
        if for_client && chain::check_purpose(&[leaf], CLIENT).is_err() {
            return Err(TlsError::Purpose {
                path: certificate_file.to_owned(),
            });
        }
        let not_after = UNIX_EPOCH + Duration::from_secs(leaf.not_after.as_secs());
        let chain = ordered(leaf, &parsed);
        Ok(Self {
            certified: Arc::new(CertifiedKey::new(chain, key)),
            not_after,
            certificate,
            private_key,
        })
    }
}

fn signing_keys(pem: &[u8], path: &Path) -> Result<Vec<Arc<dyn SigningKey>>, TlsError> {
    let provider = provider();
    let keys = pem::private_keys(pem, &path.display().to_string())?;
    keys.into_iter()
        .map(|key| {
            let loaded = provider.key_provider.load_private_key(key);
            loaded.map_err(|source| TlsError::KeyType {
                path: path.to_owned(),
                source,
            })
        })
        .collect()
}

/// The chain as TLS sends it: the certificate of the key, and each followed by its issuer. Clients
/// other than Go's and OpenSSL's do not put it in order themselves. What belongs to no place
/// follows, and nothing comes twice.
fn ordered(leaf: &X509<'_>, all: &[X509<'_>]) -> Vec<CertificateDer<'static>> {
    let mut rest: Vec<_> = all.iter().collect();
    let mut chain = Vec::new();
    let mut next = Some(leaf);
    while let Some(certificate) = next {
        rest.retain(|other| other.der != certificate.der);
        chain.push(certificate);
        next = rest
            .iter()
            .copied()
            .find(|other| other.subject == certificate.issuer);
    }
    while let Some(other) = rest.first().copied() {
        rest.retain(|equal| equal.der != other.der);
        chain.push(other);
    }
    chain
        .into_iter()
        .map(|certificate| CertificateDer::from(certificate.der.to_vec()))
        .collect()
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().certified))
    }
}

impl ResolvesClientCert for OwnCertificate {
    /// The same one whatever the server asks for, as Go's client does it. A server that refuses it
    /// says so.
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for OwnCertificate {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCertificate")
            .field("certificate_file", &self.certificate_file)
            .finish_non_exhaustive()
    }
}

/// The configuration of the listener: this certificate, HTTP/2 preferred to HTTP/1.1, and a client
/// certificate asked for but never required.
///
/// `tokio_rustls::server::TlsStream::get_ref().1.peer_certificates()` is what a client presented. It
/// only proves that the client has the key; [`super::ClientAuthority`] verifies it. A resumed
/// session has the certificates of the first one.
pub fn server_config(certificate: Arc<OwnCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let verifier = Arc::new(SeenNotTrusted::new(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
    Ok(Arc::new(config))
}
