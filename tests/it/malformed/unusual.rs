//! Requests that kube-apiserver refuses, or that it answers and hyper cannot read. What is refused is
//! never answered with a code or a `Retry-After` that lets clients send it again.
//! docs/unusual-requests.md has these tables for people.

use http::StatusCode;
use tokio::io::AsyncWriteExt;

use super::own_status;
use crate::cases::every;
use crate::support::frames::{Frames, StreamEnd};
use crate::support::raw::Raw;
use crate::support::{Protocol, Rig, soon, tls_stream};

const PODS: &str = "/api/v1/namespaces/team/pods";

fn head(line: &str, lines: &str, rig: &Rig) -> String {
    let token = rig.plane.token();
    format!("{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{lines}\r\n")
}

/// What Go's server answers with the same code.
#[tokio::test]
async fn what_the_apiserver_refuses_is_refused_with_its_code() {
    let rows = [
        (
            format!("GET {PODS}/a%zz"),
            "",
            400,
            "BadRequest",
            "hexadecimal",
        ),
        (
            format!("GET {PODS}/a%"),
            "",
            400,
            "BadRequest",
            "hexadecimal",
        ),
        (
            format!("GET {PODS}/a%2"),
            "",
            400,
            "BadRequest",
            "hexadecimal",
        ),
        (
            format!("GET {PODS}/a%2?b=%zz"),
            "",
            400,
            "BadRequest",
            "hexadecimal",
        ),
        (
            format!("POST {PODS}%zz"),
            "Content-Length: 0\r\n",
            400,
            "BadRequest",
            "hexadecimal",
        ),
        (
            format!("GET {PODS}/a/log%2g?follow=1"),
            "",
            400,
            "BadRequest",
            "hexadecimal",
        ),
        (
            format!("GET {PODS}/a%zz/exec"),
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n",
            400,
            "BadRequest",
            "hexadecimal",
        ),
        (
            "GET https://a/livez%zz".to_owned(),
            "",
            400,
            "BadRequest",
            "hexadecimal",
        ),
        (
            "GET https://a?b".to_owned(),
            "",
            400,
            "BadRequest",
            "neither a path nor a URL",
        ),
        (
            "GET /livez".to_owned(),
            "Expect: nonsense\r\n",
            417,
            "ExpectationFailed",
            "Expect",
        ),
        (
            "GET /livez".to_owned(),
            "Expect: 100-continues\r\n",
            417,
            "ExpectationFailed",
            "Expect",
        ),
        (
            format!("POST {PODS}"),
            "Expect: nonsense\r\nContent-Length: 0\r\n",
            417,
            "ExpectationFailed",
            "Expect",
        ),
        (
            format!("POST {PODS}"),
            "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n",
            501,
            "NotImplemented",
            "Transfer-Encoding",
        ),
        (
            format!("POST {PODS}"),
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            501,
            "NotImplemented",
            "Transfer-Encoding",
        ),
    ];
    let rig = Rig::new().await;
    every(rows, async |(line, lines, code, reason, says)| {
        let mut raw = rig.raw().await;
        raw.write(head(&line, lines, &rig)).await;
        let (answered, body) = raw.answer().await;
        assert_eq!(answered.status().as_u16(), code);
        assert!(answered.all("retry-after").is_empty());
        let message = own_status(&body, code, reason);
        assert!(message.contains(says), "{message}");
    })
    .await;
    assert!(rig.plane.journal().is_empty(), "the apiserver saw none");
    rig.stop().await;
}

/// Each is passed on as it is.
#[tokio::test]
async fn what_the_apiserver_answers_is_answered() {
    let rows = [
        ("/livez?a=%zz", ""),
        ("/livez?a=%", ""),
        ("/livez?", ""),
        ("/livez?a?b", ""),
        ("/livez?&&;", ""),
        ("/livez?a={b}|c\\d^e`f[g]'h", ""),
        ("/livez?\u{e9}", ""),
        ("https://b/livez", ""),
        ("http://b/livez", ""),
        ("/livez", "Expect: 100-continue\r\n"),
        ("/livez", "Expect: 100-Continue\r\n"),
        ("/livez", "Expect: nonsense, 100-continue\r\n"),
        ("/livez", "Expect: 100-continue\r\nExpect: nonsense\r\n"),
        ("/livez", "Expect: \r\n"),
        ("/livez", "X: a\tb\u{e9}\r\n"),
    ];
    let rig = Rig::new().await;
    every(rows, async |(target, lines)| {
        let mut raw = rig.raw().await;
        raw.write(head(&format!("GET {target}"), lines, &rig)).await;
        let mut answered = raw.answer().await;
        if answered.0.status() == StatusCode::CONTINUE {
            answered = raw.answer().await;
        }
        assert_eq!(
            (answered.0.status(), &answered.1[..]),
            (StatusCode::OK, &b"ok"[..])
        );
    })
    .await;
    rig.stop().await;
}

