//! Reads the name of the object in a request body without building the object. An object may have
//! 3 MiB, and this runs once for each create.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::cbor;
use super::protobuf::{self, FieldValue};

/// The kind and the names of an object in a request body (JSON, protobuf or CBOR). Absent fields are
/// empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectMeta {
    /// `kind`; empty if it comes after the metadata in JSON.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.generateName`.
    pub generate_name: String,
}

#[cfg(test)]
impl ObjectMeta {
    /// That of an object with this name or generateName.
    pub(crate) fn named(name: &str, generate_name: &str) -> ObjectMeta {
        ObjectMeta {
            name: name.into(),
            generate_name: generate_name.into(),
            ..ObjectMeta::default()
        }
    }
}

/// The metadata of the object in `body`. None: the body is not JSON, protobuf or CBOR, or has none.
///
/// In JSON, reading stops after the first of the two names, or else after `metadata`, which every
/// known client writes before the spec. So `Some` does not mean that the body is valid. Of an object
/// with both names, it has the one that comes first, which is `name` for clients in Go.
pub fn object_meta(body: &[u8]) -> Option<ObjectMeta> {
    if let Some(object) = protobuf::decode_object(body) {
        return Some(ObjectMeta {
            kind: object.kind.to_owned(),
            ..from_protobuf(object.raw)?
        });
    }
    if cbor::starts(body) {
        return cbor::object_meta(body);
    }
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(body);
    // serde_json reports the early stop as an error ("expected , or }"). `found` has what was read.
    let _ = reader.deserialize_map(UntilMetadata(&mut found));
    found
}

fn from_protobuf(raw: &[u8]) -> Option<ObjectMeta> {
    let metadata = protobuf::fields(raw)
        .flatten()
        .find_map(|field| match field {
            (1, FieldValue::Bytes(bytes)) => Some(bytes),
            _ => None,
        })?;
    let mut meta = ObjectMeta::default();
    for field in protobuf::fields(metadata) {
        match field.ok()? {
            (1, FieldValue::Bytes(text)) => meta.name = str::from_utf8(text).ok()?.into(),
            (2, FieldValue::Bytes(text)) => meta.generate_name = str::from_utf8(text).ok()?.into(),
            _ => {}
        }
    }
    Some(meta)
}

struct UntilMetadata<'a>(&'a mut Option<ObjectMeta>);

impl<'de> Visitor<'de> for UntilMetadata<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an API object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut meta = ObjectMeta::default();
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "metadata" => {
                    let read = map.next_value_seed(UntilName(&mut meta));
                    if read.is_ok() || !(meta.name.is_empty() && meta.generate_name.is_empty()) {
                        *self.0 = Some(meta);
                    }
                    return read;
                }
                "kind" => meta.kind = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct UntilName<'a>(&'a mut ObjectMeta);

impl<'de> DeserializeSeed<'de> for UntilName<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for UntilName<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the metadata of an API object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            let field = match &*key {
                "name" => &mut self.0.name,
                "generateName" => &mut self.0.generate_name,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *field = map.next_value::<Option<String>>()?.unwrap_or_default();
            if !field.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A text that is borrowed from the body if it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawMeta<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    generate_name: Option<Cow<'a, str>>,
}

