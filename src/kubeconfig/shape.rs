//! The fields of a kubeconfig and their types.
//!
//! kubectl ignores fields that it does not know and spells the others exactly. Null stands for a
//! field that is not set
//! (<https://github.com/kubernetes/client-go/blob/v0.34.0/tools/clientcmd/api/v1/types.go#L28>).

use std::collections::HashMap;
use std::fmt::Write;

use super::mistake::{ParseError, Problem};
use super::text::go_base64;
use crate::config::yaml::{Node, YamlValue};

/// The type of a value.
enum Shape {
    Text,
    Bool,
    /// Text in base64.
    Bytes,
    Any,
    /// Values of one type.
    List(&'static Shape),
    /// Keys that may be anything, with values of one type.
    Map(&'static Shape),
    /// A mapping with these fields, and others that nobody reads.
    Fields(&'static [(&'static str, Shape)]),
    /// A list of `{name: …, FIELD: …}` whose names differ.
    Named(&'static str, &'static Shape),
}

use Shape::{Any, Bool, Bytes, Fields, List, Map, Named, Text};

const EXTENSIONS: Shape = Named("extension", &Any);

const CONFIG: Shape = Fields(&[
    ("kind", Text),
    ("apiVersion", Text),
    (
        "preferences",
        Fields(&[("colors", Bool), ("extensions", EXTENSIONS)]),
    ),
    ("clusters", Named("cluster", &CLUSTER)),
    ("users", Named("user", &USER)),
    ("contexts", Named("context", &CONTEXT)),
    ("current-context", Text),
    ("extensions", EXTENSIONS),
]);

const CLUSTER: Shape = Fields(&[
    ("server", Text),
    ("tls-server-name", Text),
    ("insecure-skip-tls-verify", Bool),
    ("certificate-authority", Text),
    ("certificate-authority-data", Bytes),
    ("proxy-url", Text),
    ("disable-compression", Bool),
    ("extensions", EXTENSIONS),
]);

const CONTEXT: Shape = Fields(&[
    ("cluster", Text),
    ("user", Text),
    ("namespace", Text),
    ("extensions", EXTENSIONS),
]);

const USER: Shape = Fields(&[
    ("client-certificate", Text),
    ("client-certificate-data", Bytes),
    ("client-key", Text),
    ("client-key-data", Bytes),
    ("token", Text),
    ("tokenFile", Text),
    ("as", Text),
    ("as-uid", Text),
    ("as-groups", List(&Text)),
    ("as-user-extra", Map(&List(&Text))),
    ("username", Text),
    ("password", Text),
    (
        "auth-provider",
        Fields(&[("name", Text), ("config", Map(&Text))]),
    ),
    ("exec", EXEC),
    ("extensions", EXTENSIONS),
]);

const EXEC: Shape = Fields(&[
    ("command", Text),
    ("args", List(&Text)),
    ("env", List(&Fields(&[("name", Text), ("value", Text)]))),
    ("apiVersion", Text),
    ("installHint", Text),
    ("provideClusterInfo", Bool),
    ("interactiveMode", Text),
]);

/// Checks that a document is a kubeconfig. An empty one is.
pub(super) fn check(root: &Node) -> Result<(), ParseError> {
    if !matches!(root.value, YamlValue::Map(_) | YamlValue::Null) {
        return Err(mistake(root, Problem::NotAMapping));
    }
    CONFIG.check(root, &mut String::new())?;
    of_kind(root, "kind", "Config", &["Config", ""])?;
    of_kind(root, "apiVersion", "v1", &["v1", "/v1", "", "/"])
}

/// kubectl reads these two fields in any case, so that `Kind: Pod` is refused as well.
fn of_kind(
    root: &Node,
    field: &'static str,
    expected: &'static str,
    allowed: &[&str],
) -> Result<(), ParseError> {
    let YamlValue::Map(entries) = &root.value else {
        return Ok(());
    };
    for entry in entries {
        let wrong = match &entry.node.value {
            YamlValue::Text(text) => !allowed.contains(&text.as_str()),
            YamlValue::Null => false,
            _ => true,
        };
        if entry.key.eq_ignore_ascii_case(field) && wrong {
            let problem = Problem::OtherKind { field, expected };
            return Err(mistake(&entry.node, problem));
        }
    }
    Ok(())
}

