//! Which of the four ways a request takes, decided from its method, URL and headers alone, by the apiserver's own rules.
//!
//! [`RequestInfo`] mirrors the Go code that the apiserver itself decides with; [`Route`] adds what this proxy makes of it. Total and safe:
//! whatever looks odd is a `Call` (forwarded, never replayed). Called once per request by `proxy`.

mod query;
mod request_info;
pub mod timeout;

pub use request_info::RequestInfo;

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, UPGRADE};
use http::{Method, Uri};

use crate::config;

/// The way of a request through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// Buffered and, where its refusal was an accident, replayed.
    Create(CreateTarget<'a>),
    /// Any other short request: forwarded.
    Call,
    /// A request or answer without a foreseeable end: forwarded on connections of its own.
    Stream,
    /// Becomes a tunnel (`exec`, `attach`, `port-forward`): needs an HTTP/1.1 connection to itself.
    Upgrade,
}

/// Where a create goes, borrowed from its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateTarget<'a> {
    /// The namespace, empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// The resource in the plural, e.g. `pods`.
    pub resource: &'a str,
    /// A server-side apply (`PATCH` on a name) instead of a `POST` on the collection.
    pub apply: bool,
}

impl<'a> Route<'a> {
    /// The route of a request.
    pub fn of(method: &Method, uri: &'a Uri, headers: &HeaderMap, matched: &Matched) -> Route<'a> {
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        // The apiserver decides on the decoded path, in which `%2F` separates. Nobody escapes anything in a create's path, so an escaped
        // one is odd: it is decoded only to find streams.
        let decoded = query::unescape_path(path);
        let info = match &decoded {
            Cow::Borrowed(_) => RequestInfo::new(method, path, query),
            Cow::Owned(decoded) => return Route::without_create(&RequestInfo::new(method, decoded, query), query, headers),
        };
        // First, because some clients offer `Upgrade: h2c` with every request, and a create never becomes a tunnel.
        match create_target(&info, query, headers, matched) {
            Some(target) if is_canonical(path) => Route::Create(target),
            _ => Route::without_create(&info, query, headers),
        }
    }

    fn without_create(info: &RequestInfo<'_>, query: &str, headers: &HeaderMap) -> Route<'static> {
        if wants_upgrade(headers) {
            Route::Upgrade
        } else if info.is_long_running() || (info.verb == "list" && query::flag(query, "sendInitialEvents")) {
            Route::Stream
        } else {
            Route::Call
        }
    }
}

/// The resources whose creates are replayed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matched {
    resources: Vec<(String, String, String)>,
    server_side_apply: bool,
}

impl Matched {
    /// Matches (group, version, plural) exactly; with `server_side_apply` also their apply patches.
    pub fn new<S: Into<String>>(resources: impl IntoIterator<Item = (S, S, S)>, server_side_apply: bool) -> Matched {
        let resources = resources.into_iter().map(|(group, version, plural)| (group.into(), version.into(), plural.into())).collect();
        Matched { resources, server_side_apply }
    }

    fn has(&self, info: &RequestInfo<'_>) -> bool {
        self.resources
            .iter()
            .any(|(group, version, plural)| plural == info.resource && version == info.api_version && group == info.api_group)
    }
}

impl From<&config::Creates> for Matched {
    fn from(creates: &config::Creates) -> Matched {
        let resources = creates.resources.iter().map(|r| (r.group.as_str(), r.version.as_str(), r.resource.as_str()));
        Matched::new(resources, creates.server_side_apply)
    }
}

fn create_target<'a>(info: &RequestInfo<'a>, query: &str, headers: &HeaderMap, matched: &Matched) -> Option<CreateTarget<'a>> {
    let apply = match info.verb {
        "create" if info.name.is_empty() => false,
        "patch" if matched.server_side_apply && !info.name.is_empty() && is_apply(headers) => true,
        _ => return None,
    };
    if !info.is_resource || !info.subresource.is_empty() || !matched.has(info) {
        return None;
    }
    // A dry run never touches the quota, so it is an ordinary call. Any value counts: the apiserver knows only `All` and refuses the rest.
    if query::first(query, "dryRun").is_some() {
        return None;
    }
    Some(CreateTarget { namespace: info.namespace, resource: info.resource, apply })
}

/// No empty segments: what the apiserver would make of `//` or a trailing slash depends on its multiplexer, not on RequestInfo.
fn is_canonical(path: &str) -> bool {
    !path.ends_with('/') && !path.contains("//")
}

/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go>
fn is_apply(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let media_type = content_type.split(|b| *b == b';').next().unwrap_or_default();
    matches!(media_type, b"application/apply-patch+yaml" | b"application/apply-patch+cbor")
}

/// `h2c` alone is no tunnel but an offer to change the version, which a proxy passes over (RFC 9110 §7.8).
fn wants_upgrade(headers: &HeaderMap) -> bool {
    tokens(headers, CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
        && tokens(headers, UPGRADE).any(|protocol| !protocol.is_empty() && !protocol.eq_ignore_ascii_case(b"h2c"))
}

fn tokens(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).iter().flat_map(|line| line.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii))
}

#[cfg(test)]
mod tests;
