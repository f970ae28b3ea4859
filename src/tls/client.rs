//! Verifies the certificates of clients and reads who they are, as kube-apiserver does with
//! `--client-ca-file`.
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/authentication/request/x509/x509.go>
//!
//! The file of the CAs is reloaded on change. If the new file is not usable, the last good CAs stay
//! in use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::CertificateError;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_cert::der;

use super::algorithms::check_key;
use super::chain::{self, CLIENT, Trust};
use super::subject::Subject;
use super::verify::{Roots, parsed};
use super::x509::{X509, display_name};
use super::{TlsError, pem, provider, refused, sha256};
use crate::config::{ServingConfig, UpstreamConfig};

/// The CAs that issue client certificates.
pub struct ClientAuthority {
    file: PathBuf,
    algorithms: WebPkiSupportedAlgorithms,
    current: ArcSwap<Bundle>,
}

struct Bundle {
    /// The content as read, to detect a change.
    text: Vec<u8>,
    roots: Roots,
    /// How many bundles came before it.
    generation: u64,
}

/// What a client presented in the handshake: its certificate, and others in any order. It only
/// proves that the client has the key of the first one.
pub struct PresentedChain(Box<[CertificateDer<'static>]>);

/// The user that a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The common name, never empty.
    pub name: String,
    /// The id, if the subject has one.
    pub uid: Option<String>,
    /// The organizations, in their order, each as often as the subject has it.
    pub groups: Vec<String>,
    /// What the apiserver calls the certificate in the audit: `X509SHA256=` and the hash.
    pub credential_id: String,
    /// Until when the chain is valid.
    pub valid_until: SystemTime,
}

/// Why a client's certificate does not count. A token beside it does.
#[derive(Debug, thiserror::Error)]
pub enum ClientCertificateError {
    /// It is not X.509, or a string in its subject is damaged.
    #[error("the client certificate cannot be parsed")]
    Malformed(#[source] der::Error),
    /// Its time, or that of a CA above it, is over.
    #[error("the client certificate of '{subject}', or a CA above it, has expired at {at}")]
    Expired {
        /// The subject of the certificate.
        subject: String,
        /// The end, as in RFC 3339.
        at: String,
    },
    /// Its time, or that of a CA above it, has not come.
    #[error("the client certificate of '{subject}', or a CA above it, is not valid before {at}")]
    NotYetValid {
        /// The subject of the certificate.
        subject: String,
        /// The begin, as in RFC 3339.
        at: String,
    },
    /// It may only be used for something else.
    #[error(
        "the client certificate of '{subject}', or a CA above it, is not for clients: its extendedKeyUsage must have clientAuth"
    )]
    Purpose {
        /// The subject of the certificate.
        subject: String,
    },
    /// No CA of the file vouches for it.
    #[error(
        "the client certificate of '{subject}' is not accepted: it must lead to a CA of serving.clientCaFile"
    )]
    Untrusted {
        /// The subject of the certificate.
        subject: String,
        /// What is wrong with the chain.
        source: Unverified,
    },
    /// It has no common name.
    #[error(
        "the client certificate of '{subject}' names no user: its subject must have a common name (CN)"
    )]
    Nobody {
        /// The subject of the certificate.
        subject: String,
    },
    /// It has several ids, or an empty one.
    #[error(
        "the client certificate of '{subject}' must have at most one user id (1.3.6.1.4.1.57683.2), and that not empty"
    )]
    Uid {
        /// The subject of the certificate.
        subject: String,
    },
}

