mod creates;

use super::*;
use http::HeaderValue;
use proptest::prelude::*;

/// What the section `creates` means, as YAML in one line.
fn matching(creates: &str) -> MatchedResources {
    let file = format!(
        "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\ncreates: {creates}\n"
    );
    MatchedResources::from(&config::file::parse(&file).unwrap().creates)
}

/// The default: everything with a namespace.
fn matched() -> MatchedResources {
    MatchedResources::from(&config::CreatesConfig::default())
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

/// `create NAMESPACE/RESOURCE`, `apply NAMESPACE/RESOURCE/NAME`, `call`, `stream` or `upgrade`.
fn routed(method: &str, url: &str, lines: &[(&'static str, &'static str)]) -> String {
    routed_by(&matched(), method, url, lines)
}

fn routed_by(
    matched: &MatchedResources,
    method: &str,
    url: &str,
    lines: &[(&'static str, &'static str)],
) -> String {
    let uri: Uri = url.parse().unwrap();
    match Route::of(&method.parse().unwrap(), &uri, &headers(lines), matched) {
        Route::Create(CreateTarget {
            namespace,
            resource,
            applied: Some(name),
            ..
        }) => format!("apply {namespace}/{resource}/{name}"),
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
fn long_running_requests_are_streams() {
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
fn an_offer_of_http2_is_not_an_upgrade() {
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

proptest! {
    #[test]
    fn a_create_is_exactly_its_path_decoded_and_trimmed(path in "/(api/v1|apis/batch/v1)((/|%2f)(namespaces|argo|pods|jobs|%70ods|status|)|(/|%2f)namespaces/argo/(pods|jobs|%70ods)/?){1,3}") {
        let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
        if let Route::Create(target) = Route::of(&Method::POST, &uri, &HeaderMap::new(), &matched()) {
            let (group, version, plural) = target.group_version_resource();
            let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
            let decoded = path.replace("%70", "p").replace("%2f", "/");
            prop_assert_eq!(
                format!("{root}/{version}/namespaces/{}/{plural}", target.namespace),
                decoded.trim_end_matches('/')
            );
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
