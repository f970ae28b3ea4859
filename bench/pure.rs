//! The parts without IO, measured separately: the cost of each one in the path of a request.

#![expect(
    clippy::expect_used,
    reason = "a bench stops at what it did not expect"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};
use kube_retry_proxy::backoff::{Backoff, ReplayLimits, Spent};
use kube_retry_proxy::config::CreatesConfig;
use kube_retry_proxy::headers::{self, Upgrade};
use kube_retry_proxy::metrics::{Metrics, RouteLabel};
use kube_retry_proxy::route::{MatchedResources, Route, timeout};
use kube_retry_proxy::status::protobuf::{Message, encode_object};
use kube_retry_proxy::status::{Encoding, Status, object_meta};
use kube_retry_proxy::verdict::{Class, Outcome, classify};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

const QUOTA_CONFLICT_JSON: &[u8] = include_bytes!("../tests/samples/quota_conflict_409.http");
const QUOTA_CONFLICT_PROTOBUF: &[u8] =
    include_bytes!("../tests/samples/quota_conflict_409_protobuf.http");
const EXCEEDED_QUOTA_JSON: &[u8] = include_bytes!("../tests/samples/exceeded_quota_403.http");
const TOO_MANY_REQUESTS_TEXT: &[u8] = include_bytes!("../tests/samples/too_many_requests_429.http");

/// The headers of a create from client-go, in its order.
const CLIENT_GO: &[(&str, &str)] = &[
    ("host", "10.96.0.1:443"),
    (
        "user-agent",
        "workflow-controller/v3.6.0 (linux/amd64) kubernetes/$Format argo-workflows/v3.6.0 argo-controller",
    ),
    ("content-length", "3072"),
    ("accept", "application/json, */*"),
    (
        "authorization",
        "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IkZha2UifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl",
    ),
    ("content-type", "application/json"),
    ("kubectl-command", "create"),
    ("accept-encoding", "gzip"),
];

/// Headers that a hop between the client and the proxy may add.
const HOP_BY_HOP: &[(&str, &str)] = &[
    ("connection", "keep-alive, x-trace"),
    ("keep-alive", "timeout=5"),
    ("x-trace", "1"),
    ("te", "trailers"),
    ("x-remote-user", "admin"),
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    routes(&mut criterion);
    request_headers(&mut criterion);
    answers(&mut criterion);
    statuses(&mut criterion);
    bodies(&mut criterion);
    pauses(&mut criterion);
    metrics(&mut criterion);
    criterion.final_summary();
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    let matched = MatchedResources::from(&CreatesConfig::default());
    let headers = header_map(CLIENT_GO);
    let requests = [
        ("pod create", Method::POST, "/api/v1/namespaces/argo/pods"),
        (
            "lease create",
            Method::POST,
            "/apis/coordination.k8s.io/v1/namespaces/argo/leases",
        ),
        (
            "pod create with timeout",
            Method::POST,
            "/api/v1/namespaces/argo/pods?fieldManager=argo&timeout=30s",
        ),
        (
            "namespaced get",
            Method::GET,
            "/apis/argoproj.io/v1alpha1/namespaces/argo/workflows/nightly-build-7k2pd",
        ),
        (
            "watch",
            Method::GET,
            "/api/v1/pods?allowWatchBookmarks=true&labelSelector=a%3Db&resourceVersion=123456&timeoutSeconds=487&watch=true",
        ),
        (
            "deep subresource",
            Method::POST,
            "/api/v1/namespaces/argo/services/https:web:8443/proxy/a/b/c/d?x=y",
        ),
        ("no resource", Method::GET, "/openapi/v3"),
    ];
    for (name, method, uri) in requests {
        let uri = Uri::from_static(uri);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(Route::of(&method, black_box(&uri), &headers, &matched)))
        });
    }
    group.finish();
}

fn request_headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers");
    let plain = header_map(CLIENT_GO);
    let hop_by_hop = header_map(&[CLIENT_GO, HOP_BY_HOP].concat());
    for (name, before) in [
        ("nothing to strip", &plain),
        ("something to strip", &hop_by_hop),
    ] {
        group.bench_with_input(
            BenchmarkId::new("to_upstream", name),
            before,
            |bencher, before| {
                let peer = PEER.into();
                let of_one = |mut headers: HeaderMap| {
                    headers::to_upstream(&mut headers, &peer, Upgrade::Strip);
                    headers
                };
                bencher.iter_batched(|| before.clone(), of_one, BatchSize::SmallInput);
            },
        );
        group.bench_with_input(
            BenchmarkId::new("strip_hop_by_hop", name),
            before,
            |bencher, before| {
                let of_one = |mut headers: HeaderMap| {
                    headers::strip_hop_by_hop(&mut headers, Upgrade::Strip);
                    headers
                };
                bencher.iter_batched(|| before.clone(), of_one, BatchSize::SmallInput);
            },
        );
    }
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("classify");
    let samples = [
        (
            "quota conflict, JSON",
            StatusCode::CONFLICT,
            QUOTA_CONFLICT_JSON,
        ),
        (
            "quota conflict, protobuf",
            StatusCode::CONFLICT,
            QUOTA_CONFLICT_PROTOBUF,
        ),
        (
            "exceeded quota, JSON",
            StatusCode::FORBIDDEN,
            EXCEEDED_QUOTA_JSON,
        ),
        (
            "too many requests, text",
            StatusCode::TOO_MANY_REQUESTS,
            TOO_MANY_REQUESTS_TEXT,
        ),
    ];
    let headers = header_map(&[
        ("retry-after", "1"),
        ("audit-id", "b4d6"),
        ("content-type", "application/json"),
    ]);
    for (name, status, sample) in samples {
        let body = body_of(sample);
        assert_ne!(
            classify(status, &headers, body).class,
            Class::Unrecognized,
            "{name}"
        );
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(classify(status, &headers, black_box(body))))
        });
    }
    group.finish();
}

