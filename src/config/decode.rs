//! Reads a YAML tree into settings, and collects every mistake.
//!
//! A [`Section`] is one mapping. It remembers the fields that were read, so that all others are
//! reported as unknown. A wrong or absent value leaves the default in place, so that reading always
//! continues. `null` counts as absent, as everywhere in Kubernetes.

use strsim::levenshtein;

use super::kind::Kind;
use super::mistake::{Mistake, Problem};
use super::yaml::{Entry, Node, YamlValue};

/// The mistakes and the fields found so far.
#[derive(Default)]
pub(crate) struct Decoder {
    pub(super) mistakes: Vec<Mistake>,
    /// The path of every known field, and its line if the file has it.
    pub(super) asked: Vec<(String, Option<u64>)>,
}

/// One mapping of the file.
pub(crate) struct Section<'d> {
    decoder: &'d mut Decoder,
    path: String,
    line: u64,
    entries: Vec<Entry>,
    known: Vec<String>,
}

impl Decoder {
    /// Reads a mapping with `walk`, and then reports the fields that `walk` did not read as
    /// unknown.
    pub(super) fn section<T>(
        &mut self,
        path: String,
        node: Node,
        walk: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        let Node {
            line,
            value: YamlValue::Map(entries),
        } = node
        else {
            self.wrong(node.line, path, node.value.to_string(), "a mapping".into());
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

    /// The line of a field, if the file has it.
    pub(super) fn line_of(&self, path: &str) -> Option<u64> {
        self.asked
            .iter()
            .find(|(asked, _)| asked == path)
            .and_then(|(_, line)| *line)
    }

    /// Reports a value that is not what was expected.
    pub(super) fn wrong(&mut self, line: u64, path: String, found: String, expected: String) {
        self.report(line, path, Problem::Value { found, expected });
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
    /// Reads a field into `place`. Reports mistakes, and returns false if a required field is
    /// missing or wrong.
    pub(crate) fn field<T>(
        &mut self,
        name: &str,
        place: &mut T,
        required: bool,
        kind: &impl Kind<T>,
    ) -> bool {
        let path = self.join(name);
        match self.take(name) {
            Some(node) => kind.read(self.decoder, path, node, place) || !required,
            None if required => {
                let expected = kind.expected();
                self.decoder
                    .report(self.line, path, Problem::Missing { expected });
                false
            }
            None => true,
        }
    }

    /// Keeps the first of duplicate keys, and reports the others.
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

    fn take(&mut self, name: &str) -> Option<Node> {
        self.known.push(name.to_owned());
        let at = self.entries.iter().position(|entry| entry.key == name);
        let entry = at.map(|at| self.entries.swap_remove(at));
        self.decoder
            .asked
            .push((self.join(name), entry.as_ref().map(|entry| entry.line)));
        entry
            .map(|entry| entry.node)
            .filter(|node| node.value != YamlValue::Null)
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

/// The known name that differs from `name` only by a typo, if there is one.
fn closest(name: &str, known: &[String]) -> Option<String> {
    let plain = |text: &str| {
        text.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect::<String>()
    };
    let name = plain(name);
    let candidates = known
        .iter()
        .map(|known| (levenshtein(&name, &plain(known)), known));
    candidates
        .filter(|(distance, known)| *distance <= 2 && distance * 2 < known.len())
        .min()
        .map(|(_, known)| known.clone())
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn suggests_a_name_that_is_a_typo_away() {
        let known = ["baseDelay", "maxDelay", "maxHold", "qps"].map(str::to_owned);
        assert_eq!(closest("base-delay", &known).as_deref(), Some("baseDelay"));
        assert_eq!(closest("maxdelay", &known).as_deref(), Some("maxDelay"));
        assert_eq!(closest("maxHols", &known).as_deref(), Some("maxHold"));
        assert_eq!(closest("timeout", &known), None);
        assert_eq!(closest("burst", &known), None);
    }
}
