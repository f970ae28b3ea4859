//! The names in the body of a create, and a body with a name filled in. Stricter than
//! `status::object_meta`: a body that the apiserver could read differently has no names here.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{json, protobuf};
use crate::status::Encoding;

/// The names of an object. Those that it does not have are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.generateName`.
    pub generate_name: String,
}

/// The names of the object in `body`. None: it is not an object, or is in CBOR, or a field that
/// matters occurs twice, so that it is not sure which one the apiserver reads.
#[must_use]
pub fn names(body: &[u8]) -> Option<Names> {
    match Encoding::sniff(body) {
        Encoding::Json => {
            let meta = Metadata::of(body)?;
            Some(Names {
                name: text(meta.name)?,
                generate_name: text(meta.generate_name)?,
            })
        }
        Encoding::Protobuf => protobuf::names(body),
        Encoding::Yaml => json::names_of_yaml(body),
        Encoding::Cbor => None,
    }
}

/// The body with this name in place of the name `old`, which is empty if there is none. All else
/// stays byte for byte. None: the body has no `generateName`, has another name than `old`, or
/// cannot be changed safely. YAML and CBOR are never changed.
#[must_use]
pub fn with_name(body: &[u8], old: &str, name: &str) -> Option<Vec<u8>> {
    let names = names(body)?;
    if names.name != old || names.generate_name.is_empty() {
        return None;
    }
    match Encoding::sniff(body) {
        Encoding::Json => with_name_in_json(body, name),
        Encoding::Protobuf => protobuf::with_name(body, name),
        Encoding::Yaml | Encoding::Cbor => None,
    }
}

fn with_name_in_json(body: &[u8], name: &str) -> Option<Vec<u8>> {
    let meta = Metadata::of(body)?;
    let name = serde_json::to_string(name).ok()?;
    let (replaced, new) = match meta.name {
        Some(old) => (old.get(), name),
        // `generateName` follows, so there is something after the comma.
        None => (meta.raw.get().get(..1)?, format!("{{\"name\":{name},")),
    };
    let start = (replaced.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let (before, rest) = body.split_at_checked(start)?;
    let after = rest.strip_prefix(replaced.as_bytes())?;
    Some([before, new.as_bytes(), after].concat())
}

/// `metadata` of a JSON body, where it stands in the body.
struct Metadata<'a> {
    raw: &'a RawValue,
    name: Option<&'a RawValue>,
    generate_name: Option<&'a RawValue>,
}

