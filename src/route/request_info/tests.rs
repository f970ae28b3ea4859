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
