//! The apiserver's RequestInfo, which says what a URL asks for. A port of
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo.go>
//! that borrows from the path. It does not read the name and the selectors of list options.

use http::Method;

use super::query;

/// The verb, resource and name of a request. A field that does not apply is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestInfo<'a> {
    /// Whether the path is that of an API resource, unlike `/healthz`, `/version` and discovery.
    pub is_resource: bool,
    /// `create`, `get`, `list`, `watch`, `update`, `patch`, `delete`, `deletecollection` or
    /// `proxy`; the lower-case method of a non-resource request; empty for unknown methods.
    pub verb: &'static str,
    /// The decoded path.
    pub path: &'a str,
    /// Empty for the core group.
    pub api_group: &'a str,
    /// `v1`, …
    pub api_version: &'a str,
    /// Empty for cluster-scoped requests and lists over all namespaces.
    pub namespace: &'a str,
    /// In the plural, `pods`.
    pub resource: &'a str,
    /// `log`, `exec`, `status`, …
    pub subresource: &'a str,
    /// The object's name, if the URL has it.
    pub name: &'a str,
}

impl<'a> RequestInfo<'a> {
    /// Reads the decoded `path`, and the `watch` flag of the encoded `query`.
    pub fn new(method: &Method, path: &'a str, query: &str) -> RequestInfo<'a> {
        RequestInfo::of_resource(method, path, query).unwrap_or(RequestInfo {
            verb: lower_case(method),
            path,
            ..RequestInfo::default()
        })
    }

    /// None for a non-resource request.
    fn of_resource(method: &Method, path: &'a str, query: &str) -> Option<RequestInfo<'a>> {
        let mut parts = path.trim_matches('/').split('/').peekable();
        let api_group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        let api_version = parts.next()?;
        let first = *parts.peek()?;
        let mut info = RequestInfo {
            is_resource: true,
            verb: lower_case(method),
            path,
            api_group,
            api_version,
            ..RequestInfo::default()
        };

        // The legacy prefixes /watch/ and /proxy/.
        let special = match first {
            "watch" => Some("watch"),
            "proxy" => Some("proxy"),
            _ => None,
        };
        if special.is_some() {
            parts.next();
            if parts.peek().is_none() {
                // "unable to determine kind and namespace from url": the apiserver answers with an
                // error.
                return Some(info);
            }
        }
        info.verb = special.unwrap_or_else(|| verb(method));

        let mut resource = parts.next().unwrap_or_default();
        let (mut name, mut subresource) = (parts.next(), parts.next());
        if resource == "namespaces" {
            info.namespace = name.unwrap_or_default();
            // /namespaces/{name}/{resource}/…, unless it is a subresource of the namespace itself.
            if let Some(inner) =
                subresource.filter(|inner| !matches!(*inner, "status" | "finalize"))
            {
                resource = inner;
                (name, subresource) = (parts.next(), parts.next());
            }
        }
        info.resource = resource;
        info.name = name.unwrap_or_default();
        if special != Some("proxy") {
            info.subresource = subresource.unwrap_or_default();
        }
        if info.name.is_empty() {
            info.verb = match info.verb {
                "get" if query::flag(query, "watch") => "watch",
                "get" => "list",
                "delete" => "deletecollection",
                verb => verb,
            };
        }
        Some(info)
    }

    /// Whether the request is long-running for the apiserver: it has no timeout and does not count
    /// for max-in-flight. Every `log` is long-running, followed or not.
    ///
    /// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/server/filters/longrunning.go>, with
    /// the verbs and subresources of
    /// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/controlplane/apiserver/config.go>
    pub fn is_long_running(&self) -> bool {
        matches!(self.verb, "watch" | "proxy")
            || (self.is_resource
                && matches!(
                    self.subresource,
                    "attach" | "exec" | "proxy" | "log" | "portforward"
                ))
            || (!self.is_resource && self.path.starts_with("/debug/pprof/"))
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// Does not use `to_ascii_lowercase`, because the verb becomes a metric label, and clients can
/// invent methods.
fn lower_case(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "post",
        "GET" => "get",
        "HEAD" => "head",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
