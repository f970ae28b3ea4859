//! Kubeconfig files: where the apiserver is (`read.rs`), and how clients reach the proxy instead
//! (`write.rs`).
//!
//! Reading takes the server and what verifies it, never the credentials: the proxy has none of its
//! own. Rewriting works on a generic tree, so that fields unknown here survive. `cli/serve.rs`,
//! `cli/kubeconfig.rs` and `tls/self_signed.rs` call this.

mod file;
mod read;
mod write;

use std::io;
use std::path::PathBuf;

pub use file::replace_file;
pub use read::{Endpoint, read_endpoint};
pub use write::{Rewritten, Target, Warning, rewrite, with_token_file};

use crate::config::yaml::{SyntaxError, WriteError};

/// Why a kubeconfig could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file, or one that it names, could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not YAML.
    #[error("the kubeconfig is not valid YAML")]
    Syntax(#[source] SyntaxError),
    /// The tree could not be written.
    #[error("the kubeconfig could not be written as YAML")]
    Write(#[source] WriteError),
    /// Not a kubeconfig at all.
    #[error("expected a kubeconfig: a mapping with `clusters` and `contexts`")]
    NotAKubeconfig,
    /// Neither `--context` nor `current-context` says which cluster is meant.
    #[error(
        "the kubeconfig has no current-context; name one with --context (it has {})",
        names(known)
    )]
    NoContext {
        /// The contexts that the file has.
        known: Vec<String>,
    },
    /// A context that the file does not have.
    #[error("the kubeconfig has no context '{name}' (it has {})", names(known))]
    UnknownContext {
        /// The missing context.
        name: String,
        /// The contexts that the file has.
        known: Vec<String>,
    },
    /// The context names a cluster that the file does not have.
    #[error(
        "context '{context}' names the cluster '{cluster}', which the kubeconfig does not have"
    )]
    UnknownCluster {
        /// The context.
        context: String,
        /// The missing cluster.
        cluster: String,
    },
    /// A field of the cluster is missing or nothing the proxy can use.
    #[error("cluster '{cluster}': {field}: expected {expected}")]
    Field {
        /// The cluster.
        cluster: String,
        /// The field, in the file's spelling.
        field: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// The inline CA is not base64.
    #[error("cluster '{cluster}': certificate-authority-data is not base64")]
    Base64 {
        /// The cluster.
        cluster: String,
        /// What the decoder said.
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
