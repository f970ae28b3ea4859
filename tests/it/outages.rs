//! An upstream that fails short requests: the client learns whether it may ask again, and nobody
//! else suffers.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use model_control_plane::Status;
use model_control_plane::{Fault, Settings};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::support::raw::Upstream;
use crate::support::streaming::{Streamed, watch_path};
use crate::support::{
    Answer, BOTH, Client, NAMESPACE, PAIRS, Protocol, Rig, eventually, proxy_to, sample,
    servers_up, soon, speaking, tls_stream,
};

const PODS: &str = "/api/v1/namespaces/team/pods";

#[tokio::test]
async fn an_apiserver_that_is_down_is_told_in_the_clients_encoding_and_may_be_asked_again() {
    let rig = Rig::new().await;
    let faults = rig.plane.faults(0).unwrap();
    let up = || servers_up(&rig.proxy);
    eventually("the proxy has seen it up", || up() == 1).await;
    faults.set_down(true);
    eventually("the proxy has seen it down", || up() == 0).await;
    for down in BOTH {
        for (method, accept) in [
            (Method::GET, "application/json"),
            (
                Method::GET,
                "application/vnd.kubernetes.protobuf,application/json",
            ),
            (Method::DELETE, "application/vnd.kubernetes.protobuf"),
            (Method::PATCH, "application/json"),
            (
                Method::GET,
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            ),
        ] {
            let mut client = rig.client(down).await;
            let mut request = client.request(method.clone(), &format!("{PODS}/a"), "");
            request
                .headers_mut()
                .insert(ACCEPT, accept.parse().unwrap());
            let answer = client.ask(request).await;
            assert_eq!(
                answer.status,
                StatusCode::SERVICE_UNAVAILABLE,
                "{method} {accept}"
            );
            assert_eq!(answer.headers[RETRY_AFTER], "1", "{method} {accept}");
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
        }
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

#[tokio::test]
async fn a_request_lost_on_its_way_is_sent_once_and_may_be_asked_again_only_if_it_changes_nothing()
{
    for (down, up) in PAIRS {
        let rig = Rig::speaking(up).await;
        let mut client = rig.client(down).await;
        let faults = [Fault::Reset, Fault::Cut, Fault::LoseAnswer, Fault::CutAfter];
        let methods = [
            Method::GET,
            Method::HEAD,
            Method::DELETE,
            Method::POST,
            Method::PATCH,
            Method::PUT,
        ];
        for fault in faults {
            for method in methods.clone() {
                let path = format!("/echo/{method}");
                let before = arrived(&rig, &path);
                rig.plane.faults(0).unwrap().next_request(fault.clone());
                let answer = client.ask(client.request(method.clone(), &path, "")).await;
                let what = format!("{fault:?} {method} {down:?} {up:?}");
                assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{what}");
                let again = answer
                    .headers
                    .get(RETRY_AFTER)
                    .map(|value| value.to_str().unwrap());
                assert_eq!(again, method.is_safe().then_some("1"), "{what}");
                assert_eq!(arrived(&rig, &path) - before, 1, "{what}");
                if method != Method::HEAD {
                    assert_eq!(
                        (&answer.json()["reason"], &answer.json()["code"]),
                        (&json!("Timeout"), &json!(504)),
                        "{what}"
                    );
                }
            }
        }
        assert_eq!(client.get("/livez").await.body, "ok");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_call_that_the_apiserver_refuses_unprocessed_is_sent_again() {
    for down in BOTH {
        let rig = Rig::new().await;
        let mut client = rig.client(down).await;
        for method in [Method::GET, Method::DELETE, Method::PATCH] {
            for body in [String::new(), "small".to_owned(), "x".repeat(16 << 10)] {
                let before = arrived(&rig, "/echo");
                rig.faults().next_request(Fault::Refuse);
                let answer = client
                    .ask(client.request(method.clone(), "/echo", body.clone()))
                    .await;
                let what = format!("{method} of {} bytes over {down:?}", body.len());
                assert_eq!(
                    (answer.status, arrived(&rig, "/echo") - before),
                    (StatusCode::OK, 2),
                    "{what}"
                );
                assert!(answer.json()["body"] == json!(body), "{what}");
            }
            // Too much of this one may be gone: then the client is told to ask again, and nothing
            // is ever sent in part.
            let large = "x".repeat(1 << 20);
            rig.faults().next_request(Fault::Refuse);
            let answer = client
                .ask(client.request(method.clone(), "/echo", large.clone()))
                .await;
            let whole = answer.status == StatusCode::OK && answer.json()["body"] == json!(large);
            assert!(
                whole || answer.status == StatusCode::SERVICE_UNAVAILABLE,
                "{method} over {down:?}: {}",
                answer.status
            );
            // An answer before the end of the body may have cost an HTTP/1.1 connection.
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
        }
        rig.stop().await;
    }
}

#[tokio::test]
async fn connections_that_the_apiserver_closes_between_requests_cost_no_error() {
    for (down, up) in PAIRS {
        let rig = Rig::with(
            Settings {
                idle_timeout: Duration::from_millis(20),
                ..speaking(up)
            },
            |_| {},
        )
        .await;
        let mut client = rig.client(down).await;
        client.create("a").await;
        rig.plane.logs().push(NAMESPACE, "a", "line");
        rig.plane.logs().close(NAMESPACE, "a");
        for _ in 0..5 {
            // Of the lanes, that of streams holds no connection open to see whether the upstream is
            // there.
            assert_eq!(
                client.get(&format!("{PODS}/a/log?follow=true")).await.body,
                "line\n",
                "{down:?} {up:?}"
            );
            // Over HTTP/1.1 the server closes by itself.
            if up == Protocol::Http2 {
                rig.plane.faults(0).unwrap().cut_connections();
            }
            let open = || {
                sample(
                    &rig.proxy,
                    "kube_retry_proxy_upstream_connections{lane=\"stream\"}",
                )
            };
            eventually("the proxy has seen it", || open() == 0.0).await;
        }
        rig.stop().await;
    }
}

#[tokio::test]
async fn an_apiserver_that_goes_away_costs_no_error() {
    for (down, up) in PAIRS {
        let rig = Rig::speaking(up).await;
        let mut client = rig.client(down).await;
        for n in 0..20 {
            if n % 2 == 0 {
                rig.plane.faults(0).unwrap().next_request(Fault::GoAway);
            } else {
                rig.plane.faults(0).unwrap().go_away();
            }
            let answer = client
                .ask(client.request(Method::PUT, "/echo", "once"))
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{down:?} {up:?}: {answer:?}");
        }
        assert_eq!(arrived(&rig, "/echo"), 20, "{down:?} {up:?}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn goaways_at_random_among_many_requests_lose_and_repeat_nothing() {
    const ROUNDS: usize = 30;
    for down in BOTH {
        let rig = Rig::listed(Settings::quick(), |_| {}).await;
        let mut watch = Streamed::open(
            &mut rig.client(down).await,
            &watch_path(),
            "application/json",
        )
        .await;
        let mut working = JoinSet::new();
        for worker in 0..10 {
            let mut client = rig.client(down).await;
            let faults: Vec<_> = (0..3)
                .map(|index| Arc::clone(rig.plane.faults(index).unwrap()))
                .collect();
            working.spawn(async move {
                for n in 0..ROUNDS {
                    // As `--goaway-chance`, which is at most one in fifty, but here one in five.
                    if fastrand::u8(..5) == 0 {
                        faults[fastrand::usize(..3)].next_request(Fault::GoAway);
                    }
                    assert_eq!(
                        client.create(&format!("pod-{worker}-{n}")).await.status,
                        StatusCode::CREATED
                    );
                    let request =
                        client.request(Method::PUT, &format!("/echo/{worker}/{n}"), "once");
                    assert_eq!(client.ask(request).await.status, StatusCode::OK);
                }
            });
        }
        soon(working.join_all()).await;
        for worker in 0..10 {
            for n in 0..ROUNDS {
                assert_eq!(arrived(&rig, &format!("/echo/{worker}/{n}")), 1, "{down:?}");
                assert_eq!(
                    rig.plane
                        .journal()
                        .creates_of(&format!("pod-{worker}-{n}"))
                        .len(),
                    1,
                    "{down:?}"
                );
            }
        }
        for _ in 0..10 * ROUNDS {
            assert_eq!(
                watch.event().await.0,
                "ADDED",
                "a GOAWAY leaves a watch alone"
            );
        }
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_stalled_request_leaves_the_others_alone() {
    for (down, up) in PAIRS {
        let rig = Rig::speaking(up).await;
        let faults = rig.plane.faults(0).unwrap();
        faults.next_request(Fault::Hold);
        let mut stalled = rig.client(down).await;
        let waiting = tokio::spawn(async move { stalled.get("/echo/stalled").await });
        eventually("the request is held", || {
            arrived(&rig, "/echo/stalled") == 1
        })
        .await;

        let mut client = rig.client(down).await;
        for _ in 0..10 {
            assert_eq!(client.get("/livez").await.status, StatusCode::OK);
        }
        assert_eq!(client.create("a").await.status, StatusCode::CREATED);
        let mut watch = Streamed::open(&mut client, &watch_path(), "application/json").await;
        assert_eq!(watch.event().await.1, "a", "{down:?} {up:?}");

        assert!(!waiting.is_finished());
        faults.release();
        let answer: Answer = soon(waiting).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        rig.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_taken_for_a_whole_one() {
    for down in BOTH {
        for half in [
            "Content-Length: 10\r\n\r\nhalf",
            "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ] {
            let upstream = Upstream::bind().await;
            let proxy = proxy_to(&upstream.url(), "", |_| {}).await;
            let mut client =
                Client::connect(proxy.address, proxy.ca_pem.as_deref().unwrap(), "t", down).await;
            let asking = tokio::spawn(async move {
                client.send(client.request(Method::GET, "/livez", "")).await
            });
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
    }
}

/// How many requests for this path the apiserver has seen.
fn arrived(rig: &Rig, path: &str) -> usize {
    rig.plane
        .journal()
        .attempts()
        .iter()
        .filter(|attempt| attempt.path == path)
        .count()
}

#[tokio::test]
async fn a_client_that_never_sends_a_request_is_let_go() {
    for protocol in BOTH {
        let rig = Rig::with(
            Settings {
                apiservers: 1,
                ..Settings::quick()
            },
            |config| {
                config.serving.head_timeout = Duration::from_millis(1);
            },
        )
        .await;
        let mut silent = tls_stream(
            rig.proxy.address,
            rig.proxy.ca_pem.as_deref().unwrap(),
            protocol,
        )
        .await;
        // What comes before the end does not matter: HTTP/2 has SETTINGS to tell. A cut without a
        // TLS goodbye is an end too.
        let _ended = soon(silent.read_to_end(&mut Vec::new())).await;
        eventually("its place is free", || {
            sample(&rig.proxy, "kube_retry_proxy_downstream_connections") == 0.0
        })
        .await;
        rig.stop().await;
    }
}
