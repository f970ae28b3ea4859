//! Answers through the proxy equal those of the apiserver byte for byte: every kind of answer to a
//! create, in JSON and protobuf, over HTTP/1.1 and HTTP/2.

mod comparison;
mod requests;

use std::fs;
use std::time::Duration;

use http::{Method, StatusCode, Version};
use libtest_mimic::Trial;
use model_control_plane::client::Endpoint;
use tokio::runtime::Runtime;

use comparison::{keep, same, text};
use requests::{post, request, unfinished};

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

/// A create that the apiserver refuses.
struct Refusal {
    name: &'static str,
    namespace: String,
    pod: String,
    /// `None` means a token that the apiserver does not know.
    user: Option<&'static str>,
    status: StatusCode,
    says: &'static str,
}

fn refusals(plane: &'static ControlPlane) {
    let proxy = Proxy::start(plane, &plane.servers[..1], "");
    // Without a quota: a refused create charges it for a moment, and the quota controller's
    // correction would make conflicts, which are rightly replayed.
    let open = plane.namespace("answers", 0);
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
    // A finalizer keeps the namespace terminating.
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
                    // The first one may succeed or fail.
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

/// An apiserver that handles one mutating request at a time, and a request that occupies it.
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
        "it was replayed before the hold was over"
    );

    drop(occupied);
    let created = ask(&proxy.url, &proxy_ca);
    assert_eq!(created.status, StatusCode::CREATED, "{}", text(&created));
    plane.discard(&namespace);
    proxy.stop();
    plane.component(&["stop", "apiserver-narrow"]);
}

/// With `mode: Off` the proxy relays even quota conflicts. The captured answer goes to the
/// fixtures.
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

/// A create gets only one attempt, so the proxy gives up at the first conflict.
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
