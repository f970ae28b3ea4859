//! Reads the fields of an X.509 certificate that verification needs. Decides nothing.
//!
//! Names, keys and signatures stay the bytes that the issuer signed: encoding them again could
//! change them. What Go's parser refuses is refused here, unless it cannot matter.
//! <https://github.com/golang/go/blob/go1.26.0/src/crypto/x509/parser.go>

use std::net::IpAddr;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use x509_cert::der::asn1::{AnyRef, BitStringRef, GeneralizedTime, UintRef, UtcTime};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{self, Decode, Reader, SliceReader, Tag, TagMode, TagNumber, Tagged};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::constraints::name::{GeneralSubtree, GeneralSubtrees};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints, SubjectAltName,
};
use x509_cert::name::Name;

use super::constraints::is_meaningful;

const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const KEY_USAGE: &str = "2.5.29.15";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";
const NAME_CONSTRAINTS: &str = "2.5.29.30";
/// Extensions that may be critical although nothing here reads them: where to find revocation
/// lists, and the policies under which the certificate was issued. Go reads the first and uses it
/// for nothing. The second allows whatever no other extension restricts.
const IGNORED: [&str; 2] = ["2.5.29.31", "2.5.29.32"];

/// Real certificates have about ten.
const MAX_EXTENSIONS: usize = 100;
/// How much of a name stands in errors. A peer may send one of 64 KiB.
const MAX_NAME: usize = 200;

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
            let (not_before, not_after) =
                tbs.sequence(|validity| Ok::<_, der::Error>((time(validity)?, time(validity)?)))?;
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
                version: match version {
                    None => 1,
                    Some(encoded @ 0..=2) => encoded + 1,
                    Some(_) => return Err(Tag::Integer.value_error().into()),
                },
                issuer,
                subject,
                public_key_info,
                key_algorithm,
                key,
                not_before,
                not_after,
                basic_constraints: None,
                key_usage: None,
                purposes: None,
                alternative_names: None,
                permitted: None,
                excluded: None,
                unknown_critical: None,
            };
            // Earlier versions have none.
            if certificate.version == 3 {
                certificate.read_extensions(&extensions.unwrap_or_default())?;
            }
            Ok::<_, der::Error>(certificate)
        })?;
        reader.finish()?;
        Ok(certificate)
    }

    fn read_extensions(&mut self, extensions: &[Extension]) -> der::Result<()> {
        if extensions.len() > MAX_EXTENSIONS {
            return Err(Tag::Sequence.value_error().into());
        }
        for (index, extension) in extensions.iter().enumerate() {
            let id = extension.extn_id;
            // Another encoding of the same identifier would not look like a duplicate.
            let is_canonical = ObjectIdentifier::new(&id.to_string()) == Ok(id);
            let is_duplicate = extensions[..index]
                .iter()
                .any(|earlier| earlier.extn_id == id);
            if !is_canonical || is_duplicate {
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
                    let mut bases = subtrees.clone().map(|subtree| &subtree.base).peekable();
                    if bases.peek().is_none() || !bases.all(is_meaningful) {
                        return Err(Tag::Sequence.value_error().into());
                    }
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
        Ok(name) if !name.is_empty() => printable(&name.to_string()),
        _ => "(no name)".to_owned(),
    }
}

/// A time, or 1970 if it is earlier: certificates that were made without a clock, or without a
/// notBefore, say so.
fn time<'a>(reader: &mut impl Reader<'a>) -> der::Result<UnixTime> {
    let time: AnyRef<'a> = reader.decode()?;
    let (year, since_epoch): (_, fn(AnyRef<'a>) -> _) = match time.tag() {
        Tag::UtcTime => (2, |time| {
            time.decode_as::<UtcTime>()
                .map(|time| time.to_unix_duration())
        }),
        _ => (4, |time| {
            time.decode_as::<GeneralizedTime>()
                .map(|time| time.to_unix_duration())
        }),
    };
    let text = time.value();
    let is_text = text
        .strip_suffix(b"Z")
        .is_some_and(|digits| digits.len() == year + 10 && digits.iter().all(u8::is_ascii_digit));
    let is_early = match text.get(..year) {
        // In two digits, 50 to 99 are of the last century.
        Some(year) if year.len() == 2 => (&b"50"[..]..&b"70"[..]).contains(&year),
        Some(year) => year < &b"1970"[..],
        None => false,
    };
    if is_text && is_early {
        return Ok(UnixTime::since_unix_epoch(Duration::ZERO));
    }
    since_epoch(time).map(UnixTime::since_unix_epoch)
}

/// The text cut, and without what a terminal would obey or show in another order.
pub(super) fn printable(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let shown = |c: char| if is_hidden(c) { '\u{fffd}' } else { c };
    let mut cut: String = text.chars().take(MAX_NAME).map(shown).collect();
    if text.chars().nth(MAX_NAME).is_some() {
        cut.push('…');
    }
    cut
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