impl<'a> Metadata<'a> {
    fn of(body: &'a [u8]) -> Option<Metadata<'a>> {
        let mut reader = serde_json::Deserializer::from_slice(body);
        let [raw] = Members(["metadata"]).read(&mut reader).ok()?;
        // Anything after the object makes it another body.
        reader.end().ok()?;
        let raw = raw?;
        let mut reader = serde_json::Deserializer::from_str(raw.get());
        let [name, generate_name] = Members(["name", "generateName"]).read(&mut reader).ok()?;
        Some(Metadata {
            raw,
            name,
            generate_name,
        })
    }
}

/// The text of a member that may be absent. None: it is something else than a text.
fn text(member: Option<&RawValue>) -> Option<String> {
    let Some(raw) = member else {
        return Some(String::new());
    };
    let text: Option<Cow<'_, str>> = serde_json::from_str(raw.get()).ok()?;
    Some(text.map(Cow::into_owned).unwrap_or_default())
}

/// Reads these members of an object, and fails if one occurs twice.
struct Members<const N: usize>([&'static str; N]);

impl<const N: usize> Members<N> {
    fn read<'de, D: Deserializer<'de>>(
        self,
        reader: D,
    ) -> Result<[Option<&'de RawValue>; N], D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(key) = map.next_key::<Key<'_>>()? {
            match self.0.iter().position(|name| *name == key.0) {
                Some(at) if found[at].is_some() => return Err(A::Error::custom("twice")),
                Some(at) => found[at] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;
    use crate::status::protobuf::{Message, encode_object};

    fn pod(metadata: &Message) -> Vec<u8> {
        let spec = Message::new().string(2, "spec");
        encode_object(
            "v1",
            "Pod",
            &Message::new().message(1, metadata).message(2, &spec),
        )
        .to_vec()
    }

    #[test]
    fn reads_the_names_of_every_encoding() {
        let of = |name: &str, generate_name: &str| {
            Some(Names {
                name: name.into(),
                generate_name: generate_name.into(),
            })
        };
        let both = Message::new().string(1, "a").string(2, "g-");
        every(
            [
                (
                    r#"{"metadata":{"name":"a","generateName":"g-"}}"#.as_bytes(),
                    of("a", "g-"),
                ),
                (br#"{"spec":{},"metadata":{"name":null}} "#, of("", "")),
                (br#"{"metadata":{"n\u0061me":"\u0061"}}"#, of("a", "")),
                (br#"{"metadata":{},"spec":{"metadata":{}}}"#, of("", "")),
                (b"metadata:\n  generateName: g-\n", of("", "g-")),
                (&pod(&both), of("a", "g-")),
                (&pod(&Message::new().string(1, "")), of("", "")),
                // What the apiserver might read differently.
                (
                    br#"{"metadata":{"name":"a"},"metadata":{"name":"b"}}"#,
                    None,
                ),
                (br#"{"metadata":{"name":"a","name":"b"}}"#, None),
                (br#"{"metadata":{"name":7}}"#, None),
                (br#"{"metadata":{"name":"a"}}{}"#, None),
                (br#"{"metadata":{"name":"a"}"#, None),
                (br#"{"metadata":[]}"#, None),
                (br#"{"kind":"Pod"}"#, None),
                (&pod(&Message::new().string(1, "a").string(1, "b")), None),
                (b"k8s\0\x12\x05", None),
                (b"\xd9\xd9\xf7\xa1\x68metadata", None),
                (b"", None),
            ],
            |(body, expected)| assert_eq!(names(body), expected),
        );
    }

    #[test]
    fn fills_in_the_name_and_changes_nothing_else() {
        let given = |body: &str| {
            let filled = with_name(body.as_bytes(), "", "g-2x")?;
            Some(String::from_utf8(filled).unwrap())
        };
        every(
            [
                (
                    r#"{ "metadata" : { "generateName":"g-" }, "spec":{"a":1.0} }"#,
                    Some(
                        r#"{ "metadata" : {"name":"g-2x", "generateName":"g-" }, "spec":{"a":1.0} }"#,
                    ),
                ),
                (
                    r#"{"metadata":{"generateName":"g-","name":"","labels":{"name":""}}}"#,
                    Some(
                        r#"{"metadata":{"generateName":"g-","name":"g-2x","labels":{"name":""}}}"#,
                    ),
                ),
                (
                    r#"{"metadata":{"name": null ,"generateName":"g-"}}"#,
                    Some(r#"{"metadata":{"name": "g-2x" ,"generateName":"g-"}}"#),
                ),
                (r#"{"metadata":{"name":"a","generateName":"g-"}}"#, None),
                (r#"{"metadata":{"labels":{}}}"#, None),
                (
                    r#"{"metadata":{"generateName":"g-","generateName":"h-"}}"#,
                    None,
                ),
                ("metadata:\n  generateName: g-\n", None),
            ],
            |(body, expected)| assert_eq!(given(body).as_deref(), expected),
        );
        let rest = Message::new().string(2, "g-").string(11, "labels");
        let named = Message::new().string(1, "g-2x").string(2, "g-");
        let named = named.string(11, "labels");
        let empty = Message::new().string(1, "").string(2, "g-");
        let empty = empty.string(11, "labels");
        for body in [pod(&rest), pod(&empty)] {
            assert_eq!(with_name(&body, "", "g-2x"), Some(pod(&named)));
        }
        assert_eq!(with_name(&pod(&named), "", "h"), None);
        let again = Message::new().string(1, "g-9y").string(2, "g-");
        let again = again.string(11, "labels");
        assert_eq!(with_name(&pod(&named), "g-2x", "g-9y"), Some(pod(&again)));
        let json = br#"{"metadata":{"name":"g-2x","generateName":"g-"}}"#;
        let again = br#"{"metadata":{"name":"g-9y","generateName":"g-"}}"#;
        assert_eq!(with_name(json, "g-2x", "g-9y").as_deref(), Some(&again[..]));
    }
}
