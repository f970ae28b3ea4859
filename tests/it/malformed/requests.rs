//! Requests without exactly one host or path, and requests in unusual notation.

use std::time::Duration;

use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use model_control_plane::Encoding;
use tokio::io::{AsyncRead, AsyncWrite};

use super::own_status;
use crate::cases::every;
use crate::support::frames::{Fields, Frames, StreamEnd};
use crate::support::peers::Http2Upstream;
use crate::support::raw::{Raw, Upstream};
use crate::support::{Client, NAMESPACE, Protocol, Rig, pod, proxy_to, soon, tls_stream};

/// RFC 9113 §7.
const PROTOCOL_ERROR: u32 = 1;

async fn frames(rig: &Rig) -> Frames<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    Frames::over(
        tls_stream(
            rig.proxy.address,
            rig.proxy.ca_pem.as_deref().unwrap(),
            Protocol::Http2,
        )
        .await,
    )
    .await
}

/// A valid request on the same connection.
async fn still_serves<S: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<S>, rig: &Rig) {
    raw.write(format!(
        "GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        rig.plane.token()
    ))
    .await;
    assert_eq!(raw.answer().await.1, b"ok");
}

#[tokio::test]
async fn a_request_without_one_valid_host_is_refused() {
    const HOSTS: [(&str, &str); 8] = [
        ("", "no host"),
        ("Host: a\r\nHost: a\r\n", "more than one"),
        ("Host: a\r\nX: y\r\nhost: b\r\n", "more than one"),
        ("Host: a b\r\n", "optional port"),
        ("Host: user@a\r\n", "optional port"),
        ("Host: a/b\r\n", "optional port"),
        ("Host: a:b\r\n", "optional port"),
        ("Host: [::1\r\n", "optional port"),
    ];
    const LINES: [&str; 4] = [
        "GET /livez",
        "GET https://a/livez",
        "POST /api/v1/namespaces/team/pods",
        "GET /api/v1/pods?watch=1",
    ];
    let rig = Rig::new().await;
    let mut raw = rig.raw().await;
    let rows = HOSTS
        .iter()
        .flat_map(|(hosts, says)| LINES.map(|line| (*hosts, *says, line)));
    every(rows, async |(hosts, says, line)| {
        raw.write(format!(
            "{line} HTTP/1.1\r\n{hosts}Authorization: Bearer {}\r\n\r\n",
            rig.plane.token()
        ))
        .await;
        let (head, body) = raw.answer().await;
        assert_eq!(head.status(), StatusCode::BAD_REQUEST);
        assert!(own_status(&body, 400, "BadRequest").contains(says));
    })
    .await;
    assert!(rig.plane.journal().is_empty());
    still_serves(&mut raw, &rig).await;
    // HTTP/1.0 allows clients without a host.
    raw.write(format!(
        "GET /livez HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n",
        rig.plane.token()
    ))
    .await;
    assert_eq!(raw.head().await.status(), StatusCode::OK);
    rig.stop().await;
}

