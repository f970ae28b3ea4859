//! Reads YAML as a tree. Only this module and `status` use the YAML crate.
//!
//! [`parse`] keeps line numbers and duplicate keys, so that every mistake in a configuration file
//! can be reported with its line. `kubeconfig` has a reader of its own, because it reads by
//! kubectl's rules, and takes only the types of the tree from here.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Options, Spanned};

use super::units::without_credentials;

/// The text is not YAML, or has more than one document.
///
/// `Display` prints one line without an excerpt, which could show a credential.
#[derive(Debug)]
pub(crate) struct SyntaxError(Box<serde_saphyr::Error>);

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.0.without_snippet();
        if let serde_saphyr::Error::MultipleDocuments { .. } = error {
            return f.write_str("another document begins here, and one was expected");
        }
        let text = error.to_string();
        f.write_str(text.lines().next().unwrap_or_default())
    }
}

impl std::error::Error for SyntaxError {}

impl SyntaxError {
    /// The line of the mistake, counted from 1. None if it is not known.
    pub(crate) fn line(&self) -> Option<u64> {
        self.0
            .location()
            .map(|location| location.line())
            .filter(|&line| line > 0)
    }
}

/// A value and the line where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Counted from 1; 0 if it is not known.
    pub(crate) line: u64,
    pub(crate) value: YamlValue,
}

/// Any YAML value. Maps keep their order and their duplicate keys.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum YamlValue {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value` of a map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: u64,
    pub(crate) node: Node,
}

impl fmt::Display for YamlValue {
    /// Prints the value on one short line, for error messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(text) => write_text(f, text),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a mapping"),
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let text = without_credentials(text);
    let more = if text.chars().count() > 80 { "…" } else { "" };
    write!(
        f,
        "'{}{more}'",
        text.chars().take(80).collect::<String>().escape_debug()
    )
}

/// Parses one YAML document. An empty document is null.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| SyntaxError(Box::new(error)))
}

fn options() -> Options {
    // `yes`, `on`, `0123` and `1_000` are strings.
    serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<YamlValue>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for YamlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = YamlValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<YamlValue, E> {
        Ok(YamlValue::Null)
    }

    fn visit_none<E>(self) -> Result<YamlValue, E> {
        Ok(YamlValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlValue, D::Error> {
        YamlValue::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<YamlValue, E> {
        Ok(YamlValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<YamlValue, E> {
        Ok(YamlValue::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<YamlValue, E> {
        Ok(YamlValue::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<YamlValue, E> {
        Ok(YamlValue::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<YamlValue, E> {
        Ok(YamlValue::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<YamlValue, E> {
        Ok(YamlValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<YamlValue, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element()? {
            list.push(node);
        }
        Ok(YamlValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<YamlValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let node = map.next_value()?;
            entries.push(Entry {
                line: key.referenced.line(),
                key: key.value,
                node,
            });
        }
        Ok(YamlValue::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_lines_and_duplicate_keys() {
        let node = parse("# comment\na: 1\nb:\n  - x\n  - 2.5\na: yes\n").unwrap();
        let YamlValue::Map(entries) = &node.value else {
            panic!("{node:?}")
        };
        let seen: Vec<_> = entries
            .iter()
            .map(|e| (e.key.as_str(), e.line, e.node.value.to_string()))
            .collect();
        assert_eq!(
            seen,
            [
                ("a", 2, "1".into()),
                ("b", 3, "a list".into()),
                ("a", 6, "'yes'".to_owned())
            ]
        );
        let YamlValue::List(list) = &entries[1].node.value else {
            panic!()
        };
        assert_eq!(
            list.iter()
                .map(|n| (n.line, n.value.clone()))
                .collect::<Vec<_>>(),
            [(4, YamlValue::Text("x".into())), (5, YamlValue::Float(2.5))]
        );
    }

    #[test]
    fn shows_values_on_one_short_line_without_passwords() {
        let shown = |text: &str| YamlValue::Text(text.to_owned()).to_string();
        assert_eq!(shown("a\nb"), r"'a\nb'");
        assert_eq!(shown(&"x".repeat(200)).chars().count(), 83);
        assert_eq!(
            shown("https://me:hunter2@host/path"),
            "'https://…@host/path'"
        );
    }

    #[test]
    fn an_empty_document_is_null() {
        for text in ["", "\n", "# only a comment\n", "---\n"] {
            assert_eq!(parse(text).unwrap().value, YamlValue::Null, "{text:?}");
        }
    }

    #[test]
    fn names_the_line_of_a_syntax_error_and_refuses_two_documents() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(error.line().is_some_and(|line| line > 1), "{error:?}");
        assert!(!error.to_string().contains('\n'), "{}", error.to_string());
        let error = parse("a: 1\n---\nb: 2\n").unwrap_err();
        assert!(
            error.to_string().contains("document"),
            "{}",
            error.to_string()
        );
    }
}
