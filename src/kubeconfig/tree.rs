//! Reads and changes trees, and writes them as YAML that means the same to every reader.

use super::scalar::meaning;
use crate::config::yaml::{Entry, Node, YamlValue};

/// A longer key is written with `?`, as kubectl does. YAML allows at most 1024 characters without
/// it.
const MAX_IMPLICIT_KEY: usize = 128;

impl Node {
    /// The value of a field.
    pub(super) fn get(&self, field: &str) -> Option<&Self> {
        match &self.value {
            YamlValue::Map(entries) => entries.iter().find(|entry| entry.key == field),
            _ => None,
        }
        .map(|entry| &entry.node)
    }

    pub(super) fn get_mut(&mut self, field: &str) -> Option<&mut Self> {
        match &mut self.value {
            YamlValue::Map(entries) => entries.iter_mut().find(|entry| entry.key == field),
            _ => None,
        }
        .map(|entry| &mut entry.node)
    }

    /// The text of a field. An empty text counts as absent, as in client-go.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        match &self.get(field)?.value {
            YamlValue::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// True if the field is `true`.
    pub(super) fn flag(&self, field: &str) -> bool {
        self.get(field)
            .is_some_and(|node| node.value == YamlValue::Bool(true))
    }

    /// The entries of a list. Nothing else has any.
    pub(super) fn items(&self, field: &str) -> &[Self] {
        match self.get(field).map(|node| &node.value) {
            Some(YamlValue::List(items)) => items,
            _ => &[],
        }
    }

    pub(super) fn items_mut(&mut self, field: &str) -> &mut [Self] {
        match self.get_mut(field).map(|node| &mut node.value) {
            Some(YamlValue::List(items)) => items,
            _ => &mut [],
        }
    }

    /// Sets a field. Something that is not a mapping becomes one.
    pub(super) fn set(&mut self, field: &str, value: YamlValue) {
        let node = Self { line: 0, value };
        if let Some(old) = self.get_mut(field) {
            *old = node;
            return;
        }
        let entry = Entry {
            key: field.to_owned(),
            line: 0,
            node,
        };
        match &mut self.value {
            YamlValue::Map(entries) => entries.push(entry),
            value => *value = YamlValue::Map(vec![entry]),
        }
    }

    pub(super) fn remove(&mut self, field: &str) {
        if let YamlValue::Map(entries) = &mut self.value {
            entries.retain(|entry| entry.key != field);
        }
    }
}

/// A mapping with these fields.
pub(super) fn map<const N: usize>(fields: [(&str, YamlValue); N]) -> YamlValue {
    let entry = |(key, value): (&str, YamlValue)| Entry {
        key: key.to_owned(),
        line: 0,
        node: Node { line: 0, value },
    };
    YamlValue::Map(fields.into_iter().map(entry).collect())
}

/// A list of these values.
pub(super) fn list<const N: usize>(values: [YamlValue; N]) -> YamlValue {
    YamlValue::List(values.map(|value| Node { line: 0, value }).into())
}

/// A text.
pub(super) fn text(text: impl Into<String>) -> YamlValue {
    YamlValue::Text(text.into())
}

/// Writes a tree as YAML. A text is in quotes unless it means itself by the rules of YAML 1.1 and
/// 1.2, because clients read kubeconfigs by either.
pub(super) fn to_yaml(root: &Node) -> String {
    let mut yaml = String::new();
    write(&mut yaml, &root.value, 0, false);
    if !yaml.ends_with('\n') {
        yaml.push('\n');
    }
    yaml
}

/// Writes a value after a key or a dash. `in_list`: the first line of a mapping follows its dash.
fn write(yaml: &mut String, value: &YamlValue, indent: usize, in_list: bool) {
    match value {
        YamlValue::Map(entries) if entries.is_empty() => yaml.push_str("{}\n"),
        YamlValue::List(items) if items.is_empty() => yaml.push_str("[]\n"),
        YamlValue::Map(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                if index > 0 || !in_list {
                    yaml.extend(std::iter::repeat_n(' ', indent));
                }
                let explicit = entry.key.len() > MAX_IMPLICIT_KEY;
                if explicit {
                    yaml.push_str("? ");
                }
                write_text(yaml, &entry.key);
                if explicit {
                    yaml.push('\n');
                    yaml.extend(std::iter::repeat_n(' ', indent));
                }
                yaml.push(':');
                // kubectl does not indent a list below its key.
                let deeper = match entry.node.value {
                    YamlValue::List(_) => indent,
                    _ => indent + 2,
                };
                write_nested(yaml, &entry.node.value, deeper);
            }
        }
        YamlValue::List(items) => {
            for item in items {
                yaml.extend(std::iter::repeat_n(' ', indent));
                yaml.push('-');
                match &item.value {
                    YamlValue::Map(entries) if !entries.is_empty() => {
                        yaml.push(' ');
                        write(yaml, &item.value, indent + 2, true);
                    }
                    value => write_nested(yaml, value, indent + 2),
                }
            }
        }
        YamlValue::Text(text) => {
            write_text(yaml, text);
            yaml.push('\n');
        }
        YamlValue::Float(number) => yaml.push_str(&format!("{number:?}\n")),
        other => yaml.push_str(&format!("{other}\n")),
    }
}

