//! Kubeconfig files: reads where the apiserver is (`read.rs`), and writes how clients reach the
//! proxy (`write.rs`).
//!
//! Reading takes the server and its CA, never credentials, because clients send their own.
//! Rewriting works on a generic tree, so that fields that are unknown here are kept.
//! `cli/serve.rs`, `cli/kubeconfig.rs` and `tls/self_signed.rs` call this module.

mod file;
mod read;
mod write;

use std::io;
use std::path::PathBuf;

pub use file::replace_file;
pub use read::{ApiserverEndpoint, read_endpoint};
pub use write::{ProxyEndpoint, Rewritten, Warning, rewrite, with_token_file};

use crate::config::yaml::{SyntaxError, WriteError};

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
    /// The file is not YAML.
    #[error("the kubeconfig is not valid YAML")]
    Syntax(#[source] SyntaxError),
    /// The result could not be written as YAML.
    #[error("the kubeconfig could not be written as YAML")]
    Write(#[source] WriteError),
    /// The file is YAML and not a kubeconfig.
    #[error("expected a kubeconfig: a mapping with `clusters` and `contexts`")]
    NotAKubeconfig,
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
        "context '{context}' names the cluster '{cluster}', which the kubeconfig does not have"
    )]
    UnknownCluster {
        /// The name of the context.
        context: String,
        /// The name of the missing cluster.
        cluster: String,
    },
    /// A field of the cluster is missing, or the proxy cannot use it.
    #[error("cluster '{cluster}': {field}: expected {expected}")]
    Field {
        /// The name of the cluster.
        cluster: String,
        /// The field, as the file spells it.
        field: &'static str,
        /// The expected value, as a phrase.
        expected: &'static str,
    },
    /// The inline CA is not base64.
    #[error("cluster '{cluster}': certificate-authority-data is not base64")]
    Base64 {
        /// The name of the cluster.
        cluster: String,
        /// The error of the decoder.
        #[source]
        source: base64::DecodeError,
    },
}

fn names(known: &[String]) -> String {
    if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    }
}
