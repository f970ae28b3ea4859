//! The names for which a CA may issue certificates (nameConstraints, RFC 5280 §4.2.1.10), by Go's
//! rules.
//! <https://github.com/golang/go/blob/go1.26.0/src/crypto/x509/constraints.go>

use std::mem::discriminant;

use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;

use super::refused::Refused;
use super::x509::{X509, address, display_name, printable};

/// How many names may be compared with subtrees, as in webpki. One CA and one certificate that fit
/// into a handshake could otherwise keep a processor busy for seconds.
const MAX_COMPARISONS: usize = 250_000;

/// Checks the names of each certificate against each CA above it.
pub(super) fn check_constraints(chain: &[&X509<'_>]) -> Result<(), Refused> {
    for (index, issuer) in chain.iter().enumerate() {
        if !issuer.constrains_names() {
            continue;
        }
        let names = || chain[..index].iter().flat_map(|below| below.names());
        let subtrees = issuer.permitted.iter().chain(&issuer.excluded).flatten();
        if subtrees.count().saturating_mul(names().count()) > MAX_COMPARISONS {
            return Err(Refused::TooManyNames {
                issuer: display_name(issuer.subject),
            });
        }
        for name in names() {
            if !allows(issuer, name) {
                return Err(Refused::Name {
                    issuer: display_name(issuer.subject),
                    name: words(name),
                });
            }
        }
    }
    Ok(())
}

/// A name must be in one of the permitted subtrees of its kind, if there are any, and in none of
/// the excluded ones.
fn allows(issuer: &X509<'_>, name: &GeneralName) -> bool {
    if let GeneralName::DnsName(name) = name
        && !is_domain(name.as_str())
    {
        return false;
    }
    let mut permitted = of_its_kind(&issuer.permitted, name).peekable();
    // None is a kind of name that is not understood, or nonsense: never permitted, always excluded.
    let within = |base: &GeneralName, or: bool| contains(base, name).unwrap_or(or);
    (permitted.peek().is_none() || permitted.any(|base| within(base, false)))
        && !of_its_kind(&issuer.excluded, name)
            .any(|base| within(base, true) || is_parent_excluded(base, name))
}

fn of_its_kind<'a>(
    subtrees: &'a Option<Vec<GeneralSubtree>>,
    name: &'a GeneralName,
) -> impl Iterator<Item = &'a GeneralName> {
    let bases = subtrees.iter().flatten().map(|subtree| &subtree.base);
    bases.filter(|base| discriminant(*base) == discriminant(name))
}

fn contains(base: &GeneralName, name: &GeneralName) -> Option<bool> {
    match (base, name) {
        (GeneralName::DnsName(base), GeneralName::DnsName(name)) => {
            Some(domain_contains(base.as_str(), name.as_str()))
        }
        (GeneralName::IpAddress(base), GeneralName::IpAddress(name)) => {
            network_contains(base.as_bytes(), name.as_bytes())
        }
        _ => None,
    }
}

/// `.example.com` contains only names below it, `example.com` also itself.
fn domain_contains(base: &str, name: &str) -> bool {
    let (base, name) = (base.as_bytes(), name.as_bytes());
    let Some(rest) = name.len().checked_sub(base.len()) else {
        return false;
    };
    name[rest..].eq_ignore_ascii_case(base)
        && (rest == 0 || base.is_empty() || base[0] == b'.' || name[rest - 1] == b'.')
}

/// `*.example.com` could stand for an excluded `secret.example.com`.
fn is_parent_excluded(base: &GeneralName, name: &GeneralName) -> bool {
    let (GeneralName::DnsName(base), GeneralName::DnsName(name)) = (base, name) else {
        return false;
    };
    fn parent(name: &str) -> Option<&str> {
        name.split_once('.').map(|(_, parent)| parent)
    }
    name.as_str().starts_with('*')
        && parent(base.as_str())
            .zip(parent(name.as_str()))
            .is_some_and(|(base, name)| base.eq_ignore_ascii_case(name))
}

/// `base` is an address and a mask of the same length. As in Go, an IPv4 address that is written as
/// an IPv6 address is one.
fn network_contains(base: &[u8], address: &[u8]) -> Option<bool> {
    let (network, mask) = base.split_at(base.len() / 2);
    if network.len() != mask.len() || !matches!(network.len(), 4 | 16) {
        return None;
    }
    let within = |((network, mask), byte): ((&u8, &u8), &u8)| network & mask == byte & mask;
    Some(network.len() == address.len() && network.iter().zip(mask).zip(address).all(within))
}

/// Whether a name in a certificate can be a host's, as Go's `domainNameValid` decides it.
fn is_domain(name: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_graphic());
    name.is_empty() || name.split('.').all(is_label)
}

/// Whether a subtree of a name constraint means anything. Go refuses a certificate with another
/// one, because it would constrain nothing.
pub(super) fn is_meaningful(base: &GeneralName) -> bool {
    match base {
        GeneralName::DnsName(base) => {
            let base = base.as_str();
            base != "." && is_domain(base.strip_prefix('.').unwrap_or(base))
        }
        GeneralName::IpAddress(base) => {
            let base = base.as_bytes();
            let mask = &base[base.len() / 2..];
            let bits = mask
                .iter()
                .flat_map(|byte| (0..8).map(move |bit| byte << bit & 0x80 != 0));
            matches!(base.len(), 8 | 32) && bits.skip_while(|one| *one).all(|one| !one)
        }
        _ => true,
    }
}

fn words(name: &GeneralName) -> String {
    printable(&match name {
        GeneralName::DnsName(name) => name.to_string(),
        GeneralName::IpAddress(bytes) => {
            address(bytes.as_bytes()).map_or("a damaged address".to_owned(), |ip| ip.to_string())
        }
        GeneralName::Rfc822Name(name) => name.to_string(),
        GeneralName::UniformResourceIdentifier(uri) => uri.to_string(),
        _ => "a name of another kind".to_owned(),
    })
}
