//! The names for which a CA may issue certificates (nameConstraints, RFC 5280 §4.2.1.10), by Go's
//! rules.
//! <https://github.com/golang/go/blob/go1.26.0/src/crypto/x509/constraints.go>

use std::mem::discriminant;
use std::net::IpAddr;

use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;

use super::refused::Refused;
use super::x509::{X509, address, display_name};

/// Checks the names of each certificate against each CA above it.
pub(super) fn check_constraints(chain: &[&X509<'_>]) -> Result<(), Refused> {
    for (index, issuer) in chain.iter().enumerate() {
        if !issuer.constrains_names() {
            continue;
        }
        let names = chain[..index].iter().flat_map(|below| below.names());
        for name in names {
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
    let of_its_kind = |subtrees: &'_ Option<Vec<GeneralSubtree>>| -> Vec<GeneralName> {
        let bases = subtrees.iter().flatten().map(|subtree| &subtree.base);
        bases
            .filter(|base| discriminant(*base) == discriminant(name))
            .cloned()
            .collect()
    };
    let (permitted, excluded) = (
        of_its_kind(&issuer.permitted),
        of_its_kind(&issuer.excluded),
    );
    // None is a kind of name that is not understood, or nonsense: never permitted, always excluded.
    let within = |base: &GeneralName, or: bool| contains(base, name).unwrap_or(or);
    (permitted.is_empty() || permitted.iter().any(|base| within(base, false)))
        && !excluded
            .iter()
            .any(|base| within(base, true) || is_parent_excluded(base, name))
}

fn contains(base: &GeneralName, name: &GeneralName) -> Option<bool> {
    match (base, name) {
        (GeneralName::DnsName(base), GeneralName::DnsName(name)) => {
            Some(domain_contains(base.as_str(), name.as_str()))
        }
        (GeneralName::IpAddress(base), GeneralName::IpAddress(name)) => {
            network_contains(base.as_bytes(), address(name.as_bytes())?)
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
    let parent = |name: &str| name.split_once('.').map(|(_, parent)| parent.to_owned());
    name.as_str().starts_with('*')
        && parent(base.as_str())
            .zip(parent(name.as_str()))
            .is_some_and(|(base, name)| base.eq_ignore_ascii_case(&name))
}

/// `base` is an address and a mask of the same length.
fn network_contains(base: &[u8], address: IpAddr) -> Option<bool> {
    let (network, mask) = base.split_at(base.len() / 2);
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    if network.len() != mask.len() || !matches!(network.len(), 4 | 16) {
        return None;
    }
    if network.len() != bytes.len() {
        return Some(false);
    }
    let within = |((network, mask), byte): ((&u8, &u8), &u8)| network & mask == byte & mask;
    Some(network.iter().zip(mask).zip(&bytes).all(within))
}

fn words(name: &GeneralName) -> String {
    match name {
        GeneralName::DnsName(name) => name.to_string(),
        GeneralName::IpAddress(bytes) => {
            address(bytes.as_bytes()).map_or("a damaged address".to_owned(), |ip| ip.to_string())
        }
        GeneralName::Rfc822Name(name) => name.to_string(),
        GeneralName::UniformResourceIdentifier(uri) => uri.to_string(),
        _ => "a name of another kind".to_owned(),
    }
}
