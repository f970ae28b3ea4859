//! Requests and answers from people's clusters, reduced from public reports: the forms that clients
//! and load balancers use, and what webhooks and older apiservers say.

use http::{HeaderValue, Method, StatusCode};
use model_control_plane::{Canned, Fault};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cases::every;
use crate::support::raw::{Head, Raw, Upstream};
use crate::support::{NAMESPACE, Protocol, Rig, proxy_to, sample, speaking, tls_stream};

macro_rules! practice {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!("../samples/practice/", $name, ".http")).as_slice())),+]
    };
}

async fn raw_to(proxy: &kube_retry_proxy::app::App) -> Raw<impl AsyncRead + AsyncWrite + Unpin> {
    let ca = proxy.ca_pem.as_deref().unwrap();
    Raw::new(tls_stream(proxy.address, ca, Protocol::Http1).await)
}

/// `Connection` and `Upgrade` are lists of tokens in any case, over any number of lines (RFC 9110
/// §7.6.1, §7.8).
#[tokio::test]
async fn every_form_of_an_upgrade_becomes_a_tunnel() {
    let rows = practice![
        "upgrade-header-forms/browser-with-bearer-protocol",
        "upgrade-header-forms/connection-list-with-close",
        "upgrade-header-forms/connection-three-lines",
        "upgrade-header-forms/lower-case",
        "upgrade-header-forms/portforward-websocket",
    ];
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    every(rows, async |(_, request)| {
        let mut client = raw_to(&proxy).await;
        client.write(request).await;
        let (arrived, mut server) = upstream.request().await;
        let sent = Head::parse(request);
        assert_eq!(arrived.line, sent.line);
        assert_eq!(arrived.all("connection"), ["Upgrade"]);
        for kept in ["upgrade", "sec-websocket-protocol", "x-stream-protocol-version", "origin"] {
            assert_eq!(arrived.all(kept), sent.all(kept), "{kept}");
        }
        let protocol = sent.all("upgrade")[0].to_owned();
        server
            .write(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            ))
            .await;
        let head = client.head().await;
        assert_eq!(head.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(head.all("upgrade"), [protocol]);
        client.write("ping").await;
        assert_eq!(server.exactly(4).await, b"ping");
        server.write("pong").await;
        assert_eq!(client.exactly(4).await, b"pong");
    })
    .await;
    proxy.stop().await;
}

fn http_1_0(name: &str, rig: &Rig) -> Vec<u8> {
    let rows = practice!["http-1.0/create", "http-1.0/keep-alive", "http-1.0/watch"];
    let request = rows
        .iter()
        .find(|(other, _)| other.ends_with(name))
        .unwrap()
        .1;
    String::from_utf8(request.to_vec())
        .unwrap()
        .replace("Bearer t-1", &format!("Bearer {}", rig.plane.token()))
        .replace(
            "GET /version HTTP/1.0\r\n",
            &format!(
                "GET /livez HTTP/1.0\r\nAuthorization: Bearer {}\r\n",
                rig.plane.token()
            ),
        )
        .into_bytes()
}

cases!(
    a_create_over_http_1_0_ends_with_its_connection,
    [http1(Protocol::Http1), http2(Protocol::Http2)]
);
async fn a_create_over_http_1_0_ends_with_its_connection(up: Protocol) {
    let rig = Rig::speaking(up).await;
    let conflict = crate::support::captured("quota_conflict_409");
    rig.faults().next_create(Fault::Answer(conflict));
    let mut raw = rig.raw().await;
    raw.write(http_1_0("create", &rig)).await;
    let head = raw.head().await;
    assert_eq!(head.status(), StatusCode::CREATED, "after a replay");
    assert!(head.all("transfer-encoding").is_empty());
    let body: serde_json::Value = serde_json::from_slice(&raw.rest().await).unwrap();
    assert_eq!(body["metadata"]["name"], "p");
    rig.stop().await;
}

