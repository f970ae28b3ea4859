//! The names of an object are those that a reader of the whole body finds.

#![no_main]

use kube_retry_proxy::status::object_meta;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|body: &[u8]| {
    let found = object_meta(body);
    if let Some(meta) = &found {
        let length = meta.kind.len() + meta.name.len() + meta.generate_name.len();
        // A byte that is no UTF-8 becomes three.
        assert!(length <= 3 * body.len());
    }
    if !body.trim_ascii_start().starts_with(b"{") {
        return;
    }
    // What was read does not depend on what comes after the metadata.
    let half = object_meta(&body[..body.len() / 2]);
    assert!(half.is_none() || half == found);
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
        return;
    };
    // A key that comes twice means different things to different readers.
    let twice = |key: &str| {
        let quoted = format!("\"{key}\"");
        body.windows(quoted.len())
            .filter(|part| *part == quoted.as_bytes())
            .count()
            > 1
    };
    let escaped = body.contains(&b'\\');
    if escaped
        || ["metadata", "kind", "name", "generateName"]
            .iter()
            .any(|key| twice(key))
    {
        return;
    }
    let expected = match object.get("metadata") {
        Some(Value::Object(metadata)) => names(metadata),
        _ => None,
    };
    // Reading stops after the first name, so what comes then can be anything.
    let is_text = |value: Option<&Value>| matches!(value, None | Some(Value::String(_)));
    match (found, expected) {
        _ if !is_text(object.get("kind")) => {}
        (Some(meta), Some((name, prefix))) => {
            let found = (&*meta.name, &*meta.generate_name);
            let is_first = !name.is_empty() && found == (&name, "");
            let is_second = (name.is_empty() || !prefix.is_empty()) && found == ("", &prefix);
            assert!(is_first || is_second, "{found:?}");
        }
        (Some(_), None) => {}
        (None, expected) => assert_eq!(expected, None),
    }
});

/// The name, and the prefix of a generated one. None: a field has another type.
fn names(metadata: &Map<String, Value>) -> Option<(String, String)> {
    let text = |key: &str| match metadata.get(key) {
        None | Some(Value::Null) => Some(String::new()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => None,
    };
    Some((text("name")?, text("generateName")?))
}
