//! Walks a YAML tree into usable values and collects every mistake on the way.
//!
//! A [`Section`] is one mapping. Each field that is asked for is remembered; what was not asked for
//! is unknown. A value that is wrong or absent leaves the default in place, so that the walk always
//! goes on. `null` counts as absent, as everywhere in Kubernetes.

use strsim::levenshtein;

use super::mistake::{Mistake, Problem};
use super::units::Parsed;
use super::yaml::{Entry, Node, Value};

/// What the walk has found so far.
#[derive(Default)]
pub(super) struct Decoder {
    pub(super) mistakes: Vec<Mistake>,
    /// Every field asked for, and the line where it stands.
    pub(super) asked: Vec<(String, Option<u64>)>,
}

/// One mapping of the file.
pub(super) struct Section<'d> {
    decoder: &'d mut Decoder,
    path: String,
    line: u64,
    entries: Vec<Entry>,
    known: Vec<&'static str>,
}

impl Decoder {
    /// Walks a mapping; what `walk` did not ask for is reported as unknown.
    pub(super) fn section<T>(
        &mut self,
        path: String,
        node: Node,
        walk: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        let Node {
            line,
            value: Value::Map(entries),
        } = node
        else {
            self.report(
                node.line,
                path,
                Problem::Value {
                    found: node.value.to_string(),
                    expected: "a mapping".into(),
                },
            );
            return None;
        };
        let mut section = Section {
            decoder: self,
            path,
            line,
            entries: Vec::new(),
            known: Vec::new(),
        };
        section.keep(entries);
        let walked = walk(&mut section);
        section.report_unknown();
        Some(walked)
    }

    /// The line of a field that is there.
    pub(super) fn line_of(&self, path: &str) -> Option<u64> {
        self.asked
            .iter()
            .find(|(asked, _)| asked == path)
            .and_then(|(_, line)| *line)
    }

    fn report(&mut self, line: u64, path: String, problem: Problem) {
        self.mistakes.push(Mistake {
            line: Some(line).filter(|&line| line > 0),
            path,
            problem,
        });
    }
}

impl Section<'_> {
    /// Reads a field into its place.
    pub(super) fn field<T>(
        &mut self,
        name: &'static str,
        place: &mut T,
        parse: impl FnOnce(&Value) -> Parsed<T>,
    ) {
        if let Some(node) = self.take(name)
            && let Some(value) = self.parsed(name, &node, parse)
        {
            *place = value;
        }
    }

    /// Reads a field that must be there. None when it is not, or is wrong; either has been
    /// reported.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Value) -> Parsed<T>,
    ) -> Option<T> {
        match self.take(name) {
            Some(node) => self.parsed(name, &node, parse),
            None => {
                let expected = parse(&Value::Null).err().unwrap_or_default();
                self.decoder
                    .report(self.line, self.join(name), Problem::Missing { expected });
                None
            }
        }
    }

    /// Walks a mapping inside this one. None when it is absent or no mapping.
    pub(super) fn section<T>(
        &mut self,
        name: &'static str,
        walk: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        let node = self.take(name)?;
        self.decoder.section(self.join(name), node, walk)
    }

    /// Reads a list of mappings with at least one item, each by `walk`.
    pub(super) fn sections<T>(
        &mut self,
        name: &'static str,
        place: &mut Vec<T>,
        walk: impl Fn(&mut Section<'_>) -> Option<T>,
    ) {
        let Some(node) = self.take(name) else { return };
        let path = self.join(name);
        match node.value {
            Value::List(items) if !items.is_empty() => {
                let items = items.into_iter().enumerate();
                let read = items.filter_map(|(index, item)| {
                    self.decoder
                        .section(format!("{path}[{index}]"), item, &walk)?
                });
                *place = read.collect();
            }
            value => {
                let found = if matches!(value, Value::List(_)) {
                    "an empty list".to_owned()
                } else {
                    value.to_string()
                };
                let expected = "a list with at least one item".to_owned();
                self.decoder
                    .report(node.line, path, Problem::Value { found, expected });
            }
        }
    }

    /// Drops duplicate keys, the first one kept, and reports them.
    fn keep(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            match self.entries.iter().find(|kept| kept.key == entry.key) {
                Some(kept) => {
                    let problem = Problem::Duplicate { first: kept.line };
                    self.decoder
                        .report(entry.line, self.join(&entry.key), problem);
                }
                None => self.entries.push(entry),
            }
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Node> {
        self.known.push(name);
        let at = self.entries.iter().position(|entry| entry.key == name);
        let entry = at.map(|at| self.entries.swap_remove(at));
        self.decoder
            .asked
            .push((self.join(name), entry.as_ref().map(|entry| entry.line)));
        entry
            .map(|entry| entry.node)
            .filter(|node| node.value != Value::Null)
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        node: &Node,
        parse: impl FnOnce(&Value) -> Parsed<T>,
    ) -> Option<T> {
        parse(&node.value)
            .map_err(|expected| {
                let problem = Problem::Value {
                    found: node.value.to_string(),
                    expected,
                };
                self.decoder.report(node.line, self.join(name), problem);
            })
            .ok()
    }

    fn report_unknown(self) {
        for entry in &self.entries {
            let suggestion = closest(&entry.key, &self.known);
            self.decoder.report(
                entry.line,
                self.join(&entry.key),
                Problem::Unknown { suggestion },
            );
        }
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

/// The known name that is a typo away from `name`, if there is one.
fn closest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let plain = |text: &str| {
        text.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect::<String>()
    };
    let name = plain(name);
    let candidates = known
        .iter()
        .map(|&known| (levenshtein(&name, &plain(known)), known));
    candidates
        .filter(|(distance, known)| *distance <= 2 && distance * 2 < known.len())
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn suggests_a_name_that_is_a_typo_away() {
        let known = ["baseDelay", "maxDelay", "maxHold", "qps"];
        assert_eq!(closest("base-delay", &known), Some("baseDelay"));
        assert_eq!(closest("maxdelay", &known), Some("maxDelay"));
        assert_eq!(closest("maxHols", &known), Some("maxHold"));
        assert_eq!(closest("timeout", &known), None);
        assert_eq!(closest("burst", &known), None);
    }
}
