//! Who a client is by its certificate. The answer is remembered for the connection, and asked again
//! when the CAs were reloaded or the certificate's time is over: a connection must not outlive its
//! certificate.
//!
//! `listener` keeps what a client presented, `proxy` asks here for each of its requests. Nothing of
//! this runs for clients without a certificate.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use crate::config::ServingConfig;
use crate::headers::{IdentityFields, Uncarriable};
use crate::tls::{ClientAuthority, ClientCertificateError, PresentedChain, TlsError, User};

/// How long a refusal is remembered. The time of a certificate may come, and verifying costs more
/// than a client should be able to cause.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// How often to warn of the same fault.
const WARN_AGAIN: Duration = Duration::from_secs(60);

/// Decides who clients are.
#[derive(Debug)]
pub struct Identities {
    authority: ClientAuthority,
    denied_groups: Vec<String>,
    /// When somebody was last warned that the apiserver does not believe the proxy.
    warned: Mutex<Option<Instant>>,
}

/// The certificate that a client presented for a connection, and who it is by it.
pub struct ClientCertificate {
    chain: PresentedChain,
    checked: Mutex<Option<Checked>>,
}

/// In whose name a request asks, for requests that wait: the certificate can end meanwhile.
#[derive(Clone, Copy)]
pub struct ByCertificate<'a> {
    /// Decides whether the certificate counts.
    pub identities: &'a Identities,
    /// What the client presented.
    pub certificate: &'a ClientCertificate,
}

impl ByCertificate<'_> {
    /// Whether the client may still be named to the apiserver, which would see an expired
    /// certificate, or one of another CA, itself if the client asked it.
    pub fn counts(&self) -> bool {
        let identified = self.identities.of(self.certificate, SystemTime::now());
        identified.is_ok()
    }
}

/// Who a client is, or why its certificate cannot say so.
pub type Identified = Result<Arc<IdentityFields>, Arc<IdentityError>>;

#[derive(Clone)]
struct Checked {
    generation: u64,
    /// When the verdict holds. It ends too when the clock is set back.
    holds: RangeInclusive<SystemTime>,
    identified: Identified,
}

/// Why a client certificate does not say who asks.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// kube-apiserver would not accept it either. A token beside it counts.
    #[error(transparent)]
    Refused(#[from] ClientCertificateError),
    /// The user may not pass.
    #[error(
        "the client certificate of user {user:?} has the group {group:?}, which serving.clientDeniedGroups lists: use another user, or kube-apiserver itself"
    )]
    Denied {
        /// The name of the user.
        user: String,
        /// The group.
        group: String,
    },
    /// The user cannot be told to kube-apiserver.
    #[error(transparent)]
    Uncarriable(#[from] Uncarriable),
}

impl Identities {
    /// Reads the CAs. None if client certificates cannot pass.
    ///
    /// # Errors
    /// The file cannot be read or used.
    pub fn new(serving: &ServingConfig) -> Result<Option<Self>, TlsError> {
        let Some(file) = &serving.client_ca_file else {
            return Ok(None);
        };
        Ok(Some(Self {
            authority: ClientAuthority::new(file)?,
            denied_groups: serving.client_denied_groups.clone(),
            warned: Mutex::default(),
        }))
    }

    /// Reads the CAs again and returns whether they changed.
    ///
    /// # Errors
    /// The file cannot be read or used. The last good CAs stay in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.authority.reload()
    }

    /// Who the client with this certificate is at this time.
    pub fn of(&self, certificate: &ClientCertificate, now: SystemTime) -> Identified {
        let generation = self.authority.generation();
        let mut checked = certificate
            .checked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*checked
            && known.generation == generation
            && known.holds.contains(&now)
        {
            return known.identified.clone();
        }
        let user = self.authority.verify(&certificate.chain, now);
        let refused_until = now + REFUSED_FOR;
        let (identified, until) = match user.map_err(IdentityError::from) {
            Ok(user) => (self.fields(&user), user.valid_until),
            Err(error) => (Err(error), refused_until),
        };
        let identified = identified.map(Arc::new).map_err(Arc::new);
        *checked = Some(Checked {
            generation,
            holds: now..=until,
            identified: identified.clone(),
        });
        identified
    }

    /// The apiserver answered 401 to a request in the name of a client, though it had nothing to
    /// doubt but the proxy itself.
    pub fn not_believed(&self) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|then| then.elapsed() > WARN_AGAIN) {
            *warned = Some(Instant::now());
            warn!(
                "An apiserver answered 401 to a request in the name of a client with a certificate: it may not accept upstream.frontProxyCertFile \
                 (--requestheader-client-ca-file, --requestheader-allowed-names)"
            );
        }
    }

    fn fields(&self, user: &User) -> Result<IdentityFields, IdentityError> {
        let denied = |group: &&String| self.denied_groups.contains(group);
        if let Some(group) = user.groups.iter().find(denied) {
            return Err(IdentityError::Denied {
                user: user.name.clone(),
                group: group.clone(),
            });
        }
        Ok(IdentityFields::new(
            &user.name,
            user.uid.as_deref(),
            &user.groups,
            &user.credential_id,
        )?)
    }
}

impl ClientCertificate {
    /// What a client presented.
    pub fn new(chain: PresentedChain) -> Self {
        Self {
            chain,
            checked: Mutex::default(),
        }
    }
}

impl IdentityError {
    /// Whether kube-apiserver would not accept the certificate either, so that another credential
    /// of the request counts.
    pub fn lets_others_count(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use rustls_pki_types::CertificateDer;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// Valid from 2030-01-01 to the end of 2030-01-01.
    fn client(issuer: &CertifiedIssuer<'static, KeyPair>) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.not_before = rcgen::date_time_ymd(2030, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let key = KeyPair::generate().unwrap();
        let certificate: CertificateDer<'static> =
            params.signed_by(&key, issuer).unwrap().der().clone();
        ClientCertificate::new(PresentedChain::from(&[certificate][..]))
    }

    #[test]
    fn a_verdict_ends_with_the_certificate_and_with_its_cas() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.crt");
        let (ca, other) = (authority("one"), authority("other"));
        std::fs::write(&file, ca.pem()).unwrap();
        let serving = ServingConfig {
            client_ca_file: Some(file.clone()),
            ..ServingConfig::default()
        };
        let identities = Identities::new(&serving).unwrap().unwrap();
        let client = client(&ca);
        let counts = |now| identities.of(&client, now).is_ok();
        let begin: SystemTime = rcgen::date_time_ymd(2030, 1, 1).into();

        assert!(!counts(begin - DAY), "its time has not come");
        assert!(!counts(begin - DAY + REFUSED_FOR / 2), "remembered");
        let first = identities.of(&client, begin).unwrap();
        let again = identities.of(&client, begin + DAY / 2).unwrap();
        assert!(Arc::ptr_eq(&first, &again), "made once");
        assert!(counts(begin + DAY), "its last second");
        assert!(!counts(begin + DAY + Duration::from_secs(1)));

        assert!(counts(begin));
        std::fs::write(&file, other.pem()).unwrap();
        assert!(identities.reload().unwrap());
        assert!(!counts(begin));
        std::fs::write(&file, other.pem() + &ca.pem()).unwrap();
        assert!(identities.reload().unwrap());
        assert!(counts(begin), "a refusal of other CAs is not remembered");
    }
}