#[tokio::test]
async fn in_http2_host_and_authority_are_one() {
    let rig = Rig::new().await;
    let bearer = format!("Bearer {}", rig.plane.token());
    let mut frames = frames(&rig).await;
    let start = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/livez"),
    ];
    let cases: [(Fields<'_>, Option<&str>); 6] = [
        (&[], Some("no host")),
        (&[("host", "a"), ("host", "a")], Some("more than one")),
        (
            &[(":authority", "a"), ("host", "b")],
            Some("different servers"),
        ),
        (&[(":authority", "u@a")], Some("optional port")),
        (&[("host", "a")], None),
        (&[(":authority", "a"), ("host", "A:443")], None),
    ];
    every(cases, async |(lines, says)| {
        let head = [&start[..], lines, &[("authorization", &bearer)]].concat();
        let StreamEnd::Answered(body) = frames.ask(&head, b"", None).await else {
            panic!("{lines:?}")
        };
        match says {
            Some(says) => assert!(
                own_status(&body, 400, "BadRequest").contains(says),
                "{lines:?}"
            ),
            None => assert_eq!(body, b"ok", "{lines:?}"),
        }
    })
    .await;
    let twice = [&start[..], &[(":authority", "a"), (":authority", "b")]].concat();
    assert_eq!(
        frames.ask(&twice, b"", None).await,
        StreamEnd::Reset(PROTOCOL_ERROR)
    );
    assert_eq!(rig.plane.journal().attempts().len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn a_target_that_is_no_path_is_refused_and_connect_is_not_allowed() {
    let rig = Rig::new().await;
    let mut raw = rig.raw().await;
    every(
        [
            ("GET example.com:443", 400, "BadRequest"),
            ("POST example.com:443", 400, "BadRequest"),
            ("GET example", 400, "BadRequest"),
            ("CONNECT example.com:443", 405, "MethodNotAllowed"),
            ("CONNECT /api/v1/pods", 405, "MethodNotAllowed"),
        ],
        async |(line, code, reason)| {
            raw.write(format!(
                "{line} HTTP/1.1\r\nHost: example.com\r\nAuthorization: Bearer {}\r\n\r\n",
                rig.plane.token()
            ))
            .await;
            let (head, body) = raw.answer().await;
            assert_eq!(head.status().as_u16(), code, "{line}");
            assert_eq!(head.all("allow").is_empty(), code != 405);
            own_status(&body, code, reason);
            still_serves(&mut raw, &rig).await;
        },
    )
    .await;
    let mut frames = frames(&rig).await;
    let connect = frames
        .ask(
            &[(":method", "CONNECT"), (":authority", "example.com:443")],
            b"",
            None,
        )
        .await;
    let StreamEnd::Answered(body) = connect else {
        panic!("{connect:?}")
    };
    own_status(&body, 405, "MethodNotAllowed");
    assert_eq!(
        rig.plane.journal().attempts().len(),
        5,
        "the ones that pass"
    );
    rig.stop().await;
}

cases!(
    a_refusal_is_encoded_as_was_asked_and_has_no_body_for_head,
    protocols
);
async fn a_refusal_is_encoded_as_was_asked_and_has_no_body_for_head(protocol: Protocol) {
    let rig = Rig::new().await;
    let mut client = rig.client(protocol).await;
    let mut asked = async |method: Method, accept: &'static str| {
        let mut request = client.request(method, "/livez", "");
        request
            .headers_mut()
            .append(HOST, HeaderValue::from_static("other"));
        request
            .headers_mut()
            .append(HOST, HeaderValue::from_static("another"));
        let accept = HeaderValue::from_static(accept);
        request.headers_mut().insert(ACCEPT, accept);
        client.ask(request).await
    };
    every(
        [Encoding::Json, Encoding::Protobuf, Encoding::Yaml],
        async |encoding| {
            let answer = asked(Method::GET, encoding.media_type()).await;
            assert_eq!(
                (answer.status, Encoding::of(&answer.body)),
                (StatusCode::BAD_REQUEST, encoding)
            );
            own_status(&answer.body, 400, "BadRequest");
        },
    )
    .await;
    // As the dynamic client of client-go asks for it.
    let answer = asked(Method::GET, "application/json;q=0.9,application/cbor;q=1").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.headers[CONTENT_TYPE], "application/cbor");
    assert!(answer.body.starts_with(b"\xd9\xd9\xf7\xa7DkindFStatus"));
    let answer = asked(Method::HEAD, "application/json").await;
    assert_eq!(
        (answer.status, answer.body.len()),
        (StatusCode::BAD_REQUEST, 0)
    );
    assert!(answer.headers.get(ALLOW).is_none());
    assert_eq!(client.get("/livez").await.body, "ok");
    rig.stop().await;
}

