//! `docs/configuration.md`: every setting in tables.

use serde_json::Value as Json;

use super::super::declare::{Declared, Shape, paragraphs};
use super::super::flags::words;
use super::super::{Config, declared, show};
use super::values;

const HEAD: &str = "\
# Configuration

<!-- Generated from the declarations of the settings in src/config. Do not edit. -->

`kube-retry-proxy serve --config FILE` reads a YAML file. Every setting may be left out, and an empty
file is valid. [config/example.yaml](../config/example.yaml) has all of them with their defaults.
`kube-retry-proxy check-config FILE` reports every mistake in a file at once, each with its line.

Durations are Go durations (`250ms`, `1m30s`). Sizes are Kubernetes quantities (`64Ki`, `3Mi`). `null`
means that a setting is not set.

Some settings have a flag of `serve` too. Each flag has an environment variable: `--log-level` is
`KUBE_RETRY_PROXY_LOG_LEVEL`. A flag wins over its variable, the variable over the file, and the file
over the default.

A file must begin with these two lines, unless it is empty:

```yaml
apiVersion: kube-retry-proxy/v1alpha1
kind: ProxyConfiguration
```
";

/// The text of the page.
#[must_use]
pub fn reference() -> String {
    let defaults = show(&Config::default());
    let mut out = HEAD.to_owned();
    for field in declared() {
        let default = &defaults[&field.name];
        out += &format!("\n## {}\n\n", field.name);
        match &field.shape {
            Shape::Section { fields, .. } => {
                out += &format!("{}\n\n", paragraphs(field.doc).join(" "));
                head(&mut out);
                rows(&mut out, "", fields, default);
            }
            _ => {
                head(&mut out);
                row(&mut out, "", &field, default);
            }
        }
    }
    out
}

fn head(out: &mut String) {
    out.push_str("| Setting | Value | Default | Meaning |\n|---|---|---|---|\n");
}

fn rows(out: &mut String, prefix: &str, fields: &[Declared], defaults: &Json) {
    for field in fields {
        row(out, prefix, field, &defaults[&field.name]);
    }
}

fn row(out: &mut String, prefix: &str, field: &Declared, default: &Json) {
    let name = format!("{prefix}{}", field.name);
    let mut meaning = paragraphs(field.doc).join(" ");
    let mut value = values(&field.shape);
    if let Some(words) = words(&field.shape) {
        for (word, doc) in words {
            meaning += &format!("<br>`{word}`: {}", paragraphs(doc).join(" "));
        }
        let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        value = words.join(" or ");
    }
    let flag = field.flag.map(|flag| format!("<br>`--{}`", flag.name));
    let cells = [
        format!("`{name}`{}", flag.unwrap_or_default()),
        value,
        shown(field, default),
        meaning,
    ];
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    *out += &format!("| {} |\n", cells.join(" | "));
    if let Some(fields) = fields(&field.shape) {
        rows(out, &format!("{name}."), fields, default);
    }
}

fn shown(field: &Declared, default: &Json) -> String {
    match default {
        _ if field.required => "required".to_owned(),
        Json::Null => "not set".to_owned(),
        Json::Object(_) => String::new(),
        Json::String(text) if !text.is_empty() => format!("`{text}`"),
        Json::Array(items) if items.iter().any(Json::is_object) => {
            let items: Vec<_> = items.iter().map(given).collect();
            format!("`[{}]`", items.join(", "))
        }
        Json::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(Json::as_str).collect();
            format!("`[{}]`", items.join(", "))
        }
        other => format!("`{}`", other.to_string().replace('"', "'")),
    }
}

/// An item of a list as a reader would write it, without what is empty.
fn given(item: &Json) -> String {
    let fields = item.as_object().into_iter().flatten();
    let fields: Vec<_> = fields
        .filter_map(|(name, value)| match value.as_str()? {
            "" => None,
            "*" => Some(format!("{name}: '*'")),
            text => Some(format!("{name}: {text}")),
        })
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// The settings of a section, of one that is off by default, or of each item of a list.
fn fields(shape: &Shape) -> Option<&[Declared]> {
    match shape {
        Shape::Section { fields, .. } => Some(fields),
        Shape::Optional(inner) | Shape::List(inner) => fields(inner),
        _ => None,
    }
}
