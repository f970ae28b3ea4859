//! A token of the proxy's own, for the few requests that are its own. Those of clients carry their
//! clients' tokens.

use std::io;
use std::path::{Path, PathBuf};

use http::HeaderValue;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Its file.
    #[error("cannot read the token {}", path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What the file holds.
    #[error("the token in {} cannot stand in a header", path.display())]
    Header {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: http::header::InvalidHeaderValue,
    },
}

/// The value of `Authorization` for the token in `file`. To be read for each request: the kubelet
/// renews it.
///
/// # Errors
/// The file cannot be read, or holds no token.
pub async fn bearer(file: &Path) -> Result<HeaderValue, TokenError> {
    let token = tokio::fs::read_to_string(file)
        .await
        .map_err(|source| TokenError::Read {
            path: file.to_owned(),
            source,
        })?;
    let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
    let mut value = value.map_err(|source| TokenError::Header {
        path: file.to_owned(),
        source,
    })?;
    value.set_sensitive(true);
    Ok(value)
}
