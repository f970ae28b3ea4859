//! Short requests to an apiserver that does not answer: only the client's own `?timeout=` ends
//! them.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use model_control_plane::Fault;
use model_control_plane::Status;

use crate::support::raw::Upstream;
use crate::support::{Client, Protocol, Rig, eventually, proxy_to, sample, soon};

cases!(
    a_call_whose_timeout_passes_in_silence_is_told_so_and_given_up_upstream,
    pairs,
    [get(Method::GET), put(Method::PUT), delete(Method::DELETE)]
);
async fn a_call_whose_timeout_passes_in_silence_is_told_so_and_given_up_upstream(
    down: Protocol,
    up: Protocol,
    method: Method,
) {
    let rig = Rig::speaking(up).await;
    rig.faults()
        .next_request(Fault::DelayAnswer(Duration::from_secs(3600)));
    let mut client = rig.client(down).await;
    let request = client.request(method.clone(), "/echo/silent?timeout=50ms", "");
    let waiting = tokio::spawn(async move { client.ask(request).await });
    eventually("it is under way", || {
        rig.plane
            .journal()
            .attempts()
            .iter()
            .any(|attempt| attempt.method == method)
    })
    .await;
    assert_eq!(
        rig.client(down).await.get("/livez").await.status,
        StatusCode::OK,
        "a neighbour"
    );

    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{method}");
    assert_eq!(
        answer.headers.get(RETRY_AFTER),
        None,
        "nobody waits any longer"
    );
    let status = Status::decode(&answer.body).unwrap();
    assert_eq!((status.code, &*status.reason), (504, "Timeout"));
    assert_eq!(
        status.message,
        "kube-retry-proxy: Timeout: request did not complete within the allotted timeout"
    );
    eventually("no stream is left", || {
        sample(
            &rig.proxy,
            "kube_retry_proxy_upstream_streams{lane=\"call\"}",
        ) == 0.0
    })
    .await;
    rig.stop().await;
}

cases!(an_answer_of_the_apiserver_comes_before_ours, pairs);
async fn an_answer_of_the_apiserver_comes_before_ours(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    rig.faults().next_request(Fault::Hold);
    let answer = rig.client(down).await.get("/echo/held?timeout=100ms").await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(!answer.text().contains("kube-retry-proxy"), "{answer:?}");
    rig.faults().release();
    rig.stop().await;
}

cases!(
    what_has_no_timeout_or_is_long_running_waits_for_as_long_as_it_takes,
    protocols,
    [
        no_timeout("/echo"),
        a_timeout_of_zero("/echo?timeout=0s"),
        a_watch("/api/v1/namespaces/team/pods?watch=true&timeout=1ms"),
        a_streaming_list("/api/v1/namespaces/team/pods?sendInitialEvents=true&timeout=1ms"),
        a_log("/api/v1/namespaces/team/pods/a/log?timeout=1ms"),
        a_proxied_service("/api/v1/namespaces/team/services/a/proxy/?timeout=1ms"),
    ]
);
/// A call with a timeout serves as the clock: it started later and has already timed out.
async fn what_has_no_timeout_or_is_long_running_waits_for_as_long_as_it_takes(
    down: Protocol,
    path: &'static str,
) {
    let upstream = Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
    let client =
        async || Client::connect(proxy.address, proxy.ca_pem.as_deref().unwrap(), "t", down).await;
    let mut patient = client().await;
    let waiting = tokio::spawn(async move { patient.get(path).await });
    let (_, mut first) = upstream.request().await;
    let mut hurried = client().await;
    let given_up = tokio::spawn(async move { hurried.get("/echo?timeout=1ms").await });
    let (_, mut second) = upstream.request().await;
    assert_eq!(given_up.await.unwrap().status, StatusCode::GATEWAY_TIMEOUT);
    assert!(
        soon(second.rest()).await.is_empty(),
        "its connection is closed, for its answer would come yet"
    );
    assert!(!waiting.is_finished(), "{path}");
    first
        .write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK, "{path}");
    proxy.stop().await;
}