/// Why a chain was not accepted.
#[derive(Debug)]
pub struct Unverified(CertificateError);

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match refused::cause(&rustls::Error::InvalidCertificate(self.0.clone())) {
            Some(cause) => fmt::Display::fmt(&crate::telemetry::chain(&*cause), f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl std::error::Error for Unverified {}

impl ClientAuthority {
    /// Reads the file.
    pub fn new(file: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            current: ArcSwap::from_pointee(Bundle::new(file, pem::read(file)?, 0)?),
            file: file.to_owned(),
            algorithms: provider().signature_verification_algorithms,
        })
    }

    /// Reads the file again and returns whether it changed. On an error the last good CAs stay in
    /// use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let text = pem::read(&self.file)?;
        let current = self.current.load();
        if current.text == text {
            return Ok(false);
        }
        let next = current.generation + 1;
        self.current
            .store(Arc::new(Bundle::new(&self.file, text, next)?));
        Ok(true)
    }

    /// Changes with each reload. What an earlier generation accepted must be verified again.
    pub fn generation(&self) -> u64 {
        self.current.load().generation
    }

    /// Verifies what a client presented, and reads who it is.
    ///
    /// # Errors
    /// No CA vouches for the certificate at this time, or it names no user.
    pub fn verify(
        &self,
        presented: &PresentedChain,
        now: SystemTime,
    ) -> Result<User, ClientCertificateError> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (leaf, others) = presented.0.split_first().ok_or_else(|| {
            ClientCertificateError::Malformed(
                der::ErrorKind::Incomplete {
                    expected_len: der::Length::ONE,
                    actual_len: der::Length::ZERO,
                }
                .into(),
            )
        })?;
        let certificate = X509::parse(leaf).map_err(ClientCertificateError::Malformed)?;
        let subject =
            Subject::parse(certificate.subject).map_err(ClientCertificateError::Malformed)?;
        let bundle = self.current.load();
        let trust = Trust {
            roots: &parsed(&bundle.roots.0),
            intermediates: &parsed(others),
            now: UnixTime::since_unix_epoch(since),
            purpose: CLIENT,
            algorithms: &self.algorithms,
        };
        let ends = check_key(&certificate, &self.algorithms)
            .map_err(CertificateError::from)
            .and_then(|()| chain::verify(&certificate, trust))
            .map_err(|error| ClientCertificateError::of(&certificate, error))?;
        let name = || display_name(certificate.subject);
        let mut uids = subject.uids.into_iter();
        let uid = match (uids.next(), uids.next()) {
            (None, _) => None,
            (Some(uid), None) if !uid.is_empty() => Some(uid),
            _ => return Err(ClientCertificateError::Uid { subject: name() }),
        };
        if subject.common_name.is_empty() {
            return Err(ClientCertificateError::Nobody { subject: name() });
        }
        let digits = sha256(leaf);
        let digits = digits.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Ok(User {
            name: subject.common_name,
            uid,
            groups: subject.organizations,
            credential_id: format!("X509SHA256={}", digits.collect::<String>()),
            valid_until: UNIX_EPOCH + Duration::from_secs(ends.as_secs()),
        })
    }
}

impl Bundle {
    fn new(file: &Path, text: Vec<u8>, generation: u64) -> Result<Self, TlsError> {
        Ok(Self {
            roots: Roots::read(&text, &file.display().to_string())?,
            text,
            generation,
        })
    }
}

impl fmt::Debug for ClientAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuthority")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl From<&[CertificateDer<'static>]> for PresentedChain {
    fn from(chain: &[CertificateDer<'static>]) -> Self {
        Self(chain.into())
    }
}

impl ClientCertificateError {
    fn of(certificate: &X509<'_>, error: CertificateError) -> Self {
        let subject = display_name(certificate.subject);
        match error {
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired {
                subject,
                at: shown(not_after),
            },
            CertificateError::NotValidYetContext { not_before, .. } => Self::NotYetValid {
                subject,
                at: shown(not_before),
            },
            CertificateError::InvalidPurposeContext { .. } => Self::Purpose { subject },
            other => Self::Untrusted {
                subject,
                source: Unverified(other),
            },
        }
    }
}

fn shown(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}

/// What is doubtful about the files of the front proxy: settings that work, and that somebody may
/// not have meant. Says nothing about files that cannot be read.
pub fn doubts(serving: &ServingConfig, upstream: &UpstreamConfig) -> Vec<String> {
    let (Some(ca), Some(certificate), Some(key)) = (
        &serving.client_ca_file,
        &upstream.front_proxy_cert_file,
        &upstream.front_proxy_key_file,
    ) else {
        return Vec::new();
    };
    let mut doubts = Vec::new();
    if let (Ok(authority), Ok(text)) = (ClientAuthority::new(ca), pem::read(certificate)) {
        let own = pem::certificates(&text, "").unwrap_or_default();
        let verified = authority.verify(&PresentedChain::from(&*own), SystemTime::now());
        if matches!(
            verified,
            Ok(_) | Err(ClientCertificateError::Nobody { .. } | ClientCertificateError::Uid { .. })
        ) {
            doubts.push(format!(
                "the CA of serving.clientCaFile has also issued upstream.frontProxyCertFile: any client with a certificate of that CA can be \
                 any user, unless kube-apiserver has --requestheader-allowed-names, and the proxy's own name in it; use another CA for {}",
                certificate.display()
            ));
        }
        if let Some(Ok(Subject { common_name, .. })) = own
            .first()
            .and_then(|own| X509::parse(own).ok())
            .map(|own| Subject::parse(own.subject))
            && common_name.is_empty()
        {
            doubts.push(format!(
                "upstream.frontProxyCertFile: {} has no common name, so that --requestheader-allowed-names of kube-apiserver cannot list it",
                certificate.display()
            ));
        }
    }
    if let Ok(found) = std::fs::metadata(key)
        && std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o004 != 0
    {
        doubts.push(format!(
            "upstream.frontProxyKeyFile: every user of the machine can read {}; whoever has this key can be any user at kube-apiserver",
            key.display()
        ));
    }
    doubts
}
