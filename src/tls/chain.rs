//! Finds a chain from a peer's certificate to a trusted one, by the rules of Go's
//! `Certificate.Verify`, so that the proxy accepts what kubectl accepts.
//! <https://github.com/golang/go/blob/go1.26.0/src/crypto/x509/verify.go>
//!
//! webpki, which rustls uses otherwise, has the stricter rules of browsers. It refuses a server
//! whose certificate says that it is a CA, as `openssl req -x509` writes it, and a trusted
//! certificate whose issuer is not trusted. Signatures are verified by the provider.
//!
//! Two rules are stricter than Go's: a critical extension for policies is refused, and so is a
//! name constraint on anything but DNS names and IP addresses where a certificate below it has
//! such a name.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, ExtendedKeyPurpose};
use rustls_pki_types::{ServerName, UnixTime};
use x509_cert::der::oid::ObjectIdentifier;

use super::algorithms::check_signature;
use super::constraints::check_constraints;
use super::refused::Refused;
use super::x509::{X509, display_name};

/// `serverAuth`: the certificate may be a server's.
pub(super) const SERVER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
/// `clientAuth`: the certificate may be a client's.
pub(super) const CLIENT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
/// How many issuers are tried in all, as in Go. A chain of few certificates with one name could
/// otherwise be combined in very many ways.
const MAX_TRIES: usize = 100;

/// What a certificate is verified with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trust<'a> {
    pub(super) roots: &'a [X509<'a>],
    /// What the peer sent beside its own certificate, in any order.
    pub(super) intermediates: &'a [X509<'a>],
    pub(super) now: UnixTime,
    pub(super) purpose: ObjectIdentifier,
    pub(super) algorithms: &'a WebPkiSupportedAlgorithms,
}

struct Search<'a> {
    trust: Trust<'a>,
    chain: Vec<&'a X509<'a>>,
    tries: usize,
    /// Why the first chain that was tried failed.
    reason: Option<CertificateError>,
}

/// Verifies everything about a peer's certificate except its name. Returns until when the chain that
/// was found is valid.
///
/// **Invariant:** `Ok` means that each certificate of one chain is valid now and allows the
/// purpose, that each one but the first may sign and has signed the one before it, and that the
/// last one is trusted. A certificate that is itself trusted needs no issuer, but everything else
/// holds for it too. `certificates_are_accepted_as_go_accepts_them` fails when a rule is missing.
pub(super) fn verify<'a>(
    leaf: &'a X509<'a>,
    trust: Trust<'a>,
) -> Result<UnixTime, CertificateError> {
    check_alone(leaf, trust.now)?;
    let mut search = Search {
        trust,
        chain: vec![leaf],
        tries: 0,
        reason: None,
    };
    let found = if trust.roots.iter().any(|root| root.der == leaf.der) {
        search.is_acceptable()
    } else {
        search.reaches_a_root()
    };
    if found {
        let ends = search.chain.iter().map(|certificate| certificate.not_after);
        return Ok(ends.min().unwrap_or(leaf.not_after));
    }
    Err(search
        .reason
        .unwrap_or_else(|| Refused::unknown_issuer(leaf).into()))
}

impl<'a> Search<'a> {
    /// Whether some issuer of the chain's last certificate, or an issuer of that one, is trusted.
    fn reaches_a_root(&mut self) -> bool {
        let Some(child) = self.chain.last().copied() else {
            return false;
        };
        let Trust {
            roots,
            intermediates,
            ..
        } = self.trust;
        let issuers = roots
            .iter()
            .map(|root| (root, true))
            .chain(intermediates.iter().map(|other| (other, false)))
            .filter(|(issuer, _)| issuer.subject == child.issuer);
        let mut issuers = issuers.peekable();
        if issuers.peek().is_none() {
            let reason = || Refused::unknown_issuer(child).into();
            self.reason.get_or_insert_with(reason);
        }
        for (issuer, is_root) in issuers {
            self.tries += 1;
            if self.tries > MAX_TRIES {
                let subject = display_name(self.chain[0].subject);
                self.reason = Some(Refused::TooManyTries { subject }.into());
                return false;
            }
            if self.contains(issuer) {
                continue;
            }
            if let Err(reason) = self.check_issuer(child, issuer, is_root) {
                self.reason.get_or_insert(reason);
                continue;
            }
            self.chain.push(issuer);
            let found = if is_root {
                self.is_acceptable()
            } else {
                self.reaches_a_root()
            };
            if found {
                return true;
            }
            self.chain.pop();
        }
        false
    }

