//! TLS to the apiserver: verifies it with a CA. Shows a client certificate only on the connections
//! that carry requests in the name of clients that have one.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls_pki_types::ServerName;

use super::verify::{Roots, ServerVerifier};
use super::{H2, HTTP1, OwnCertificate, TlsError, pem, provider};
use crate::config::CaSource;

/// The CA that verifies the upstream. A change of its file is followed; if the new file is not
/// usable, the last good CA stays in use. Connections made after a reload are verified with the new
/// CA. Open connections stay open.
pub struct UpstreamTrust {
    ca: CaSource,
    /// The certificate with which the apiserver believes for whom the proxy asks.
    front_proxy: Option<Arc<OwnCertificate>>,
    current: ArcSwap<Trusted>,
}

struct Trusted {
    /// The content as read, to detect a change. The kubelet swaps symlinks, so times and inodes are
    /// no help.
    text: Vec<u8>,
    /// For connections without a certificate.
    plain: Protocols,
    /// For connections that show the certificate of the front proxy.
    front_proxy: Option<Protocols>,
}

struct Protocols {
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

/// What the proxy shows on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Nothing. The requests have credentials themselves, or none.
    Nothing,
    /// The certificate of the front proxy. Each request must say for whom it asks.
    FrontProxy,
}

impl UpstreamTrust {
    /// Reads `ca`. `front_proxy` is the certificate to show on some connections.
    pub fn new(
        ca: Option<&CaSource>,
        front_proxy: Option<Arc<OwnCertificate>>,
    ) -> Result<Self, TlsError> {
        let ca = ca.ok_or(TlsError::NoAuthority)?.clone();
        let trusted = Trusted::new(&ca, text_of(&ca)?, front_proxy.as_ref())?;
        Ok(Self {
            ca,
            front_proxy,
            current: ArcSwap::from_pointee(trusted),
        })
    }

    /// The certificate to show on some connections.
    pub fn front_proxy(&self) -> Option<&Arc<OwnCertificate>> {
        self.front_proxy.as_ref()
    }

    /// Reads the CA again and returns whether it changed. On an error the last good one stays in
    /// use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let text = text_of(&self.ca)?;
        if self.current.load().text == text {
            return Ok(false);
        }
        let trusted = Trusted::new(&self.ca, text, self.front_proxy.as_ref())?;
        self.current.store(Arc::new(trusted));
        Ok(true)
    }

    /// For a connection in the protocol that the server prefers.
    pub fn any(&self, shows: Shows) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().protocols(shows).any)
    }

    /// For an HTTP/1.1 connection. kube-apiserver does not support upgrades over HTTP/2.
    pub fn http1(&self, shows: Shows) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().protocols(shows).http1)
    }
}

impl Trusted {
    fn new(
        ca: &CaSource,
        text: Vec<u8>,
        front_proxy: Option<&Arc<OwnCertificate>>,
    ) -> Result<Self, TlsError> {
        let roots = Roots::read(&text, &origin(ca))?;
        let showing = front_proxy.map(|own| Protocols::new(&roots, Some(own)));
        Ok(Self {
            plain: Protocols::new(&roots, None)?,
            front_proxy: showing.transpose()?,
            text,
        })
    }

    fn protocols(&self, shows: Shows) -> &Protocols {
        match (shows, &self.front_proxy) {
            (Shows::FrontProxy, Some(showing)) => showing,
            _ => &self.plain,
        }
    }
}

impl Protocols {
    fn new(roots: &Roots, own: Option<&Arc<OwnCertificate>>) -> Result<Self, TlsError> {
        Ok(Self {
            any: verified_by(roots.clone(), &[H2, HTTP1], own)?,
            http1: verified_by(roots.clone(), &[HTTP1], own)?,
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
    verified_by(Roots::read(&text_of(ca)?, &origin(ca))?, alpn, None)
}

fn verified_by(
    roots: Roots,
    alpn: &[&[u8]],
    own: Option<&Arc<OwnCertificate>>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = Arc::new(ServerVerifier::new(roots, &provider));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        // The verifier is this module's own, see `chain`.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own {
        None => config.with_no_client_auth(),
        Some(own) => {
            let own = Arc::clone(own) as Arc<dyn ResolvesClientCert>;
            let mut config = config.with_client_cert_resolver(own);
            // A resumed session has the certificate of the first one, also after a reload.
            config.resumption = Resumption::disabled();
            config
        }
    };
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
