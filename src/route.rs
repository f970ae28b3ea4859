//! Decides which of the four routes a request takes, from its method, URL and headers only, with
//! the apiserver's own rules.
//!
//! [`RequestInfo`] mirrors the Go code that the apiserver uses. [`Route`] adds what this proxy does
//! with it. Every request has a route, and an unusual request is a `Call`, which is forwarded and
//! never replayed. `proxy` calls this once per request.

mod query;
mod request_info;
pub mod timeout;

pub use request_info::RequestInfo;

use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, UPGRADE, USER_AGENT};
use http::{Method, Uri, request};

use crate::config;
use crate::headers::tokens;

/// How the proxy handles a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A create, which the proxy buffers and replays if the refusal was an accident.
    Create(CreateTarget),
    /// Any other short request.
    Call,
    /// A request or response without a foreseeable end, forwarded over separate connections.
    Stream,
    /// A request that becomes a tunnel (`exec`, `attach`, `port-forward`) and needs its own
    /// HTTP/1.1 connection.
    Upgrade,
}

/// The resource and the namespace of a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTarget {
    /// The namespace, never empty.
    pub namespace: String,
    /// The resource as kubectl and quotas write it: `pods`, `jobs.batch`.
    pub resource: String,
    /// The version of the API, `v1`.
    pub version: String,
    /// The name of the object in the URL of a server-side apply. None: a `POST` on the collection,
    /// where only the body has the name.
    pub applied: Option<String>,
}

impl CreateTarget {
    #[cfg(test)]
    pub(crate) fn of(namespace: &str, resource: &str) -> CreateTarget {
        CreateTarget {
            namespace: namespace.into(),
            resource: resource.into(),
            version: "v1".into(),
            applied: None,
        }
    }

    /// The group, the version and the plural name of the resource.
    pub fn group_version_resource(&self) -> (&str, &str, &str) {
        // No plural name has a dot.
        let (plural, group) = self
            .resource
            .split_once('.')
            .unwrap_or((&self.resource, ""));
        (group, &self.version, plural)
    }

    /// Whether only kube-apiserver itself serves the resource. Groups with a dot can be custom
    /// resources, whose handlers shut down when their definition changes, or belong to an
    /// aggregated API server. So what their answers say about a server is not about kube-apiserver.
    ///
    /// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go>
    pub fn is_served_by_kube_apiserver(&self) -> bool {
        !self.group_version_resource().0.contains('.')
    }

    /// The `apiVersion` of the object: `v1`, `batch/v1`.
    pub fn api_version(&self) -> String {
        match self.group_version_resource() {
            ("", version, _) => version.to_owned(),
            (group, version, _) => format!("{group}/{version}"),
        }
    }
}

impl Route {
    /// Decides the route of a request.
    pub fn of(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        matched: &MatchedResources,
    ) -> Route {
        let query = uri.query().unwrap_or_default();
        // The apiserver uses the decoded path, in which `%2F` is a separator.
        let path = query::unescape_path(uri.path());
        let info = RequestInfo::new(method, &path, query);
        // Creates come first: some clients offer `Upgrade: h2c` with every request, but a create
        // never becomes a tunnel.
        match create_target(&info, query, headers, matched) {
            Some(target) if has_no_gaps(&path) => Route::Create(target),
            _ => Route::without_create(&info, query, headers),
        }
    }

    fn without_create(info: &RequestInfo<'_>, query: &str, headers: &HeaderMap) -> Route {
        if wants_upgrade(headers) {
            Route::Upgrade
        } else if info.is_long_running()
            || (info.verb == "list" && query::flag(query, "sendInitialEvents"))
        {
            Route::Stream
        } else {
            Route::Call
        }
    }
}

/// The resources whose creates are replayed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MatchedResources {
    resources: Vec<config::Resource>,
    except: Vec<config::Resource>,
    server_side_apply: bool,
}

impl MatchedResources {
    /// What never waits comes last, because most requests that get here are creates of something
    /// else.
    fn has(&self, info: &RequestInfo<'_>) -> bool {
        let (group, version, plural) = (info.api_group, info.api_version, info.resource);
        let any =
            |of: &[config::Resource]| of.iter().any(|each| each.matches(group, version, plural));
        any(&self.resources) && !any(&self.except) && !config::never_waits(group, plural)
    }
}

