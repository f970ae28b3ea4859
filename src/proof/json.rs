//! Compares objects in JSON, and in YAML through the model of JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::body::Names;
use super::{Facts, rfc3339};
use crate::status::Encoding;

/// The fields of the metadata that the server sets, whatever was sent.
const SET_BY_SERVER: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What `found` says, compared with what was sent.
pub(super) fn facts(sent: &[u8], found: &[u8]) -> Option<Facts> {
    let (sent, found) = (read(sent)?, read(found)?);
    let meta = found.get("metadata")?.as_object()?;
    let text = |key: &str| meta.get(key).and_then(Value::as_str).unwrap_or_default();
    let managers = meta.get("managedFields").and_then(Value::as_array);
    let managers = managers.into_iter().flatten().map(|entry| {
        let of = |key| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        (of("manager").to_owned(), of("operation").to_owned())
    });
    Some(Facts {
        name: text("name").to_owned(),
        namespace: text("namespace").to_owned(),
        uid: text("uid").to_owned(),
        created: rfc3339(text("creationTimestamp")),
        managers: managers.collect(),
        contains: owners(&sent) == owners(&found) && has_all(&found, &sent),
    })
}

pub(super) fn names_of_yaml(body: &[u8]) -> Option<Names> {
    let object = read(body)?;
    let meta = object.get("metadata")?.as_object()?;
    let text = |key: &str| match meta.get(key) {
        None | Some(Value::Null) => Some(String::new()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => None,
    };
    Some(Names {
        name: text("name")?,
        generate_name: text("generateName")?,
    })
}

/// `metadata.uid` of a JSON object.
#[must_use]
pub fn uid_of_json(object: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Meta,
    }
    #[derive(serde::Deserialize)]
    struct Meta {
        uid: String,
    }
    let object: Object = serde_json::from_slice(object).ok()?;
    Some(object.metadata.uid)
}

pub(super) fn uid_of_yaml(object: &[u8]) -> Option<String> {
    let object = read(object)?;
    Some(object.get("metadata")?.get("uid")?.as_str()?.to_owned())
}

/// The object in a body of JSON or YAML.
fn read(body: &[u8]) -> Option<Map<String, Value>> {
    let value = match Encoding::sniff(body) {
        Encoding::Json => serde_json::from_slice(body).ok()?,
        Encoding::Yaml => serde_saphyr::from_slice(body).ok()?,
        Encoding::Protobuf | Encoding::Cbor => return None,
    };
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// The uids of the owner references, in order.
fn owners(object: &Map<String, Value>) -> Vec<&Value> {
    let references = object
        .get("metadata")
        .and_then(|meta| meta.get("ownerReferences"))
        .and_then(Value::as_array);
    references
        .into_iter()
        .flatten()
        .filter_map(|reference| reference.get("uid"))
        .collect()
}

/// Whether the object has everything that was sent. The server sets the status and some of the
/// metadata itself.
fn has_all(found: &Map<String, Value>, sent: &Map<String, Value>) -> bool {
    sent.iter().all(|(key, sent)| match key.as_str() {
        "status" => true,
        "metadata" => match (sent.as_object(), found.get(key)) {
            (Some(sent), Some(Value::Object(found))) => sent
                .iter()
                .filter(|(key, _)| !SET_BY_SERVER.contains(&key.as_str()))
                .all(|(key, sent)| has(found.get(key), sent)),
            _ => false,
        },
        // A Secret is never shown with it: the apiserver moves it into `data`.
        "stringData" if found.get("kind").is_some_and(|kind| kind == "Secret") => {
            let data = found.get("data");
            sent.as_object().is_some_and(|texts| {
                texts.iter().all(|(key, text)| {
                    let encoded = text.as_str().map(|text| STANDARD.encode(text));
                    let stored = data.and_then(|data| data.get(key)).and_then(Value::as_str);
                    encoded.as_deref().unwrap_or_default() == stored.unwrap_or_default()
                })
            })
        }
        _ => has(found.get(key), sent),
    })
}

/// Whether a field has the value that was sent. An empty value may be missing, and the server may
/// have filled in a default.
fn has(found: Option<&Value>, sent: &Value) -> bool {
    let Some(found) = found.filter(|found| !found.is_null()) else {
        return is_empty(sent);
    };
    match (sent, found) {
        (Value::Object(sent), Value::Object(found)) => {
            sent.iter().all(|(key, sent)| has(found.get(key), sent))
        }
        (Value::Array(sent), Value::Array(found)) => {
            let mut rest = found.iter();
            sent.iter()
                .all(|sent| rest.any(|found| has(Some(found), sent)))
        }
        (Value::Bool(sent), found) => found == sent,
        (sent, found) => sent == found || is_empty(sent) || is_same_amount(sent, found),
    }
}

/// Whether Go would leave the value out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

/// Whether both are the same number, whatever its form: the apiserver writes quantities in its own.
fn is_same_amount(sent: &Value, found: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match (text(sent), text(found)) {
        (Some(sent), Some(found)) => super::is_same_amount(&sent, &found),
        _ => false,
    }
}
