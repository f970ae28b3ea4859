//! The apiserver's RequestInfo: what a URL asks for. A port of
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo.go>
//! that borrows from the path. Left out: the name and selectors that the apiserver also reads from
//! list options.

use http::Method;

use super::query;

/// What a request asks for. Fields that do not apply are empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestInfo<'a> {
    /// For an API resource, not for `/healthz`, `/version`, discovery and the like.
    pub is_resource: bool,
    /// `create`, `get`, `list`, `watch`, `update`, `patch`, `delete`, `deletecollection` or
    /// `proxy`; the lower-case method of a non-resource request; empty for unknown methods.
    pub verb: &'static str,
    /// The decoded path.
    pub path: &'a str,
    /// Empty for core.
    pub api_group: &'a str,
    /// `v1`, …
    pub api_version: &'a str,
    /// Empty for cluster-scoped requests and lists over all namespaces.
    pub namespace: &'a str,
    /// In the plural, `pods`.
    pub resource: &'a str,
    /// `log`, `exec`, `status`, …
    pub subresource: &'a str,
    /// The object's name as far as the URL has it.
    pub name: &'a str,
}

impl<'a> RequestInfo<'a> {
    /// Reads `path`, already decoded, and the `watch` flag of `query`, still encoded.
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

    /// Whether the apiserver lets the request last: no timeout, no place in max-in-flight. Every
    /// `log` counts, followed or not.
    ///
    /// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/server/filters/longrunning.go>, with
    /// the verbs and subresources of <https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/controlplane/apiserver/config.go>
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

/// Not `to_ascii_lowercase`: the verb becomes a metric label, and methods are the client's to
/// invent.
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
