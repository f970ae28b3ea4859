//! Kubeconfig files: reads where the apiserver is (`read.rs`), and writes how clients reach the
//! proxy (`write.rs`).
//!
//! Files are read by kubectl's rules, and lists of files too (`load.rs`). Reading takes the server
//! and its CA, never credentials, because clients send their own. Rewriting works on a generic
//! tree, so that fields that are unknown here are kept. `cli/serve.rs`, `cli/kubeconfig.rs` and
//! `tls/self_signed.rs` call this module.

mod compose;
mod file;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod load;
mod mistake;
mod read;
mod scalar;
mod shape;
mod text;
mod token;
mod tree;
mod warning;
mod write;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use file::replace_file;
pub use load::Kubeconfig;
pub use mistake::{Base64Problem, Oddity, OddityKind, ParseError, Problem};
pub use read::{ApiserverEndpoint, read_endpoint};
pub use token::{TokenError, surrounded_by_space};
pub use warning::Warning;
pub use write::{NewKubeconfig, ProxyEndpoint, Rewritten, new_kubeconfig, rewrite};

/// Why a kubeconfig could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file, or a file that it names, could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// None of the files of a list exists.
    #[error("{}", no_file(paths))]
    NoFile {
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// The file is not a kubeconfig.
    #[error("{place}")]
    Parse {
        /// The file and the line.
        place: Place,
        /// The mistake.
        #[source]
        source: ParseError,
    },
    /// Neither `--context` nor `current-context` names a context.
    #[error(
        "the kubeconfig has no current-context; name one with --context (it has {})",
        names(known)
    )]
    NoContext {
        /// The contexts that the file has.
        known: Vec<String>,
    },
    /// The file does not have the context.
    #[error("the kubeconfig has no context '{name}' (it has {})", names(known))]
    UnknownContext {
        /// The name of the missing context.
        name: String,
        /// The contexts that the file has.
        known: Vec<String>,
    },
    /// The file does not have the cluster of the context.
    #[error(
        "{place}: context '{context}' names the cluster '{cluster}', which the kubeconfig does not have"
    )]
    UnknownCluster {
        /// The file and the line of the context.
        place: Place,
        /// The name of the context.
        context: String,
        /// The name of the missing cluster.
        cluster: String,
    },
    /// A field of the cluster is missing, or the proxy cannot use it.
    #[error("{place}: cluster '{cluster}': {field}: expected {expected}")]
    Field {
        /// The file and the line.
        place: Place,
        /// The name of the cluster.
        cluster: String,
        /// The field, as the file spells it.
        field: &'static str,
        /// The expected value, as a phrase.
        expected: &'static str,
    },
    /// The token of a user cannot be put into the kubeconfig.
    #[error("the token of user '{user}' cannot be embedded")]
    Token {
        /// The user's name.
        user: String,
        /// The reason.
        #[source]
        source: TokenError,
    },
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Counted from 1. 0: the file as a whole.
    pub line: u64,
}

impl Place {
    pub(crate) fn new(path: &Path, line: u64) -> Self {
        Self {
            path: path.to_owned(),
            line,
        }
    }
}

impl fmt::Display for Place {
    /// `FILE:LINE`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.line {
            0 => Ok(()),
            line => write!(f, ":{line}"),
        }
    }
}

fn no_file(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "the list names no file".to_owned();
    }
    let names = names(paths.iter().map(|path| path.display()));
    format!("no file of the list exists ({names})")
}

fn names<T: fmt::Display>(known: impl IntoIterator<Item = T>) -> String {
    let names: Vec<_> = known.into_iter().map(|name| name.to_string()).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests;
