//! Request heads that kube-apiserver accepts pass up to the limit. Larger heads get an explanation.

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use model_control_plane::{Fault, Settings};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cases::every;
use crate::support::raw::{Head, Raw};
use crate::support::streaming::{Streamed, watch_path};
use crate::support::{Answer, Client, Protocol, Rig, eventually, sample, speaking};

/// The default limit, and the size of a single header that exceeds it.
const LIMIT: usize = 64 << 10;

cases!(
    twelve_hundred_groups_and_long_cookies_pass_by_default,
    pairs
);
async fn twelve_hundred_groups_and_long_cookies_pass_by_default(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    let mut request = client.request(Method::GET, "/echo", "");
    let headers = request.headers_mut();
    headers.insert("impersonate-user", HeaderValue::from_static("jane"));
    for number in 0..1200 {
        headers.append(
            "impersonate-group",
            format!("group-{number}").parse().unwrap(),
        );
    }
    headers.insert("x-cookies", "c".repeat(12 << 10).parse().unwrap());
    let lines = client.ask(request).await.json()["lines"]
        .as_array()
        .unwrap()
        .len();
    assert!(lines > 1200, "{down:?} {up:?}: {lines}");
    rig.stop().await;
}

#[tokio::test]
async fn a_head_over_the_limit_is_answered_in_a_sentence_and_costs_no_neighbour() {
    let rig = Rig::speaking(Protocol::Http2).await;
    let mut client = rig.client(Protocol::Http2).await;
    let mut watch = Streamed::open(&mut client.share(), &watch_path(), "application/json").await;
    let mut request = client.request(Method::GET, "/api", "");
    request.headers_mut().insert(
        HeaderName::from_static("x-long"),
        "x".repeat(LIMIT).parse().unwrap(),
    );
    assert_refused(
        &client.ask(request).await,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "serving.maxHead",
    );
    assert_eq!(client.create("after").await.status, StatusCode::CREATED);
    assert_eq!(watch.event().await.1, "after");

    // The unread rest of the request must not discard the answer.
    every([LIMIT, 3 * LIMIT, 10 * LIMIT], async |size| {
        let mut raw = rig.raw().await;
        raw.write(format!(
            "GET /api HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
            "x".repeat(size)
        ))
        .await;
        assert_refused(
            &answer(&mut raw).await,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "serving.maxHead",
        );
        assert_eq!(raw.rest().await, b"", "and the connection ends");
    })
    .await;
    let many = "X-Short: 1\r\n".repeat(LIMIT / 12 - 100);
    let mut raw = rig.raw().await;
    raw.write(format!("GET /api HTTP/1.1\r\nHost: x\r\n{many}\r\n"))
        .await;
    assert_refused(
        &answer(&mut raw).await,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "lines",
    );
    assert_eq!(
        sample(
            &rig.proxy,
            "kube_retry_proxy_requests_total{code=\"431\",route=\"call\"}"
        ),
        5.0
    );
    rig.stop().await;
}

#[tokio::test]
async fn the_second_head_of_a_connection_is_held_to_the_same() {
    let rig = Rig::new().await;
    let mut raw = rig.raw().await;
    raw.write(format!(
        "GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        rig.plane.token()
    ))
    .await;
    assert_eq!(raw.answer().await.1, b"ok");
    raw.write(format!(
        "GET /api HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "x".repeat(LIMIT)
    ))
    .await;
    assert_refused(
        &answer(&mut raw).await,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "serving.maxHead",
    );
    rig.stop().await;
}

cases!(a_larger_limit_takes_what_the_apiserver_takes, protocols);
async fn a_larger_limit_takes_what_the_apiserver_takes(protocol: Protocol) {
    let rig = Rig::with(
        Settings {
            apiservers: 1,
            ..Settings::quick()
        },
        |config| config.serving.max_head = 1 << 20,
    )
    .await;
    let mut client = rig.client(protocol).await;
    let mut request = client.request(
        Method::GET,
        &format!("/livez?command={}", "x".repeat(60 << 10)),
        "",
    );
    request
        .headers_mut()
        .insert("x-long", "x".repeat(500 << 10).parse().unwrap());
    assert_eq!(client.ask(request).await.status, StatusCode::OK);
    rig.stop().await;
}

#[tokio::test]
async fn a_url_that_cannot_be_held_is_answered_in_a_sentence() {
    let rig = Rig::with(speaking(Protocol::Http1), |config| {
        config.serving.max_head = 1 << 20
    })
    .await;
    let mut raw = rig.raw().await;
    raw.write(format!(
        "GET /api/v1/namespaces/team/pods/a/exec?command={} HTTP/1.1\r\nHost: x\r\n\r\n",
        "x".repeat(107 << 10)
    ))
    .await;
    assert_refused(
        &answer(&mut raw).await,
        StatusCode::URI_TOO_LONG,
        "65534 bytes",
    );
    rig.stop().await;
}

#[tokio::test]
async fn what_is_no_http_is_told_so() {
    let rig = Rig::new().await;
    let mut raw = rig.raw().await;
    raw.write("SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    assert_refused(
        &answer(&mut raw).await,
        StatusCode::BAD_REQUEST,
        "not HTTP/1.1",
    );
    rig.stop().await;
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<S>) -> Answer {
    let (head, body): (Head, _) = raw.answer().await;
    assert_eq!(head.all("content-type"), ["application/json"]);
    Answer {
        status: head.status(),
        headers: Default::default(),
        body: body.into(),
        trailers: None,
    }
}

/// Checks for a `Status` with this code and message.
fn assert_refused(answer: &Answer, code: StatusCode, words: &str) {
    let status = answer.json();
    assert_eq!(answer.status, code, "{status}");
    assert_eq!(
        (&status["kind"], &status["code"]),
        (&"Status".into(), &code.as_u16().into())
    );
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("kube-retry-proxy: ") && message.contains(words),
        "{message}"
    );
}

cases!(
    large_heads_of_calls_have_a_bound_together_and_small_ones_pass,
    protocols
);
async fn large_heads_of_calls_have_a_bound_together_and_small_ones_pass(protocol: Protocol) {
    let rig = Rig::with(
        Settings {
            apiservers: 1,
            ..Settings::quick()
        },
        |config| {
            config.creates.max_body = 4 << 10;
            config.creates.max_buffered = 20 << 10;
        },
    )
    .await;
    let get = |client: &Client, size: usize| {
        let mut request = client.request(Method::GET, "/api/v1/namespaces/team/pods", "");
        request
            .headers_mut()
            .insert("x-large", "x".repeat(size).parse().unwrap());
        request
    };
    rig.faults().next_request(Fault::Hold);
    let mut holding = rig.client(protocol).await;
    let large = get(&holding, 12 << 10);
    let held = tokio::spawn(async move { holding.ask(large).await.status });
    eventually("it is with the apiserver", || {
        rig.plane.journal().len() == 1
    })
    .await;

    let mut client = rig.client(protocol).await;
    let refused = client.ask(get(&client, 12 << 10)).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
    assert_eq!(client.ask(get(&client, 100)).await.status, StatusCode::OK);
    rig.faults().release();
    assert_eq!(held.await.unwrap(), StatusCode::OK);
    assert_eq!(
        client.ask(get(&client, 12 << 10)).await.status,
        StatusCode::OK,
        "there is room again"
    );
    rig.stop().await;
}
