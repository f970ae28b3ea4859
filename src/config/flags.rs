//! Settings from the flags of `serve` and their environment variables. Their text is read like the
//! file, so both accept the same values.

use super::declare::{Declared, Settings, Shape};
use super::decode::Decoder;
use super::mistake::{Mistakes, Problem};
use super::yaml::{Entry, Node, YamlValue};
use super::{Config, declared};

/// The settings that have a flag, each with its path in the file.
pub(crate) fn flags() -> Vec<(String, Declared)> {
    let mut found = Vec::new();
    collect("", declared(), &mut found);
    found
}

fn collect(prefix: &str, fields: Vec<Declared>, found: &mut Vec<(String, Declared)>) {
    for field in fields {
        let path = format!("{prefix}{}", field.name);
        match field.shape {
            Shape::Section { fields, .. } => collect(&format!("{path}."), fields, found),
            _ if field.flag.is_some() => found.push((path, field)),
            _ => {}
        }
    }
}

/// The text of one setting, as a value of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GivenSetting {
    /// The path in the file.
    pub(crate) path: String,
    value: YamlValue,
}

impl GivenSetting {
    /// Converts texts to the value that the file would have at `path`. Several texts make a list.
    pub(crate) fn new(path: &str, shape: &Shape, texts: impl IntoIterator<Item = String>) -> Self {
        let mut values = texts.into_iter().map(|text| value_of(shape, text));
        let value = if is_list(shape) {
            let items = values.map(|value| Node { line: 0, value });
            YamlValue::List(items.collect())
        } else {
            values.next().unwrap_or(YamlValue::Null)
        };
        let path = path.to_owned();
        Self { path, value }
    }

    /// Checks whether the file could have this value.
    ///
    /// # Errors
    /// The expected value, as a phrase.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mistakes = overlay(&mut Config::default(), std::slice::from_ref(self));
        mistakes.map_err(|Mistakes(mistakes)| {
            match mistakes.into_iter().next().map(|mistake| mistake.problem) {
                Some(Problem::Value { expected, .. }) => format!("expected {expected}"),
                other => other.map(|problem| problem.to_string()).unwrap_or_default(),
            }
        })
    }
}

/// Whether the value is a list.
pub(crate) fn is_list(shape: &Shape) -> bool {
    match shape {
        Shape::Optional(inner) => is_list(inner),
        Shape::List(_) | Shape::ListOrEmpty(_) => true,
        _ => false,
    }
}

/// The words that are valid, each with its meaning. None if the value is not a word.
pub(crate) fn words(shape: &Shape) -> Option<&[(&'static str, &'static str)]> {
    match shape {
        Shape::Optional(inner) => words(inner),
        Shape::Words(words) => Some(words),
        _ => None,
    }
}

fn value_of(shape: &Shape, text: String) -> YamlValue {
    match shape {
        Shape::Optional(inner) | Shape::List(inner) | Shape::ListOrEmpty(inner) => {
            value_of(inner, text)
        }
        Shape::Whole { .. } => text
            .parse()
            .map_or(YamlValue::Text(text), YamlValue::Integer),
        Shape::Number { .. } => text.parse().map_or(YamlValue::Text(text), YamlValue::Float),
        Shape::Bool => text.parse().map_or(YamlValue::Text(text), YamlValue::Bool),
        // Flags ignore the case of words; the file does not.
        Shape::Words(words) => {
            let word = words
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(&text));
            YamlValue::Text(word.map_or(text, |(word, _)| (*word).to_owned()))
        }
        _ => YamlValue::Text(text),
    }
}

/// Overwrites the settings of `config` that `given` has.
///
/// # Errors
/// Every wrong value, without a line.
pub(crate) fn overlay(config: &mut Config, given: &[GivenSetting]) -> Result<(), Mistakes> {
    let mut tree = Vec::new();
    for GivenSetting { path, value } in given {
        insert(&mut tree, path, value.clone());
    }
    let mut decoder = Decoder::default();
    decoder.section(String::new(), map(tree), |section| config.read(section));
    if decoder.mistakes.is_empty() {
        Ok(())
    } else {
        Err(Mistakes(decoder.mistakes))
    }
}

fn insert(tree: &mut Vec<Entry>, path: &str, value: YamlValue) {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    let at = tree.iter().position(|entry| entry.key == key);
    let at = at.unwrap_or_else(|| {
        tree.push(Entry {
            key: key.to_owned(),
            line: 0,
            node: map(Vec::new()),
        });
        tree.len() - 1
    });
    match &mut tree[at].node.value {
        YamlValue::Map(inner) if !rest.is_empty() => insert(inner, rest, value),
        place => *place = value,
    }
}

fn map(entries: Vec<Entry>) -> Node {
    Node {
        line: 0,
        value: YamlValue::Map(entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_in_the_file() {
        let flags = flags();
        let given = |path: &str, texts: &[&str]| {
            let (path, declared) = flags.iter().find(|(each, _)| each == path).unwrap();
            let texts = texts.iter().map(|text| (*text).to_owned());
            GivenSetting::new(path, &declared.shape, texts)
        };
        let right = [
            given("mode", &["off"]),
            given("serving.securePort", &["0"]),
            given("serving.selfSigned.hosts", &["a", "::1"]),
            given("admin.bindAddress", &["[::]:8080"]),
        ];
        let mut config = Config::default();
        overlay(&mut config, &right).unwrap();
        assert_eq!(config.mode, crate::config::Mode::Off);
        assert_eq!(config.serving.secure_port, 0);
        assert_eq!(config.serving.self_signed.hosts, ["a", "::1"]);
        assert_eq!(config.admin.bind_address.port(), 8080);
        assert_eq!(
            given("serving.securePort", &["70000"]).check(),
            Err("expected a whole number from 0 to 65535".into())
        );
        assert_eq!(
            given("serving.selfSigned.hosts", &["a", "b:80"]).check(),
            Err(
                "expected each item to be a host name or an IP address without a port, not 'b:80'"
                    .into()
            )
        );
    }
}