fn statuses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("status");
    let status = Status::decode(body_of(QUOTA_CONFLICT_JSON)).expect("a Status");
    for encoding in [Encoding::Json, Encoding::Protobuf, Encoding::Yaml] {
        let encoded = status.encode(encoding);
        group.bench_function(
            BenchmarkId::new("encode", encoding.media_type()),
            |bencher| {
                bencher.iter(|| black_box(black_box(&status).encode(encoding)));
            },
        );
        group.bench_function(
            BenchmarkId::new("decode", encoding.media_type()),
            |bencher| {
                bencher.iter(|| black_box(Status::decode(black_box(&encoded))));
            },
        );
    }
    for accept in [
        "application/json",
        "application/vnd.kubernetes.protobuf,application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io, */*",
    ] {
        let headers = header_map(&[("accept", accept)]);
        group.bench_function(BenchmarkId::new("negotiate", accept), |bencher| {
            bencher.iter(|| black_box(Encoding::negotiate(black_box(&headers))));
        });
    }
    group.finish();
}

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("object_meta");
    let cases = [
        ("JSON, 3 KiB", pod_json(3 << 10, false)),
        ("JSON, 1 MiB", pod_json(1 << 20, false)),
        ("JSON, 1 MiB before the metadata", pod_json(1 << 20, true)),
        ("protobuf, 3 KiB", pod_protobuf(3 << 10)),
        ("protobuf, 1 MiB", pod_protobuf(1 << 20)),
    ];
    for (name, body) in cases {
        assert_eq!(
            object_meta(&body).expect("metadata").generate_name,
            "nightly-build-",
            "{name}"
        );
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(object_meta(black_box(&body))))
        });
    }
    group.finish();
}

fn pauses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("backoff");
    let backoff = Backoff {
        base: Duration::from_millis(100),
        cap: Duration::from_secs(2),
    };
    let limits = ReplayLimits {
        max_attempts: 8,
        max_hold: Duration::from_secs(8),
    };
    let spent = Spent {
        attempts: 3,
        elapsed: Duration::from_millis(450),
        longest: Duration::from_millis(40),
    };
    group.bench_function("delay and limits", |bencher| {
        bencher.iter(|| {
            let delay = backoff.delay(black_box(3), black_box(0.4), Duration::ZERO);
            black_box(limits.next(spent, Some(Duration::from_secs(20)), delay))
        });
    });
    let uri = Uri::from_static("/api/v1/namespaces/argo/pods?fieldManager=argo&timeout=30s");
    group.bench_function("timeout of", |bencher| {
        bencher.iter(|| black_box(timeout::of(black_box(&uri))))
    });
    group.bench_function("timeout shortened", |bencher| {
        bencher.iter(|| {
            black_box(timeout::shortened(
                black_box(&uri),
                Duration::from_millis(450),
            ))
        });
    });
    group.finish();
}

fn metrics(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics");
    let classes: Vec<_> = Class::ALL.iter().map(|class| class.as_str()).collect();
    let metrics = Metrics::new(100, &classes);
    let elapsed = Duration::from_millis(12);
    group.bench_function("request", |bencher| {
        bencher.iter(|| metrics.request(RouteLabel::Call, black_box(200), elapsed))
    });
    group.bench_function("attempt", |bencher| {
        bencher.iter(|| metrics.attempt(Class::Success.as_str(), black_box(Some(201))))
    });
    group.bench_function("outcome", |bencher| {
        bencher.iter(|| metrics.outcome(black_box("argo"), black_box("pods"), Outcome::Created))
    });
    group.bench_function("overhead", |bencher| {
        bencher.iter(|| metrics.overhead(RouteLabel::Create, black_box(elapsed)))
    });
    let lane = metrics.lane("call");
    group.bench_function("stream of a lane", |bencher| {
        bencher.iter(|| black_box(lane.stream()))
    });
    group.finish();
}

fn header_map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

/// The body of a captured answer.
fn body_of(sample: &[u8]) -> &[u8] {
    let head = sample
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    &sample[head + 4..]
}

/// A pod of `size` bytes. Most of them are in `spec`, which is after the metadata, as in the
/// requests of every known client, or before it.
fn pod_json(size: usize, spec_first: bool) -> Vec<u8> {
    let metadata = r#""metadata":{"generateName":"nightly-build-","labels":{"workflows.argoproj.io/workflow":"nightly-build"}}"#;
    let variable =
        r#"{"name":"SOME_VARIABLE","value":"some value that is as long as such values are"},"#;
    let variables = variable.repeat(size / variable.len());
    let spec = format!(
        r#""spec":{{"containers":[{{"name":"main","image":"busybox","env":[{}]}}]}}"#,
        variables.trim_end_matches(',')
    );
    let (first, second) = if spec_first {
        (spec.as_str(), metadata)
    } else {
        (metadata, spec.as_str())
    };
    format!(r#"{{"apiVersion":"v1","kind":"Pod",{first},{second}}}"#).into_bytes()
}

fn pod_protobuf(size: usize) -> Vec<u8> {
    let metadata = Message::new().string(2, "nightly-build-");
    let spec = Message::new().string(2, &"x".repeat(size));
    encode_object(
        "v1",
        "Pod",
        &Message::new().message(1, &metadata).message(2, &spec),
    )
    .to_vec()
}
