//! Reads the fields of an X.509 certificate that verification needs. Decides nothing.
//!
//! Names, keys and signatures stay the bytes that the issuer signed: encoding them again could
//! change them. What Go's parser refuses is refused here, unless it cannot matter.
//! <https://github.com/golang/go/blob/go1.26.0/src/crypto/x509/parser.go>

use std::net::IpAddr;

use rustls_pki_types::UnixTime;
use x509_cert::der::asn1::{AnyRef, BitStringRef, UintRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{self, Decode, Reader, SliceReader, Tag, TagMode, TagNumber};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::constraints::name::{GeneralSubtree, GeneralSubtrees};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints, SubjectAltName,
};
use x509_cert::name::Name;
use x509_cert::time::Validity;

const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const KEY_USAGE: &str = "2.5.29.15";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";
const NAME_CONSTRAINTS: &str = "2.5.29.30";
/// Extensions that may be critical although nothing here reads them: where to find revocation
/// lists, and the policies under which the certificate was issued. Go reads the first and uses it
/// for nothing. The second allows whatever no other extension restricts.
const IGNORED: [&str; 2] = ["2.5.29.31", "2.5.29.32"];

/// A parsed certificate. The slices are encodings without their own tag and length, except where
/// it says so.
#[derive(Debug)]
pub(super) struct X509<'a> {
    /// The whole certificate.
    pub(super) der: &'a [u8],
    /// What the issuer signed, with tag and length.
    pub(super) signed: &'a [u8],
    pub(super) signature_algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
    version: u8,
    /// With tag and length, like `subject` and `public_key_info`.
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) public_key_info: &'a [u8],
    pub(super) key_algorithm: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    /// Whether it may issue certificates, and how many intermediate ones may follow it.
    basic_constraints: Option<BasicConstraints>,
    key_usage: Option<KeyUsage>,
    /// The purposes that it allows. None allows all.
    pub(super) purposes: Option<Vec<ObjectIdentifier>>,
    pub(super) alternative_names: Option<Vec<GeneralName>>,
    pub(super) permitted: Option<GeneralSubtrees>,
    pub(super) excluded: Option<GeneralSubtrees>,
    /// A critical extension that is not understood, so that the certificate cannot be used.
    pub(super) unknown_critical: Option<ObjectIdentifier>,
}

impl<'a> X509<'a> {
    /// Parses one certificate in DER.
    pub(super) fn parse(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let certificate = reader.sequence(|outer| {
            let signed = outer.tlv_bytes()?;
            let signature_algorithm = outer.decode::<AnyRef<'a>>()?;
            let signature = bits(outer.decode()?)?;
            let mut certificate = Self::parse_signed(signed, der)?;
            // The one that is signed must be the one that is used.
            if certificate.signature_algorithm != signature_algorithm.value() {
                return Err(Tag::Sequence.value_error().into());
            }
            certificate.signature = signature;
            Ok::<_, der::Error>(certificate)
        })?;
        reader.finish()?;
        Ok(certificate)
    }

    fn parse_signed(signed: &'a [u8], der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(signed)?;
        let certificate = reader.sequence(|tbs| {
            let version = tbs.context_specific::<u8>(TagNumber(0), TagMode::Explicit)?;
            // Fails for a negative serial number, as in Go.
            tbs.decode::<UintRef<'a>>()?;
            let signature_algorithm = tbs.decode::<AnyRef<'a>>()?.value();
            let issuer = tbs.tlv_bytes()?;
            let validity: Validity = tbs.decode()?;
            let subject = tbs.tlv_bytes()?;
            let public_key_info = tbs.tlv_bytes()?;
            let (key_algorithm, key) = public_key(public_key_info)?;
            // The unique identifiers of issuer and subject have no use.
            for number in [1, 2] {
                let tag = Tag::ContextSpecific {
                    constructed: false,
                    number: TagNumber(number),
                };
                if !tbs.is_finished() && Tag::peek(tbs)? == tag {
                    tbs.tlv_bytes()?;
                }
            }
            let extensions =
                tbs.context_specific::<Vec<Extension>>(TagNumber(3), TagMode::Explicit)?;
            let mut certificate = Self {
                der,
                signed,
                signature_algorithm,
                signature: &[],
                version: version.unwrap_or(0) + 1,
                issuer,
                subject,
                public_key_info,
                key_algorithm,
                key,
                not_before: UnixTime::since_unix_epoch(validity.not_before.to_unix_duration()),
                not_after: UnixTime::since_unix_epoch(validity.not_after.to_unix_duration()),
                basic_constraints: None,
                key_usage: None,
                purposes: None,
                alternative_names: None,
                permitted: None,
                excluded: None,
                unknown_critical: None,
            };
            certificate.read_extensions(&extensions.unwrap_or_default())?;
            Ok::<_, der::Error>(certificate)
        })?;
        reader.finish()?;
        Ok(certificate)
    }

