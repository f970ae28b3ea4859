//! The JSON schema of the file (draft 7), without `apiVersion` and `kind`: the Helm chart adds
//! these. `values.schema.json` of the chart embeds it for the value `config`.

use serde_json::{Map, Value as Json, json};

use super::super::declare::{Declared, Shape, plain};
use super::super::declared;

/// Go's durations, without signs and without a bare 0.
const DURATION: &str = "(([0-9]+\\.?[0-9]*|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+";
/// Kubernetes quantities, without signs and exponents.
const BYTES: &str = "^([0-9]+\\.?[0-9]*|\\.[0-9]+)([kMGT]|[KMGT]i)?$";

/// The text of the schema.
#[must_use]
pub fn schema() -> String {
    let mut text = String::new();
    print(&mut text, 0, &Json::Object(of_fields(&declared())));
    text
}

fn of_fields(fields: &[Declared]) -> Map<String, Json> {
    let properties: Map<_, _> = fields
        .iter()
        .map(|field| {
            let mut schema = of(&field.shape);
            if !field.required {
                or_null(&mut schema);
            }
            let doc = plain(field.doc).into_iter().next();
            schema.insert("description".into(), doc.into());
            (field.name.clone(), Json::Object(schema))
        })
        .collect();
    let required: Vec<_> = fields.iter().filter(|field| field.required).collect();
    let mut schema = object(json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    }));
    if !required.is_empty() {
        let names = required.iter().map(|field| field.name.clone()).collect();
        schema.insert("required".into(), names);
    }
    schema
}

fn of(shape: &Shape) -> Map<String, Json> {
    match shape {
        Shape::Section { fields, .. } => of_fields(fields),
        Shape::Optional(inner) => of(inner),
        Shape::List(item) => object(json!({ "type": "array", "minItems": 1, "items": of(item) })),
        Shape::ListOrEmpty(item) => object(json!({ "type": "array", "items": of(item) })),
        Shape::Bool => object(json!({ "type": "boolean" })),
        Shape::Whole { min, max } => {
            object(json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        Shape::Number { min, max } => {
            object(json!({ "type": "number", "minimum": min, "maximum": max }))
        }
        // In JSON schema, bounds apply only to numbers, and a pattern applies only to strings. 0 is
        // the only number that is a duration.
        Shape::Duration { min, .. } if min == "0s" => object(json!({
            "type": ["string", "integer"], "pattern": format!("^(0|{DURATION})$"),
            "minimum": 0, "maximum": 0
        })),
        Shape::Duration { .. } => object(json!({
            "type": "string", "pattern": format!("^{DURATION}$")
        })),
        Shape::Bytes { min, max } => object(json!({
            "type": ["string", "integer"], "pattern": BYTES, "minimum": min, "maximum": max
        })),
        Shape::Words(words) => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            object(json!({ "enum": words }))
        }
        Shape::Text { pattern: "", .. } => object(json!({ "type": "string", "minLength": 1 })),
        Shape::Text { pattern, .. } => object(json!({ "type": "string", "pattern": pattern })),
    }
}

/// Allows `null` for a setting that may be left out.
fn or_null(schema: &mut Map<String, Json>) {
    let (key, null) = match schema.contains_key("enum") {
        true => ("enum", Json::Null),
        false => ("type", "null".into()),
    };
    let mut allowed = match schema.remove(key) {
        Some(Json::Array(allowed)) => allowed,
        one => one.into_iter().collect(),
    };
    allowed.push(null);
    schema.insert(key.into(), allowed.into());
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Prints a mapping with properties on a line for each key, and anything else on one line.
fn print(text: &mut String, indent: usize, value: &Json) {
    let Json::Object(fields) = value else {
        return print_flat(text, value);
    };
    let deep = |value: &Json| value.get("properties").is_some() || value.get("items").is_some();
    if !deep(value) && !fields.values().any(Json::is_object) {
        return print_flat(text, value);
    }
    let pad = " ".repeat(indent + 2);
    text.push_str("{\n");
    for (index, (key, value)) in fields.iter().enumerate() {
        text.push_str(&format!("{pad}{}: ", json!(key)));
        print(text, indent + 2, value);
        text.push_str(if index + 1 < fields.len() {
            ",\n"
        } else {
            "\n"
        });
    }
    text.push_str(&format!("{}}}", " ".repeat(indent)));
}

fn print_flat(text: &mut String, value: &Json) {
    match value {
        Json::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(key, value)| {
                    let mut flat = format!("{}: ", json!(key));
                    print_flat(&mut flat, value);
                    flat
                })
                .collect();
            text.push_str(&format!("{{ {} }}", fields.join(", ")));
        }
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(Json::to_string).collect();
            text.push_str(&format!("[{}]", items.join(", ")));
        }
        other => text.push_str(&other.to_string()),
    }
}
