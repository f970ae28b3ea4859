//! The spans of a create, and the trace context in the requests to the apiserver.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use kube_retry_proxy::config::Rate;
use model_control_plane::Fault;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;

use super::{CALLER, TRACE, create_with, hex, rig, spans_counted, told, traceparent};
use crate::support::collector::{Collector, text};
use crate::support::{NAMESPACE, Protocol, Rig, conflict, eventually};

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind() == kind).collect()
}

fn each(spans: &[&Span], key: &str) -> Vec<String> {
    spans
        .iter()
        .map(|span| text(&span.attributes, key))
        .collect()
}

fn status(span: &Span) -> SpanStatus {
    span.status
        .as_ref()
        .map_or(SpanStatus::Unset, |status| status.code())
}

#[tokio::test]
async fn a_replayed_create_is_a_span_of_its_caller_with_a_span_for_each_attempt() {
    let collector = Collector::start().await;
    let rig = rig(&collector, |_| {}).await;
    (0..2).for_each(|_| rig.faults().next_create(conflict()));
    let mut client = rig.client(Protocol::Http2).await;
    let headers = [
        ("traceparent", &*traceparent("01")),
        ("tracestate", "vendor=1"),
        ("tracestate", "other=2"),
    ];
    assert_eq!(
        create_with(&mut client, "nobodys-business", &headers)
            .await
            .status,
        StatusCode::CREATED
    );
    let (parents, states) = (told(&rig, "traceparent"), told(&rig, "tracestate"));
    let (address, token) = (rig.plane.addresses()[0], rig.plane.token().to_owned());
    let metrics = Arc::clone(&rig.proxy.metrics);
    rig.stop().await;

    let spans = collector.spans();
    assert!(
        spans
            .iter()
            .all(|span| hex(&span.trace_id) == TRACE && span.trace_state == "vendor=1,other=2"),
        "{spans:#?}"
    );
    let servers = of_kind(&spans, SpanKind::Server);
    let [server] = servers[..] else {
        panic!("{spans:#?}")
    };
    assert_eq!(hex(&server.parent_span_id), CALLER);
    assert_eq!(server.name, "POST /api/v1/namespaces/{namespace}/pods");
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/api/v1/namespaces/{namespace}/pods"),
        ("http.response.status_code", "201"),
        ("k8s.namespace.name", NAMESPACE),
        ("kube_retry_proxy.outcome", "created_after_replay"),
    ] {
        assert_eq!(text(&server.attributes, key), value, "{key}");
    }
    assert!(
        text(&server.attributes, "kube_retry_proxy.hold")
            .parse::<f64>()
            .unwrap()
            > 0.0
    );
    assert_eq!(status(server), SpanStatus::Unset);

    let attempts = of_kind(&spans, SpanKind::Client);
    assert!(
        attempts
            .iter()
            .all(|attempt| attempt.parent_span_id == server.span_id)
    );
    assert_eq!(
        each(&attempts, "kube_retry_proxy.class"),
        ["quota_conflict", "quota_conflict", "success"]
    );
    assert_eq!(
        each(&attempts, "http.response.status_code"),
        ["409", "409", "201"]
    );
    assert_eq!(each(&attempts, "error.type"), ["409", "409", ""]);
    assert_eq!(each(&attempts, "http.request.resend_count"), ["", "1", "2"]);
    assert_eq!(each(&attempts, "server.address"), ["127.0.0.1"; 3]);
    assert_eq!(
        each(&attempts, "server.port"),
        [
            address.port().to_string(),
            address.port().to_string(),
            address.port().to_string()
        ]
    );
    assert_eq!(
        attempts
            .iter()
            .map(|attempt| status(attempt))
            .collect::<Vec<_>>(),
        [SpanStatus::Error, SpanStatus::Error, SpanStatus::Unset]
    );
    assert_eq!(
        attempts
            .iter()
            .map(|attempt| attempt.events.len())
            .collect::<Vec<_>>(),
        [0, 1, 1],
        "a pause before each but the first"
    );
    assert!(
        text(&attempts[1].events[0].attributes, "kube_retry_proxy.pause")
            .parse::<f64>()
            .unwrap()
            > 0.0
    );
    // The times are in order, within the server's span, and in this century.
    let times: Vec<_> = attempts
        .iter()
        .flat_map(|attempt| [attempt.start_time_unix_nano, attempt.end_time_unix_nano])
        .collect();
    let all = [
        &[server.start_time_unix_nano],
        &times[..],
        &[server.end_time_unix_nano],
    ]
    .concat();
    assert!(
        all.is_sorted() && all[0] > 1_700_000_000_000_000_000,
        "{all:?}"
    );

    let expected: Vec<_> = attempts
        .iter()
        .map(|attempt| format!("00-{TRACE}-{}-01", hex(&attempt.span_id)))
        .collect();
    assert_eq!(
        parents, expected,
        "each attempt tells the apiserver its own span"
    );
    assert_eq!(states, ["vendor=1"; 3], "the first of two lines");
    let sent = String::from_utf8_lossy(&collector.bytes()).into_owned();
    assert!(
        !sent.contains("nobodys-business") && !sent.contains(&token) && !sent.contains("busybox"),
        "{sent}"
    );
    assert_eq!(
        (
            spans_counted(&metrics, "success"),
            spans_counted(&metrics, "failure")
        ),
        (4.0, 0.0)
    );
}