    fn read_extensions(&mut self, extensions: &[Extension]) -> der::Result<()> {
        for (index, extension) in extensions.iter().enumerate() {
            let id = extension.extn_id;
            if extensions[..index]
                .iter()
                .any(|earlier| earlier.extn_id == id)
            {
                return Err(Tag::ObjectIdentifier.value_error().into());
            }
            let value = extension.extn_value.as_bytes();
            match id.to_string().as_str() {
                BASIC_CONSTRAINTS => {
                    self.basic_constraints = Some(BasicConstraints::from_der(value)?);
                }
                KEY_USAGE => self.key_usage = Some(KeyUsage::from_der(value)?),
                EXTENDED_KEY_USAGE => self.purposes = Some(ExtendedKeyUsage::from_der(value)?.0),
                SUBJECT_ALT_NAME => {
                    self.alternative_names = Some(SubjectAltName::from_der(value)?.0);
                }
                NAME_CONSTRAINTS => {
                    let constraints = NameConstraints::from_der(value)?;
                    self.permitted = constraints.permitted_subtrees;
                    self.excluded = constraints.excluded_subtrees;
                    let subtrees = self.permitted.iter().chain(&self.excluded).flatten();
                    // Of other kinds, some apply to the subject, which nothing checks.
                    let understood = |subtree: &GeneralSubtree| {
                        matches!(
                            subtree.base,
                            GeneralName::DnsName(_)
                                | GeneralName::IpAddress(_)
                                | GeneralName::Rfc822Name(_)
                                | GeneralName::UniformResourceIdentifier(_)
                        )
                    };
                    if extension.critical && !subtrees.into_iter().all(understood) {
                        self.unknown_critical = Some(id);
                    }
                }
                known if IGNORED.contains(&known) => {}
                _ if extension.critical => self.unknown_critical = Some(id),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether it says that it is a CA.
    pub(super) fn is_ca(&self) -> bool {
        self.basic_constraints
            .as_ref()
            .is_some_and(|constraints| constraints.ca)
    }

    /// Whether it may sign certificates. One of version 1 or 2 cannot say so, and may.
    pub(super) fn may_sign(&self) -> bool {
        let usage = |usage: &KeyUsage| usage.0.is_empty() || usage.key_cert_sign();
        (self.is_ca() || (self.version < 3 && self.basic_constraints.is_none()))
            && self.key_usage.as_ref().is_none_or(usage)
    }

    /// How many intermediate certificates may stand between it and the server's.
    pub(super) fn max_path(&self) -> Option<usize> {
        self.basic_constraints
            .as_ref()?
            .path_len_constraint
            .map(usize::from)
    }

    pub(super) fn constrains_names(&self) -> bool {
        self.permitted.is_some() || self.excluded.is_some()
    }

    /// The DNS names that it is for.
    pub(super) fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.names().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The IP addresses that it is for.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.names().filter_map(|name| match name {
            GeneralName::IpAddress(bytes) => address(bytes.as_bytes()),
            _ => None,
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &GeneralName> {
        self.alternative_names.iter().flatten()
    }
}

/// An IPv4 or IPv6 address from its bytes.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = |bytes: [u8; 4]| IpAddr::from(bytes);
    let v6 = |bytes: [u8; 16]| IpAddr::from(bytes).to_canonical();
    bytes
        .try_into()
        .map(v4)
        .or_else(|_| bytes.try_into().map(v6))
        .ok()
}

/// A distinguished name in words, for errors.
pub(super) fn display_name(name: &[u8]) -> String {
    match Name::from_der(name) {
        Ok(name) if !name.is_empty() => name.to_string(),
        _ => "(no name)".to_owned(),
    }
}

/// The algorithm and the key in a SubjectPublicKeyInfo.
fn public_key(info: &[u8]) -> der::Result<(&[u8], &[u8])> {
    SliceReader::new(info)?.sequence(|info| {
        let algorithm = info.decode::<AnyRef<'_>>()?.value();
        Ok((algorithm, bits(info.decode()?)?))
    })
}

fn bits<'a>(string: BitStringRef<'a>) -> der::Result<&'a [u8]> {
    string
        .as_bytes()
        .ok_or_else(|| Tag::BitString.value_error().into())
}