impl From<RawMeta<'_>> for ObjectMeta {
    fn from(raw: RawMeta<'_>) -> ObjectMeta {
        let text = |field: Option<Cow<'_, str>>| field.map(Cow::into_owned).unwrap_or_default();
        ObjectMeta {
            kind: String::new(),
            name: text(raw.name),
            generate_name: text(raw.generate_name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;
    use crate::status::protobuf::{Message, encode_object};

    fn named(name: &str, generate_name: &str) -> Option<ObjectMeta> {
        Some(ObjectMeta {
            kind: String::new(),
            name: name.into(),
            generate_name: generate_name.into(),
        })
    }

    fn a_pod(meta: Option<ObjectMeta>) -> Option<ObjectMeta> {
        Some(ObjectMeta {
            kind: "Pod".into(),
            ..meta?
        })
    }

    #[test]
    fn reads_the_metadata_of_json_bodies() {
        assert_eq!(
            object_meta(br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"name":"x"}},"spec":{}}"#),
            a_pod(named("a", ""))
        );
        assert_eq!(
            object_meta(br#" {"spec":{"metadata":{"name":"inner"}},"metadata":{"generateName":"g-","namespace":"n"}}"#),
            named("", "g-")
        );
        assert_eq!(
            object_meta(br#"{"metadata":{"name":"a\u0062"}}"#),
            named("ab", "")
        );
        assert_eq!(
            object_meta(br#"{"metadata":{"name":"a","generateName":"g-"}}"#),
            named("a", "")
        );
        assert_eq!(object_meta(br#"{"metadata":{"name":null}}"#), named("", ""));
    }

    #[test]
    fn reads_the_metadata_of_protobuf_bodies() {
        let metadata = Message::new().string(1, "a").string(2, "g-").string(3, "n");
        let body = encode_object(
            "v1",
            "Pod",
            &Message::new()
                .message(1, &metadata)
                .message(2, &Message::new()),
        );
        assert_eq!(object_meta(&body), a_pod(named("a", "g-")));
    }

    /// The body of a captured request in `tests/samples`.
    fn request(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/samples/{name}.req", env!("CARGO_MANIFEST_DIR"));
        let raw = std::fs::read(path).unwrap();
        let head = raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        raw[head + 4..].to_vec()
    }

    #[test]
    fn reads_the_metadata_of_cbor_bodies() {
        assert_eq!(
            object_meta(&request("created_201_cbor")),
            a_pod(named("p-1", ""))
        );
        let thing = object_meta(&request("created_201_custom_resource_cbor")).unwrap();
        assert_eq!((&*thing.kind, &*thing.name), ("Thing", "t-1"));
        // Keys come in any order, strings of either kind, containers of either form.
        every(
            [
                &b"\xa2Dkind\x43PodHmetadata\xa1DnameAa"[..],
                b"\xd9\xd9\xf7\xa2Hmetadata\xa2DnameAaFlabels\xa1DnameAxDkindCPod",
                b"\xa2\x64kind\x63Pod\x68metadata\xa1\x64name\x61a",
                b"\xbfDkind\x5fAPBod\xffHmetadata\xbfDname\x5fAa\xff\xff\xff",
                b"\xa3Dspec\x9f\xa1Hmetadata\xa0\xffDkindCPodHmetadata\xa2DnameAaInamespace\xf6",
                b"\xd9\xd9\xf7\xd9\xd9\xf7\xa2DkindCPodHmetadata\xc9\xa1Dname\xcaAa",
            ],
            |body| {
                assert_eq!(object_meta(body), a_pod(named("a", "")), "{body:x?}");
            },
        );
        assert_eq!(object_meta(b"\xa1Hmetadata\xf6"), None);
        assert_eq!(object_meta(b"\xa1DkindCPod"), None);
        assert_eq!(object_meta(b"\xa1Hmetadata\xa1Dname\xd5Aa"), None);
    }

    #[test]
    fn stops_after_a_name_or_the_metadata() {
        assert_eq!(
            object_meta(br#"{"metadata":{"name":"a","labels":oops"#),
            named("a", "")
        );
        assert_eq!(object_meta(br#"{"metadata":{},"spec":oops"#), named("", ""));
        assert_eq!(object_meta(br#"{"metadata":{"labels":oops"#), None);
        assert_eq!(
            object_meta(br#"{"metadata":{"generateName":"g-","labels":oops"#),
            named("", "g-")
        );
    }

    #[test]
    fn finds_nothing_without_metadata() {
        every(
            [
                "",
                "[]",
                "{}",
                "null",
                "{\"kind\":\"Pod\"}",
                "{\"metadata\":{\"name\":",
                "{\"metadata\":7}",
                "name: a\n",
                "k8s\0",
                "k8s\0\u{12}\u{0}",
            ],
            |body| {
                assert_eq!(object_meta(body.as_bytes()), None, "{body:?}");
            },
        );
    }
}
