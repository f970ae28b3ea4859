//! The identity and address of the client: headers that a client could forge are removed, and
//! credentials cannot be dropped by the client.

use bytes::Bytes;
use http::header::{AUTHORIZATION, TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;

use crate::cases::every;
use crate::malformed::own_status;
use crate::support::peers::Http2Upstream;
use crate::support::raw::{Head, Upstream};
use crate::support::streaming::Fed;
use crate::support::{Client, Protocol, Rig, pod, proxy_to, soon};

/// Trailers that may pass, and trailers that may not.
const TRAILERS: [(&str, &str); 14] = [
    ("x-checksum", "c0ffee"),
    ("authorization", "Bearer root"),
    ("content-length", "3"),
    ("content-type", "text/plain"),
    ("cookie", "a=b"),
    ("forwarded", "for=192.0.2.60"),
    ("host", "elsewhere"),
    ("impersonate-user", "root"),
    ("x-forwarded-for", "192.0.2.60"),
    ("x-real-ip", "192.0.2.60"),
    ("x-remote-user", "root"),
    ("x_remote_group", "system:masters"),
    ("if-match", "x"),
    ("x-part", "1"),
];

/// The names in the format of the `Trailer` header.
fn names() -> String {
    TRAILERS.map(|(name, _)| name).join(", ")
}

fn trailers() -> HeaderMap {
    TRAILERS
        .into_iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

fn assert_cleaned(trailers: &HeaderMap) {
    let left: Vec<_> = trailers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(left, [("x-checksum", "c0ffee"), ("x-part", "1")]);
}

#[tokio::test]
async fn what_connection_must_not_name_is_refused_by_name() {
    const NAMES: [&str; 8] = [
        "Authorization",
        "Impersonate-User",
        "content-type",
        "Content-Length",
        "Host",
        "User-Agent",
        "Accept",
        "Via",
    ];
    const LINES: [&str; 4] = [
        "GET /livez HTTP/1.1\r\n",
        "POST /api/v1/namespaces/team/pods HTTP/1.1\r\n",
        "GET /api/v1/pods?watch=1 HTTP/1.1\r\n",
        "POST /api/v1/namespaces/team/pods/a/exec HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n",
    ];
    let rig = Rig::new().await;
    let mut raw = rig.raw().await;
    let token = rig.plane.token();
    let rows = NAMES
        .iter()
        .flat_map(|named| LINES.map(|line| (*named, line)));
    every(rows, async |(named, line)| {
        let lines = format!(
            "{line}Host: a\r\nAuthorization: Bearer {token}\r\nImpersonate-User: jane\r\nContent-Length: 0\r\n"
        );
        raw.write(format!("{lines}Connection: keep-alive, {named}\r\n\r\n"))
            .await;
        let (head, body) = raw.answer().await;
        assert_eq!(head.status(), StatusCode::BAD_REQUEST, "{named} {line}");
        let message = own_status(&body, 400, "BadRequest");
        assert!(
            message.contains(&format!("names {},", named.to_lowercase())),
            "{message}"
        );
    })
    .await;
    assert!(rig.plane.journal().is_empty());
    // Two neighbouring hops may agree on other headers.
    raw.write(format!("GET /livez HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: X-Mine\r\nX-Mine: 1\r\n\r\n")).await;
    assert_eq!(raw.answer().await.1, b"ok");
    rig.stop().await;
}

cases!(an_answer_is_whole_whatever_its_connection_names, protocols);
async fn an_answer_is_whole_whatever_its_connection_names(protocol: Protocol) {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut client = Client::connect(
        proxy.address,
        proxy.ca_pem.as_deref().unwrap(),
        "t",
        protocol,
    )
    .await;
    let asking = tokio::spawn(async move { client.get("/version").await });
    let (_, mut connection) = upstream.request().await;
    connection
        .write("HTTP/1.1 429 Too Many Requests\r\nConnection: close, Content-Type, Retry-After, X-Mine, Content-Length\r\n")
        .await;
    connection
        .write("Content-Type: a/b\r\nRetry-After: 7\r\nX-Mine: 1\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let answer = soon(asking).await.unwrap();
    assert_eq!(
        (
            &answer.headers["content-type"],
            &answer.headers["retry-after"],
            &*answer.body
        ),
        (&"a/b".parse().unwrap(), &"7".parse().unwrap(), &b"ok"[..])
    );
    assert!(!answer.headers.contains_key("x-mine"));
    proxy.stop().await;
}

cases!(nobody_impersonates_anybody_without_credentials, protocols);
async fn nobody_impersonates_anybody_without_credentials(protocol: Protocol) {
    const NAMES: [&str; 5] = [
        "impersonate-user",
        "impersonate-group",
        "impersonate-extra-scopes",
        "impersonate-uid",
        "impersonate_user",
    ];
    const REQUESTS: [(Method, &str); 3] = [
        (Method::GET, "/livez"),
        (Method::POST, "/api/v1/namespaces/team/pods"),
        (Method::GET, "/api/v1/namespaces/team/pods?watch=1"),
    ];
    let rig = Rig::new().await;
    let mut client = rig.client(protocol).await;
    let rows = NAMES
        .iter()
        .flat_map(|name| REQUESTS.map(|(method, path)| (*name, method, path)));
    every(rows, async |(name, method, path)| {
        let mut request = client.request(method, path, pod("a"));
        request.headers_mut().remove(AUTHORIZATION);
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static("system:masters"));
        let answer = client.ask(request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(
            own_status(&answer.body, 400, "BadRequest").contains("credentials"),
            "{answer:?}"
        );
    })
    .await;
    assert!(rig.plane.journal().is_empty());
    let mut request = client.request(Method::GET, "/echo", "");
    request
        .headers_mut()
        .insert("impersonate-user", HeaderValue::from_static("jane"));
    assert_eq!(
        client.ask(request).await.json()["headers"]["impersonate-user"],
        json!(["jane"]),
        "with credentials it passes"
    );
    rig.stop().await;
}

#[tokio::test]
async fn the_token_of_a_browsers_websocket_is_credentials_too() {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let exec = "GET /api/v1/namespaces/team/pods/a/exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Impersonate-User: jane\r\nSec-WebSocket-Protocol: v5.channel.k8s.io";
    let mut raw = crate::support::raw::Raw::new(
        crate::support::tls_stream(
            proxy.address,
            proxy.ca_pem.as_deref().unwrap(),
            Protocol::Http1,
        )
        .await,
    );
    raw.write(format!("{exec}\r\n\r\n")).await;
    own_status(&raw.answer().await.1, 400, "BadRequest");
    raw.write(format!(
        "{exec}, base64url.bearer.authorization.k8s.io.dG9rZW4\r\n\r\n"
    ))
    .await;
    assert_eq!(upstream.request().await.0.all("impersonate-user"), ["jane"]);
    drop(raw);
    proxy.stop().await;
}

cases!(no_spelling_of_an_identity_or_an_address_passes, pairs);
async fn no_spelling_of_an_identity_or_an_address_passes(down: Protocol, up: Protocol) {
    const SAID: [&str; 9] = [
        "x-remote-user",
        "x-remote-uid",
        "x_remote_user",
        "x-remote_extra-scopes",
        "x-real-ip",
        "x_real_ip",
        "x-forwarded-for",
        "x_forwarded_for",
        "forwarded",
    ];
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    let mut request = client.request(Method::GET, "/echo", "");
    for name in SAID.into_iter().chain(["x-forwarded-proto", "x-remotely"]) {
        request
            .headers_mut()
            .append(name, HeaderValue::from_static("192.0.2.60"));
    }
    let echo = client.ask(request).await.json();
    let headers = echo["headers"].as_object().unwrap();
    let passed: Vec<_> = SAID
        .into_iter()
        .filter(|name| headers.contains_key(*name))
        .collect();
    assert_eq!(passed, ["x-forwarded-for"]);
    assert_eq!(headers["x-forwarded-for"], json!(["127.0.0.1"]));
    assert!(headers.contains_key("x-forwarded-proto") && headers.contains_key("x-remotely"));
    rig.stop().await;
}

async fn send_with_trailers(
    client: &mut Client,
    method: Method,
    path: &str,
) -> crate::support::Answer {
    let body = Fed::whole([Bytes::from(pod("a"))], Some(trailers())).await;
    let mut request = client.request(method, path, "").map(|_| body);
    request
        .headers_mut()
        .insert(TRAILER, names().parse().unwrap());
    request
        .headers_mut()
        .insert(TE, HeaderValue::from_static("trailers"));
    client.ask(request).await
}

cases!(
    trailers_to_and_from_an_http2_upstream_say_nothing_that_they_may_not,
    protocols,
    [
        create(Method::POST, "/api/v1/namespaces/team/pods"),
        call(Method::PUT, "/echo")
    ]
);
async fn trailers_to_and_from_an_http2_upstream_say_nothing_that_they_may_not(
    down: Protocol,
    method: Method,
    path: &'static str,
) {
    let upstream = Http2Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), &upstream.ca_pem, |_| {}).await;
    let mut client =
        Client::connect(proxy.address, proxy.ca_pem.as_deref().unwrap(), "t", down).await;
    let asking = tokio::spawn(async move { send_with_trailers(&mut client, method, path).await });
    let (request, mut answer) = upstream.request().await;
    let mut body = request.into_body();
    while let Some(data) = soon(body.data()).await {
        let _ = body.flow_control().release_capacity(data.unwrap().len());
    }
    let arrived = soon(body.trailers()).await.unwrap().unwrap();
    // The HTTP/1.1 client of the test omits headers that it knows to be forbidden, so it sends only
    // a part of them.
    assert_cleaned(&arrived);
    let head = http::Response::builder()
        .header(TRAILER, names())
        .body(())
        .unwrap();
    let mut stream = answer.send_response(head, false).unwrap();
    stream.send_data("ok".into(), false).unwrap();
    stream.send_trailers(trailers()).unwrap();
    let answer = soon(asking).await.unwrap();
    assert_eq!(answer.body, "ok");
    assert_cleaned(&answer.trailers.unwrap());
    proxy.stop().await;
}

cases!(
    trailers_to_and_from_an_http1_upstream_say_nothing_that_they_may_not,
    protocols,
    [
        create(Method::POST, "/api/v1/namespaces/team/pods"),
        call(Method::PUT, "/echo")
    ]
);
async fn trailers_to_and_from_an_http1_upstream_say_nothing_that_they_may_not(
    down: Protocol,
    method: Method,
    path: &'static str,
) {
    let lines = TRAILERS
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .concat();
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut client =
        Client::connect(proxy.address, proxy.ca_pem.as_deref().unwrap(), "t", down).await;
    let asking = tokio::spawn(async move { send_with_trailers(&mut client, method, path).await });
    let (_, mut connection) = upstream.request().await;
    // The last chunk and the trailers after it have the format of a head without its first line.
    let end = connection.head().await;
    let arrived = Head {
        line: String::new(),
        headers: end
            .headers
            .into_iter()
            .filter(|(name, _)| !name.contains('{'))
            .collect(),
    };
    assert_eq!(
        arrived.headers,
        [
            ("x-checksum".to_owned(), "c0ffee".to_owned()),
            ("x-part".into(), "1".into())
        ]
    );
    connection
        .write(format!("HTTP/1.1 200 OK\r\nTrailer: {}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{lines}\r\n", names()))
        .await;
    let answer = soon(asking).await.unwrap();
    assert_eq!(answer.body, "ok");
    assert_cleaned(&answer.trailers.unwrap());
    proxy.stop().await;
}

cases!(trailers_with_nothing_left_in_them_are_the_end, pairs);
async fn trailers_with_nothing_left_in_them_are_the_end(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    let only = HeaderMap::from_iter([(
        HeaderName::from_static("x-real-ip"),
        HeaderValue::from_static("192.0.2.60"),
    )]);
    let body = Fed::whole([Bytes::from_static(b"body")], Some(only)).await;
    let mut request = client.request(Method::PUT, "/echo", "").map(|_| body);
    request
        .headers_mut()
        .insert(TRAILER, HeaderValue::from_static("x-real-ip"));
    let echo = client.ask(request).await.json();
    assert_eq!(
        (&echo["body"], &echo["trailers"]),
        (&json!("body"), &json!(null))
    );
    rig.stop().await;
}