impl From<&config::CreatesConfig> for MatchedResources {
    fn from(creates: &config::CreatesConfig) -> MatchedResources {
        MatchedResources {
            resources: creates.resources.clone(),
            except: creates.except.clone(),
            server_side_apply: creates.server_side_apply,
        }
    }
}

fn create_target(
    info: &RequestInfo<'_>,
    query: &str,
    headers: &HeaderMap,
    matched: &MatchedResources,
) -> Option<CreateTarget> {
    let apply = match info.verb {
        "create" if info.name.is_empty() => false,
        "patch" if matched.server_side_apply && !info.name.is_empty() && is_apply(headers) => true,
        _ => return None,
    };
    if !info.is_resource || !info.subresource.is_empty() || !is_namespaced(info) {
        return None;
    }
    if !is_served(info) || !matched.has(info) {
        return None;
    }
    // A dry run does not change the quota, so it is an ordinary call. Any value counts: the
    // apiserver accepts only `All` and refuses the others.
    if query::first(query, "dryRun").is_some() {
        return None;
    }
    let resource = match info.api_group {
        "" => info.resource.to_owned(),
        group => format!("{}.{group}", info.resource),
    };
    Some(CreateTarget {
        namespace: info.namespace.to_owned(),
        resource,
        version: info.api_version.to_owned(),
        applied: apply.then(|| info.name.to_owned()),
    })
}

/// The field manager of a request, as the apiserver derives it: the parameter, or the first part of
/// `User-Agent`. None: the header has characters that are not ASCII.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/create.go>
/// (`managerOrUserAgent`)
pub fn field_manager(head: &request::Parts) -> Option<String> {
    const MAX_LENGTH: usize = 128;
    let query = head.uri.query().unwrap_or_default();
    let given = query::first(query, "fieldManager").filter(|manager| !manager.value.is_empty());
    if let Some(manager) = given {
        return String::from_utf8(manager.value.into_owned()).ok();
    }
    let agent = match head.headers.get(USER_AGENT) {
        Some(agent) => agent.to_str().ok()?,
        None => "",
    };
    let program = agent.split('/').next().unwrap_or_default();
    let printed = program.chars().filter(|c| !c.is_control());
    let manager: String = printed.take(MAX_LENGTH).collect();
    Some(if manager.is_empty() {
        "unknown".to_owned()
    } else {
        manager
    })
}

/// Whether the object has a namespace. Only then it has a quota. RequestInfo gives a Namespace
/// itself as its own namespace.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/admission.go> (`Validate`)
fn is_namespaced(info: &RequestInfo<'_>) -> bool {
    let is_namespace = info.resource == "namespaces" && info.name == info.namespace;
    !info.namespace.is_empty() && !is_namespace
}

/// Whether the apiserver can serve the group, the version and the resource of the path. All other
/// names are not found, and must not become a create only because `*` matches them.
fn is_served(info: &RequestInfo<'_>) -> bool {
    let is_label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    info.resource.bytes().all(is_label)
        && info.api_version.bytes().all(is_label)
        && info.api_group.bytes().all(|b| is_label(b) || b == b'.')
}

/// Whether the path has empty segments at its end only. go-restful trims those, as RequestInfo
/// does. RequestInfo also trims empty segments at the beginning, but the apiserver serves no path
/// that begins with `//`. An empty segment in the middle makes a path of another length, or a
/// namespace without a name.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/server/handler.go> (`director`)
/// <https://github.com/emicklei/go-restful/blob/v3.12.0/route.go> (`tokenizePath`)
fn has_no_gaps(path: &str) -> bool {
    !path.trim_end_matches('/').contains("//")
}

/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go>
fn is_apply(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .map(|value| value.as_bytes())
        .unwrap_or_default();
    let media_type = content_type
        .split(|b| *b == b';')
        .next()
        .unwrap_or_default();
    matches!(
        media_type,
        b"application/apply-patch+yaml" | b"application/apply-patch+cbor"
    )
}

/// `h2c` alone does not ask for a tunnel. It offers to change the HTTP version, which a proxy
/// ignores (RFC 9110 §7.8).
fn wants_upgrade(headers: &HeaderMap) -> bool {
    tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
        && tokens(headers, &UPGRADE)
            .any(|protocol| !protocol.is_empty() && !protocol.eq_ignore_ascii_case(b"h2c"))
}

#[cfg(test)]
mod tests;
