//! The reason phrases of HTTP/1.1 are those of kube-apiserver.

use http::StatusCode;

use model_control_plane::{Canned, Fault};

use crate::cases::every;
use crate::support::raw::{Raw, Upstream};
use crate::support::{NAMESPACE, Protocol, Rig, pod, proxy_to, rig, soon, speaking, tls_stream};

/// What Go's `http.StatusText` says, for each code that it knows.
const GO: &str = include_str!("../samples/go_status_text.tsv");

/// Every final code that Go knows, and some that it does not, with what its server writes.
fn phrases() -> Vec<(u16, String)> {
    let known = GO.lines().map(|line| {
        let (code, text) = line.split_once('\t').unwrap();
        (code.parse().unwrap(), text.to_owned())
    });
    let unknown = [218, 419, 509, 520, 599].map(|code| (code, format!("status code {code}")));
    known
        .chain(unknown)
        .filter(|(code, _)| *code >= 200)
        .collect()
}

fn requests() -> [String; 2] {
    let pod = pod("a");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    [
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\r\n"),
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{pod}",
            pod.len()
        ),
    ]
}

#[tokio::test]
async fn an_answer_over_http2_gets_the_phrase_of_go() {
    let rig = Rig::with(speaking(Protocol::Http2), |config| {
        config.replay.max_attempts = 1.try_into().unwrap();
    })
    .await;
    let mut raw = rig.raw().await;
    let rows = phrases()
        .into_iter()
        .flat_map(|(code, phrase)| requests().map(|request| (code, phrase.clone(), request)));
    every(rows, async |(code, phrase, request)| {
        let status = StatusCode::from_u16(code).unwrap();
        let canned = Canned::new(status, "text/plain", "");
        rig.faults().next_request(Fault::Answer(canned));
        raw.write(request.replace("Bearer t", &format!("Bearer {}", rig.plane.token())))
            .await;
        let (head, _) = raw.answer().await;
        assert_eq!(head.line, format!("HTTP/1.1 {code} {phrase}"));
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn an_answer_over_http1_keeps_its_phrase() {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |config| {
        config.replay.max_attempts = 1.try_into().unwrap();
    })
    .await;
    let ca = proxy.ca_pem.clone().unwrap();
    let mut raw = Raw::new(tls_stream(proxy.address, &ca, Protocol::Http1).await);
    let mut lines: Vec<_> = phrases()
        .into_iter()
        .map(|(code, phrase)| format!("{code} {phrase}"))
        .collect();
    lines.extend(
        [
            "409 X",
            "409 ",
            "413 Payload Too Large",
            "413 Content Too Large",
            "414 URI Too Long",
            "200 Fine",
            "509 Bandwidth Limit Exceeded",
            "400 Bad Request: missing required Host header",
        ]
        .map(str::to_owned),
    );
    let rows = lines
        .into_iter()
        .flat_map(|line| requests().map(|request| (line.clone(), request)));
    every(rows, async |(line, request)| {
        let answering = async {
            let (head, mut connection) = upstream.request().await;
            if let [length] = head.all("content-length")[..] {
                connection.exactly(length.parse().unwrap()).await;
            }
            connection
                .write(format!(
                    "HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                ))
                .await;
        };
        let asking = async {
            raw.write(&request).await;
            assert_eq!(raw.head().await.line, format!("HTTP/1.1 {line}"));
        };
        tokio::join!(asking, answering);
    })
    .await;
    proxy.stop().await;
}

/// What the proxy answers itself, by the handler and in place of hyper.
#[tokio::test]
async fn the_own_answers_have_the_phrases_of_go() {
    let rig = rig(|config| config.serving.max_head = 1 << 20).await;
    let long = "a".repeat(66_000);
    let rows = [
        ("CONNECT a:443".to_owned(), "405 Method Not Allowed"),
        ("GET a:443".to_owned(), "400 Bad Request"),
        ("GET /a%zz".to_owned(), "400 Bad Request"),
        ("GET /a\"?b<c".to_owned(), "400 Bad Request"),
        (format!("GET /{long}"), "414 Request URI Too Long"),
    ];
    every(rows, async |(line, phrase)| {
        let mut raw = rig.raw().await;
        raw.write(format!(
            "{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\r\n"
        ))
        .await;
        let head = soon(raw.head()).await;
        assert_eq!(head.line, format!("HTTP/1.1 {phrase}"));
        assert_ne!(head.status(), StatusCode::OK);
    })
    .await;
    rig.stop().await;
}