impl Shape {
    fn check(&self, node: &Node, path: &mut String) -> Result<(), ParseError> {
        match (self, &node.value) {
            (_, YamlValue::Null)
            | (Any, _)
            | (Text, YamlValue::Text(_))
            | (Bool, YamlValue::Bool(_)) => Ok(()),
            (Bytes, YamlValue::Text(text)) => go_base64(text).map(drop).map_err(|why| {
                let path = path.clone();
                mistake(node, Problem::Base64 { path, why })
            }),
            (List(item), YamlValue::List(items)) => {
                each(items, path, |node, path| item.check(node, path))
            }
            (Map(value), YamlValue::Map(entries)) => entries.iter().try_for_each(|entry| {
                inside(path, &entry.key, |path| value.check(&entry.node, path))
            }),
            (Fields(fields), YamlValue::Map(entries)) => entries.iter().try_for_each(|entry| {
                match fields.iter().find(|(name, _)| *name == entry.key) {
                    Some((name, shape)) => {
                        inside(path, name, |path| shape.check(&entry.node, path))
                    }
                    None => Ok(()),
                }
            }),
            (Named(field, body), YamlValue::List(items)) => {
                each(items, path, |node, path| named(node, field, body, path))?;
                differ(items, field, matches!(body, Any), path)
            }
            _ => Err(mistake(
                node,
                Problem::Type {
                    path: path.clone(),
                    expected: self.phrase(),
                    found: phrase_of(&node.value),
                },
            )),
        }
    }

    fn phrase(&self) -> &'static str {
        match self {
            Text => "text",
            Bool => "true or false",
            Bytes => "text in base64",
            Any => "any value",
            List(_) | Named(..) => "a list",
            Map(_) | Fields(_) => "a mapping",
        }
    }
}

fn named(node: &Node, field: &str, body: &Shape, path: &mut String) -> Result<(), ParseError> {
    let YamlValue::Map(entries) = &node.value else {
        return Fields(&[]).check(node, path);
    };
    entries.iter().try_for_each(|entry| {
        if entry.key == "name" {
            inside(path, "name", |path| Text.check(&entry.node, path))
        } else if entry.key == field {
            inside(path, field, |path| body.check(&entry.node, path))
        } else {
            Ok(())
        }
    })
}

/// Two entries with one name are refused, as by kubectl. An extension without a value does not
/// count there.
fn differ(items: &[Node], field: &str, only_with_body: bool, path: &str) -> Result<(), ParseError> {
    let mut lines = HashMap::new();
    for item in items {
        let name = item.text("name").unwrap_or_default();
        if let Some(first) = lines.get(name) {
            let (list, first) = (path.to_owned(), *first);
            return Err(mistake(item, Problem::Twice { list, first }));
        }
        let body = item
            .get(field)
            .is_some_and(|body| body.value != YamlValue::Null);
        if body || !only_with_body {
            lines.insert(name, item.line);
        }
    }
    Ok(())
}

fn each(
    items: &[Node],
    path: &mut String,
    check: impl Fn(&Node, &mut String) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    let length = path.len();
    for (index, item) in items.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(path, "[{index}]");
        check(item, path)?;
        path.truncate(length);
    }
    Ok(())
}

fn inside(
    path: &mut String,
    field: &str,
    check: impl FnOnce(&mut String) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    let length = path.len();
    if length > 0 {
        path.push('.');
    }
    path.push_str(field);
    check(path)?;
    path.truncate(length);
    Ok(())
}

fn mistake(node: &Node, problem: Problem) -> ParseError {
    ParseError {
        line: node.line,
        problem,
    }
}

fn phrase_of(value: &YamlValue) -> &'static str {
    match value {
        YamlValue::Null => "nothing",
        YamlValue::Bool(_) => "a boolean",
        YamlValue::Integer(_) | YamlValue::Float(_) => "a number",
        YamlValue::Text(_) => "text",
        YamlValue::List(_) => "a list",
        YamlValue::Map(_) => "a mapping",
    }
}
