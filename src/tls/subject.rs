//! Reads from a certificate's subject who the client is, as kube-apiserver does: the common name is
//! the user, each organization is a group.
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/authentication/request/x509/x509.go>

use x509_cert::der::asn1::AnyRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{self, Decode, Reader, SliceReader, Tag, Tagged};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/apis/asn1/oid.go>
const UID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57683.2");

/// What a subject says about the client.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    /// The last common name. Empty if there is none.
    pub(super) common_name: String,
    /// All organizations, in their order.
    pub(super) organizations: Vec<String>,
    pub(super) uids: Vec<String>,
}

impl Subject {
    /// Reads a distinguished name with its tag and length. What Go's parser refuses is refused:
    /// <https://github.com/golang/go/blob/go1.26.0/src/crypto/x509/parser.go#L143>
    pub(super) fn parse(name: &[u8]) -> der::Result<Self> {
        let mut subject = Self::default();
        let mut sets = items(AnyRef::from_der(name)?, Tag::Sequence)?;
        while !sets.is_finished() {
            let mut attributes = items(sets.decode()?, Tag::Set)?;
            while !attributes.is_finished() {
                let mut attribute = items(attributes.decode()?, Tag::Sequence)?;
                let kind: ObjectIdentifier = attribute.decode()?;
                let value = text(attribute.decode()?)?;
                match kind {
                    COMMON_NAME => subject.common_name = value,
                    ORGANIZATION => subject.organizations.push(value),
                    UID => subject.uids.push(value),
                    _ => {}
                }
            }
        }
        Ok(subject)
    }
}

fn items(value: AnyRef<'_>, tag: Tag) -> der::Result<SliceReader<'_>> {
    if value.tag() != tag {
        return Err(tag.value_error().into());
    }
    SliceReader::new(value.value())
}

/// A string of any of the types that Go reads.
fn text(value: AnyRef<'_>) -> der::Result<String> {
    let bytes = value.value();
    let ascii = |allowed: fn(u8) -> bool| {
        let all = bytes.iter().all(|byte| allowed(*byte));
        all.then(|| bytes.iter().copied().map(char::from).collect())
    };
    let text = match value.tag() {
        Tag::Utf8String => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Tag::PrintableString => ascii(is_printable),
        Tag::Ia5String => ascii(|byte| byte.is_ascii()),
        Tag::NumericString => ascii(|byte| byte.is_ascii_digit() || byte == b' '),
        // As Latin-1, which most of the world writes into it.
        Tag::TeletexString => ascii(|_| true),
        Tag::BmpString => bmp(bytes),
        _ => None,
    };
    text.ok_or_else(|| value.tag().value_error().into())
}

/// `*` and `&` are not in the standard's set, but in real certificates.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(&byte)
}

/// UCS-2, with or without a terminator. It has no surrogates.
fn bmp(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<2>();
    let units = match units {
        [units @ .., [0, 0]] => units,
        units => units,
    };
    let character = |unit: &[u8; 2]| {
        let code = u32::from(u16::from_be_bytes(*unit));
        let is_reserved = matches!(code, 0xfdd0..=0xfdef | 0xfffe | 0xffff);
        char::from_u32(code).filter(|_| !is_reserved)
    };
    rest.is_empty()
        .then(|| units.iter().map(character).collect())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    /// A DER value of less than 128 bytes.
    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        tlv(0x30, &[tlv(6, kind), tlv(tag, value)].concat())
    }

    /// A name whose sets have these attributes.
    fn name(sets: &[&[Vec<u8>]]) -> Vec<u8> {
        let sets: Vec<_> = sets.iter().map(|set| tlv(0x31, &set.concat())).collect();
        tlv(0x30, &sets.concat())
    }

    const CN: &[u8] = &[0x55, 4, 3];
    const O: &[u8] = &[0x55, 4, 10];
    const OU: &[u8] = &[0x55, 4, 11];
    const UID_BYTES: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xc2, 0x53, 2];

    #[test]
    fn the_common_name_is_the_user_and_each_organization_a_group() {
        let parsed = Subject::parse(&name(&[
            &[attribute(O, 12, b"b"), attribute(O, 12, b"a")],
            &[attribute(CN, 12, b"first")],
            &[attribute(OU, 12, b"unit"), attribute(UID_BYTES, 12, b"7")],
            &[attribute(CN, 12, "zo\u{eb}".as_bytes())],
            &[attribute(O, 12, b"b")],
            &[],
        ]));
        let expected = Subject {
            common_name: "zo\u{eb}".to_owned(),
            organizations: ["b", "a", "b"].map(str::to_owned).into(),
            uids: vec!["7".to_owned()],
        };
        assert_eq!(parsed.unwrap(), expected);
        assert_eq!(Subject::parse(&name(&[])).unwrap(), Subject::default());
    }

    #[test]
    fn strings_are_read_as_go_reads_them() {
        every(
            [
                (12, &b"a\0b"[..], Some("a\0b")),
                (12, b"\xff", None),
                (19, b"a*b&c d'", Some("a*b&c d'")),
                (19, b"a@b", None),
                (19, b"a_b", None),
                (22, b"a@b", Some("a@b")),
                (22, b"\xe9", None),
                (18, b"1 2", Some("1 2")),
                (18, b"1a", None),
                (20, b"caf\xe9", Some("caf\u{e9}")),
                (30, b"\0a\x20\xac", Some("a\u{20ac}")),
                (30, b"\0a\0\0", Some("a")),
                (30, b"\0\0\0a", Some("\0a")),
                (30, b"", Some("")),
                (30, b"\0a\0", None),
                (30, b"\xd8\x3d\xde\0", None),
                (30, b"\xff\xff", None),
                (30, b"\xfd\xd0", None),
                // A GeneralString, and an INTEGER.
                (27, b"a", None),
                (2, b"\x01", None),
            ],
            |(tag, value, expected)| {
                // An attribute that is not a name is refused too.
                for kind in [CN, OU] {
                    let parsed = Subject::parse(&name(&[&[attribute(kind, tag, value)]]));
                    let found = parsed.as_ref().ok().map(|subject| &*subject.common_name);
                    assert_eq!(
                        found,
                        expected.map(|text| if kind == CN { text } else { "" })
                    );
                }
            },
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let good = name(&[&[attribute(CN, 12, b"a")]]);
        Subject::parse(&good).unwrap();
        let without_set = tlv(0x30, &attribute(CN, 12, b"a"));
        let without_value = name(&[&[tlv(0x30, &tlv(6, CN))]]);
        for wrong in [&good[..good.len() - 1], &without_set, &without_value, b""] {
            Subject::parse(wrong).unwrap_err();
        }
    }
}
