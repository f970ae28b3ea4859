//! Requests that last: streams and upgrades.

use super::*;

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
