//! OpenTelemetry traces: what a collector gets of a create, what the apiserver is told, and that
//! neither ever costs a request anything.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use kube_retry_proxy::config::{Config, Rate};
use kube_retry_proxy::metrics::Metrics;
use kube_retry_proxy::model::{Fault, Settings};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;

use crate::support::collector::{Collecting, Collector, text};
use crate::support::logs::Logs;
use crate::support::{Answer, Client, NAMESPACE, Protocol, Rig, conflict, eventually, sample_of};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A proxy that sends its traces to `collector` and pauses for next to nothing.
async fn rig(collector: &Collector, edit: impl FnOnce(&mut Config)) -> Rig {
    Rig::with(
        Settings {
            apiservers: 1,
            ..Settings::quick()
        },
        |config| {
            collector.configure(config);
            config.replay.base_delay = Duration::from_millis(1);
            edit(config);
        },
    )
    .await
}

/// Creates the pod as a caller with these headers.
async fn create_with(client: &mut Client, name: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut request = client.create_request(name);
    for (name, value) in headers {
        request.headers_mut().append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    client.ask(request).await
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// The header of each attempt that reached the apiserver; empty where it had none.
fn told(rig: &Rig, header: &str) -> Vec<String> {
    let creates = rig.plane.journal().creates();
    let value = |headers: &http::HeaderMap| {
        headers
            .get(header)
            .map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    creates
        .iter()
        .map(|create| value(&create.headers))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

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

fn spans_counted(metrics: &Metrics, result: &str) -> f64 {
    sample_of(
        metrics,
        &format!("kube_retry_proxy_trace_spans_total{{result=\"{result}\"}}"),
    )
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
    // In order, inside of the server's span, and in this century.
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

#[tokio::test]
async fn a_create_without_a_trace_begins_one_as_often_as_configured() {
    for (ratio, spans) in [(1.0, 2), (0.0, 0)] {
        let collector = Collector::start().await;
        let rig = rig(&collector, |config| config.tracing.sample_ratio = ratio).await;
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
}

#[tokio::test]
async fn creates_that_the_proxy_answers_or_that_are_left_are_told_too() {
    let collector = Collector::start().await;
    let rig = rig(&collector, |config| {
        config.rate_limit.global = Some(Rate {
            qps: 0.001,
            burst: 3,
        });
        config.rate_limit.max_wait = Duration::ZERO;
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

#[tokio::test]
async fn a_collector_that_takes_nothing_costs_no_create_and_is_told_once() {
    for collecting in [
        Collecting::Closing,
        Collecting::Refusing(StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let logs = Logs::collect();
        let collector = Collector::that(collecting).await;
        let rig = rig(&collector, |_| {}).await;
        let mut client = rig.client(Protocol::Http2).await;
        let metrics = Arc::clone(&rig.proxy.metrics);
        for (name, dropped) in [("a", 2.0), ("b", 4.0)] {
            assert_eq!(client.create(name).await.status, StatusCode::CREATED);
            // Two batches: the second create comes after the end of the first one.
            eventually("the spans are dropped", || {
                spans_counted(&metrics, "failure") == dropped
            })
            .await;
        }
        rig.stop().await;
        assert_eq!(spans_counted(&metrics, "success"), 0.0);
        assert_eq!(
            logs.with("The collector does not accept traces").len(),
            1,
            "{:?}",
            logs.with("")
        );
    }
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    let collector = Collector::that(Collecting::Silent).await;
    let rig = rig(&collector, |_| {}).await;
    assert_eq!(
        rig.client(Protocol::Http2).await.create("a").await.status,
        StatusCode::CREATED
    );
    let metrics = Arc::clone(&rig.proxy.metrics);
    // Fails where it takes long.
    rig.stop().await;
    assert_eq!(spans_counted(&metrics, "failure"), 2.0);
}

#[tokio::test]
async fn spans_that_the_collector_rejects_count_as_dropped() {
    let collector = Collector::that(Collecting::Rejecting(1)).await;
    let rig = rig(&collector, |_| {}).await;
    assert_eq!(
        rig.client(Protocol::Http2).await.create("a").await.status,
        StatusCode::CREATED
    );
    let metrics = Arc::clone(&rig.proxy.metrics);
    rig.stop().await;
    assert_eq!(
        (
            spans_counted(&metrics, "success"),
            spans_counted(&metrics, "failure")
        ),
        (1.0, 1.0)
    );
}
