use super::*;
use http::HeaderValue;
use proptest::prelude::*;

mod lasting;

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
