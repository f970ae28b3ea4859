//! Who a client is by its certificate. The answer is remembered for the connection, and asked again
//! when the CAs were reloaded or the certificate's time is over: a connection must not outlive its
//! certificate.
//!
//! `listener` keeps what a client presented, `proxy` asks here for each of its requests. Nothing of
//! this runs for clients without a certificate.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::config::ServingConfig;
use crate::headers::{IdentityFields, Uncarriable};
use crate::tls::{ClientAuthority, ClientCertificateError, PresentedChain, TlsError, User};

/// How long a refusal is remembered. The time of a certificate may come, and verifying costs more
/// than a client should be able to cause.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Decides who clients are.
#[derive(Debug)]
pub struct Identities {
    authority: ClientAuthority,
    denied_groups: Vec<String>,
}

/// The certificate that a client presented for a connection, and who it is by it.
pub struct ClientCertificate {
    chain: PresentedChain,
    checked: Mutex<Option<Checked>>,
}

/// Who a client is, or why its certificate cannot say so.
pub type Identified = Result<Arc<IdentityFields>, Arc<IdentityError>>;

#[derive(Clone)]
struct Checked {
    generation: u64,
    /// Included.
    until: SystemTime,
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
            && now <= known.until
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
            until,
            identified: identified.clone(),
        });
        identified
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
