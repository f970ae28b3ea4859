//! The client's `?timeout=` is passed unchanged in the first attempt and reduced in each replay.
//! The proxy enforces it if the apiserver does not.

use std::time::Duration;

use http::{Method, StatusCode};
use kube_retry_proxy::config::Mode;
use model_control_plane::Encoding;
use model_control_plane::Fault;

use super::{assert_own_status, attempts, brisk, conflict, ended, rig};
use crate::support::{Answer, NAMESPACE, Posted, Protocol, pod};

cases!(
    each_replay_asks_for_what_is_left_of_the_clients_timeout,
    protocols
);
async fn each_replay_asks_for_what_is_left_of_the_clients_timeout(protocol: Protocol) {
    let rig = rig(brisk).await;
    (0..3).for_each(|_| rig.faults().next_create(conflict()));
    let mut client = rig.client(protocol).await;
    let request = client.create_request_with(
        "a",
        "?fieldManager=it%20is&timeout=30s&fieldValidation=&x=1+1",
    );
    assert_eq!(
        Answer::of(client.send(request).await).await.status,
        StatusCode::CREATED
    );
    let queries: Vec<_> = rig
        .plane
        .journal()
        .creates()
        .into_iter()
        .map(|attempt| attempt.query.unwrap())
        .collect();
    assert_eq!(
        queries[0], "fieldManager=it%20is&timeout=30s&fieldValidation=&x=1+1",
        "the first attempt"
    );
    let mut left = 30_000;
    for query in &queries[1..] {
        let millis = query
            .strip_prefix("fieldManager=it%20is&timeout=")
            .and_then(|rest| rest.strip_suffix("ms&fieldValidation=&x=1+1"));
        let millis: u64 = millis.unwrap_or_else(|| panic!("{query}")).parse().unwrap();
        assert!(millis <= left && millis < 30_000, "{queries:?}");
        left = millis;
    }
    assert_eq!(queries.len(), 4);
    rig.stop().await;
}

cases!(
    a_query_without_a_timeout_stays_as_it_is,
    protocols,
    [
        no_query(""),
        another_parameter("?fieldManager=a%2Bb"),
        zero_seconds("?timeout=0s"),
        no_duration("?timeout=soon"),
    ]
);
async fn a_query_without_a_timeout_stays_as_it_is(protocol: Protocol, query: &str) {
    let rig = rig(brisk).await;
    rig.faults().next_create(conflict());
    let mut client = rig.client(protocol).await;
    let request = client.create_request_with("a", query);
    assert_eq!(client.send(request).await.status(), StatusCode::CREATED);
    let queries: Vec<_> = rig
        .plane
        .journal()
        .creates()
        .into_iter()
        .map(|attempt| attempt.query)
        .collect();
    let expected = query.strip_prefix('?').map(str::to_owned);
    assert_eq!(queries, [expected.clone(), expected]);
    rig.stop().await;
}

cases!(
    a_silent_apiserver_is_told_once_the_clients_timeout_has_passed,
    [held(Mode::Enforce), streamed(Mode::Off)],
    protocols,
    encodings
);
async fn a_silent_apiserver_is_told_once_the_clients_timeout_has_passed(
    mode: Mode,
    protocol: Protocol,
    encoding: Encoding,
) {
    let rig = rig(|config| config.mode = mode).await;
    let mut client = rig.client(protocol).await;
    rig.faults()
        .next_create(Fault::DelayAnswer(Duration::from_secs(3600)));
    let mut request = client.create_request_in("a", encoding);
    *request.uri_mut() = format!("{}?timeout=50ms", request.uri()).parse().unwrap();
    let status = assert_own_status(&client.ask(request).await, 504, "Timeout", encoding);
    assert!(
        status
            .message
            .ends_with("Timeout: request did not complete within the allotted timeout"),
        "{status:?}"
    );
    assert_eq!(
        status.details().retry_after_seconds,
        0,
        "it may have been stored"
    );
    assert_eq!((attempts(&rig), ended(&rig, "no_answer")), (1, 1.0));
    rig.faults().clear();
    assert_eq!(
        client.create_in(NAMESPACE, "b").await.status,
        StatusCode::CREATED
    );
    rig.stop().await;
}

cases!(
    the_apiservers_own_answer_to_a_timeout_comes_first,
    protocols
);
async fn the_apiservers_own_answer_to_a_timeout_comes_first(protocol: Protocol) {
    let rig = rig(brisk).await;
    rig.faults().next_create(Fault::Hold);
    let mut client = rig.client(protocol).await;
    let answer = client
        .ask(client.create_request_with("a", "?timeout=100ms"))
        .await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(!answer.text().contains("kube-retry-proxy"), "{answer:?}");
    assert_eq!(attempts(&rig), 1, "it is not sent again");
    rig.faults().release();
    rig.stop().await;
}

cases!(
    a_create_that_comes_in_too_slowly_for_its_own_timeout_is_not_sent,
    protocols
);
async fn a_create_that_comes_in_too_slowly_for_its_own_timeout_is_not_sent(protocol: Protocol) {
    let rig = rig(brisk).await;
    let mut client = rig.client(protocol).await;
    let (body, open) = Posted::gated(pod("a"));
    let request = client
        .request(
            Method::POST,
            &format!("/api/v1/namespaces/{NAMESPACE}/pods?timeout=1ms"),
            "",
        )
        .map(|_| body);
    let sending = tokio::spawn(async move { client.ask(request).await });
    // This is longer than the timeout.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(open);
    assert_own_status(&sending.await.unwrap(), 504, "Timeout", Encoding::Json);
    assert_eq!(attempts(&rig), 0);
    rig.stop().await;
}
