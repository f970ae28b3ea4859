//! The configuration file: `apiVersion: kube-retry-proxy/v1alpha1`, `kind: ProxyConfiguration`,
//! strict.
//!
//! An empty file means all defaults. Every mistake is reported at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Config;
use super::declare::Settings;
use super::decode::{Decoder, Section};
use super::kind::exactly;
use super::mistake::{Mistake, Mistakes, Problem};
use super::rules::{self, Broken};
use super::yaml::{self, Value};

pub(super) const API_VERSION: &str = "kube-retry-proxy/v1alpha1";
pub(super) const KIND: &str = "ProxyConfiguration";

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It holds mistakes.
    #[error("{} has mistakes", path.display())]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them.
        #[source]
        source: Mistakes,
    },
}

/// Reads a file.
pub fn load(path: &Path) -> Result<Config, FileError> {
    let text = fs::read_to_string(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|source| FileError::Mistakes {
        path: path.to_owned(),
        source,
    })
}

/// Reads the text of a file; all mistakes are reported at once.
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
        Ok(node) if node.value == Value::Null => {}
        Ok(node) => {
            decoder.section(String::new(), node, |section| {
                document(section, &mut config)
            });
            let mistaken = |decoder: &Decoder, path: &str| {
                decoder.mistakes.iter().any(|mistake| mistake.path == path)
            };
            for Broken { mut mistake, other } in rules::broken(&config) {
                // A field that was read wrongly still has its default, which may break a rule that
                // nobody broke.
                if !mistaken(&decoder, &mistake.path) && !mistaken(&decoder, other) {
                    mistake.line = decoder
                        .line_of(&mistake.path)
                        .or_else(|| decoder.line_of(other));
                    decoder.mistakes.push(mistake);
                }
            }
        }
        Err(error) => {
            let problem = Problem::Syntax(error.to_string());
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

fn document(section: &mut Section<'_>, config: &mut Config) {
    section.field("apiVersion", &mut (), true, &exactly(API_VERSION));
    section.field("kind", &mut (), true, &exactly(KIND));
    config.read(section);
}

#[cfg(test)]
mod tests;
