//! The names of an object are those that a reader of the whole body finds.

#![no_main]

use kube_retry_proxy::status::{ObjectMeta, object_meta};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|body: &[u8]| {
    let found = object_meta(body);
    if let Some(meta) = &found {
        let length = meta.kind.len() + meta.name.len() + meta.generate_name.len();
        // A byte that is no UTF-8 becomes three.
        assert!(length + meta.namespace.len() <= 3 * body.len());
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
        || ["metadata", "kind", "name", "generateName", "namespace"]
            .iter()
            .any(|key| twice(key))
    {
        return;
    }
    let expected = match object.get("metadata") {
        Some(Value::Object(metadata)) => expected(metadata),
        _ => None,
    };
    let found = found.map(|meta| ObjectMeta {
        kind: String::new(),
        ..meta
    });
    if !object.contains_key("kind") || matches!(object["kind"], Value::String(_)) {
        assert_eq!(found, expected);
    }
});

/// None: a field has another type.
fn expected(metadata: &Map<String, Value>) -> Option<ObjectMeta> {
    let text = |key: &str| match metadata.get(key) {
        None | Some(Value::Null) => Some(String::new()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => None,
    };
    Some(ObjectMeta {
        kind: String::new(),
        name: text("name")?,
        generate_name: text("generateName")?,
        namespace: text("namespace")?,
    })
}
