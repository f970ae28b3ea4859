//! Connections that close or become silent while others are in use.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use model_control_plane::{Fault, Settings};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::{PODS, arrived};
use crate::support::streaming::{Streamed, watch_path};
use crate::support::{
    Answer, NAMESPACE, Protocol, Rig, eventually, sample, soon, speaking, tls_stream,
};

cases!(
    connections_that_the_apiserver_closes_between_requests_cost_no_error,
    pairs
);
async fn connections_that_the_apiserver_closes_between_requests_cost_no_error(
    down: Protocol,
    up: Protocol,
) {
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
        // The lane of streams keeps no connection open to check the upstream.
        assert_eq!(
            client.get(&format!("{PODS}/a/log?follow=true")).await.body,
            "line\n"
        );
        // Over HTTP/1.1 the server closes the connection itself.
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

cases!(an_apiserver_that_goes_away_costs_no_error, pairs);
async fn an_apiserver_that_goes_away_costs_no_error(down: Protocol, up: Protocol) {
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
    assert_eq!(arrived(&rig, "/echo"), 20);
    rig.stop().await;
}

cases!(
    goaways_at_random_among_many_requests_lose_and_repeat_nothing,
    protocols
);
async fn goaways_at_random_among_many_requests_lose_and_repeat_nothing(down: Protocol) {
    const ROUNDS: usize = 30;
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
                // As with `--goaway-chance`, which allows at most one in fifty; here it is one in
                // five.
                if fastrand::u8(..5) == 0 {
                    faults[fastrand::usize(..3)].next_request(Fault::GoAway);
                }
                assert_eq!(
                    client.create(&format!("pod-{worker}-{n}")).await.status,
                    StatusCode::CREATED
                );
                let request = client.request(Method::PUT, &format!("/echo/{worker}/{n}"), "once");
                assert_eq!(client.ask(request).await.status, StatusCode::OK);
            }
        });
    }
    soon(working.join_all()).await;
    for worker in 0..10 {
        for n in 0..ROUNDS {
            assert_eq!(arrived(&rig, &format!("/echo/{worker}/{n}")), 1);
            assert_eq!(
                rig.plane
                    .journal()
                    .creates_of(&format!("pod-{worker}-{n}"))
                    .len(),
                1
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

cases!(a_stalled_request_leaves_the_others_alone, pairs);
async fn a_stalled_request_leaves_the_others_alone(down: Protocol, up: Protocol) {
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
    assert_eq!(watch.event().await.1, "a");

    assert!(!waiting.is_finished());
    faults.release();
    let answer: Answer = soon(waiting).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    rig.stop().await;
}

cases!(a_client_that_never_sends_a_request_is_let_go, protocols);
async fn a_client_that_never_sends_a_request_is_let_go(protocol: Protocol) {
    let rig = Rig::with(
        Settings {
            apiservers: 1,
            ..Settings::quick()
        },
        |config| {
            config.serving.head_timeout = Duration::from_millis(1).try_into().unwrap();
        },
    )
    .await;
    let mut silent = tls_stream(
        rig.proxy.address,
        rig.proxy.ca_pem.as_deref().unwrap(),
        protocol,
    )
    .await;
    // Bytes before the end do not matter: HTTP/2 sends SETTINGS. A connection cut without TLS
    // close_notify has ended too.
    let _ended = soon(silent.read_to_end(&mut Vec::new())).await;
    eventually("its place is free", || {
        sample(&rig.proxy, "kube_retry_proxy_downstream_connections") == 0.0
    })
    .await;
    rig.stop().await;
}