/// h2 removes them, so they cannot reach the upstream.
#[tokio::test]
async fn pseudo_headers_in_trailers_reach_nobody() {
    let upstream = Http2Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), &upstream.ca_pem, |_| {}).await;
    let mut frames = Frames::over(
        tls_stream(
            proxy.address,
            proxy.ca_pem.as_deref().unwrap(),
            Protocol::Http2,
        )
        .await,
    )
    .await;
    let asking = tokio::spawn(async move {
        let head = [
            (":method", "PUT"),
            (":scheme", "https"),
            (":path", "/a"),
            (":authority", "a"),
            ("authorization", "Bearer t"),
        ];
        frames
            .ask(
                &head,
                b"body",
                Some(&[(":path", "/b"), (":authority", "b"), ("x-checksum", "1")]),
            )
            .await
    });
    let (request, mut answer) = upstream.request().await;
    assert_eq!(request.uri().path(), "/a");
    let mut body = request.into_body();
    while let Some(data) = soon(body.data()).await {
        assert_eq!(data.unwrap(), "body");
    }
    let trailers = soon(body.trailers()).await.unwrap().unwrap();
    assert_eq!(
        trailers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect::<Vec<_>>(),
        [("x-checksum", &b"1"[..])]
    );
    answer.send_response(http::Response::new(()), true).unwrap();
    assert_eq!(soon(asking).await.unwrap(), StreamEnd::Answered(Vec::new()));
    proxy.stop().await;
}

cases!(
    the_cookie_lines_of_an_http2_client_are_one_line_in_http1,
    protocols,
    [get(Method::GET), post(Method::POST)]
);
async fn the_cookie_lines_of_an_http2_client_are_one_line_in_http1(
    protocol: Protocol,
    method: Method,
) {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut client = Client::connect(
        proxy.address,
        proxy.ca_pem.as_deref().unwrap(),
        "t",
        protocol,
    )
    .await;
    let mut request: Request<Full<_>> = client.request(
        method,
        &format!("/api/v1/namespaces/{NAMESPACE}/pods"),
        pod("a"),
    );
    for cookie in ["a=b", "c=d; e=f", "g=h"] {
        request
            .headers_mut()
            .append("cookie", HeaderValue::from_static(cookie));
    }
    let asking = tokio::spawn(async move { client.ask(request).await });
    let (head, mut connection) = upstream.request().await;
    assert_eq!(head.all("cookie"), ["a=b; c=d; e=f; g=h"]);
    connection
        .write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(soon(asking).await.unwrap().status, StatusCode::OK);
    proxy.stop().await;
}

cases!(
    a_create_by_any_spelling_of_its_path_is_replayed_and_limited_as_one,
    [
        a_slash_at_its_end("/api/v1/namespaces/team/pods/"),
        an_escaped_letter("/api/v1/namespaces/team/%70ods"),
        escaped_and_doubled_slashes("/api/v1/namespaces%2Fteam/pods//"),
    ]
);
async fn a_create_by_any_spelling_of_its_path_is_replayed_and_limited_as_one(path: &'static str) {
    const CONFLICT: &[u8] = include_bytes!("../../samples/quota_conflict_409.http");
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |config| {
        config.replay.base_delay = Duration::from_millis(1);
        config.rate_limit.namespace = Some(kube_retry_proxy::config::Rate::new(0.001, 1));
        config.rate_limit.max_wait = Duration::ZERO.try_into().unwrap();
    })
    .await;
    let mut client = Client::connect(
        proxy.address,
        proxy.ca_pem.as_deref().unwrap(),
        "t",
        Protocol::Http1,
    )
    .await;
    let request = client.request(Method::POST, path, pod("a"));
    let asking = tokio::spawn(async move { (client.ask(request).await, client) });
    for answer in [
        CONFLICT,
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ] {
        let (head, mut connection) = upstream.request().await;
        assert_eq!(head.line, format!("POST {path} HTTP/1.1"), "as it was sent");
        connection.write(answer).await;
        connection.shutdown().await;
    }
    let (answer, mut client) = soon(asking).await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED);
    let plain = client.request(Method::POST, "/api/v1/namespaces/team/pods", pod("b"));
    assert_eq!(
        client.ask(plain).await.status,
        StatusCode::TOO_MANY_REQUESTS,
        "one line for all spellings"
    );
    proxy.stop().await;
}
