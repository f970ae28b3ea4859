use super::*;
use crate::rows::every;

#[test]
fn creates_are_posts_on_the_collection_of_a_namespaced_resource() {
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
            "create argo/jobs.batch",
        ),
        (
            "POST",
            "/apis/argoproj.io/v1alpha1/namespaces/argo/workflows",
            "create argo/workflows.argoproj.io",
        ),
        (
            "POST",
            "/apis/discovery.k8s.io/v1/namespaces/argo/endpointslices",
            "create argo/endpointslices.discovery.k8s.io",
        ),
        (
            "POST",
            "/api/v1/namespaces/argo/secrets",
            "create argo/secrets",
        ),
        (
            "POST",
            "/apis/g/v1/namespaces/argo/namespaces",
            "create argo/namespaces.g",
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
        ("POST", "/api/v1/namespaces", "call"),
        ("POST", "/api/v1/nodes", "call"),
        ("POST", "/api/v1/persistentvolumes", "call"),
        (
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            "call",
        ),
        ("POST", "/apis/example.com/v1/clusterthings", "call"),
        ("POST", "/apis/example.com/v1/clusterthings/a", "call"),
        ("POST", "/apis/batch/v1/jobs", "call"),
        ("POST", "/api/v1/namespaces/argo", "call"),
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
            "/apis/authorization.k8s.io/v1/namespaces/argo/localsubjectaccessreviews",
            "call",
        ),
        (
            "POST",
            "/apis/coordination.k8s.io/v1/namespaces/argo/leases",
            "call",
        ),
        (
            "POST",
            "/apis/coordination.k8s.io/v1beta1/namespaces/argo/leases",
            "call",
        ),
        (
            "POST",
            "/apis/example.com/v1/namespaces/argo/leases",
            "create argo/leases.example.com",
        ),
        ("POST", "/api/v1/namespaces/argo/events", "call"),
        (
            "POST",
            "/apis/events.k8s.io/v1/namespaces/argo/events",
            "call",
        ),
        (
            "POST",
            "/apis/example.com/v1/namespaces/argo/events",
            "create argo/events.example.com",
        ),
        ("POST", "/api/v1/namespaces/argo/bindings", "call"),
        ("POST", "/api/v1/namespaces/argo/resourcequotas", "call"),
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
            "create argo/jobs.batch",
        ),
        (
            "POST",
            "/apis/example.com/v1/namespaces/argo/things%2F/",
            "create argo/things.example.com",
        ),
        ("POST", "/api/v1/namespaces/argo/%70ods/?dryRun=All", "call"),
        ("POST", "/api/v1/namespaces/argo/%70ods/a", "call"),
    ]);
    let yaml = ("content-type", "application/apply-patch+yaml");
    for path in [
        "/api/v1/namespaces/argo/pods/a/",
        "/api/v1/namespaces/argo/pods%2Fa",
    ] {
        assert_eq!(routed("PATCH", path, &[yaml]), "apply argo/pods/a");
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
fn server_side_apply_is_a_create_unless_switched_off() {
    let pod = "/api/v1/namespaces/argo/pods/a?fieldManager=x&force=true";
    let yaml = ("content-type", "application/apply-patch+yaml");
    assert_eq!(routed("PATCH", pod, &[yaml]), "apply argo/pods/a");
    assert_eq!(
        routed(
            "PATCH",
            pod,
            &[("content-type", "application/apply-patch+yaml;charset=utf-8")]
        ),
        "apply argo/pods/a"
    );
    assert_eq!(
        routed(
            "PATCH",
            pod,
            &[("content-type", "application/apply-patch+cbor")]
        ),
        "apply argo/pods/a"
    );
    assert_eq!(
        routed(
            "PATCH",
            "/apis/batch/v1/namespaces/argo/jobs/b?fieldManager=x",
            &[yaml]
        ),
        "apply argo/jobs.batch/b"
    );
    for path in [
        "/apis/example.com/v1/clusterthings/a",
        "/api/v1/namespaces/argo",
        "/api/v1/nodes/a",
        "/apis/coordination.k8s.io/v1/namespaces/argo/leases/a",
        "/api/v1/namespaces/argo/resourcequotas/a",
        "/api/v1/namespaces/argo/pods/a/scale",
    ] {
        assert_eq!(routed("PATCH", path, &[yaml]), "call", "{path}");
    }
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
    let off = matching("{serverSideApply: false}");
    assert_eq!(routed_by(&off, "PATCH", pod, &[yaml]), "call");
}

#[test]
fn resources_are_matched_as_the_configuration_lists_them() {
    const POD: &str = "/api/v1/namespaces/ns/pods";
    const JOB: &str = "/apis/batch/v1/namespaces/ns/jobs";
    const OLD_JOB: &str = "/apis/batch/v1beta1/namespaces/ns/jobs";
    const WORKFLOW: &str = "/apis/argoproj.io/v1alpha1/namespaces/ns/workflows";
    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
    const EVENT: &str = "/api/v1/namespaces/ns/events";
    const ALL: [&str; 6] = [POD, JOB, OLD_JOB, WORKFLOW, LEASE, EVENT];
    let everything = [POD, JOB, OLD_JOB, WORKFLOW];
    let table: [(&str, &[&str]); 14] = [
        ("{}", &everything),
        (
            "{resources: [{group: '*', version: '*', resource: '*'}]}",
            &everything,
        ),
        ("{resources: [{group: '*', resource: '*'}]}", &everything),
        ("{except: []}", &everything),
        ("{resources: [{resource: pods}]}", &[POD]),
        ("{resources: [{resource: pods}, {resource: pods}]}", &[POD]),
        ("{resources: [{resource: '*'}]}", &[POD]),
        (
            "{resources: [{group: batch, resource: jobs}]}",
            &[JOB, OLD_JOB],
        ),
        (
            "{resources: [{group: batch, version: v1, resource: jobs}]}",
            &[JOB],
        ),
        (
            "{resources: [{group: '*', version: v1, resource: '*'}]}",
            &[POD, JOB],
        ),
        (
            "{except: [{group: batch, resource: '*'}]}",
            &[POD, WORKFLOW],
        ),
        (
            "{except: [{group: batch, version: v1beta1, resource: jobs}, {group: '*', resource: workflows}]}",
            &[POD, JOB],
        ),
        (
            "{resources: [{resource: pods}], except: [{resource: secrets}]}",
            &[POD],
        ),
        (
            "{resources: [{group: coordination.k8s.io, resource: '*'}, {resource: pods}]}",
            &[POD],
        ),
    ];
    every(table, |(creates, expected)| {
        let matched = matching(creates);
        let found: Vec<_> = ALL
            .into_iter()
            .filter(|path| routed_by(&matched, "POST", path, &[]).starts_with("create "))
            .collect();
        assert_eq!(found, expected, "{creates}");
    });
}
