//! Which keys and signatures the provider verifies, and what the others are called.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::SignatureVerificationAlgorithm;
use x509_cert::der::asn1::{AnyRef, UintRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Reader, SliceReader};

use super::refused::Refused;
use super::x509::{X509, display_name};

const RSA: &str = "1.2.840.113549.1.1.1";
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const EC: &str = "1.2.840.10045.2.1";

/// What keys and signatures are called that an apiserver's certificate may have.
const NAMES: [(&str, &str); 20] = [
    ("1.2.840.113549.1.1.4", "RSA with MD5"),
    ("1.2.840.113549.1.1.5", "RSA with SHA-1"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.2.840.113549.1.1.11", "RSA with SHA-256"),
    ("1.2.840.113549.1.1.12", "RSA with SHA-384"),
    ("1.2.840.113549.1.1.13", "RSA with SHA-512"),
    ("1.2.840.113549.1.1.14", "RSA with SHA-224"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.2.840.10045.4.1", "ECDSA with SHA-1"),
    ("1.2.840.10045.4.3.1", "ECDSA with SHA-224"),
    ("1.2.840.10045.4.3.2", "ECDSA with SHA-256"),
    ("1.2.840.10045.4.3.3", "ECDSA with SHA-384"),
    ("1.2.840.10045.4.3.4", "ECDSA with SHA-512"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
];

/// Checks the signature of `issuer` on `certificate`.
pub(super) fn check_signature(
    certificate: &X509<'_>,
    issuer: &X509<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Refused> {
    check_key(issuer, algorithms)?;
    let algorithm = algorithms
        .all
        .iter()
        .find(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == issuer.key_algorithm
                && algorithm.signature_alg_id().as_ref() == certificate.signature_algorithm
        })
        .ok_or_else(|| Refused::Signature {
            subject: display_name(certificate.subject),
            algorithm: name_of(certificate.signature_algorithm),
        })?;
    algorithm
        .verify_signature(issuer.key, certificate.signed, certificate.signature)
        .map_err(|_| Refused::Forged {
            subject: display_name(certificate.subject),
            issuer: display_name(issuer.subject),
        })
}

/// Checks that the provider can verify what this key signs. RSA keys of other sizes would only
/// fail as wrong signatures.
pub(super) fn check_key(
    certificate: &X509<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Refused> {
    let known = |algorithm: &&dyn SignatureVerificationAlgorithm| {
        algorithm.public_key_alg_id().as_ref() == certificate.key_algorithm
    };
    let size = rsa_bits(certificate).is_none_or(|bits| RSA_BITS.contains(&bits));
    if size && algorithms.all.iter().any(known) {
        Ok(())
    } else {
        Err(Refused::key(certificate))
    }
}

/// The type of the certificate's key in words.
pub(super) fn key_type(certificate: &X509<'_>) -> String {
    if let Some(bits) = rsa_bits(certificate) {
        return format!("RSA with {bits} bits");
    }
    let Some((id, parameters)) = identifier(certificate.key_algorithm) else {
        return "unknown".to_owned();
    };
    if id.to_string() != EC {
        return name_of(certificate.key_algorithm);
    }
    let curve = parameters.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
    match curve {
        Some(curve) => format!("ECDSA on {}", name(&curve)),
        None => "ECDSA on a curve that is given by its parameters".to_owned(),
    }
}

fn rsa_bits(certificate: &X509<'_>) -> Option<usize> {
    if identifier(certificate.key_algorithm)?.0.to_string() != RSA {
        return None;
    }
    let modulus = SliceReader::new(certificate.key)
        .ok()?
        .sequence(|key| {
            let modulus = key.decode::<UintRef<'_>>()?;
            key.decode::<UintRef<'_>>()?;
            Ok::<_, x509_cert::der::Error>(modulus)
        })
        .ok()?;
    let bytes = modulus.as_bytes();
    let first = bytes.first()?;
    Some(bytes.len() * 8 - first.leading_zeros() as usize)
}

fn name_of(algorithm: &[u8]) -> String {
    identifier(algorithm).map_or_else(|| "an unknown algorithm".to_owned(), |(id, _)| name(&id))
}

fn name(id: &ObjectIdentifier) -> String {
    let id = id.to_string();
    let known = NAMES.iter().find(|(known, _)| *known == id);
    known.map_or(id.clone(), |(_, name)| (*name).to_owned())
}

/// The object identifier and the parameters of an AlgorithmIdentifier.
fn identifier(algorithm: &[u8]) -> Option<(ObjectIdentifier, Option<AnyRef<'_>>)> {
    let mut reader = SliceReader::new(algorithm).ok()?;
    let id = reader.decode().ok()?;
    Some((id, AnyRef::decode(&mut reader).ok()))
}
