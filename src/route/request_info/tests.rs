use http::Uri;

use super::*;

/// verb, group, version, namespace, resource, subresource, name; after `TestGetAPIRequestInfo` in
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo_test.go>
#[test]
fn request_info_agrees_with_the_apiserver() {
    let table = [
        (
            "GET",
            "/api/v1/namespaces",
            ["list", "", "v1", "", "namespaces", "", ""],
        ),
        (
            "GET",
            "/api/v1/namespaces/other",
            ["get", "", "v1", "other", "namespaces", "", "other"],
        ),
        (
            "GET",
            "/api/v1/namespaces/other/status",
            ["get", "", "v1", "other", "namespaces", "status", "other"],
        ),
        (
            "GET",
            "/api/v1/namespaces/other/pods",
            ["list", "", "v1", "other", "pods", "", ""],
        ),
        (
            "GET",
            "/api/v1/namespaces/other/pods/foo",
            ["get", "", "v1", "other", "pods", "", "foo"],
        ),
        (
            "HEAD",
            "/api/v1/namespaces/other/pods/foo",
            ["get", "", "v1", "other", "pods", "", "foo"],
        ),
        (
            "GET",
            "/api/v1/pods",
            ["list", "", "v1", "", "pods", "", ""],
        ),
        (
            "GET",
            "/api/v1/proxy/namespaces/other/pods/foo",
            ["proxy", "", "v1", "other", "pods", "", "foo"],
        ),
        (
            "GET",
            "/api/v1/proxy/namespaces/other/pods/foo/subpath/not/a/subresource",
            ["proxy", "", "v1", "other", "pods", "", "foo"],
        ),
        (
            "GET",
            "/api/v1/watch/pods",
            ["watch", "", "v1", "", "pods", "", ""],
        ),
        (
            "GET",
            "/api/v1/watch/namespaces/other/pods",
            ["watch", "", "v1", "other", "pods", "", ""],
        ),
        (
            "GET",
            "/api/v1/namespaces/other/pods?watch=1",
            ["watch", "", "v1", "other", "pods", "", ""],
        ),
        (
            "GET",
            "/api/v1/namespaces/other/pods/foo/proxy/a/b",
            ["get", "", "v1", "other", "pods", "proxy", "foo"],
        ),
        (
            "PUT",
            "/api/v1/namespaces/other/finalize",
            [
                "update",
                "",
                "v1",
                "other",
                "namespaces",
                "finalize",
                "other",
            ],
        ),
        (
            "PUT",
            "/api/v1/namespaces/other/pods/foo",
            ["update", "", "v1", "other", "pods", "", "foo"],
        ),
        (
            "PATCH",
            "/api/v1/namespaces/other/pods/foo",
            ["patch", "", "v1", "other", "pods", "", "foo"],
        ),
        (
            "DELETE",
            "/api/v1/namespaces/other/pods/foo",
            ["delete", "", "v1", "other", "pods", "", "foo"],
        ),
        (
            "DELETE",
            "/api/v1/namespaces/other/pods",
            ["deletecollection", "", "v1", "other", "pods", "", ""],
        ),
        (
            "POST",
            "/api/v1/namespaces/other/pods/",
            ["create", "", "v1", "other", "pods", "", ""],
        ),
        (
            "POST",
            "/apis/extensions/v1beta3/namespaces/other/pods",
            ["create", "extensions", "v1beta3", "other", "pods", "", ""],
        ),
        (
            "TRACE",
            "/api/v1/namespaces/other/pods",
            ["", "", "v1", "other", "pods", "", ""],
        ),
    ];
    for (method, url, expected) in table {
        let uri: Uri = url.parse().unwrap();
        let method: Method = method.parse().unwrap();
        let info = RequestInfo::new(&method, uri.path(), uri.query().unwrap_or_default());
        let actual = [
            info.verb,
            info.api_group,
            info.api_version,
            info.namespace,
            info.resource,
            info.subresource,
            info.name,
        ];
        assert!(info.is_resource, "{url}");
        assert_eq!(actual, expected, "{method} {url}");
    }
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/g",
        "/apis/g/v1",
        "/healthz",
        "/foo/v1/bar/baz",
    ] {
        let info = RequestInfo::new(&Method::GET, path, "watch=true");
        assert_eq!((info.is_resource, info.verb), (false, "get"), "{path}");
    }
}

