//! Answers captured from real apiservers.

use std::path::{Path, PathBuf};

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, DATE};
use model_control_plane::client::Answer;
use model_control_plane::{Canned, Fault};

/// The root directory of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A fault that answers with the quota conflict of a real apiserver.
pub fn conflict() -> Fault {
    Fault::Answer(captured("quota_conflict_409"))
}

/// The directory of the captured requests and answers.
pub fn samples() -> PathBuf {
    root().join("tests/samples")
}

/// A captured answer with a fixed `Date`, so that no server adds a date of its own.
pub fn captured(name: &str) -> Canned {
    let raw = std::fs::read(samples().join(format!("{name}.http"))).unwrap();
    Canned::captured(&raw).unwrap().with(
        DATE,
        HeaderValue::from_static("Mon, 23 Nov 2026 04:45:11 GMT"),
    )
}

/// Checks that `answer` equals `canned` byte for byte: the status, the headers in their order, and
/// the body. Only the length is allowed in addition.
pub fn assert_relayed(answer: &Answer, canned: &Canned, what: &str) {
    let mut headers = canned.headers.clone();
    headers.append(CONTENT_LENGTH, canned.body.len().into());
    assert_eq!(answer.status, canned.status, "{what}: {answer:?}");
    assert!(
        answer.headers.iter().eq(headers.iter()),
        "{what}: {:?} instead of {headers:?}",
        answer.headers
    );
    assert_eq!(answer.body, canned.body, "{what}");
    assert_eq!(answer.trailers, None, "{what}");
}
