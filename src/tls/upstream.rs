//! TLS to the apiserver: verifies it with a CA, and has no client certificate.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::verify::{Roots, ServerVerifier};
use super::{H2, HTTP1, TlsError, pem, provider};
use crate::config::CaSource;

/// The CA that verifies the upstream. A change of its file is followed; if the new file is not
/// usable, the last good CA stays in use. Connections made after a reload are verified with the new
/// CA. Open connections stay open.
pub struct UpstreamTrust {
    ca: CaSource,
    current: ArcSwap<Trusted>,
}

struct Trusted {
    /// The content as read, to detect a change. The kubelet swaps symlinks, so times and inodes are
    /// no help.
    text: Vec<u8>,
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl UpstreamTrust {
    /// Reads `ca`.
    pub fn new(ca: Option<&CaSource>) -> Result<Self, TlsError> {
        let ca = ca.ok_or(TlsError::NoAuthority)?.clone();
        let current = ArcSwap::from_pointee(Trusted::new(&ca, text_of(&ca)?)?);
        Ok(Self { ca, current })
    }

    /// Reads the CA again and returns whether it changed. On an error the last good one stays in
    /// use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let text = text_of(&self.ca)?;
        if self.current.load().text == text {
            return Ok(false);
        }
        self.current.store(Arc::new(Trusted::new(&self.ca, text)?));
        Ok(true)
    }

    /// For a connection in the protocol that the server prefers.
    pub fn any(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().any)
    }

    /// For an HTTP/1.1 connection. kube-apiserver does not support upgrades over HTTP/2.
    pub fn http1(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().http1)
    }
}

impl Trusted {
    fn new(ca: &CaSource, text: Vec<u8>) -> Result<Self, TlsError> {
        let roots = Roots::read(&text, &origin(ca))?;
        Ok(Self {
            any: verified_by(roots.clone(), &[H2, HTTP1])?,
            http1: verified_by(roots, &[HTTP1])?,
            text,
        })
    }
}

impl fmt::Debug for UpstreamTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTrust")
            .field("ca", &origin(&self.ca))
            .finish_non_exhaustive()
    }
}

/// Verifies the upstream with `ca` and offers the protocols of `alpn`, the preferred one first.
///
/// There is no fallback to the system's roots: they do not contain a cluster's CA, and to trust
/// hundreds of others would be a mistake.
pub fn client_config(ca: Option<&CaSource>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let ca = ca.ok_or(TlsError::NoAuthority)?;
    verified_by(Roots::read(&text_of(ca)?, &origin(ca))?, alpn)
}

fn verified_by(roots: Roots, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = Arc::new(ServerVerifier::new(roots, &provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        // The verifier is this module's own, see `chain`.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

fn text_of(ca: &CaSource) -> Result<Vec<u8>, TlsError> {
    match ca {
        CaSource::File(path) => pem::read(path),
        CaSource::Pem(text) => Ok(text.clone()),
    }
}

fn origin(ca: &CaSource) -> String {
    match ca {
        CaSource::File(path) => path.display().to_string(),
        CaSource::Pem(_) => "the kubeconfig's certificate-authority-data".to_owned(),
    }
}

/// The name that a server's certificate must have: a DNS name or an IP address. IPv6 may have
/// brackets.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(name.to_owned()).map_err(|source| TlsError::ServerName {
        name: name.to_owned(),
        source,
    })
}

/// Reads a CA file that clients will get. It must contain a CA and no private key.
pub fn read_authority(path: &Path) -> Result<Vec<u8>, TlsError> {
    let text = pem::read(path)?;
    Roots::read(&text, &path.display().to_string())?;
    if pem::has_private_key(&text) {
        return Err(TlsError::Secret {
            path: path.to_owned(),
        });
    }
    Ok(text)
}
