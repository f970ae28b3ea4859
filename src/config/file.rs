//! Reads the configuration file, which is a `ProxyConfiguration` of `kube-retry-proxy/v1alpha1`.
//! Unknown fields are mistakes.
//!
//! An empty file means all defaults. All mistakes are reported at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Config;
use super::declare::Settings;
use super::decode::{Decoder, Section};
use super::kind::exactly;
use super::mistake::{Mistake, Mistakes, Problem};
use super::rules::{self, BrokenRule};
use super::yaml::{self, YamlValue};

pub(super) const API_VERSION: &str = "kube-retry-proxy/v1alpha1";
pub(super) const KIND: &str = "ProxyConfiguration";

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The file has mistakes.
    #[error("{} has mistakes", path.display())]
    Mistakes {
        /// The path of the file.
        path: PathBuf,
        /// Every mistake.
        #[source]
        source: Mistakes,
    },
}

/// Reads the file at `path`.
pub fn load(path: &Path) -> Result<Config, FileError> {
    let bytes = fs::read(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    text(&bytes)
        .and_then(parse)
        .map_err(|source| FileError::Mistakes {
            path: path.to_owned(),
            source,
        })
}

/// The text of a file, which must be UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, Mistakes> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.iter().take(error.valid_up_to());
        let lines = before.filter(|byte| **byte == b'\n').count();
        Mistakes(vec![Mistake {
            line: Some(lines as u64 + 1),
            path: String::new(),
            problem: Problem::Syntax("expected text in UTF-8".to_owned()),
        }])
    })
}

/// What is valid in the text of a file and has no effect, each with its line.
#[must_use]
pub fn warnings(text: &str) -> Vec<Mistake> {
    let (config, decoder) = walk(text);
    let mut warnings = super::doubts(&config);
    for warning in &mut warnings {
        warning.line = decoder.line_of(&format!("{}.resource", warning.path));
    }
    warnings
}

/// Reads the text of a file. The error has every mistake.
pub fn parse(text: &str) -> Result<Config, Mistakes> {
    let (config, decoder) = walk(text);
    if decoder.mistakes.is_empty() {
        Ok(config)
    } else {
        Err(Mistakes(decoder.mistakes))
    }
}

fn walk(text: &str) -> (Config, Decoder) {
    let mut config = Config::default();
    let mut decoder = Decoder::default();
    match yaml::parse(text) {
        Ok(node) if node.value == YamlValue::Null => {}
        Ok(node) => {
            decoder.section(String::new(), node, |section| {
                document(section, &mut config)
            });
            // A list with a wrong item has fewer items than the file.
            let unread = decoder.mistakes.len();
            let mistaken = |decoder: &Decoder, path: &str| {
                let field = path.split('[').next().unwrap_or(path);
                let mut mistakes = decoder.mistakes[..unread].iter();
                mistakes.any(|mistake| mistake.path.split('[').next() == Some(field))
            };
            for BrokenRule { mut mistake, other } in rules::broken(&config) {
                // A field with a wrong value still has its default. The rule may be broken only
                // because of that default.
                if !mistaken(&decoder, &mistake.path) && !mistaken(&decoder, other) {
                    mistake.line = decoder
                        .line_of(&mistake.path)
                        .or_else(|| decoder.line_of(&format!("{}.resource", mistake.path)))
                        .or_else(|| decoder.line_of(other));
                    decoder.mistakes.push(mistake);
                }
            }
        }
        Err(error) => {
            let mut what = error.to_string();
            if text.lines().any(has_bare_asterisk) {
                what += "; YAML needs quotes around an asterisk: '*'";
            }
            let problem = Problem::Syntax(what);
            decoder.mistakes.push(Mistake {
                line: error.line(),
                path: String::new(),
                problem,
            });
        }
    }
    decoder.mistakes.sort_by_key(|mistake| mistake.line);
    (config, decoder)
}

/// Whether the line has a value that is only `*`, which YAML takes for the beginning of an alias.
fn has_bare_asterisk(line: &str) -> bool {
    line.split_once(": *")
        .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with([',', '}', ' ']))
}

fn document(section: &mut Section<'_>, config: &mut Config) {
    section.field("apiVersion", &mut (), true, &exactly(API_VERSION));
    section.field("kind", &mut (), true, &exactly(KIND));
    config.read(section);
}

#[cfg(test)]
mod tests;