    /// Whether the chain has this certificate, or another one for the same name and key.
    fn contains(&self, candidate: &X509<'_>) -> bool {
        self.chain.iter().any(|present| {
            present.subject == candidate.subject
                && present.public_key_info == candidate.public_key_info
                && present.alternative_names == candidate.alternative_names
        })
    }

    fn check_issuer(
        &self,
        child: &X509<'_>,
        issuer: &X509<'_>,
        is_root: bool,
    ) -> Result<(), CertificateError> {
        let name = || display_name(issuer.subject);
        // Only a root can be of a version that cannot say whether it is a CA.
        if !issuer.may_sign() || !(is_root || issuer.is_ca()) {
            return Err(Refused::NotCa { issuer: name() }.into());
        }
        check_signature(child, issuer, self.trust.algorithms)?;
        check_alone(issuer, self.trust.now)?;
        let between = self.chain.len() - 1;
        if issuer.max_path().is_some_and(|most| between > most) {
            return Err(Refused::TooLong { issuer: name() }.into());
        }
        Ok(())
    }

    /// Checks what depends on the whole chain.
    fn is_acceptable(&mut self) -> bool {
        let checked = check_purpose(&self.chain, self.trust.purpose)
            .and_then(|()| check_constraints(&self.chain).map_err(CertificateError::from));
        match checked {
            Ok(()) => true,
            Err(reason) => {
                self.reason.get_or_insert(reason);
                false
            }
        }
    }
}

fn check_alone(certificate: &X509<'_>, now: UnixTime) -> Result<(), CertificateError> {
    if let Some(id) = certificate.unknown_critical {
        return Err(Refused::Extension {
            subject: display_name(certificate.subject),
            id: id.to_string(),
        }
        .into());
    }
    if now < certificate.not_before {
        return Err(CertificateError::NotValidYetContext {
            time: now,
            not_before: certificate.not_before,
        });
    }
    if now > certificate.not_after {
        return Err(CertificateError::ExpiredContext {
            time: now,
            not_after: certificate.not_after,
        });
    }
    Ok(())
}

/// Each certificate of the chain that lists purposes must list this one, or any.
pub(super) fn check_purpose(
    chain: &[&X509<'_>],
    purpose: ObjectIdentifier,
) -> Result<(), CertificateError> {
    for certificate in chain {
        let Some(allowed) = &certificate.purposes else {
            continue;
        };
        if !allowed.iter().any(|id| [purpose, ANY_PURPOSE].contains(id)) {
            let arcs = |id: &ObjectIdentifier| {
                ExtendedKeyPurpose::Other(id.arcs().map(|arc| arc as usize).collect())
            };
            return Err(CertificateError::InvalidPurposeContext {
                required: arcs(&purpose),
                presented: allowed.iter().map(arcs).collect(),
            });
        }
    }
    Ok(())
}

/// Checks that the certificate is for the name or address, as `Certificate.VerifyHostname` does.
/// The common name does not count.
pub(super) fn check_name(
    certificate: &X509<'_>,
    name: &ServerName<'_>,
) -> Result<(), CertificateError> {
    let matches = match name {
        ServerName::IpAddress(address) => {
            let address = std::net::IpAddr::from(*address).to_canonical();
            certificate
                .addresses()
                .any(|presented| presented == address)
        }
        ServerName::DnsName(name) => certificate
            .dns_names()
            .any(|presented| name_matches(presented, name.as_ref())),
        _ => false,
    };
    if matches {
        return Ok(());
    }
    let names = certificate.dns_names().map(|name| format!("{name:?}"));
    let addresses = certificate.addresses().map(|address| address.to_string());
    Err(CertificateError::NotValidForNameContext {
        expected: name.to_owned(),
        presented: names.chain(addresses).collect(),
    })
}

/// A wildcard is the whole first label, and stands for exactly one.
fn name_matches(presented: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    match presented.strip_prefix("*.") {
        Some(rest) => name
            .split_once('.')
            .is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(rest)),
        None => presented.eq_ignore_ascii_case(name),
    }
}
