//! Requests that the upstream does not accept, or does not answer completely.

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use model_control_plane::Fault;
use model_control_plane::Status;
use serde_json::json;

use super::{PODS, arrived};
use crate::cases::every;
use crate::support::raw::Upstream;
use crate::support::{BOTH, Client, Protocol, Rig, eventually, proxy_to, servers_up, soon};

#[tokio::test]
async fn an_apiserver_that_is_down_is_told_in_the_clients_encoding_and_may_be_asked_again() {
    let rig = Rig::new().await;
    let faults = rig.plane.faults(0).unwrap();
    let up = || servers_up(&rig.proxy);
    eventually("the proxy has seen it up", || up() == 1).await;
    faults.set_down(true);
    eventually("the proxy has seen it down", || up() == 0).await;
    let rows = BOTH.iter().flat_map(|down| {
        [
            (*down, Method::GET, "application/json"),
            (
                *down,
                Method::GET,
                "application/vnd.kubernetes.protobuf,application/json",
            ),
            (*down, Method::DELETE, "application/vnd.kubernetes.protobuf"),
            (*down, Method::PATCH, "application/json"),
            (
                *down,
                Method::GET,
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            ),
        ]
    });
    every(rows, async |(down, method, accept)| {
        let mut client = rig.client(down).await;
        let mut request = client.request(method.clone(), &format!("{PODS}/a"), "");
        request
            .headers_mut()
            .insert(ACCEPT, accept.parse().unwrap());
        let answer = client.ask(request).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers[RETRY_AFTER], "1");
        let encoding = if accept.contains("protobuf") {
            "application/vnd.kubernetes.protobuf"
        } else {
            "application/json"
        };
        assert_eq!(answer.headers[CONTENT_TYPE], encoding);
        let status = Status::decode(&answer.body).unwrap();
        assert_eq!(
            (
                status.code,
                status.reason.as_str(),
                status.details().retry_after_seconds
            ),
            (503, "ServiceUnavailable", 1)
        );
        assert!(
            status.message.starts_with("kube-retry-proxy: "),
            "{status:?}"
        );
    })
    .await;
    for down in BOTH {
        let mut client = rig.client(down).await;
        let head = client.ask(client.request(Method::HEAD, "/livez", "")).await;
        assert_eq!(
            (head.status, head.body.len()),
            (StatusCode::SERVICE_UNAVAILABLE, 0)
        );
    }
    faults.set_down(false);
    eventually("the proxy has seen it up again", || up() == 1).await;
    assert_eq!(
        rig.client(Protocol::Http2).await.get("/livez").await.body,
        "ok"
    );
    rig.stop().await;
}

cases!(
    a_request_lost_on_its_way_is_sent_once_and_may_be_asked_again_only_if_it_changes_nothing,
    pairs,
    [
        reset(Fault::Reset),
        cut(Fault::Cut),
        answer_lost(Fault::LoseAnswer),
        cut_after(Fault::CutAfter),
    ]
);
async fn a_request_lost_on_its_way_is_sent_once_and_may_be_asked_again_only_if_it_changes_nothing(
    down: Protocol,
    up: Protocol,
    fault: Fault,
) {
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::DELETE,
        Method::POST,
        Method::PATCH,
        Method::PUT,
    ];
    every(methods, async |method| {
        let path = format!("/echo/{method}");
        rig.faults().next_request(fault.clone());
        let answer = client.ask(client.request(method.clone(), &path, "")).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        let again = answer
            .headers
            .get(RETRY_AFTER)
            .map(|value| value.to_str().unwrap());
        assert_eq!(again, method.is_safe().then_some("1"));
        assert_eq!(arrived(&rig, &path), 1);
        if method != Method::HEAD {
            assert_eq!(
                (&answer.json()["reason"], &answer.json()["code"]),
                (&json!("Timeout"), &json!(504))
            );
        }
    })
    .await;
    assert_eq!(client.get("/livez").await.body, "ok");
    rig.stop().await;
}

cases!(
    a_call_that_the_apiserver_refuses_unprocessed_is_sent_again,
    protocols,
    [
        get(Method::GET),
        delete(Method::DELETE),
        patch(Method::PATCH),
    ]
);
async fn a_call_that_the_apiserver_refuses_unprocessed_is_sent_again(
    down: Protocol,
    method: Method,
) {
    let rig = Rig::new().await;
    let mut client = rig.client(down).await;
    every(
        [String::new(), "small".to_owned(), "x".repeat(16 << 10)],
        async |body| {
            let before = arrived(&rig, "/echo");
            rig.faults().next_request(Fault::Refuse);
            let answer = client
                .ask(client.request(method.clone(), "/echo", body.clone()))
                .await;
            assert_eq!(
                (answer.status, arrived(&rig, "/echo") - before),
                (StatusCode::OK, 2)
            );
            assert!(answer.json()["body"] == json!(body));
        },
    )
    .await;
    // Too much of this body may already be sent. Then the client is told to retry, and no partial
    // body is ever sent.
    let large = "x".repeat(1 << 20);
    rig.faults().next_request(Fault::Refuse);
    let answer = client
        .ask(client.request(method.clone(), "/echo", large.clone()))
        .await;
    let whole = answer.status == StatusCode::OK && answer.json()["body"] == json!(large);
    assert!(
        whole || answer.status == StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        answer.status
    );
    // An answer before the end of the request body may have closed an HTTP/1.1 connection.
    client = rig.client(down).await;

    for _ in 0..3 {
        rig.faults().next_request(Fault::Refuse);
    }
    let answer = client
        .ask(client.request(method.clone(), "/echo", ""))
        .await;
    assert_eq!(
        (answer.status, answer.headers[RETRY_AFTER].as_bytes()),
        (StatusCode::SERVICE_UNAVAILABLE, &b"1"[..]),
        "{method}"
    );
    rig.stop().await;
}

cases!(
    an_answer_that_breaks_off_is_never_taken_for_a_whole_one,
    protocols,
    [
        of_known_length("Content-Length: 10\r\n\r\nhalf"),
        of_unknown_length("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
    ]
);
async fn an_answer_that_breaks_off_is_never_taken_for_a_whole_one(
    down: Protocol,
    half: &'static str,
) {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let mut client =
        Client::connect(proxy.address, proxy.ca_pem.as_deref().unwrap(), "t", down).await;
    let asking =
        tokio::spawn(async move { client.send(client.request(Method::GET, "/livez", "")).await });
    let (_, mut connection) = upstream.request().await;
    connection.write(format!("HTTP/1.1 200 OK\r\n{half}")).await;
    let mut body = soon(asking).await.unwrap().into_body();
    assert_eq!(
        soon(body.frame())
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "half"
    );
    drop(connection);
    assert!(
        soon(body.frame()).await.is_some_and(|frame| frame.is_err()),
        "{half} over {down:?}"
    );
    proxy.stop().await;
}
