//! The proxy's own token, for the few requests that it makes itself. Requests of clients carry the
//! clients' tokens.

use std::io;
use std::path::{Path, PathBuf};

use http::HeaderValue;

/// Why the proxy has no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token {}", path.display())]
    Read {
        /// The configured path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file holds bytes that no header can carry.
    #[error("the token in {} is not a valid header value", path.display())]
    Header {
        /// The configured path.
        path: PathBuf,
        /// The reason.
        source: http::header::InvalidHeaderValue,
    },
}

/// The value of `Authorization` for the token in `file`. Callers read it for each request, because
/// the kubelet renews the file.
///
/// # Errors
/// The file cannot be read, or does not hold a token.
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
