//! Reads CBOR (RFC 8949) item by item from a slice. It borrows, never recurses and never panics.
//!
//! It reads what Kubernetes' own decoder reads. A text may be a byte string or a text string, and
//! Kubernetes itself writes byte strings only. Tags are skipped. Values that JSON does not have are
//! malformed: `undefined`, other simple values, NaN and infinities.
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/runtime/serializer/cbor/internal/modes/decode.go>

use std::borrow::Cow;

/// The containers that may be open at once, as in Kubernetes (`MaxNestedLevels`).
const MAX_DEPTH: usize = 10_000;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

const FALSE: u64 = 20;
const NULL: u64 = 22;
/// The byte that ends a container without a declared length.
const BREAK: u8 = 0xff;

/// Tags which say that a byte string stands for its base64url, base64 or hexadecimal form.
const LATER_ENCODED: std::ops::RangeInclusive<u64> = 21..=23;

/// The head of an item: its major type, and its argument. None: the length is not declared.
type Head = (u8, Option<u64>);

/// A position in CBOR. Each method returns None if the bytes are not what it reads; the position is
/// then undefined.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Text,
    Array,
    Map,
    /// A boolean, a null or a float.
    Simple,
}

/// The items of an array, or the keys and values of a map, that are still to come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left {
    Items(u64),
    UntilBreak,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Enters a map. Call [`Reader::more`] before each key.
    pub(super) fn map(&mut self) -> Option<Left> {
        match self.untagged()? {
            (MAP, length) => Some(Left::of(length)),
            _ => None,
        }
    }

    /// Enters an array. Call [`Reader::more`] before each element.
    pub(super) fn array(&mut self) -> Option<Left> {
        match self.untagged()? {
            (ARRAY, length) => Some(Left::of(length)),
            _ => None,
        }
    }

    /// Whether the container has one more entry. It reads the end of one without a declared length.
    pub(super) fn more(&mut self, left: &mut Left) -> Option<bool> {
        match left {
            Left::Items(0) => Some(false),
            Left::Items(count) => {
                *count -= 1;
                Some(true)
            }
            Left::UntilBreak => match self.rest.split_first()? {
                (&BREAK, rest) => {
                    self.rest = rest;
                    Some(false)
                }
                _ => Some(true),
            },
        }
    }

    /// A string of either kind. Byte strings need not be UTF-8; text strings must be.
    pub(super) fn text(&mut self) -> Option<Cow<'a, str>> {
        let mut later_encoded = false;
        let (major, length) = loop {
            match self.head()? {
                (TAG, tag) => later_encoded |= LATER_ENCODED.contains(&tag?),
                head => break head,
            }
        };
        match major {
            // Kubernetes would read the encoded form. No client writes names or messages so.
            BYTES if later_encoded => return None,
            BYTES | TEXT => {}
            _ => return None,
        }
        match (major, self.string(major, length)?) {
            (_, Cow::Borrowed(bytes)) => Some(String::from_utf8_lossy(bytes)),
            (_, Cow::Owned(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned().into()),
        }
    }

    /// Reads a null, if there is one.
    pub(super) fn null(&mut self) -> bool {
        let mut ahead = self.clone();
        let is_null = ahead.untagged() == Some((SIMPLE, Some(NULL)));
        if is_null {
            *self = ahead;
        }
        is_null
    }

    /// What the next item is. Nothing is read.
    pub(super) fn kind(&self) -> Option<Kind> {
        let mut ahead = self.clone();
        Some(match ahead.untagged()?.0 {
            UNSIGNED | NEGATIVE => Kind::Integer,
            BYTES | TEXT => Kind::Text,
            ARRAY => Kind::Array,
            MAP => Kind::Map,
            _ => Kind::Simple,
        })
    }

    pub(super) fn integer(&mut self) -> Option<i64> {
        match self.untagged()? {
            (UNSIGNED, value) => i64::try_from(value?).ok(),
            (NEGATIVE, value) => i64::try_from(value?).ok().map(|value| -1 - value),
            _ => None,
        }
    }

    /// Skips one item with all that it contains.
    pub(super) fn skip(&mut self) -> Option<()> {
        let mut open: Vec<Left> = Vec::new();
        loop {
            match self.untagged()? {
                (UNSIGNED | NEGATIVE, value) => drop(value?),
                (major @ (BYTES | TEXT), length) => drop(self.string(major, length)?),
                (ARRAY, length) => open.push(Left::of(length)),
                (MAP, length) => open.push(Left::of(length).twice()?),
                _ => {}
            }
            if open.len() > MAX_DEPTH {
                return None;
            }
            loop {
                let Some(left) = open.last_mut() else {
                    return Some(());
                };
                if self.more(left)? {
                    break;
                }
                open.pop();
            }
        }
    }

    /// The next head that is no tag.
    fn untagged(&mut self) -> Option<Head> {
        loop {
            match self.head()? {
                (TAG, tag) => drop(tag?),
                head => return Some(head),
            }
        }
    }

    fn head(&mut self) -> Option<Head> {
        let [first] = self.take()?;
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..=23 => u64::from(info),
            24 => u64::from(u8::from_be_bytes(self.take()?)),
            25 => u64::from(u16::from_be_bytes(self.take()?)),
            26 => u64::from(u32::from_be_bytes(self.take()?)),
            27 => u64::from_be_bytes(self.take()?),
            31 if matches!(major, BYTES | TEXT | ARRAY | MAP) => return Some((major, None)),
            _ => return None,
        };
        if major == SIMPLE && !is_known_simple(info, argument) {
            return None;
        }
        Some((major, Some(argument)))
    }

    /// The content of a string whose head was read. One without a declared length has chunks, which
    /// are strings of its own kind with one.
    fn string(&mut self, major: u8, length: Option<u64>) -> Option<Cow<'a, [u8]>> {
        if let Some(length) = length {
            return self.chunk(major, length).map(Cow::Borrowed);
        }
        let mut whole = Vec::new();
        while self.more(&mut Left::UntilBreak)? {
            match self.head()? {
                (own, Some(length)) if own == major => {
                    whole.extend_from_slice(self.chunk(major, length)?)
                }
                _ => return None,
            }
        }
        Some(whole.into())
    }

    fn chunk(&mut self, major: u8, length: u64) -> Option<&'a [u8]> {
        let (chunk, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        if major == TEXT && str::from_utf8(chunk).is_err() {
            return None;
        }
        self.rest = rest;
        Some(chunk)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }
}