#[tokio::test]
async fn without_a_collector_a_callers_trace_passes_untouched() {
    let rig = Rig::new().await;
    rig.faults().next_create(conflict());
    let mut client = rig.client(Protocol::Http1).await;
    let sampled = traceparent("01");
    for (name, parent) in [("a", &*sampled), ("b", "Not valid at all")] {
        assert_eq!(
            create_with(
                &mut client,
                name,
                &[("traceparent", parent), ("tracestate", "x=y")]
            )
            .await
            .status,
            StatusCode::CREATED
        );
    }
    assert_eq!(
        told(&rig, "traceparent"),
        [&*sampled, &*sampled, "Not valid at all"]
    );
    assert_eq!(told(&rig, "tracestate"), ["x=y"; 3]);
    rig.stop().await;
}

#[tokio::test]
async fn a_caller_that_does_not_sample_is_not_traced() {
    let collector = Collector::start().await;
    let rig = rig(&collector, |_| {}).await;
    let mut client = rig.client(Protocol::Http2).await;
    let parent = traceparent("00");
    assert_eq!(
        create_with(&mut client, "a", &[("traceparent", &parent)])
            .await
            .status,
        StatusCode::CREATED
    );
    assert_eq!(told(&rig, "traceparent"), [parent]);
    rig.stop().await;
    assert_eq!(collector.spans(), []);
}

cases!(
    a_create_without_a_trace_begins_one_as_often_as_configured,
    [always(1.0, 2), never(0.0, 0)]
);
async fn a_create_without_a_trace_begins_one_as_often_as_configured(ratio: f64, spans: usize) {
    let collector = Collector::start().await;
    let rig = rig(&collector, |config| {
        config.tracing.sample_ratio = ratio.try_into().unwrap()
    })
    .await;
    let mut client = rig.client(Protocol::Http2).await;
    assert_eq!(
        create_with(&mut client, "a", &[]).await.status,
        StatusCode::CREATED
    );
    let told = told(&rig, "traceparent").remove(0);
    rig.stop().await;
    let sent = collector.spans();
    assert_eq!(sent.len(), spans);
    match &sent[..] {
        [attempt, server] => {
            assert!(server.parent_span_id.is_empty());
            assert_eq!(
                told,
                format!("00-{}-{}-01", hex(&server.trace_id), hex(&attempt.span_id))
            );
        }
        _ => assert_eq!(told, ""),
    }
}

#[tokio::test]
async fn creates_that_the_proxy_answers_or_that_are_left_are_told_too() {
    let collector = Collector::start().await;
    let rig = rig(&collector, |config| {
        config.rate_limit.global = Some(Rate::new(0.001, 3));
        config.rate_limit.max_wait = Duration::ZERO.try_into().unwrap();
    })
    .await;
    let mut client = rig.client(Protocol::Http2).await;
    assert_eq!(
        client.create("first").await.status,
        StatusCode::CREATED,
        "so that the limit counts what has no answer"
    );
    rig.faults().next_create(Fault::LoseAnswer);
    rig.faults().next_create(Fault::Hold);
    assert_eq!(
        client.create("lost").await.status,
        StatusCode::GATEWAY_TIMEOUT
    );
    let mut leaving = client.share();
    let create = tokio::spawn(async move { leaving.create("left").await });
    let arrived = || {
        rig.plane
            .journal()
            .creates()
            .get(2)
            .is_some_and(|create| create.body > 0)
    };
    eventually("the third create is with the apiserver", arrived).await;
    create.abort();
    rig.faults().release();
    assert_eq!(
        client.create("limited").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    rig.stop().await;

    let spans = collector.spans();
    let of = |outcome: &str| {
        let server = spans
            .iter()
            .find(|span| text(&span.attributes, "kube_retry_proxy.outcome") == outcome)
            .unwrap();
        let attempts: Vec<_> = spans
            .iter()
            .filter(|span| span.parent_span_id == server.span_id)
            .collect();
        (
            text(&server.attributes, "http.response.status_code"),
            status(server),
            each(&attempts, "error.type"),
        )
    };
    assert_eq!(
        of("no_answer"),
        ("504".into(), SpanStatus::Error, vec!["lost".into()])
    );
    assert_eq!(
        of("client_gone"),
        (String::new(), SpanStatus::Error, vec!["canceled".into()])
    );
    assert_eq!(
        of("rate_limited"),
        ("429".into(), SpanStatus::Unset, vec![])
    );
}
