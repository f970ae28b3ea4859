//! A Status as CBOR, and the names of an object in CBOR.
//!
//! An apiserver speaks CBOR behind the feature gate CBORServingAndStorage (KEP-4222), and the
//! dynamic client of client-go behind ClientsAllowCBOR. The libraries do not fit. ciborium reads no text
//! from byte strings, and Kubernetes writes nothing else. minicbor accepts ends of containers that
//! never began, and what it skips may take memory without a bound.
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/runtime/serializer/cbor/cbor.go>

mod de;
mod reader;

use bytes::Bytes;
use serde::Deserialize;

use super::json::RawStatus;
use super::meta::RawMeta;
use super::{Details, ObjectMeta, Status};
use reader::Reader;

/// The tag "self-described CBOR", which Kubernetes writes first.
const MAGIC: [u8; 3] = [0xd9, 0xd9, 0xf7];

/// Whether a body starts as a CBOR object does. A map without the tag is one too: its first byte
/// can begin neither JSON nor UTF-8 text.
pub(super) fn starts(body: &[u8]) -> bool {
    body.starts_with(&MAGIC) || matches!(body.first(), Some(0xa0..=0xbb | 0xbf))
}

/// Writes the fields in the order of the Go types. An apiserver does so too, but it begins at a
/// random field and goes round, so that no client relies on the order.
pub(super) fn encode(status: &Status) -> Bytes {
    let mut object = Map::default();
    object.text("kind", "Status");
    object.text("apiVersion", "v1");
    object.key("metadata");
    Map::default().write_to(&mut object.bytes);
    object.text("status", "Failure");
    object.text("message", &status.message);
    object.text("reason", &status.reason);
    if status.details != Details::default() {
        object.key("details");
        details(&status.details).write_to(&mut object.bytes);
    }
    object.number("code", status.code.into());

    let mut out = MAGIC.to_vec();
    object.write_to(&mut out);
    out.into()
}

fn details(details: &Details) -> Map {
    let mut map = Map::default();
    map.text("name", &details.name);
    map.text("group", &details.group);
    map.text("kind", &details.kind);
    if !details.causes.is_empty() {
        map.key("causes");
        head(&mut map.bytes, ARRAY, details.causes.len() as u64);
        for cause in &details.causes {
            let mut own = Map::default();
            own.text("reason", &cause.reason);
            own.text("message", &cause.message);
            own.write_to(&mut map.bytes);
        }
    }
    map.number("retryAfterSeconds", details.retry_after_seconds.into());
    map
}

const UNSIGNED: u8 = 0;
const BYTE_STRING: u8 = 2;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// The entries of a map. Like Go's `omitempty`, empty texts and zeros are left out.
#[derive(Default)]
struct Map {
    entries: u64,
    bytes: Vec<u8>,
}

impl Map {
    fn key(&mut self, key: &str) {
        self.entries += 1;
        byte_string(&mut self.bytes, key);
    }

    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.key(key);
            byte_string(&mut self.bytes, value);
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        if value != 0 {
            self.key(key);
            head(&mut self.bytes, UNSIGNED, value);
        }
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        head(out, MAP, self.entries);
        out.extend_from_slice(&self.bytes);
    }
}