/// Where the proxy differs on purpose: it does not take the name of an object from the selector of
/// a list, and it has no verb for methods that Kubernetes does not use.
#[test]
#[ignore = "cargo xtask differential"]
fn differential_request_info() {
    use crate::oracle::{Compared, compare};
    let check = |input: &str, answer: &str| {
        let (method, target) = input.split_once(' ').unwrap();
        let Ok(uri) = target.parse::<Uri>() else {
            return Compared::Skipped;
        };
        let Ok(go) = serde_json::from_str::<serde_json::Value>(answer) else {
            return Compared::Skipped;
        };
        let path = query::unescape_path(uri.path());
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let own = RequestInfo::new(&method, &path, uri.query().unwrap_or_default());
        let is_odd = own.resource.is_empty() && own.verb.is_empty();
        // A path that is no UTF-8 is no resource's: no name has such bytes.
        if go["path"].as_str().unwrap().contains('\u{fffd}') {
            return Compared::Skipped;
        }
        let shown = serde_json::json!({
            "isResource": own.is_resource,
            "verb": if is_odd { go["verb"].as_str().unwrap() } else { own.verb },
            "path": own.path,
            "apiGroup": own.api_group,
            "apiVersion": own.api_version,
            "namespace": own.namespace,
            "resource": own.resource,
            "subresource": own.subresource,
            "name": own.name,
            "longRunning": own.is_long_running(),
        });
        match shown == go {
            true => Compared::Same,
            false => Compared::Differs(format!("{shown}\n    {go}")),
        }
    };
    compare("requestinfo", any_request, check);
}

/// A request line, mostly of words that matter.
fn any_request(random: &mut fastrand::Rng) -> String {
    const METHODS: &[&str] = &[
        "GET", "GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "X",
    ];
    const WORDS: &[&str] = &[
        "api",
        "apis",
        "v1",
        "v1beta1",
        "batch",
        "example.com",
        "namespaces",
        "pods",
        "jobs",
        "nodes",
        "status",
        "finalize",
        "watch",
        "proxy",
        "log",
        "exec",
        "attach",
        "portforward",
        "a",
        "",
        ".",
        "..",
        "%2F",
        "%61pi",
        "a%2Fb",
        "API",
        "healthz",
        "debug",
        "pprof",
        "%ff",
        "%",
        "%zz",
        "%25",
        "a+b",
        "a;b",
        "%e4%bd%a0",
        "~",
        "*",
    ];
    const KEYS: &[&str] = &[
        "watch",
        "w%61tch",
        "limit",
        "timeoutSeconds",
        "a",
        "",
        "watch%00",
        "Watch",
    ];
    const VALUES: &[&str] = &[
        "1",
        "0",
        "true",
        "false",
        "FALSE",
        "%30",
        "False",
        "f",
        "no",
        "",
        "+",
        "x",
        "10",
        "%zz",
        "1;watch=0",
        "0=1",
    ];
    let one =
        |random: &mut fastrand::Rng, words: &[&'static str]| words[random.usize(..words.len())];
    let mut line = format!("{} ", one(random, METHODS));
    let start: &[&str] = match random.u8(..8) {
        0 => &[],
        1 | 2 => &["/apis", "/batch", "/v1"],
        3 => &["/apis"],
        _ => &["/api", "/v1"],
    };
    line.extend(start.iter().copied());
    if random.bool() {
        line += "/namespaces";
    }
    for _ in 0..random.usize(..6) {
        line += "/";
        line += one(random, WORDS);
    }
    if random.u8(..8) == 0 {
        line += "/";
    }
    if line.ends_with(' ') {
        line += "/";
    }
    if random.bool() {
        for parameter in 0..=random.usize(..3) {
            line += if parameter == 0 { "?" } else { "&" };
            line += one(random, KEYS);
            if random.u8(..4) > 0 {
                line += "=";
                line += one(random, VALUES);
            }
        }
    }
    line
}
