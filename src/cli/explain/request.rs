//! The request in a capture, where it shows one: `curl -v`, `kubectl -v=8`, an exception of fabric8.
//! The proxy replays few requests, so the answer alone is half of the verdict.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Uri};

use super::folded;
use crate::config::{CreatesConfig, never_waits};
use crate::route::{MatchedResources, RequestInfo, Route, timeout};

/// How much of a text is searched for the request.
const MAX_TEXT: usize = 4 << 20;

/// A request that a capture shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path and query.
    pub uri: Uri,
    /// It is a server-side apply.
    pub apply: bool,
}

impl Request {
    /// Finds the request that got this code, or else the last one.
    pub(super) fn within(raw: &[u8], code: StatusCode) -> Option<Request> {
        let text = String::from_utf8_lossy(&raw[..raw.len().min(MAX_TEXT)]);
        let text = folded::plain(&text);
        let (mut last, mut answered) = (None, None);
        for line in text.lines() {
            if let Some(request) = of_line(line) {
                last = Some(request);
            }
            let Some(last) = &mut last else { continue };
            last.apply |= line.contains("application/apply-patch");
            if answers(line, code.as_str()) {
                answered = Some(last.clone());
            }
        }
        answered.or(last)
    }

    /// Why the proxy would not replay this request, whatever the answer. None: it may.
    pub(super) fn why_not(&self, creates: &CreatesConfig) -> Option<String> {
        let mut headers = HeaderMap::new();
        if self.apply {
            let apply = HeaderValue::from_static("application/apply-patch+yaml");
            headers.insert(CONTENT_TYPE, apply);
        }
        let matched = MatchedResources::from(creates);
        if let Route::Create(_) = Route::of(&self.method, &self.uri, &headers, &matched) {
            return None;
        }
        let query = self.uri.query().unwrap_or_default();
        let info = RequestInfo::new(&self.method, self.uri.path(), query);
        let resource = match info.api_group {
            "" => info.resource.to_owned(),
            group => format!("{}.{group}", info.resource),
        };
        let is_dry = query.split('&').any(|pair| pair.starts_with("dryRun"));
        Some(match info.verb {
            "patch" if self.apply && !creates.server_side_apply => {
                "a server-side apply is replayed if creates.serverSideApply is true".to_owned()
            }
            "patch" if !self.apply => {
                "a patch that is no server-side apply is not replayed".to_owned()
            }
            "create" | "patch" if !info.subresource.is_empty() => {
                format!(
                    "a request to {resource}/{} is not replayed",
                    info.subresource
                )
            }
            "create" | "patch" if info.namespace.is_empty() => {
                "no quota counts an object without a namespace, so its create is not replayed"
                    .to_owned()
            }
            "create" | "patch" if is_dry => {
                "a dry run does not change the quota, so it is not replayed".to_owned()
            }
            "create" | "patch" if never_waits(info.api_group, info.resource) => {
                format!("a create of {resource} never waits, so it is not replayed")
            }
            "create" | "patch" if info.is_resource => {
                format!("creates of {resource} are not replayed: `creates` does not match them")
            }
            _ => format!(
                "{} of this path is no create, so it is not replayed",
                self.method
            ),
        })
    }

    /// How long the client waits.
    pub(super) fn timeout(&self) -> Option<Duration> {
        timeout::of(&self.uri)
    }
}

/// The request in a line.
fn of_line(line: &str) -> Option<Request> {
    let (of_curl, line) = match line.strip_prefix("> ") {
        Some(line) => (true, line),
        None => (false, line),
    };
    if let Some(method) = value(line, "verb=\"") {
        return request(method, value(line, "url=\"")?, false);
    }
    let mut words = line.split_whitespace().peekable();
    let is_method = |word: &str| {
        matches!(
            word,
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS"
        )
    };
    while let Some(word) = words.next() {
        let next = match words.peek() {
            // `POST at: https://…`, as fabric8 writes it.
            Some(&"at:") => words.clone().nth(1),
            next => next.copied(),
        };
        if is_method(word)
            && let Some(target) = next
        {
            return request(word, target, of_curl && line.starts_with(word));
        }
    }
    None
}

/// The value in `key="value"`.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    Some(line.split_once(key)?.1.split_once('"')?.0)
}

/// Without `any_path`, a path that is not one of the API belongs to something else.
fn request(method: &str, target: &str, any_path: bool) -> Option<Request> {
    let target = target.trim_matches(['"', '\'', ',', '.', ';', '(', ')']);
    let uri: Uri = target.parse().ok()?;
    let path = uri.path_and_query()?;
    let is_of_api = ["/api/", "/apis/"]
        .iter()
        .any(|start| path.path().starts_with(start));
    if !(is_of_api || any_path) {
        return None;
    }
    Some(Request {
        method: method.parse().ok()?,
        uri: path.as_str().parse().ok()?,
        apply: false,
    })
}

/// Whether a line says that the answer had this code: `< HTTP/2 409`, `Response Status: 409
/// Conflict in 5 milliseconds`, `status="409 Conflict"`, `POST https://… 409 Conflict in 5
/// milliseconds`.
fn answers(line: &str, code: &str) -> bool {
    let has = |before: &str| {
        line.split_once(before)
            .is_some_and(|(_, after)| after.starts_with(code))
    };
    has("Response Status: ")
        || has("status=\"")
        || line.starts_with("< HTTP/") && line.split(' ').nth(2) == Some(code)
        || line.ends_with(" milliseconds") && line.contains(&format!(" {code} "))
}

/// Whether kubectl says that it changed an object. Without the request, its message tells.
pub(super) fn tells_of_update(raw: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&raw[..raw.len().min(MAX_TEXT)]);
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ");
    [
        "could not be patched",
        "error when replacing",
        "error when applying patch",
        "error when patching",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}
