//! The answers of the admin port, from a request's head alone. Bodies are never read.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Response, StatusCode, Uri};
use serde::Serialize;

use super::Admin;
use crate::metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const INDEX: &str = concat!(
    "kube-retry-proxy ",
    env!("CARGO_PKG_VERSION"),
    "

/livez            whether the process is alive (also /healthz)
/readyz           whether clients should be sent here; ?verbose names each check
/metrics          for Prometheus
/configz          the configuration in effect
/debug/decisions  how the last creates went; ?namespace= and ?limit= narrow it
/debug/held       the creates held now
"
);

/// Answers one request.
pub(super) fn answer(admin: &Admin, method: &Method, uri: &Uri) -> Response<String> {
    let query = Query(uri.query().unwrap_or_default());
    let page: fn(&Admin, Query<'_>) -> Response<String> = match uri.path() {
        "/" => |_, _| text(StatusCode::OK, INDEX),
        "/livez" => |_, query| health("livez", query, (true, "[+]ping ok\n".into())),
        "/healthz" => |_, query| health("healthz", query, (true, "[+]ping ok\n".into())),
        "/readyz" => |admin, query| health("readyz", query, admin.readiness.report()),
        "/metrics" => |admin, _| response(StatusCode::OK, metrics::CONTENT_TYPE, admin.metrics.render()),
        "/configz" => |admin, _| json(&(admin.configz)()),
        "/debug/decisions" => decisions,
        "/debug/held" => |admin, _| json(&admin.decisions.held()),
        _ => return text(StatusCode::NOT_FOUND, "No such page. The list is at /\n"),
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "The admin port is read-only: GET and HEAD only\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    page(admin, query)
}

/// As kube-apiserver answers its own: `ok`, or each check on a line with `?verbose` and on failure.
fn health(name: &str, query: Query<'_>, (passed, checks): (bool, String)) -> Response<String> {
    match (passed, query.value("verbose")) {
        (true, None) => text(StatusCode::OK, "ok"),
        (true, Some(_)) => text(StatusCode::OK, format!("{checks}{name} check passed\n")),
        (false, _) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{checks}{name} check failed\n")),
    }
}

fn decisions(admin: &Admin, query: Query<'_>) -> Response<String> {
    let limit = match query.value("limit").map(str::parse) {
        None => usize::MAX,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return text(StatusCode::BAD_REQUEST, "limit must be a whole number, as in ?limit=20\n"),
    };
    json(&admin.decisions.recent(query.value("namespace"), limit))
}

/// A query, not percent-decoded: no value that is asked for here needs to be.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The first value of `key`, empty if it has none.
    fn value(self, key: &str) -> Option<&'a str> {
        self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find_map(|(k, value)| (k == key).then_some(value))
    }
}

fn json(value: &impl Serialize) -> Response<String> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => response(StatusCode::OK, JSON, text + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("This page cannot be shown as JSON: {error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<String> {
    response(status, TEXT, body.into())
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