cases!(
    a_watch_over_http_1_0_brings_events_at_once_and_without_chunks,
    [http1(Protocol::Http1), http2(Protocol::Http2)]
);
async fn a_watch_over_http_1_0_brings_events_at_once_and_without_chunks(up: Protocol) {
    let rig = Rig::with(speaking(up), |_| {}).await;
    let mut writer = rig.direct(up).await;
    let mut raw = rig.raw().await;
    raw.write(http_1_0("watch", &rig)).await;
    let head = raw.head().await;
    assert_eq!(head.status(), StatusCode::OK);
    assert!(head.all("transfer-encoding").is_empty() && head.all("content-length").is_empty());
    for name in ["a", "b"] {
        assert_eq!(writer.create(name).await.status, StatusCode::CREATED);
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(raw.exactly(1).await);
        }
        let event: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(event["object"]["metadata"]["name"], name);
    }
    drop(raw);
    rig.stop().await;
}

#[tokio::test]
async fn a_client_of_http_1_0_that_asks_for_keep_alive_gets_it() {
    let rig = Rig::new().await;
    let mut raw = rig.raw().await;
    for _ in 0..2 {
        raw.write(http_1_0("keep-alive", &rig)).await;
        let (head, body) = raw.answer().await;
        assert_eq!((head.status(), &body[..]), (StatusCode::OK, &b"ok"[..]));
    }
    rig.stop().await;
}

// The proxy cannot read a compressed conflict, so it relays it.
cases!(a_compressed_answer_is_relayed_byte_for_byte, pairs);
async fn a_compressed_answer_is_relayed_byte_for_byte(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    every(
        practice!["gzip/conflict", "gzip/list"],
        async |(name, raw)| {
            let canned = canned(raw);
            let answer = if name.ends_with("conflict") {
                rig.faults().next_create(Fault::Answer(canned.clone()));
                client.create("a").await
            } else {
                rig.faults().next_request(Fault::Answer(canned.clone()));
                let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
                let mut request = client.request(Method::GET, &path, "");
                let gzip = HeaderValue::from_static("gzip");
                request.headers_mut().insert("accept-encoding", gzip);
                client.ask(request).await
            };
            assert_eq!(answer.status, canned.status);
            assert_eq!(answer.headers["content-encoding"], "gzip");
            assert_eq!(answer.body, canned.body);
        },
    )
    .await;
    assert_eq!(rig.plane.journal().attempts().len(), 2, "no replay");
    rig.stop().await;
}

/// The head of a sample is text, and its body need not be.
fn canned(raw: &[u8]) -> Canned {
    Canned::captured(raw).unwrap()
}

#[tokio::test]
async fn the_older_words_for_a_quota_that_was_not_evaluated_are_its_class() {
    let [(_, answer)] = practice!["quota-evaluates-timeout/answer"];
    every([true, false], async |enabled| {
        let rig = Rig::with(speaking(Protocol::Http2), |config| {
            config.replay.base_delay = std::time::Duration::from_millis(1);
            config.replay.quota_evaluation_timeout.enabled = enabled;
        })
        .await;
        rig.faults().next_create(Fault::Answer(canned(answer)));
        let status = rig.client(Protocol::Http2).await.create("a").await.status;
        let replays = "kube_retry_proxy_replays_total{class=\"quota_evaluation_timeout\"}";
        let expected = if enabled {
            (StatusCode::CREATED, 1.0)
        } else {
            (StatusCode::INTERNAL_SERVER_ERROR, 0.0)
        };
        assert_eq!((status, sample(&rig.proxy, replays)), expected);
        rig.stop().await;
    })
    .await;
}

/// A webhook's own quota may say the words of a ResourceQuota. Only the apiserver's own refusal is
/// waited for.
#[tokio::test]
async fn the_quota_of_a_webhook_is_relayed_at_once() {
    let rows = practice![
        "hierarchical-quota-webhook/answer",
        "hierarchical-quota-webhook/answer-capsule",
    ];
    let rig = Rig::with(speaking(Protocol::Http2), |config| {
        config.replay.exceeded_quota.enabled = true;
    })
    .await;
    let mut client = rig.client(Protocol::Http2).await;
    every(rows, async |(_, raw)| {
        let canned = canned(raw);
        rig.faults().next_create(Fault::Answer(canned.clone()));
        let before = rig.plane.journal().attempts().len();
        let answer = client.create("a").await;
        assert_eq!(
            (answer.status, &answer.body),
            (StatusCode::FORBIDDEN, &canned.body)
        );
        assert_eq!(rig.plane.journal().attempts().len(), before + 1);
    })
    .await;
    rig.stop().await;
}