/// Writes a value on the same line if it has one, or else below.
fn write_nested(yaml: &mut String, value: &YamlValue, indent: usize) {
    let below = match value {
        YamlValue::Map(entries) => !entries.is_empty(),
        YamlValue::List(items) => !items.is_empty(),
        _ => false,
    };
    yaml.push(if below { '\n' } else { ' ' });
    write(yaml, value, indent, false);
}

fn write_text(yaml: &mut String, text: &str) {
    if is_plain(text) {
        yaml.push_str(text);
        return;
    }
    yaml.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => yaml.extend(['\\', char]),
            '\n' => yaml.push_str("\\n"),
            '\r' => yaml.push_str("\\r"),
            '\t' => yaml.push_str("\\t"),
            // Also what only YAML 1.1 takes for the end of a line, and byte order marks.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                yaml.push_str(&format!("\\u{:04x}", u32::from(char)));
            }
            _ if char.is_control() => yaml.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => yaml.push(char),
        }
    }
    yaml.push('"');
}

/// True if no reader takes the text for anything else. False for some that need no quotes.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b" ./_@:+=~-".contains(byte);
    (first.is_ascii_alphabetic() || b"/_.".contains(first))
        && bytes.iter().all(inner)
        && !b" :".contains(last)
        && !text.contains(": ")
        && matches!(meaning(text), YamlValue::Text(_))
        // `=` is a value of its own in YAML 1.1, and some readers know more forms of numbers.
        && !(text.starts_with('.') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeconfig::compose::compose;
    use crate::rows::every;

    #[test]
    fn a_text_is_read_back_as_it_was() {
        every(
            [
                "",
                " ",
                "a",
                "yes",
                "y",
                "~",
                "null",
                "0123",
                "1e3",
                "0x1f",
                "1_000",
                "12:30:45",
                "2001-01-01",
                ".inf",
                "true",
                "a: b",
                "a:",
                "- a",
                "-",
                "#",
                "a #b",
                "é",
                "\u{85}",
                "\u{2028}",
                "\u{7f}",
                "\t",
                "a\nb",
                "\\",
                "\"",
                "'",
                "%a",
                "@a",
                "`a",
                "[a",
                "{a",
                "*a",
                "&a",
                "!a",
                "|",
                ">",
                "=",
                "<<",
                "...",
                "---",
                "a\u{feff}",
                "\u{feff}",
                "https://[::1]:6443",
                "sha256~abc",
                "kubeadmin/api-crc-testing:6443",
                "😀",
                &"a long text ".repeat(100),
            ],
            |written| {
                let tree = Node {
                    line: 0,
                    value: map([(written, list([text(written), map([("k", text(written))])]))]),
                };
                let yaml = to_yaml(&tree);
                let Ok(read) = compose(&yaml) else {
                    panic!("{yaml}");
                };
                let field = read.root.items(written);
                assert_eq!(field[0].value, text(written), "{yaml}");
                assert_eq!(field[1].text("k").unwrap_or_default(), written, "{yaml}");
            },
        );
    }

    #[test]
    fn other_values_keep_their_types() {
        let yaml =
            "a: 1\nb: -2.5\nc: true\nd: null\ne: {}\nf: []\ng:\n- - 1\n  - - x\nh: 1.0e+30\n";
        let Ok(tree) = compose(yaml) else {
            panic!("{yaml}");
        };
        let Ok(again) = compose(&to_yaml(&tree.root)) else {
            panic!("{}", to_yaml(&tree.root));
        };
        assert_eq!(to_yaml(&again.root), to_yaml(&tree.root));
        assert_eq!(
            to_yaml(&tree.root),
            "a: 1\nb: -2.5\nc: true\nd: null\ne: {}\nf: []\ng:\n-\n  - 1\n  -\n    - x\nh: 1e30\n"
        );
    }
}
