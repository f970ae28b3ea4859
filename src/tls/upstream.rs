//! The client side towards the apiserver: verified by a CA, without a certificate of its own.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;

use super::{TlsError, pem, provider};
use crate::config::CaSource;

/// Verifies the upstream by `ca` and offers the protocols of `alpn`, the preferred one first.
///
/// There is no fallback to the system's roots: a cluster's CA is never among them, and trusting hundreds of others would be a mistake.
pub fn client_config(ca: Option<&CaSource>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match ca.ok_or(TlsError::NoAuthority)? {
        CaSource::File(path) => roots(&pem::read(path)?, path.display().to_string())?,
        CaSource::Pem(text) => roots(text, "the kubeconfig's certificate-authority-data".to_owned())?,
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The name that a server's certificate must have: a DNS name or an IP address, IPv6 with or without brackets.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(name.to_owned()).map_err(|source| TlsError::ServerName { name: name.to_owned(), source })
}

/// Reads a CA file that will be handed to clients: it must hold a CA, and nothing secret.
pub fn read_authority(path: &Path) -> Result<Vec<u8>, TlsError> {
    let text = pem::read(path)?;
    roots(&text, path.display().to_string())?;
    if pem::private_key(&text, "").is_ok() {
        return Err(TlsError::Secret { path: path.to_owned() });
    }
    Ok(text)
}

pub(super) fn roots(text: &[u8], origin: String) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // A bundle may hold odd old certificates beside the good one, which must not keep the proxy from starting.
    let (added, _) = roots.add_parsable_certificates(pem::certificates(text, &origin)?);
    if added == 0 { Err(TlsError::Authority { origin }) } else { Ok(roots) }
}
