//! Token files: what is in them, and when a token expires.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Why a file has no usable token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The file has no token, or more than one word. The error does not show it.
    #[error("{}: expected one token", path.display())]
    NotAToken {
        /// The file.
        path: PathBuf,
    },
}

/// The token in a file, without the white space around it.
pub(super) fn read(path: &Path) -> Result<String, TokenError> {
    let text = fs::read_to_string(path).map_err(|source| TokenError::Read {
        path: path.to_owned(),
        source,
    })?;
    let token = text.trim();
    // A header can carry nothing else.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::NotAToken {
            path: path.to_owned(),
        });
    }
    Ok(token.to_owned())
}

/// True if the file can be read and has white space around the token, such as a line feed at its
/// end. client-go removes it. The official Python and Java clients and kube-rs send it, or fail.
pub fn surrounded_by_space(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim().len() != text.len())
}

/// When a token expires, in seconds since 1970. None: it does not say so. Nothing verifies the
/// token here.
pub(super) fn expiry(token: &str) -> Option<i64> {
    let mut parts = token.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let seconds = &claims["exp"];
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a time after all times is a time far away"
    )]
    seconds
        .as_i64()
        .or_else(|| seconds.as_f64().map(|seconds| seconds as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn a_token_says_when_it_expires_if_it_is_a_jwt() {
        let jwt = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        every(
            [
                (jwt(r#"{"exp":1700000000}"#), Some(1_700_000_000)),
                (jwt(r#"{"exp":1700000000.5}"#), Some(1_700_000_000)),
                (jwt(r#"{"sub":"a"}"#), None),
                (jwt(r#"{"exp":"soon"}"#), None),
                (jwt("[]"), None),
                ("sha256~abc".into(), None),
                ("a.b.c".into(), None),
                (jwt("{}") + ".d", None),
                (String::new(), None),
            ],
            |(token, expected)| assert_eq!(expiry(&token), expected, "{token}"),
        );
    }

    #[test]
    fn a_file_has_one_token_and_perhaps_space_around_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        every(
            [
                ("abc", Some("abc"), false),
                ("abc\n", Some("abc"), true),
                (" \tabc\r\n\n", Some("abc"), true),
                ("a b", None, false),
                ("a\nb", None, false),
                ("ä", None, false),
                ("a\0", None, false),
                ("\n", None, true),
                ("", None, false),
            ],
            |(text, expected, spaced)| {
                fs::write(&path, text).unwrap();
                assert_eq!(read(&path).ok().as_deref(), expected, "{text:?}");
                assert_eq!(surrounded_by_space(&path), spaced, "{text:?}");
            },
        );
        fs::remove_file(&path).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("cannot read"));
        assert!(!surrounded_by_space(&path));
    }
}
