//! The pages of the admin port. Only the head of a request matters; its body is never read.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use serde::Serialize;

use super::{AdminPort, events, page};
use crate::verdict::Outcome;
use crate::{config, metrics};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const EVENTS: &str = "text/event-stream";

/// A whole page, or a stream of updates that lasts as long as its reader.
pub(super) type PageBody = Either<Full<Bytes>, Channel<Bytes>>;

/// Answers one request.
pub(super) fn answer(port: &Arc<AdminPort>, method: &Method, uri: &Uri) -> Response<PageBody> {
    let query = Query(uri.query().unwrap_or_default());
    let page: fn(&Arc<AdminPort>, Query<'_>) -> Response<PageBody> = match uri.path() {
        "/" => |port, _| status_page(port),
        "/status.json" => |port, _| json(&port.snapshot()),
        "/events" if *method == Method::HEAD => {
            |_, _| response(StatusCode::OK, EVENTS, String::new())
        }
        "/events" => |port, _| live(port),
        "/livez" => |_, query| health("livez", query, (true, "[+]ping ok\n".into())),
        "/healthz" => |_, query| health("healthz", query, (true, "[+]ping ok\n".into())),
        "/readyz" => |port, query| health("readyz", query, port.admin.readiness.report()),
        "/metrics" => |port, _| {
            response(
                StatusCode::OK,
                metrics::CONTENT_TYPE,
                port.admin.metrics.render(),
            )
        },
        "/configz" => |port, _| json(&config::show(&(port.admin.config)())),
        "/debug/decisions" => decisions,
        "/debug/held" => |port, _| json(&port.admin.decisions.held()),
        _ => {
            return text(
                StatusCode::NOT_FOUND,
                "No such page. The page at / links to all of them.\n",
            );
        }
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refusal = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "The admin port is read-only. It answers GET and HEAD only.\n",
        );
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    page(port, query)
}

fn status_page(port: &AdminPort) -> Response<PageBody> {
    let mut answer = response(StatusCode::OK, HTML, page::page(&port.snapshot()));
    let headers = answer.headers_mut();
    // The policy consists of constants and base64, so it is always a header value.
    if let Ok(policy) = HeaderValue::from_str(&page::POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// The updates that the script of the status page listens to.
fn live(port: &Arc<AdminPort>) -> Response<PageBody> {
    let Ok(viewer) = Arc::clone(&port.viewers).try_acquire_owned() else {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many pages get live updates already. Reload the page instead.\n",
        );
    };
    let (snapshots, stop) = (Arc::clone(port), port.stop.clone());
    let body = events::stream(move || snapshots.snapshot(), viewer, stop);
    response(StatusCode::OK, EVENTS, String::new()).map(|_| Either::Right(body))
}

/// Answers like the probes of kube-apiserver: `ok`, or with `?verbose` or on failure a line for
/// each check.
fn health(name: &str, query: Query<'_>, (passed, checks): (bool, String)) -> Response<PageBody> {
    match (passed, query.value("verbose")) {
        (true, None) => text(StatusCode::OK, "ok"),
        (true, Some(_)) => text(StatusCode::OK, format!("{checks}{name} check passed\n")),
        (false, _) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{checks}{name} check failed\n"),
        ),
    }
}

fn decisions(port: &Arc<AdminPort>, query: Query<'_>) -> Response<PageBody> {
    let limit = match query.value("limit").map(str::parse) {
        None => usize::MAX,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => {
            return text(
                StatusCode::BAD_REQUEST,
                "limit must be a whole number, as in ?limit=20\n",
            );
        }
    };
    let [namespace, resource, outcome] =
        ["namespace", "resource", "outcome"].map(|key| query.value(key));
    if let Some(outcome) = outcome
        && !Outcome::ALL.iter().any(|known| known.as_str() == outcome)
    {
        let known: Vec<_> = Outcome::ALL.iter().map(|known| known.as_str()).collect();
        let known = known.join(", ");
        return text(
            StatusCode::BAD_REQUEST,
            format!("outcome must be one of {known}\n"),
        );
    }
    let is = |wanted: Option<&str>, actual: &str| wanted.is_none_or(|wanted| wanted == actual);
    json(&port.admin.decisions.recent(limit, |each| {
        is(namespace, &each.namespace)
            && is(resource, &each.resource)
            && is(outcome, each.outcome.as_str())
    }))
}

/// A query. It is not percent-decoded, since no value that the pages take needs to be.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The first value of `key`; empty for a key without a value.
    fn value(self, key: &str) -> Option<&'a str> {
        self.0
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find_map(|(k, value)| (k == key).then_some(value))
    }
}

fn json(value: &impl Serialize) -> Response<PageBody> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => response(StatusCode::OK, JSON, text + "\n"),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("This page cannot be shown as JSON: {error}\n"),
        ),
    }
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<PageBody> {
    response(status, TEXT, body.into())
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<PageBody> {
    let mut response = Response::new(Either::Left(Full::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
