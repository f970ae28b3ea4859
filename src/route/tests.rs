use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn matched() -> Matched {
    Matched::new(
        [
            ("", "v1", "pods"),
            ("batch", "v1", "jobs"),
            ("example.com", "v1", "clusterthings"),
        ],
        true,
    )
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

/// `create NAMESPACE/RESOURCE`, `apply NAMESPACE/RESOURCE`, `call`, `stream` or `upgrade`.
fn routed(method: &str, url: &str, lines: &[(&'static str, &'static str)]) -> String {
    let uri: Uri = url.parse().unwrap();
    match Route::of(&method.parse().unwrap(), &uri, &headers(lines), &matched()) {
        Route::Create(target) if target.apply => {
            format!("apply {}/{}", target.namespace, target.resource)
        }
        Route::Create(target) => format!("create {}/{}", target.namespace, target.resource),
        Route::Call => "call".into(),
        Route::Stream => "stream".into(),
        Route::Upgrade => "upgrade".into(),
    }
}

fn check(table: &[(&str, &str, &str)]) {
    for (method, url, expected) in table {
        assert_eq!(routed(method, url, &[]), *expected, "{method} {url}");
    }
}

#[test]
fn creates_are_posts_on_the_collection_of_a_matched_resource() {
    check(&[
        ("POST", "/api/v1/namespaces/argo/pods", "create argo/pods"),
        (
            "POST",
            "/api/v1/namespaces/argo/pods?fieldManager=x&timeout=30s",
            "create argo/pods",
        ),
        (
            "POST",
            "https://10.0.0.1:443/api/v1/namespaces/argo/pods",
            "create argo/pods",
        ),
        (
            "POST",
            "/apis/batch/v1/namespaces/argo/jobs",
            "create argo/jobs",
        ),
        (
            "POST",
            "/apis/example.com/v1/clusterthings",
            "create /clusterthings",
        ),
        (
            "POST",
            "/api/v1/namespaces/namespaces/pods",
            "create namespaces/pods",
        ),
        ("POST", "/api/v1/namespaces/pods/pods", "create pods/pods"),
        ("POST", "/api/v1/namespaces/watch/pods", "create watch/pods"),
    ]);
}

#[test]
fn other_posts_are_calls() {
    check(&[
        ("POST", "/api/v1/namespaces/argo/configmaps", "call"),
        ("POST", "/api/v1/namespaces", "call"),
        ("POST", "/apis/batch/v1beta1/namespaces/argo/jobs", "call"),
        ("POST", "/apis/other/v1/namespaces/argo/pods", "call"),
        ("POST", "/apis/batch/v1/namespaces/argo/pods", "call"),
        ("POST", "/api/v1/namespaces/argo/pods/a", "call"),
        ("POST", "/api/v1/namespaces/argo/pods/a/binding", "call"),
        ("POST", "/api/v1/namespaces/argo/pods/a/eviction", "call"),
        (
            "POST",
            "/api/v1/namespaces/argo/pods/a/ephemeralcontainers",
            "call",
        ),
        (
            "POST",
            "/api/v1/namespaces/argo/serviceaccounts/default/token",
            "call",
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            "call",
        ),
        (
            "POST",
            "/apis/coordination.k8s.io/v1/namespaces/argo/leases",
            "call",
        ),
        ("POST", "/api/v1/namespaces/status/finalize", "call"),
        ("POST", "/healthz", "call"),
    ]);
}

#[test]
fn dry_runs_are_calls() {
    check(&[
        ("POST", "/api/v1/namespaces/argo/pods?dryRun=All", "call"),
        ("POST", "/api/v1/namespaces/argo/pods?dryRun=", "call"),
        (
            "POST",
            "/api/v1/namespaces/argo/pods?a=b&dry%52un=All",
            "call",
        ),
        (
            "POST",
            "/api/v1/namespaces/argo/pods?dryrun=All",
            "create argo/pods",
        ),
        (
            "POST",
            "/api/v1/namespaces/argo/pods?notdryRun=All",
            "create argo/pods",
        ),
    ]);
}

/// Go decodes the path, and go-restful and RequestInfo trim its end.
#[test]
fn whatever_the_apiserver_takes_for_a_create_is_one() {
    check(&[
        ("POST", "/api/v1/namespaces/argo/pods/", "create argo/pods"),
        ("POST", "/api/v1/namespaces/argo/pods//", "create argo/pods"),
        (
            "POST",
            "/api/v1/namespaces/argo/pods/?fieldManager=x",
            "create argo/pods",
        ),
        ("POST", "/api/v1/namespaces/argo/pod%73", "create argo/pods"),
        ("POST", "/api/v1/namespaces/argo/%70ods", "create argo/pods"),
        ("POST", "/api/v1/namespaces/ar%67o/pods", "create argo/pods"),
        ("POST", "/%61pi/v1/namespaces/argo/pods", "create argo/pods"),
        ("POST", "/api/v1/namespaces/argo%2Fpods", "create argo/pods"),
        (
            "POST",
            "/api%2fv1%2fnamespaces%2fargo%2fpods%2f",
            "create argo/pods",
        ),
        (
            "POST",
            "/apis/batch/v1/namespaces/argo/jobs/",
            "create argo/jobs",
        ),
        (
            "POST",
            "/apis/example.com/v1/clusterthings%2F/",
            "create /clusterthings",
        ),
        ("POST", "/api/v1/namespaces/argo/%70ods/?dryRun=All", "call"),
        ("POST", "/api/v1/namespaces/argo/%70ods/a", "call"),
    ]);
    let yaml = ("content-type", "application/apply-patch+yaml");
    for path in [
        "/api/v1/namespaces/argo/pods/a/",
        "/api/v1/namespaces/argo/pods%2Fa",
    ] {
        assert_eq!(routed("PATCH", path, &[yaml]), "apply argo/pods");
    }
}

#[test]
fn odd_paths_are_never_creates() {
    check(&[
        ("POST", "//api/v1/namespaces/argo/pods", "call"),
        ("POST", "/api/v1//namespaces/argo/pods", "call"),
        ("POST", "/api/v1/namespaces//pods", "call"),
        ("POST", "/api/v1/namespaces/argo//pods", "call"),
        ("POST", "/%2Fapi/v1/namespaces/argo/pods", "call"),
        ("POST", "/api/v1/namespaces%2F/argo/pods", "call"),
        ("POST", "/api/v1/namespaces/argo/pods%", "call"),
        ("POST", "/api/v1/namespaces/arg%ff/pods", "call"),
        ("POST", "/api/v1/namespaces/argo/pods%00", "call"),
        ("POST", "/api/v1/namespaces/argo/pods%3Fx", "call"),
        ("POST", "/api/v1/namespaces/argo/%2570ods", "call"),
        ("POST", "/api/v1/namespaces/argo/../argo/pods", "call"),
        ("POST", "/API/v1/namespaces/argo/pods", "call"),
        ("POST", "/api/V1/namespaces/argo/pods", "call"),
        ("POST", "/api/v1/Namespaces/argo/pods", "call"),
        ("POST", "/api/v1/namespaces/argo/Pods", "call"),
        ("POST", "/api/v1/namespaces/argo/pods;x", "call"),
        ("POST", "/x/api/v1/namespaces/argo/pods", "call"),
        ("POST", "/apis/v1/namespaces/argo/pods", "call"),
        ("POST", "/apis//v1/namespaces/argo/pods", "call"),
        ("post", "/api/v1/namespaces/argo/pods", "call"),
        ("OPTIONS", "*", "call"),
    ]);
}

#[test]
fn reads_and_writes_are_calls() {
    check(&[
        ("GET", "/", "call"),
        ("GET", "/api", "call"),
        ("GET", "/api/v1", "call"),
        ("GET", "/api/v1/", "call"),
        ("GET", "/apis", "call"),
        ("GET", "/apis/apps", "call"),
        ("GET", "/apis/apps/v1", "call"),
        ("GET", "/version?watch=true", "call"),
        ("GET", "/readyz?verbose", "call"),
        ("GET", "/metrics", "call"),
        ("GET", "/openapi/v3/apis/apps/v1?hash=A", "call"),
        ("GET", "/logs/kube-apiserver.log?follow=true", "call"),
        ("GET", "/.well-known/openid-configuration", "call"),
        ("GET", "/api/v1/pods", "call"),
        ("GET", "/api/v1/nodes/n1", "call"),
        ("GET", "/api/v1/nodes/n1/status", "call"),
        ("GET", "/api/v1/namespaces", "call"),
        ("GET", "/api/v1/namespaces/argo", "call"),
        ("PUT", "/api/v1/namespaces/argo/finalize", "call"),
        ("PUT", "/api/v1/namespaces/argo/status", "call"),
        ("GET", "/api/v1/namespaces/argo/pods?limit=500", "call"),
        ("GET", "/api/v1/namespaces/argo/pods/a", "call"),
        ("GET", "/api/v1/namespaces/argo/pods/a/status", "call"),
        ("PUT", "/api/v1/namespaces/argo/pods/a", "call"),
        ("PATCH", "/api/v1/namespaces/argo/pods/a", "call"),
        ("DELETE", "/api/v1/namespaces/argo/pods/a", "call"),
        ("DELETE", "/api/v1/namespaces/argo/pods", "call"),
        (
            "GET",
            "/apis/apps/v1/namespaces/argo/deployments/d/scale",
            "call",
        ),
        ("GET", "/apis/apps/v1/deployments", "call"),
        ("BREW", "/api/v1/namespaces/argo/pods", "call"),
    ]);
}

#[test]
fn watches_are_streams() {
    check(&[
        ("GET", "/api/v1/pods?watch=true", "stream"),
        (
            "GET",
            "/api/v1/namespaces/argo/pods?watch=1&resourceVersion=5",
            "stream",
        ),
        ("GET", "/api/v1/namespaces/argo/pods?watch=t", "stream"),
        ("GET", "/api/v1/namespaces/argo/pods?watch=no", "stream"),
        ("GET", "/api/v1/namespaces/argo/pods?watch=", "stream"),
        ("GET", "/api/v1/namespaces/argo/pods?watch", "stream"),
        (
            "GET",
            "/api/v1/namespaces/argo/pods?w%61tch=tru%65",
            "stream",
        ),
        ("GET", "/api/v1/namespaces/ar%67o/pods?watch=true", "stream"),
        ("GET", "/api/v1/namespaces/argo/pods/?watch=true", "stream"),
        ("HEAD", "/api/v1/namespaces/argo/pods?watch=true", "stream"),
        ("GET", "/apis/apps/v1/deployments?watch=TRUE", "stream"),
        ("GET", "/api/v1/watch/pods", "stream"),
        ("GET", "/api/v1/watch/namespaces/argo/pods", "stream"),
        ("GET", "/api/v1/watch/namespaces/argo/pods/a", "stream"),
        ("GET", "/apis/apps/v1/watch/deployments", "stream"),
        ("GET", "/api/v1/namespaces?watch=true", "stream"),
        (
            "GET",
            "/api/v1/namespaces/argo/pods?sendInitialEvents=true",
            "stream",
        ),
        (
            "GET",
            "/api/v1/namespaces/argo/pods?watch=true&sendInitialEvents=true",
            "stream",
        ),
        // No watches: a false flag, the first of two, a name, another method, nothing behind the
        // prefix.
        ("GET", "/api/v1/namespaces/argo/pods?watch=false", "call"),
        ("GET", "/api/v1/namespaces/argo/pods?watch=False", "call"),
        ("GET", "/api/v1/namespaces/argo/pods?watch=0", "call"),
        (
            "GET",
            "/api/v1/namespaces/argo/pods?watch=0&watch=1",
            "call",
        ),
        ("GET", "/api/v1/namespaces/argo/pods?Watch=true", "call"),
        (
            "GET",
            "/api/v1/namespaces/argo/pods?labelSelector=watch%3Dtrue",
            "call",
        ),
        ("GET", "/api/v1/namespaces/argo/pods/a?watch=true", "call"),
        (
            "GET",
            "/api/v1/namespaces/argo/pods?sendInitialEvents=false",
            "call",
        ),
        ("DELETE", "/api/v1/namespaces/argo/pods?watch=true", "call"),
        ("GET", "/api/v1/watch", "call"),
        (
            "POST",
            "/api/v1/namespaces/argo/pods?watch=true",
            "create argo/pods",
        ),
    ]);
}

#[test]
fn whatever_the_apiserver_lets_last_is_a_stream() {
    check(&[
        (
            "GET",
            "/api/v1/namespaces/argo/pods/a/log?follow=true",
            "stream",
        ),
        ("GET", "/api/v1/namespaces/argo/pods/a/log", "stream"),
        (
            "GET",
            "/api/v1/namespaces/argo/pods/a/exec?command=ls",
            "stream",
        ),
        ("POST", "/api/v1/namespaces/argo/pods/a/attach", "stream"),
        (
            "POST",
            "/api/v1/namespaces/argo/pods/a/portforward",
            "stream",
        ),
        ("GET", "/api/v1/namespaces/argo/pods/a/proxy", "stream"),
        (
            "POST",
            "/api/v1/namespaces/argo/services/https:a:443/proxy/b/c",
            "stream",
        ),
        (
            "GET",
            "/api/v1/namespaces/argo/services/https%3Aa%3A443/proxy/b%20c",
            "stream",
        ),
        ("GET", "/api/v1/nodes/n1/proxy/metrics", "stream"),
        ("GET", "/api/v1/proxy/namespaces/argo/pods/a/x", "stream"),
        ("POST", "/api/v1/proxy/namespaces/argo/pods", "stream"),
        ("GET", "/debug/pprof/profile?seconds=30", "stream"),
        ("GET", "/debug/pprof", "call"),
    ]);
}

#[test]
fn upgrades_need_both_headers() {
    let exec = "/api/v1/namespaces/argo/pods/a/exec?command=ls";
    let spdy = ("upgrade", "SPDY/3.1");
    assert_eq!(
        routed("POST", exec, &[("connection", "Upgrade"), spdy]),
        "upgrade"
    );
    assert_eq!(
        routed(
            "GET",
            exec,
            &[
                ("connection", "keep-alive, uPGRADE"),
                ("upgrade", "websocket")
            ]
        ),
        "upgrade"
    );
    assert_eq!(
        routed(
            "GET",
            exec,
            &[
                ("connection", "keep-alive"),
                ("connection", "upgrade"),
                spdy
            ]
        ),
        "upgrade"
    );
    assert_eq!(
        routed(
            "GET",
            "/api/v1/nodes/n%31/proxy/x",
            &[("connection", "upgrade"), spdy]
        ),
        "upgrade"
    );
    assert_eq!(
        routed(
            "GET",
            "/api/v1/pods?watch=true",
            &[("connection", "upgrade"), ("upgrade", "websocket")]
        ),
        "upgrade"
    );
    assert_eq!(routed("POST", exec, &[spdy]), "stream");
    assert_eq!(routed("POST", exec, &[("connection", "upgrade")]), "stream");
    assert_eq!(
        routed("POST", exec, &[("connection", "upgraded"), spdy]),
        "stream"
    );
    assert_eq!(
        routed(
            "GET",
            "/version",
            &[("connection", "upgrade"), ("upgrade", "")]
        ),
        "call"
    );
}

#[test]
fn an_offer_of_http2_is_no_upgrade() {
    let h2c = [
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
    ];
    assert_eq!(routed("GET", "/api/v1/pods", &h2c), "call");
    assert_eq!(
        routed("POST", "/api/v1/namespaces/argo/pods", &h2c),
        "create argo/pods"
    );
}

#[test]
fn server_side_apply_is_a_create_where_switched_on() {
    let pod = "/api/v1/namespaces/argo/pods/a?fieldManager=x&force=true";
    let yaml = ("content-type", "application/apply-patch+yaml");
    assert_eq!(routed("PATCH", pod, &[yaml]), "apply argo/pods");
    assert_eq!(
        routed(
            "PATCH",
            pod,
            &[("content-type", "application/apply-patch+yaml;charset=utf-8")]
        ),
        "apply argo/pods"
    );
    assert_eq!(
        routed(
            "PATCH",
            pod,
            &[("content-type", "application/apply-patch+cbor")]
        ),
        "apply argo/pods"
    );
    assert_eq!(
        routed("PATCH", "/apis/example.com/v1/clusterthings/a", &[yaml]),
        "apply /clusterthings"
    );
    for other in [
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/json-patch+json",
    ] {
        assert_eq!(routed("PATCH", pod, &[("content-type", other)]), "call");
    }
    assert_eq!(routed("PATCH", pod, &[]), "call");
    assert_eq!(routed("PUT", pod, &[yaml]), "call");
    assert_eq!(
        routed("PATCH", "/api/v1/namespaces/argo/pods", &[yaml]),
        "call"
    );
    assert_eq!(
        routed("PATCH", "/api/v1/namespaces/argo/pods/a/status", &[yaml]),
        "call"
    );
    assert_eq!(
        routed(
            "PATCH",
            "/api/v1/namespaces/argo/pods/a?dryRun=All",
            &[yaml]
        ),
        "call"
    );
    assert_eq!(
        routed("PATCH", "/api/v1/namespaces/argo/configmaps/a", &[yaml]),
        "call"
    );

    let off = Matched::new([("", "v1", "pods")], false);
    assert_eq!(
        Route::of(
            &Method::PATCH,
            &pod.parse().unwrap(),
            &headers(&[yaml]),
            &off
        ),
        Route::Call
    );
}

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

proptest! {
    #[test]
    fn a_create_is_exactly_its_path_decoded_and_trimmed(path in "/(api|apis)((/|%2f)(v1|v2|namespaces|argo|pods|batch|jobs|status|watch|proxy||%70ods)){1,7}") {
        let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
        if let Route::Create(target) = Route::of(&Method::POST, &uri, &HeaderMap::new(), &matched()) {
            let group = if target.resource == "jobs" { "/apis/batch/v1" } else { "/api/v1" };
            let namespace = if !target.namespace.is_empty() { format!("/namespaces/{}", target.namespace) } else { String::new() };
            let decoded = path.replace("%70", "p").replace("%2f", "/");
            prop_assert_eq!(format!("{group}{namespace}/{}", target.resource), decoded.trim_end_matches('/'));
        }
    }

    #[test]
    fn routing_never_panics(path in "/[ -~&&[^?#<>\"\\\\^`{|} ]]{0,60}", query in "[!-~&&[^#<>\"\\\\^`{|} ]]{0,40}") {
        if let Ok(uri) = format!("{path}?{query}").parse::<Uri>() {
            let _ = Route::of(&Method::POST, &uri, &HeaderMap::new(), &matched());
            let _ = Route::of(&Method::GET, &uri, &HeaderMap::new(), &matched());
            let _ = timeout::shortened(&uri, std::time::Duration::from_secs(1));
        }
    }
}
