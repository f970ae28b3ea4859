//! The protobuf of Kubernetes errors, names and watch frames, written by hand: a schema compiler
//! would bring more code than this.
//!
//! Readers borrow and never panic. Writers emit the same bytes as gogo-protobuf, which also writes
//! empty strings. Field numbers:
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto>

use bytes::Bytes;

use super::json::is_meta_v1;
use super::{Cause, Details, Status};

/// The first bytes of every protobuf object that Kubernetes stores or serves:
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/runtime/serializer/protobuf/protobuf.go>
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// The error for bytes that are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedProtobuf;

/// The value of one field on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Integers, booleans and enums.
    Varint(u64),
    /// Eight bytes, little-endian.
    Fixed64(u64),
    /// Strings, bytes and embedded messages.
    Bytes(&'a [u8]),
    /// Four bytes, little-endian.
    Fixed32(u32),
}

/// The fields of a message as (number, value), in the order of the bytes. The iterator ends after
/// the first [`MalformedProtobuf`].
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// The iterator that [`fields`] returns.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, FieldValue<'a>), MalformedProtobuf>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field().ok_or(MalformedProtobuf);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    /// The bytes after the fields that were read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn field(&mut self) -> Option<(u32, FieldValue<'a>)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number != 0)?;
        let value = match key & 7 {
            0 => FieldValue::Varint(self.varint()?),
            1 => FieldValue::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                FieldValue::Bytes(self.take(length)?)
            }
            5 => FieldValue::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            // Groups existed only in proto2, and Kubernetes never used them.
            _ => return None,
        };
        Some((number, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte has room for one bit.
            if i == 9 && *byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

/// A message under construction. Fields are written in the order of the calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// An empty message.
    pub fn new() -> Message {
        Message::default()
    }

    /// Appends an integer field, even if it is 0. Pass a negative int32 or int64 as `value as u64`.
    #[must_use]
    pub fn int(mut self, number: u32, value: u64) -> Message {
        self.varint(u64::from(number) << 3);
        self.varint(value);
        self
    }

    /// Appends a field of eight bytes, little-endian.
    #[must_use]
    pub fn fixed64(mut self, number: u32, value: u64) -> Message {
        self.varint(u64::from(number) << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a string field, even if it is empty.
    #[must_use]
    pub fn string(self, number: u32, value: &str) -> Message {
        self.bytes(number, value.as_bytes())
    }

    /// Appends a bytes field.
    #[must_use]
    pub fn bytes(mut self, number: u32, value: &[u8]) -> Message {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Appends an embedded message.
    #[must_use]
    pub fn message(self, number: u32, value: &Message) -> Message {
        self.bytes(number, &value.0)
    }

    /// The encoded message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// An object of a request or an answer, with the fields of its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<'a> {
    /// `v1`, `apps/v1`, …
    pub api_version: &'a str,
    /// `Pod`, `Status`, …
    pub kind: &'a str,
    /// The message of that kind.
    pub raw: &'a [u8],
}

/// Puts `raw`, a message of `kind`, into an envelope: the magic number and `runtime.Unknown`.
pub fn encode_object(api_version: &str, kind: &str, raw: &Message) -> Bytes {
    let type_meta = Message::new().string(1, api_version).string(2, kind);
    // contentEncoding and contentType are always empty and always written.
    let unknown = Message(MAGIC.to_vec())
        .message(1, &type_meta)
        .message(2, raw)
        .string(3, "")
        .string(4, "");
    unknown.0.into()
}

/// The object in `body`. None: the envelope is missing or damaged.
pub fn decode_object(body: &[u8]) -> Option<Object<'_>> {
    let mut object = Object {
        api_version: "",
        kind: "",
        raw: &[],
    };
    for field in fields(body.strip_prefix(&MAGIC)?) {
        match field.ok()? {
            (1, FieldValue::Bytes(type_meta)) => {
                for field in fields(type_meta) {
                    match field.ok()? {
                        (1, FieldValue::Bytes(text)) => {
                            object.api_version = str::from_utf8(text).ok()?
                        }
                        (2, FieldValue::Bytes(text)) => object.kind = str::from_utf8(text).ok()?,
                        _ => {}
                    }
                }
            }
            (2, FieldValue::Bytes(raw)) => object.raw = raw,
            _ => {}
        }
    }
    Some(object)
}

/// One frame of a protobuf watch: four bytes of big-endian length, then a `WatchEvent` *without*
/// envelope holding `object` *with* its own.
///
/// `event` is `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`; `object` comes from
/// [`encode_object`]. <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/util/framer/framer.go>
pub fn encode_watch_frame(event: &str, object: &[u8]) -> Bytes {
    // WatchEvent{1 type, 2 RawExtension{1 raw}}
    let body = Message::new()
        .string(1, event)
        .message(2, &Message::new().bytes(1, object));
    let length = u32::try_from(body.0.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body.as_bytes()].concat().into()
}

/// The first frame in `stream`: the event, the object with its envelope, and the bytes after the
/// frame. None: the frame is not complete or is damaged.
pub fn decode_watch_frame(stream: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (length, rest) = stream.split_first_chunk::<4>()?;
    let (frame, rest) =
        rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let (mut event, mut object): (_, &[u8]) = ("", &[]);
    for field in fields(frame) {
        match field.ok()? {
            (1, FieldValue::Bytes(text)) => event = str::from_utf8(text).ok()?,
            (2, FieldValue::Bytes(extension)) => {
                for field in fields(extension) {
                    if let (1, FieldValue::Bytes(raw)) = field.ok()? {
                        object = raw;
                    }
                }
            }
            _ => {}
        }
    }
    Some((event, object, rest))
}

pub(super) fn encode_status(status: &Status) -> Bytes {
    // ListMeta: selfLink, resourceVersion and continue, all empty.
    let metadata = Message::new().string(1, "").string(2, "").string(3, "");
    let mut raw = Message::new()
        .message(1, &metadata)
        .string(2, "Failure")
        .string(3, &status.message)
        .string(4, &status.reason);
    if status.details != Details::default() {
        raw = raw.message(5, &details_message(&status.details));
    }
    encode_object("v1", "Status", &raw.int(6, status.code.into()))
}

fn details_message(details: &Details) -> Message {
    let mut message = Message::new()
        .string(1, &details.name)
        .string(2, &details.group)
        .string(3, &details.kind);
    for cause in &details.causes {
        message = message.message(
            4,
            &Message::new()
                .string(1, &cause.reason)
                .string(2, &cause.message)
                .string(3, ""),
        );
    }
    // Field 6 is the UID, which errors of the proxy do not have.
    message
        .int(5, details.retry_after_seconds.into())
        .string(6, "")
}

pub(super) fn decode_status(body: &[u8]) -> Option<Status> {
    // A body that is cut off after the type has an empty message.
    let object = decode_object(body).filter(|object| {
        object.kind == "Status" && is_meta_v1(object.api_version) && !object.raw.is_empty()
    })?;
    let mut status = Status::default();
    for field in fields(object.raw) {
        match field.ok()? {
            (2, FieldValue::Bytes(b"Success")) => return None,
            (3, FieldValue::Bytes(bytes)) => status.message = text(bytes),
            (4, FieldValue::Bytes(bytes)) => status.reason = text(bytes),
            (5, FieldValue::Bytes(bytes)) => status.details = decode_details(bytes)?,
            (6, FieldValue::Varint(code)) => status.code = code.try_into().ok()?,
            _ => {}
        }
    }
    Some(status)
}

fn decode_details(message: &[u8]) -> Option<Details> {
    let mut details = Details::default();
    for field in fields(message) {
        match field.ok()? {
            (1, FieldValue::Bytes(bytes)) => details.name = text(bytes),
            (2, FieldValue::Bytes(bytes)) => details.group = text(bytes),
            (3, FieldValue::Bytes(bytes)) => details.kind = text(bytes),
            (4, FieldValue::Bytes(bytes)) => details.causes.push(decode_cause(bytes)?),
            // An int32. Negative values have no meaning here.
            (5, FieldValue::Varint(seconds)) => {
                details.retry_after_seconds = i32::try_from(seconds).map_or(0, i32::unsigned_abs)
            }
            _ => {}
        }
    }
    Some(details)
}

fn decode_cause(message: &[u8]) -> Option<Cause> {
    let mut cause = Cause::default();
    for field in fields(message) {
        match field.ok()? {
            (1, FieldValue::Bytes(bytes)) => cause.reason = text(bytes),
            (2, FieldValue::Bytes(bytes)) => cause.message = text(bytes),
            _ => {}
        }
    }
    Some(cause)
}

/// Text from bytes that may not be UTF-8: Go's messages quote request bodies that are cut in the
/// middle of a character.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;
    use proptest::prelude::*;

    #[test]
    fn writes_and_reads_every_wire_type() {
        let message = Message::new()
            .int(1, u64::MAX)
            .string(2, "é")
            .message(300, &Message::new().int(1, 0));
        let read: Vec<_> = fields(message.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(
            read,
            [
                (1, FieldValue::Varint(u64::MAX)),
                (2, FieldValue::Bytes("é".as_bytes())),
                (300, FieldValue::Bytes(&[8, 0]))
            ]
        );
        let fixed = [Message::new().fixed64(1, 1).as_bytes(), &[0x15, 2, 0, 0, 0]].concat();
        assert_eq!(fixed[..9], [0x09, 1, 0, 0, 0, 0, 0, 0, 0]);
        let read: Vec<_> = fields(&fixed).map(Result::unwrap).collect();
        assert_eq!(
            read,
            [(1, FieldValue::Fixed64(1)), (2, FieldValue::Fixed32(2))]
        );
    }

    #[test]
    fn refuses_malformed_messages() {
        let bad: [&[u8]; 7] = [
            &[0x0a],       // no length
            &[0x0a, 5, 1], // cut
            &[
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ], // longer than memory
            &[0x08, 0x80], // unfinished number
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
            ], // 65 bits
            &[0x0b, 0x0c], // a group
            &[0x00, 0x00], // field 0
        ];
        every(bad, |bytes| {
            assert_eq!(
                fields(bytes).collect::<Vec<_>>(),
                [Err(MalformedProtobuf)],
                "{bytes:x?}"
            );
        });
    }

    #[test]
    fn wraps_objects_and_watch_events() {
        let pod = encode_object(
            "v1",
            "Pod",
            &Message::new().message(1, &Message::new().string(1, "a")),
        );
        assert_eq!(
            decode_object(&pod),
            Some(Object {
                api_version: "v1",
                kind: "Pod",
                raw: &[0x0a, 3, 0x0a, 1, b'a']
            })
        );
        let frame = encode_watch_frame("ADDED", &pod);
        let two = [&frame[..], &frame[..7]].concat();
        let (event, object, rest) = decode_watch_frame(&two).unwrap();
        assert_eq!((event, object, rest), ("ADDED", &pod[..], &frame[..7]));
        assert_eq!(decode_watch_frame(rest), None);
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_never_panics(bytes: Vec<u8>) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
            let _ = decode_object(&bytes);
            let _ = decode_watch_frame(&bytes);
        }

        #[test]
        fn watch_frames_survive(event in "[A-Z]{0,9}", object: Vec<u8>, tail: Vec<u8>) {
            let stream = [&encode_watch_frame(&event, &object)[..], &tail].concat();
            prop_assert_eq!(decode_watch_frame(&stream), Some((event.as_str(), &object[..], &tail[..])));
        }
    }
}
