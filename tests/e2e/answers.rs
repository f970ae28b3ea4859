//! Answers through the proxy are those of the apiserver, byte for byte: each kind that a create can
//! meet, in JSON and protobuf, over HTTP/1.1 and HTTP/2.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use libtest_mimic::Trial;
use model_control_plane::client::{Answer, Endpoint, small_pod, small_pod_protobuf};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::client::TlsStream;

use crate::contention::Contention;
use crate::control_plane::ControlPlane;
use crate::process::within;
use crate::proxy::Proxy;

pub fn trials() -> Vec<Trial> {
    vec![
        crate::trial(
            "answers::refusals_pass_unchanged_in_both_encodings",
            refusals,
        ),
        crate::trial(
            "answers::too_many_requests_passes_unchanged_once_the_hold_is_over",
            throttled,
        ),
        crate::trial(
            "answers::a_quota_conflict_reaches_the_client_unchanged_where_replay_is_off",
            conflict,
        ),
        crate::trial("answers::a_create_that_is_given_up_becomes_an_event", event),
    ]
}

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What differs between two answers to the same request, or is the connection's own.
const OWN: [&str; 3] = ["audit-id", "date", "content-length"];

/// A create that is refused.
struct Refusal {
    name: &'static str,
    namespace: String,
    pod: String,
    /// None: no credentials that anybody knows.
    user: Option<&'static str>,
    status: StatusCode,
    says: &'static str,
}