impl Left {
    fn of(length: Option<u64>) -> Left {
        length.map_or(Left::UntilBreak, Left::Items)
    }

    /// The keys and values of a map with this many entries.
    fn twice(self) -> Option<Left> {
        Some(match self {
            Left::Items(count) => Left::Items(count.checked_mul(2)?),
            Left::UntilBreak => Left::UntilBreak,
        })
    }
}

/// false, true, null, and floats that are numbers.
fn is_known_simple(info: u8, argument: u64) -> bool {
    match info {
        25 => argument & 0x7c00 != 0x7c00,
        26 => argument & 0x7f80_0000 != 0x7f80_0000,
        27 => argument & 0x7ff0_0000_0000_0000 != 0x7ff0_0000_0000_0000,
        _ => info < 24 && (FALSE..=NULL).contains(&argument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;
    use proptest::prelude::*;

    /// Whether the bytes are one item and nothing else.
    fn is_one_item(bytes: &[u8]) -> bool {
        let mut reader = Reader::new(bytes);
        reader.skip().is_some() && reader.is_at_end()
    }

    #[test]
    fn reads_every_type_that_kubernetes_writes() {
        let good: [&[u8]; 16] = [
            &[0x00],
            &[0x1b, 255, 255, 255, 255, 255, 255, 255, 255],
            &[0x38, 99],
            b"\x43abc",
            b"\x42\xff\xfe",
            b"\x63abc",
            b"\x5fAa\xff",
            b"\x7f\x61a\xff",
            &[0x80],
            &[0x82, 1, 0x81, 2],
            &[0x9f, 0x9f, 0xff, 0xff],
            &[0xa1, 0x41, b'a', 0xf6],
            &[0xbf, 0x41, b'a', 0xf5, 0xff],
            &[0xd6, 0x41, 1],
            &[0xf9, 0x3e, 0x00],
            &[0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 1],
        ];
        every(good, |bytes| {
            assert!(is_one_item(bytes), "{bytes:x?}");
            for end in 0..bytes.len() {
                assert!(!is_one_item(&bytes[..end]), "{bytes:x?} cut at {end}");
            }
        });
    }

    #[test]
    fn refuses_malformed_items() {
        let bad: [&[u8]; 22] = [
            &[0x1c],             // a reserved length
            &[0x1f],             // an integer without a length
            &[0xff],             // an end without a beginning
            &[0x81, 0xff],       // an end in an array with a length
            &[0xa1, 0x41, 0xff], // a map that ends after a key
            &[0x43, 1],
            b"\x61\xff",                                        // text that is not UTF-8
            b"\x7f\x41a\xff",                                   // a chunk of another kind
            &[0x5f, 0x5f, 0xff, 0xff],                          // chunks in chunks
            &[0x5b, 255, 255, 255, 255, 255, 255, 255, 255],    // longer than memory
            &[0x9b, 255, 255, 255, 255, 255, 255, 255, 255, 1], // longer than the body
            &[0xbb, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1], // twice as many overflow
            &[0xe0],                                            // an unassigned value
            &[0xf7],                                            // undefined
            &[0xf8, 22],                                        // null in two bytes
            &[0xf8, 255],                                       // an unassigned value
            &[0xf9, 0x7e, 0x00],                                // not a number
            &[0xfa, 0x7f, 0x80, 0, 0],                          // infinity
            &[0xfb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0],              // infinity
            &[0xc0],                                            // a tag of nothing
            &[0xdf, 0],                                         // a tag without a number
            &[0xd9, 0xd9],                                      // half a tag
        ];
        every(bad, |bytes| assert!(!is_one_item(bytes), "{bytes:x?}"));
    }

    /// Every head has an argument, and that of a number or a container is not the length of a text.
    #[test]
    fn reads_an_item_only_as_what_it_is() {
        let rows: [(&[u8], Kind); 8] = [
            (&[0x01, b'a'], Kind::Integer),
            (&[0x21, b'a', b'b'], Kind::Integer),
            (b"\x41a", Kind::Text),
            (b"\x61a", Kind::Text),
            (&[0x81, 0x01], Kind::Array),
            (&[0xa1, 0x41, b'a', 0x01], Kind::Map),
            (&[0xc1, 0x01, b'a'], Kind::Integer),
            (&[0xf5, b'a'], Kind::Simple),
        ];
        every(rows, |(bytes, kind)| {
            let reader = || Reader::new(bytes);
            assert_eq!(reader().kind(), Some(kind), "{bytes:x?}");
            assert_eq!(reader().text().is_some(), kind == Kind::Text, "{bytes:x?}");
            assert_eq!(
                reader().array().is_some(),
                kind == Kind::Array,
                "{bytes:x?}"
            );
            assert_eq!(reader().map().is_some(), kind == Kind::Map, "{bytes:x?}");
            let is_integer = reader().integer().is_some();
            assert_eq!(is_integer, kind == Kind::Integer, "{bytes:x?}");
        });
    }

    /// The depth that Kubernetes reads, and no more, whatever a body contains. Tags are no depth.
    #[test]
    fn is_bounded_in_depth() {
        for open in [&[0x81][..], &[0x9f], &[0xa1, 0x40], &[0xbf, 0x40]] {
            let nested = |depth: usize| {
                let mut body = open.repeat(depth);
                body.push(0);
                if open[0] & 0x1f == 0x1f {
                    body.resize(body.len() + depth, BREAK);
                }
                body
            };
            assert!(is_one_item(&nested(MAX_DEPTH)), "{open:x?}");
            assert!(!is_one_item(&nested(MAX_DEPTH + 1)), "{open:x?}");
            assert!(!is_one_item(&open.repeat(3 << 20)), "{open:x?}");
        }
        let mut tags = [0xc9].repeat(1 << 20);
        tags.push(0);
        assert!(is_one_item(&tags));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.skip().is_some() {}
            let _ = Reader::new(&bytes).text();
            let _ = Reader::new(&bytes).integer();
        }
    }
}
