//! Discovery documents and health checks: enough for kubectl to find pods, namespaces and quotas.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::wire;

/// Content type and body of the document at `path`; `None` if there is none.
pub(super) fn document(path: &str) -> Option<(&'static str, Bytes)> {
    let document = match path.trim_end_matches('/') {
        "/version" => json!({
            "major": "1", "minor": "32", "gitVersion": "v1.32.0", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "2024-12-11T17:59:15Z", "goVersion": "go1.23.3", "compiler": "gc", "platform": "linux/amd64",
        }),
        "/api" => {
            json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
        }
        "/apis" => json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] }),
        "/api/v1" => json!({ "kind": "APIResourceList", "groupVersion": "v1", "resources": [
            resource("namespaces", "Namespace", false, &["ns"], &["create", "get", "list"]),
            resource("pods", "Pod", true, &["po"], &["create", "delete", "get", "list", "watch"]),
            resource("pods/attach", "PodAttachOptions", true, &[], &["create", "get"]),
            resource("pods/exec", "PodExecOptions", true, &[], &["create", "get"]),
            resource("pods/log", "Pod", true, &[], &["get"]),
            resource("pods/portforward", "PodPortForwardOptions", true, &[], &["create", "get"]),
            resource("resourcequotas", "ResourceQuota", true, &["quota"], &["create", "get", "list", "watch"]),
        ]}),
        path if ["/healthz", "/livez", "/readyz"]
            .iter()
            .any(|check| path.starts_with(check)) =>
        {
            return Some(("text/plain; charset=utf-8", Bytes::from_static(b"ok")));
        }
        _ => return None,
    };
    Some(("application/json", wire::to_bytes(&document)))
}

fn resource(name: &str, kind: &str, namespaced: bool, short: &[&str], verbs: &[&str]) -> Value {
    let singular = if name.contains('/') {
        String::new()
    } else {
        kind.to_lowercase()
    };
    json!({
        "name": name, "singularName": singular, "namespaced": namespaced, "kind": kind, "verbs": verbs, "shortNames": short,
    })
}