fn refusals(plane: &'static ControlPlane) {
    let proxy = Proxy::start(plane, &plane.servers[..1], "");
    let open = plane.namespace("answers", 1);
    let full = plane.namespace("answers-full", 0);
    plane.kubectl(&[
        "create",
        "quota",
        "full",
        "--namespace",
        &full,
        "--hard=pods=0",
    ]);
    let terminating = plane.namespace("answers-terminating", 0);
    // A finalizer keeps it terminating for as long as somebody looks.
    plane.kubectl(&["create", "configmap", "keeps", "--namespace", &terminating]);
    plane.kubectl(&[
        "patch",
        "configmap",
        "keeps",
        "--namespace",
        &terminating,
        "-p",
        r#"{"metadata":{"finalizers":["e2e/keeps"]}}"#,
    ]);
    plane.discard(&terminating);
    plane.kubectl(&[
        "wait",
        "--for=jsonpath={.status.phase}=Terminating",
        "--timeout=30s",
        &format!("namespace/{terminating}"),
    ]);
    quota_is_enforced(plane, &full);

    let refusal = |name, namespace: &str, user, status, says| Refusal {
        name,
        namespace: namespace.to_owned(),
        pod: "refused".to_owned(),
        user,
        status,
        says,
    };
    let user = Some("user");
    let refusals = [
        refusal(
            "exceeded_quota_403",
            &full,
            user,
            StatusCode::FORBIDDEN,
            "exceeded quota",
        ),
        refusal(
            "unauthorized_401",
            &open,
            None,
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
        ),
        refusal(
            "rbac_forbidden_403",
            &open,
            Some("argo"),
            StatusCode::FORBIDDEN,
            "cannot create resource",
        ),
        Refusal {
            pod: "twice".to_owned(),
            ..refusal(
                "already_exists_409",
                &open,
                user,
                StatusCode::CONFLICT,
                "already exists",
            )
        },
        Refusal {
            pod: "Not_A_Name".to_owned(),
            ..refusal(
                "invalid_422",
                &open,
                user,
                StatusCode::UNPROCESSABLE_ENTITY,
                "is invalid",
            )
        },
        refusal(
            "namespace_terminating_403",
            &terminating,
            user,
            StatusCode::FORBIDDEN,
            "because it is being terminated",
        ),
        refusal(
            "namespace_not_found_404",
            "no-such-namespace",
            user,
            StatusCode::NOT_FOUND,
            "not found",
        ),
    ];
    let runtime = Runtime::new().unwrap();
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let ask = |url: &str, ca: &str, refusal: &Refusal, encoding: &str| {
            let (headers, body) = request(plane, refusal, encoding);
            runtime.block_on(post(
                &Endpoint::new(url, ca, "", version).unwrap(),
                &refusal.namespace,
                headers,
                body,
            ))
        };
        let (proxy_ca, plane_ca) = (proxy.ca_pem(), fs::read_to_string(plane.ca_file()).unwrap());
        for refusal in &refusals {
            for encoding in [JSON, PROTOBUF] {
                if refusal.name == "already_exists_409" {
                    // The first one may succeed, or not.
                    ask(&plane.servers[0], &plane_ca, refusal, encoding);
                }
                let direct = ask(&plane.servers[0], &plane_ca, refusal, encoding);
                let proxied = ask(&proxy.url, &proxy_ca, refusal, encoding);
                let what = format!("{} in {encoding} over {version:?}", refusal.name);
                assert_eq!(direct.status, refusal.status, "{what}: {}", text(&direct));
                assert!(
                    text(&direct).contains(refusal.says),
                    "{what}: {}",
                    text(&direct)
                );
                same(&what, &direct, &proxied);
                keep(refusal.name, encoding, &direct);
            }
        }
    }
    assert_eq!(
        proxy.metric("kube_retry_proxy_replays_total", ""),
        0,
        "a final answer is not replayed"
    );
    plane.kubectl(&[
        "patch",
        "configmap",
        "keeps",
        "--namespace",
        &terminating,
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    plane.discard(&open);
    plane.discard(&full);
    proxy.stop();
}

/// An apiserver that handles one mutating request at a time, and one that occupies it.
fn throttled(plane: &'static ControlPlane) {
    let flags = [
        "--max-requests-inflight=1",
        "--max-mutating-requests-inflight=1",
        "--enable-priority-and-fairness=false",
    ];
    let url = plane.add("apiserver-narrow", &flags);
    let namespace = plane.namespace("throttled", 1);
    let proxy = Proxy::start(plane, std::slice::from_ref(&url), "");
    let (plane_ca, proxy_ca) = (fs::read_to_string(plane.ca_file()).unwrap(), proxy.ca_pem());
    let runtime = Runtime::new().unwrap();
    let create = Refusal {
        name: "too_many_requests_429",
        namespace: namespace.clone(),
        pod: "throttled".to_owned(),
        user: Some("user"),
        status: StatusCode::TOO_MANY_REQUESTS,
        says: "Too many requests",
    };
    let (headers, body) = request(plane, &create, JSON);
    let ask = |url: &str, ca: &str| {
        let endpoint = Endpoint::new(url, ca, "", Version::HTTP_11).unwrap();
        runtime.block_on(post(&endpoint, &namespace, headers.clone(), body.clone()))
    };

    let endpoint = Endpoint::new(&url, &plane_ca, &plane.token("user"), Version::HTTP_11).unwrap();
    let occupied = runtime.block_on(unfinished(&endpoint, &plane.token("user"), &namespace));
    within(Duration::from_secs(10), "the apiserver is occupied", || {
        let path = format!("/api/v1/namespaces/{namespace}/pods/no-such-pod");
        let probe = async {
            endpoint
                .connect()
                .await
                .unwrap()
                .send(Method::DELETE, &path, "")
                .await
                .unwrap()
        };
        runtime.block_on(probe).status == StatusCode::TOO_MANY_REQUESTS
    });
    let direct = ask(&url, &plane_ca);
    assert_eq!(
        direct.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        text(&direct)
    );
    let proxied = ask(&proxy.url, &proxy_ca);
    same("too many requests", &direct, &proxied);
    keep(create.name, JSON, &direct);
    assert!(
        proxy.metric("kube_retry_proxy_replays_total", "throttled") > 0,
        "it was sent again before the hold was over"
    );

    drop(occupied);
    let created = ask(&proxy.url, &proxy_ca);
    assert_eq!(created.status, StatusCode::CREATED, "{}", text(&created));
    plane.discard(&namespace);
    proxy.stop();
    plane.component(&["stop", "apiserver-narrow"]);
}

/// A create whose body never comes: it occupies its apiserver until the connection is dropped.
async fn unfinished(endpoint: &Endpoint, token: &str, namespace: &str) -> TlsStream<TcpStream> {
    let mut stream = endpoint.connect_raw().await.unwrap();
    let head = format!(
        "POST /api/v1/namespaces/{namespace}/pods HTTP/1.1\r\nHost: apiserver\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// With `mode: Off` even a quota conflict is none of the proxy's business. What it looks like goes
/// to the fixtures.
fn conflict(plane: &'static ControlPlane) {
    let namespace = plane.namespace("conflict", 1);
    let proxy = Proxy::start(plane, &plane.servers[..1], "mode: 'Off'\n");
    let contention = Contention::start(plane, &namespace);
    let (plane_ca, proxy_ca) = (fs::read_to_string(plane.ca_file()).unwrap(), proxy.ca_pem());
    let runtime = Runtime::new().unwrap();
    for encoding in [JSON, PROTOBUF] {
        let until_conflict = |url: &str, ca: &str, through: &str| {
            let endpoint = Endpoint::new(url, ca, "", Version::HTTP_11).unwrap();
            (0..1000)
                .map(|n| {
                    let pod = format!("{through}-{n}-{}", encoding.len());
                    let refusal = Refusal {
                        name: "",
                        namespace: namespace.clone(),
                        pod,
                        user: Some("user"),
                        status: StatusCode::CONFLICT,
                        says: "",
                    };
                    let (headers, body) = request(plane, &refusal, encoding);
                    runtime.block_on(post(&endpoint, &namespace, headers, body))
                })
                .find(|answer| answer.status == StatusCode::CONFLICT)
                .unwrap_or_else(|| panic!("no conflict in 1,000 creates, {through}"))
        };
        let direct = until_conflict(&plane.servers[0], &plane_ca, "direct");
        let proxied = until_conflict(&proxy.url, &proxy_ca, "proxied");
        assert!(
            text(&direct).contains("Operation cannot be fulfilled on resourcequotas"),
            "{}",
            text(&direct)
        );
        same(
            &format!("a quota conflict in {encoding}"),
            &direct,
            &proxied,
        );
        keep("quota_conflict_409", encoding, &direct);
    }
    contention.stop();
    plane.discard(&namespace);
    proxy.stop();
}

/// One attempt is all that a create gets, so that the first conflict is given up.
fn event(plane: &'static ControlPlane) {
    let namespace = plane.namespace("event", 1);
    let more = format!(
        "replay: {{maxAttempts: 1}}\nevents: {{enabled: true, tokenFile: {}}}\n",
        plane.token_file("admin").display()
    );
    let proxy = Proxy::start(plane, &plane.servers[..1], &more);
    let contention = Contention::start(plane, &namespace);
    let (endpoint, runtime) = (
        Endpoint::new(&proxy.url, &proxy.ca_pem(), "", Version::HTTP_11).unwrap(),
        Runtime::new().unwrap(),
    );
    let given_up = (0..1000).map(|n| format!("pod-{n}")).find(|pod| {
        let refusal = Refusal {
            name: "",
            namespace: namespace.clone(),
            pod: pod.clone(),
            user: Some("user"),
            status: StatusCode::CONFLICT,
            says: "",
        };
        let (headers, body) = request(plane, &refusal, PROTOBUF);
        runtime
            .block_on(post(&endpoint, &namespace, headers, body))
            .status
            == StatusCode::CONFLICT
    });
    let given_up = given_up.unwrap_or_else(|| panic!("no conflict in 1,000 creates"));
    contention.stop();
    let events = || {
        let columns = "custom-columns=:type,:reason,:involvedObject.kind,:involvedObject.name,:source.component,:message";
        plane.kubectl(&[
            "get",
            "events",
            "--namespace",
            &namespace,
            "--field-selector",
            "reason=CreateGivenUp",
            "--no-headers",
            "-o",
            columns,
        ])
    };
    within(Duration::from_secs(10), "the event is there", || {
        !events().is_empty()
    });
    let told = events();
    let words: Vec<_> = told.split_whitespace().collect();
    assert_eq!(
        words[..4],
        ["Warning", "CreateGivenUp", "Pod", &given_up],
        "{told}"
    );
    assert!(
        told.contains("Sent once, held for 0.0 s, given up: all attempts were used. The last answer was 409 (quota_conflict)."),
        "{told}"
    );
    assert_eq!(proxy.metric("kube_retry_proxy_events_total", "success"), 1);
    plane.discard(&namespace);
    proxy.stop();
}

fn quota_is_enforced(plane: &ControlPlane, namespace: &str) {
    within(
        Duration::from_secs(30),
        "the quota controller has seen the quota",
        || {
            !plane
                .kubectl(&[
                    "get",
                    "quota",
                    "--namespace",
                    namespace,
                    "-o",
                    "jsonpath={.items[*].status.hard}",
                ])
                .is_empty()
        },
    );
}

/// The headers and the body of a create.
fn request(plane: &ControlPlane, refusal: &Refusal, encoding: &str) -> (HeaderMap, Bytes) {
    let token = refusal
        .user
        .map_or_else(|| "nobody".to_owned(), |user| token(plane, user));
    let mut headers = HeaderMap::new();
    headers.insert(
        AUTHORIZATION,
        HeaderValue::try_from(format!("Bearer {token}")).unwrap(),
    );
    headers.insert(CONTENT_TYPE, HeaderValue::try_from(encoding).unwrap());
    headers.insert(ACCEPT, HeaderValue::try_from(encoding).unwrap());
    let body = if encoding == PROTOBUF {
        small_pod_protobuf(&refusal.pod)
    } else {
        Bytes::from(small_pod(&refusal.pod))
    };
    (headers, body)
}

/// `argo` stands for a service account that may not do this: the default one of the namespace
/// `default`.
fn token(plane: &ControlPlane, user: &str) -> String {
    if user == "argo" {
        plane
            .kubectl(&["create", "token", "default"])
            .trim()
            .to_owned()
    } else {
        plane.token(user)
    }
}

async fn post(endpoint: &Endpoint, namespace: &str, headers: HeaderMap, body: Bytes) -> Answer {
    let mut client = endpoint.connect().await.unwrap();
    client
        .send_with(
            Method::POST,
            &format!("/api/v1/namespaces/{namespace}/pods"),
            headers,
            body,
        )
        .await
        .unwrap()
}

fn same(what: &str, direct: &Answer, proxied: &Answer) {
    assert_eq!(
        direct.status,
        proxied.status,
        "{what}: {} / {}",
        text(direct),
        text(proxied)
    );
    assert_eq!(
        comparable(&direct.headers),
        comparable(&proxied.headers),
        "{what}"
    );
    assert_eq!(
        direct.body,
        proxied.body,
        "{what}: {} / {}",
        text(direct),
        text(proxied)
    );
}

fn comparable(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut all: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .collect();
    all.sort_unstable();
    all
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Keeps an answer as a fixture might have it, in `target/tmp/e2e/answers/`.
fn keep(name: &str, encoding: &str, answer: &Answer) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e/answers");
    fs::create_dir_all(&folder).unwrap();
    let suffix = if encoding == PROTOBUF {
        "_protobuf"
    } else {
        ""
    };
    let mut file = fs::File::create(folder.join(format!("{name}{suffix}.http"))).unwrap();
    write!(file, "HTTP/1.1 {}\r\n", answer.status).unwrap();
    for (header, value) in &answer.headers {
        write!(file, "{header}: ").unwrap();
        file.write_all(value.as_bytes()).unwrap();
        file.write_all(b"\r\n").unwrap();
    }
    file.write_all(b"\r\n").unwrap();
    file.write_all(&answer.body).unwrap();
}
