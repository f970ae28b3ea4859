//! Answers that switch to a protocol that the client did not request.

use http::{Method, StatusCode};

use super::own_status;
use crate::support::raw::{Raw, Upstream};
use crate::support::{Client, Protocol, pod, proxy_to, sample, soon, tls_stream};

cases!(
    a_101_that_nobody_asked_for_is_a_bad_gateway,
    protocols,
    [
        create(Method::POST, "/api/v1/namespaces/team/pods"),
        call(Method::GET, "/api/v1/namespaces/team/pods"),
        watch(Method::GET, "/api/v1/namespaces/team/pods?watch=true")
    ]
);
async fn a_101_that_nobody_asked_for_is_a_bad_gateway(
    protocol: Protocol,
    method: Method,
    path: &str,
) {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nwhatever this is";
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut client = Client::connect(
        proxy.address,
        proxy.ca_pem.as_deref().unwrap(),
        "t",
        protocol,
    )
    .await;
    let request = client.request(method, path, pod("a"));
    let asking = tokio::spawn(async move { (client.ask(request).await, client) });
    let (_, mut connection) = upstream.request().await;
    connection.write(SWITCH).await;
    let (answer, mut client) = soon(asking).await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(own_status(&answer.body, 502, "BadGateway").contains("nobody asked for"));
    assert_eq!(
        connection.rest().await,
        pod("a").as_bytes(),
        "the request's body, and no further request"
    );
    // The client and the upstream still work afterwards.
    let asking = tokio::spawn(async move { client.get("/version").await });
    upstream
        .request()
        .await
        .1
        .write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    assert_eq!(soon(asking).await.unwrap().body, "ok");
    assert_eq!(
        sample(
            &proxy,
            "kube_retry_proxy_upstream_errors_total{kind=\"switched\"}"
        ),
        1.0
    );
    proxy.stop().await;
}

cases!(
    an_upgrade_to_another_protocol_than_was_asked_for_is_a_bad_gateway,
    [
        another("SPDY/3.1", "Upgrade: websocket\r\n", false),
        none("websocket", "", false),
        several("websocket", "Upgrade: websocket, SPDY/3.1\r\n", false),
        one_of_several("websocket, SPDY/3.1", "Upgrade: SPDY/3.1\r\n", true),
        the_same_in_other_letters("websocket", "Upgrade: WebSocket\r\n", true),
    ]
);
async fn an_upgrade_to_another_protocol_than_was_asked_for_is_a_bad_gateway(
    asked: &str,
    answered: &str,
    agreed: bool,
) {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut raw = Raw::new(
        tls_stream(
            proxy.address,
            proxy.ca_pem.as_deref().unwrap(),
            Protocol::Http1,
        )
        .await,
    );
    let head =
        "GET /api/v1/namespaces/team/pods/a/exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n";
    raw.write(format!("{head}Upgrade: {asked}\r\n\r\n")).await;
    let (_, mut connection) = upstream.request().await;
    connection
        .write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{answered}\r\n"
        ))
        .await;
    if agreed {
        assert_eq!(raw.head().await.status(), StatusCode::SWITCHING_PROTOCOLS);
        raw.write("ping").await;
        assert_eq!(connection.exactly(4).await, b"ping");
    } else {
        own_status(&raw.answer().await.1, 502, "BadGateway");
        assert_eq!(connection.rest().await, b"");
    }
    drop((raw, connection));
    proxy.stop().await;
}

#[tokio::test]
async fn an_http10_client_is_offered_no_upgrade() {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut raw = Raw::new(
        tls_stream(
            proxy.address,
            proxy.ca_pem.as_deref().unwrap(),
            Protocol::Http1,
        )
        .await,
    );
    raw.write("GET /api/v1/namespaces/team/pods/a/exec HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let (head, mut connection) = upstream.request().await;
    assert!(
        head.all("upgrade").is_empty() && head.all("connection").is_empty(),
        "{head:?}"
    );
    connection
        .write("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(raw.head().await.status(), StatusCode::FORBIDDEN);
    proxy.stop().await;
}