/// Kubernetes writes all strings as byte strings, because Go's strings may not be UTF-8.
fn byte_string(out: &mut Vec<u8>, text: &str) {
    head(out, BYTE_STRING, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// The shortest head with this argument.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    if argument < 24 {
        out.push(major | argument as u8);
    } else if let Ok(argument) = u8::try_from(argument) {
        out.extend_from_slice(&[major | 24, argument]);
    } else if let Ok(argument) = u16::try_from(argument) {
        out.push(major | 25);
        out.extend_from_slice(&argument.to_be_bytes());
    } else if let Ok(argument) = u32::try_from(argument) {
        out.push(major | 26);
        out.extend_from_slice(&argument.to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend_from_slice(&argument.to_be_bytes());
    }
}

pub(super) fn decode(body: &[u8]) -> Option<Status> {
    let mut reader = Reader::new(body);
    let status = RawStatus::deserialize(&mut reader).ok()?;
    if !reader.is_at_end() {
        return None;
    }
    status.into_status()
}

/// The kind and the metadata of an object. Keys have no order that could be relied on, so reading
/// stops only after both.
pub(super) fn object_meta(body: &[u8]) -> Option<ObjectMeta> {
    let mut reader = Reader::new(body);
    let mut left = reader.map()?;
    let (mut kind, mut meta) = (None, None::<ObjectMeta>);
    while (kind.is_none() || meta.is_none()) && reader.more(&mut left)? {
        match &*reader.text()? {
            "kind" => kind = Some(String::deserialize(&mut reader).ok()?),
            "metadata" => meta = Some(RawMeta::deserialize(&mut reader).ok()?.into()),
            _ => reader.skip()?,
        }
    }
    Some(ObjectMeta {
        kind: kind.unwrap_or_default(),
        ..meta?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;
    use crate::status::Cause;
    use ciborium::Value;

    /// What another reader sees in CBOR: all strings are bytes, as Kubernetes writes them.
    fn value(map: &[(&str, Value)]) -> Value {
        let bytes = |text: &str| Value::Bytes(text.into());
        Value::Map(
            map.iter()
                .map(|(key, value)| match value {
                    Value::Text(text) => (bytes(key), bytes(text)),
                    value => (bytes(key), value.clone()),
                })
                .collect(),
        )
    }

    #[test]
    fn writes_fields_in_the_order_of_the_go_type() {
        let mut status =
            Status::new(429, "TooManyRequests", "m".repeat(300)).with_retry_after(70_000);
        status.details.name = "a".into();
        status.details.group = "g".into();
        status.details.kind = "pods".into();
        status.details.causes = vec![
            Cause {
                reason: "r".into(),
                message: String::new(),
            },
            Cause {
                reason: String::new(),
                message: "é".into(),
            },
        ];
        let causes = vec![
            value(&[("reason", "r".into())]),
            value(&[("message", "é".into())]),
        ];
        let details = value(&[
            ("name", "a".into()),
            ("group", "g".into()),
            ("kind", "pods".into()),
            ("causes", Value::Array(causes)),
            ("retryAfterSeconds", 70_000.into()),
        ]);
        let object = value(&[
            ("kind", "Status".into()),
            ("apiVersion", "v1".into()),
            ("metadata", value(&[])),
            ("status", "Failure".into()),
            ("message", status.message.clone().into()),
            ("reason", "TooManyRequests".into()),
            ("details", details),
            ("code", 429.into()),
        ]);
        let read: Value = ciborium::from_reader(&*encode(&status)).unwrap();
        assert_eq!(read, Value::Tag(55_799, object.into()));
        assert_eq!(decode(&encode(&status)), Some(status));
    }

    #[test]
    fn reads_a_status_as_kubernetes_does() {
        let conflict = Status::new(409, "Conflict", "m");
        let good: [&[u8]; 5] = [
            b"\xa5DkindFStatusJapiVersionBv1FreasonHConflictGmessageAmDcode\x19\x01\x99",
            b"\xd9\xd9\xf7\xa6Dcode\x1a\x00\x00\x01\x99FreasonHConflictGmessageAmGdetails\xf6JapiVersionNmeta.k8s.io/v1DkindFStatus",
            b"\xbf\x64kind\x66Status\x6aapiVersion\x62v1\x66reason\x68Conflict\x67message\x61m\x64code\x19\x01\x99\xff",
            b"\xa6DkindFStatusJapiVersionBv1FreasonHConflictGmessageAmDcode\x19\x01\x99Hmetadata\xa1Ax\x9f\xf5\xff",
            b"\xa6DkindFStatusJapiVersionBv1FreasonHConflictGmessageAmDcode\x19\x01\x99Gdetails\xa2Dname\xf6Fcauses\xf6",
        ];
        every(good, |body| {
            assert_eq!(decode(body), Some(conflict.clone()), "{body:x?}");
            assert_eq!(
                decode(&[body, &[0]].concat()),
                None,
                "bytes after {body:x?}"
            );
        });
        let bad: [&[u8]; 8] = [
            b"\xa1DkindFStatus",
            b"\xa2DkindCPodJapiVersionBv1",
            b"\xa3DkindFStatusJapiVersionBv1FstatusGSuccess",
            b"\xa3DkindFStatusJapiVersionBv1Dcode\x1a\x00\x01\x00\x00",
            b"\xa3DkindFStatusJapiVersionBv1Dcode\xf9\x3c\x00",
            b"\xa3DkindFStatusJapiVersionBv1Gmessage\x01",
            // Kubernetes refuses a key that comes twice.
            b"\xa4DkindFStatusJapiVersionBv1FreasonAaFreasonHConflict",
            b"\xa2\x01\x02DkindFStatus",
        ];
        every(bad, |body| assert_eq!(decode(body), None, "{body:x?}"));
    }
}