/// kube-apiserver answers these. hyper and the `http` crate do not read them, so the proxy refuses
/// them, for good.
#[tokio::test]
async fn what_hyper_cannot_read_is_refused_for_good() {
    let rows = [
        ("GET /livez?a\"b", ""),
        ("GET /livez?a<b", ""),
        ("GET /livez?a>b", ""),
        ("GET /a<b", ""),
        ("GET /a>b", ""),
        ("GET /a`b", ""),
        ("GET /livez", "X: a\r\n b\r\n"),
        ("POST /livez", "Transfer-Encoding: gzip\r\n"),
    ];
    let rig = Rig::new().await;
    every(rows, async |(line, lines)| {
        let mut raw = rig.raw().await;
        raw.write(head(line, lines, &rig)).await;
        let (answered, body) = raw.answer().await;
        assert_eq!(answered.line, "HTTP/1.1 400 Bad Request");
        assert_eq!(answered.all("connection"), ["close"]);
        let message = own_status(&body, 400, "BadRequest");
        assert!(message.contains("percent-encoded"), "{message}");
        assert_eq!(raw.rest().await, b"");
    })
    .await;
    every(
        [
            &b"GET /a\xff HTTP/1.1\r\n\r\n"[..],
            b"GET /?\x80 HTTP/1.1\r\n\r\n",
        ],
        async |bytes| {
            let mut raw = rig.raw().await;
            raw.write(bytes).await;
            assert_eq!(raw.answer().await.0.status(), StatusCode::BAD_REQUEST);
        },
    )
    .await;
    every(
        [
            "HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "http/1.1", "",
        ],
        async |version| {
            let mut raw = rig.raw().await;
            raw.write(format!("GET /livez {version}\r\nHost: a\r\n\r\n"))
                .await;
            let (answered, _) = raw.answer().await;
            assert_eq!(answered.line, "HTTP/1.1 400 Bad Request");
        },
    )
    .await;
    assert!(rig.plane.journal().is_empty());
    rig.stop().await;
}

/// hyper drops the fragment, which kube-apiserver would take for a part of the path or the query.
#[tokio::test]
async fn a_fragment_is_dropped() {
    let rig = Rig::new().await;
    let mut raw = rig.raw().await;
    every(["/livez#a", "/livez#", "/livez?a#b"], async |target| {
        raw.write(head(&format!("GET {target}"), "", &rig)).await;
        assert_eq!(raw.answer().await.1, b"ok");
    })
    .await;
    rig.stop().await;
}

/// RFC 9113 §8.1.1 leaves a malformed request to its stream.
#[tokio::test]
async fn in_http2_a_broken_target_is_refused_without_a_retry() {
    let rig = Rig::new().await;
    let bearer = format!("Bearer {}", rig.plane.token());
    let ask = async |path: &str| {
        let mut frames = Frames::over(
            tls_stream(
                rig.proxy.address,
                rig.proxy.ca_pem.as_deref().unwrap(),
                Protocol::Http2,
            )
            .await,
        )
        .await;
        let head = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", path),
            ("authorization", &bearer),
        ];
        frames.ask(&head, b"", None).await
    };
    every(["/livez%zz", "/livez%", "/a%2/b?c", "?a"], async |path| {
        let StreamEnd::Answered(body) = ask(path).await else {
            panic!("no answer")
        };
        own_status(&body, 400, "BadRequest");
    })
    .await;
    every(
        ["/livez?a\"b", "/livez?a<b", "/a`b", "/a b"],
        async |path| {
            assert_eq!(ask(path).await, StreamEnd::Reset(1), "PROTOCOL_ERROR");
        },
    )
    .await;
    assert!(rig.plane.journal().is_empty());
    every(["/livez?a=%zz", "/livez?a|b{c}"], async |path| {
        assert_eq!(ask(path).await, StreamEnd::Answered(b"ok".to_vec()));
    })
    .await;
    rig.stop().await;
}

/// RFC 9113 §3.4.
#[tokio::test]
async fn after_alpn_has_chosen_http2_anything_else_ends_the_connection() {
    let rig = Rig::new().await;
    let mut neighbour = rig.client(Protocol::Http2).await;
    let ca = rig.proxy.ca_pem.as_deref().unwrap();
    let rows: [&[u8]; 7] = [
        b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"INVALID CONNECTION PREFACE\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nno frames but text\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\0",
    ];
    every(rows, async |bytes| {
        let mut stream = tls_stream(rig.proxy.address, ca, Protocol::Http2).await;
        soon(stream.write_all(bytes)).await.unwrap();
        let received = Raw::new(stream).rest().await;
        let is = |text: &[u8]| received.windows(text.len()).any(|window| window == text);
        assert!(!is(b"HTTP/1.1") && !is(b"400"), "no answer in HTTP/1.1");
        assert_eq!(neighbour.get("/livez").await.body, "ok");
    })
    .await;
    let mut raw = rig.raw().await;
    raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let _ = raw.rest().await;
    rig.stop().await;
}
