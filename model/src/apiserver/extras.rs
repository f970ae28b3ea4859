//! Paths that no real apiserver has, for tests of transparency: `/echo` answers with a description
//! of the request, `/trailers` answers with trailers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use serde_json::json;

use super::super::wire;
use super::answer::{Answer, Body};

/// Answers any method on `/echo…` and `/trailers`.
pub(super) fn answer(
    path: &str,
    head: &Parts,
    body: &Bytes,
    trailers: Option<&HeaderMap>,
) -> Answer {
    if path.starts_with("/trailers") {
        let mut trailers = HeaderMap::new();
        trailers.insert(
            HeaderName::from_static("x-checksum"),
            HeaderValue::from_static("c0ffee"),
        );
        trailers.append(
            HeaderName::from_static("x-part"),
            HeaderValue::from_static("1"),
        );
        trailers.append(
            HeaderName::from_static("x-part"),
            HeaderValue::from_static("2"),
        );
        let mut answer = Response::new(Body::with_trailers(body.clone(), trailers));
        answer.headers_mut().insert(
            http::header::TRAILER,
            HeaderValue::from_static("X-Checksum, X-Part"),
        );
        return answer;
    }
    let request = json!({
        "method": head.method.as_str(),
        "version": format!("{:?}", head.version),
        "authority": head.uri.authority().map(http::uri::Authority::as_str),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": values(&head.headers),
        "lines": lines(&head.headers),
        // UTF-8 bodies appear as text. Every body appears in base64.
        "body": str::from_utf8(body).ok(),
        "bodyBase64": STANDARD.encode(body),
        "trailers": trailers.map(values),
    });
    let mut answer = Response::new(Body::full(wire::to_bytes(&request)));
    let headers = answer.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.append(
        http::header::WARNING,
        HeaderValue::from_static("299 - \"first\""),
    );
    headers.append(
        http::header::WARNING,
        HeaderValue::from_static("299 - \"second\""),
    );
    answer
}

/// Every value of every header. The values of one header keep their order.
fn values(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        all.entry(name.as_str())
            .or_default()
            .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    all
}

/// `name: value` of every header in the order of arrival, but with all values of one name together.
/// Bytes are decoded as Latin-1, which loses nothing.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let latin1 = |value: &HeaderValue| {
        value
            .as_bytes()
            .iter()
            .copied()
            .map(char::from)
            .collect::<String>()
    };
    headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", latin1(value)))
        .collect()
}
