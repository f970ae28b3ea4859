use super::*;

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
fn paths_that_the_apiserver_treats_as_creates_are_creates() {
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

    let off = MatchedResources::new([("", "v1", "pods")], false);
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
