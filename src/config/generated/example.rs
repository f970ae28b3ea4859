//! `config/example.yaml`: every setting with its documentation and its default.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::super::declare::{Declared, Shape, plain};
use super::super::{Config, declared, show};
use super::{sentence, values};

const WIDTH: usize = 100;

const HEAD: &str = "\
# Every setting of kube-retry-proxy, with its meaning, its range and its default.
#
# This file is generated from the declarations of the settings in src/config.
#
# Each value below is the default, so this file as it is changes nothing. `null` means \"not set\".
# Every setting may be left out, and an empty file is valid.
# `kube-retry-proxy check-config FILE` checks a file.
#
# Durations are Go durations (250ms, 1m30s), sizes are Kubernetes quantities (64Ki, 3Mi).
# The flags of `serve` and its environment variables (KUBE_RETRY_PROXY_*) win over this file.
";

/// The text of the example.
#[must_use]
pub fn example() -> String {
    let defaults = show(&Config::default());
    let mut out = Example {
        text: HEAD.to_owned(),
        explained: HashSet::new(),
    };
    for name in ["apiVersion", "kind"] {
        out.line(0, &format!("{name}: {}", scalar(&defaults[name])));
    }
    for field in declared() {
        out.text.push('\n');
        out.field(0, &field, &defaults[&field.name], true);
    }
    out.text
}

struct Example {
    text: String,
    /// The types of the sections whose settings have been explained.
    explained: HashSet<&'static str>,
}

impl Example {
    fn field(&mut self, indent: usize, field: &Declared, default: &Json, explain: bool) {
        if explain {
            self.explanation(indent, field);
        }
        let name = &field.name;
        match (&field.shape, default) {
            (Shape::Section { of, fields }, default) => {
                self.line(indent, &format!("{name}:"));
                let explain = explain && self.explained.insert(*of);
                for field in fields {
                    self.field(indent + 2, field, &default[&field.name], explain);
                }
            }
            (Shape::List(item), Json::Array(defaults)) if is_section(item) => {
                self.line(indent, &format!("{name}:"));
                for default in defaults {
                    let default = in_order(item, default);
                    self.line(indent + 2, &format!("- {{{default}}}"));
                }
            }
            (_, default) => self.line(indent, &format!("{name}: {}", scalar(default))),
        }
    }

    fn explanation(&mut self, indent: usize, field: &Declared) {
        let mut doc = plain(field.doc).join(" ");
        if let Some(range) = range(&field.shape) {
            doc = format!("{doc} {range}");
        }
        self.comment(indent, "", "", &doc);
        let parts = self.parts(&field.shape);
        let width = parts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, doc) in &parts {
            let name = format!("  {name:width$}  ");
            self.comment(indent, &name, &" ".repeat(name.len()), doc);
        }
    }

    /// The items of the list below an explanation: the words of a setting, or the settings of a
    /// section that is off by default.
    fn parts(&mut self, shape: &Shape) -> Vec<(String, String)> {
        match shape {
            Shape::Words(words) => words
                .iter()
                .map(|(word, doc)| ((*word).to_owned(), plain(doc).join(" ")))
                .collect(),
            Shape::Optional(inner) | Shape::List(inner) => match &**inner {
                Shape::Section { of, fields } if self.explained.insert(of) => fields
                    .iter()
                    .map(|field| {
                        let mut doc = plain(field.doc);
                        doc.extend(range(&field.shape));
                        if field.required {
                            doc.push("Required.".into());
                        }
                        (field.name.clone(), doc.join(" "))
                    })
                    .collect(),
                Shape::Section { .. } => Vec::new(),
                inner => self.parts(inner),
            },
            _ => Vec::new(),
        }
    }

    /// A comment in lines of the right width: the first begins with `first`, all others with
    /// `others`.
    fn comment(&mut self, indent: usize, first: &str, others: &str, text: &str) {
        let room = WIDTH - indent - "# ".len() - others.len();
        let (mut line, mut begin) = (String::new(), first);
        for word in text.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                self.line(indent, &format!("# {begin}{line}"));
                (line, begin) = (String::new(), others);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(indent, &format!("# {begin}{line}"));
    }

    fn line(&mut self, indent: usize, line: &str) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(line);
        self.text.push('\n');
    }
}

fn is_section(shape: &Shape) -> bool {
    matches!(shape, Shape::Section { .. })
}

/// A sentence about the range. None if the default value shows it.
fn range(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Optional(inner) => range(inner),
        Shape::Whole { .. }
        | Shape::Number { .. }
        | Shape::Duration { .. }
        | Shape::Bytes { .. } => Some(sentence(&values(shape))),
        Shape::List(_) => Some("At least one.".into()),
        _ => None,
    }
}

/// The settings of a section on one line, in the order of their declaration.
fn in_order(section: &Shape, values: &Json) -> String {
    let Shape::Section { fields, .. } = section else {
        return scalar(values);
    };
    let fields = fields
        .iter()
        .map(|field| format!("{}: {}", field.name, scalar(&values[&field.name])));
    fields.collect::<Vec<_>>().join(", ")
}

/// A value on one line of YAML.
fn scalar(value: &Json) -> String {
    match value {
        Json::String(text) => {
            let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "/.:_-".contains(c));
            if plain {
                text.clone()
            } else {
                format!("'{}'", text.replace('\'', "''"))
            }
        }
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(scalar).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{name}: {}", scalar(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
