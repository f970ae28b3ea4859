//! Many concurrent watches are distributed over several connections, and other requests use
//! different connections.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use http::{Response, StatusCode};
use model_control_plane::Settings;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::support::peers::Http2Upstream;
use crate::support::raw::Raw;
use crate::support::streaming::{Streamed, watch_path};
use crate::support::{
    NAMESPACE, Protocol, Rig, eventually, proxy_to, sample, soon, speaking, tls_stream,
};

const WATCHES: usize = 300;

/// Creates and reads that run alongside the watches.
const WORK: usize = 10;

/// A lock for tests that have a thousand sockets open. One at a time, they stay below the limit of
/// a process.
static SOCKETS: Mutex<()> = Mutex::const_new(());

cases!(
    lists_come_in_larger_frames_than_watches,
    [
        a_list("/api/v1/pods", 64 << 10),
        a_watch("/api/v1/pods?watch=true", 16 << 10)
    ]
);
async fn lists_come_in_larger_frames_than_watches(path: &str, largest: usize) {
    let upstream = Http2Upstream::bind().await;
    let proxy = proxy_to(&upstream.url(), &upstream.ca_pem, |_| {}).await;
    let ca = proxy.ca_pem.as_deref().unwrap();
    let mut client = Raw::new(tls_stream(proxy.address, ca, Protocol::Http1).await);
    client
        .write(format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
        .await;
    let (_, mut answer) = upstream.request().await;
    let mut body = answer.send_response(Response::new(()), false).unwrap();
    body.send_data(vec![b'x'; 200 << 10].into(), true).unwrap();
    // Each frame is a chunk.
    let received = client.rest().await;
    let sizes: Vec<_> = String::from_utf8(received)
        .unwrap()
        .split("\r\n")
        .filter_map(|line| usize::from_str_radix(line, 16).ok())
        .collect();
    assert_eq!(sizes.iter().max(), Some(&largest), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 200 << 10);
    proxy.stop().await;
}

#[tokio::test]
async fn three_hundred_watches_over_http2_leave_creates_and_reads_alone() {
    beside_watches(Protocol::Http2, speaking(Protocol::Http2), 3).await;
}

#[tokio::test]
async fn three_hundred_watches_over_http1_connections_leave_creates_and_reads_alone() {
    beside_watches(Protocol::Http1, speaking(Protocol::Http2), 3).await;
}

#[tokio::test]
async fn watches_respect_the_streams_that_the_apiserver_allows() {
    beside_watches(
        Protocol::Http1,
        Settings {
            max_streams: 10,
            ..speaking(Protocol::Http2)
        },
        WATCHES / 10,
    )
    .await;
}

#[tokio::test]
async fn each_watch_has_a_connection_of_its_own_towards_an_http1_apiserver() {
    beside_watches(Protocol::Http2, speaking(Protocol::Http1), WATCHES).await;
}

#[tokio::test]
async fn a_burst_that_meets_no_connection_spreads_over_several() {
    const BURST: usize = 12;
    let _alone = SOCKETS.lock().await;
    let rig = Rig::speaking(Protocol::Http2).await;
    let mut opening = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..BURST {
        clients.push(rig.client(Protocol::Http1).await);
    }
    for mut client in clients {
        opening.spawn(async move {
            Streamed::open(&mut client, &watch_path(), "application/json").await
        });
    }
    let watches = soon(opening.join_all()).await;
    let attempts = rig.plane.journal().attempts();
    let mut on: HashMap<_, usize> = HashMap::new();
    attempts
        .iter()
        .filter(|attempt| attempt.query.is_some())
        .for_each(|attempt| *on.entry(attempt.connection).or_default() += 1);
    assert!(
        on.len() > 1 && on.values().all(|watches| *watches < BURST),
        "{on:?}"
    );
    drop(watches);
    rig.stop().await;
}

#[tokio::test]
async fn connections_of_streams_are_renewed_before_cancelled_ones_can_end_them() {
    let _alone = SOCKETS.lock().await;
    let rig = Rig::with(speaking(Protocol::Http2), |config| {
        config.upstream.connections_per_lane = 1.try_into().unwrap()
    })
    .await;
    let mut client = rig.client(Protocol::Http2).await;
    let mut lasting = Streamed::open(&mut client, &watch_path(), "application/json").await;
    for _ in 0..1100 {
        drop(Streamed::open(&mut client, &watch_path(), "application/json").await);
    }
    let connections: HashSet<_> = rig
        .plane
        .journal()
        .attempts()
        .iter()
        .filter(|attempt| attempt.query.is_some())
        .map(|attempt| attempt.connection)
        .collect();
    assert_eq!(connections.len(), 2);
    client.create("a").await;
    assert_eq!(
        lasting.event().await,
        ("ADDED".to_owned(), "a".to_owned()),
        "on the first connection still"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release --test it five_thousand_streams -- --ignored --nocapture"]
async fn five_thousand_streams_leave_creates_their_latency() {
    const CREATES: usize = 2000;
    const IN_FLIGHT: usize = 200;
    let _alone = SOCKETS.lock().await;
    let rig = Rig::with(
        Settings {
            seed: 1,
            ..speaking(Protocol::Http2)
        },
        |_| {},
    )
    .await;
    rig.client(Protocol::Http1).await.create("a").await;
    // Followed logs: the proxy treats them like watches, but the model wakes its watches for every
    // change in the store.
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/a/log?follow=true");
    let mut streams = Vec::new();
    for count in [0, 5000] {
        while streams.len() < count {
            let mut client = rig.client(Protocol::Http2).await;
            for _ in 0..100 {
                streams.push(Streamed::open(&mut client, &path, "text/plain").await);
            }
        }
        assert_eq!(gauge(&rig, "upstream_streams"), count);
        let mut clients = Vec::new();
        for _ in 0..IN_FLIGHT {
            clients.push(rig.client(Protocol::Http1).await);
        }
        let mut working = JoinSet::new();
        for (worker, mut client) in clients.into_iter().enumerate() {
            working.spawn(async move {
                let mut times = Vec::new();
                for n in 0..CREATES / IN_FLIGHT {
                    let started = Instant::now();
                    let answer = client.create(&format!("pod-{count}-{worker}-{n}")).await;
                    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
                    times.push(started.elapsed());
                }
                times
            });
        }
        let mut times: Vec<_> = working.join_all().await.into_iter().flatten().collect();
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        eprintln!(
            "{count} streams, {IN_FLIGHT} creates in flight: p50 {:?}, p99 {:?}",
            at(50),
            at(99)
        );
    }
    rig.stop().await;
}

/// Opens all watches at once, sends other requests, and checks that each watch gets the event that
/// follows.
async fn beside_watches(down: Protocol, settings: Settings, connections: usize) {
    let _alone = SOCKETS.lock().await;
    // All are opened at once: the proxy opens further connections when the streams of one are used
    // up.
    let rig = Rig::with(settings, |config| {
        config.upstream.connections_per_lane = 1.try_into().unwrap()
    })
    .await;
    let per_client = if down == Protocol::Http1 { 1 } else { 100 };
    let mut clients = Vec::new();
    for _ in 0..WATCHES / per_client {
        clients.push(rig.client(down).await);
    }
    let mut opening = JoinSet::new();
    for mut client in clients {
        opening.spawn(async move {
            let mut watches = Vec::new();
            for _ in 0..per_client {
                watches.push(Streamed::open(&mut client, &watch_path(), "application/json").await);
            }
            watches
        });
    }
    let mut watches: Vec<_> = opening.join_all().await.into_iter().flatten().collect();
    assert_eq!(watches.len(), WATCHES);
    assert_eq!(gauge(&rig, "upstream_streams"), WATCHES);
    assert!(
        gauge(&rig, "upstream_connections") >= connections,
        "{} connections",
        gauge(&rig, "upstream_connections")
    );

    let mut working = JoinSet::new();
    for n in 0..WORK {
        let mut client = rig
            .client(if n % 2 == 0 {
                Protocol::Http1
            } else {
                Protocol::Http2
            })
            .await;
        working.spawn(async move {
            let created = client.create(&format!("pod-{n}")).await;
            let read = client
                .get(&format!("/api/v1/namespaces/{NAMESPACE}/pods/pod-{n}"))
                .await;
            (created.status, read.status)
        });
    }
    let done = soon(working.join_all()).await;
    assert_eq!(done, [(StatusCode::CREATED, StatusCode::OK); WORK]);
    for watch in &mut watches {
        for _ in 0..WORK {
            assert!(watch.line().await.starts_with(r#"{"type":"ADDED""#));
        }
    }
    let (watching, others): (Vec<_>, Vec<_>) = rig
        .plane
        .journal()
        .attempts()
        .into_iter()
        .partition(|attempt| attempt.query.is_some());
    let shared = others
        .iter()
        .filter(|other| {
            watching
                .iter()
                .any(|watch| watch.connection == other.connection)
        })
        .count();
    assert_eq!(
        shared, 0,
        "neither creates nor reads are on a connection of watches"
    );

    drop(watches);
    eventually("no stream is left", || gauge(&rig, "upstream_streams") == 0).await;
    rig.stop().await;
}

fn gauge(rig: &Rig, name: &str) -> usize {
    sample(
        &rig.proxy,
        &format!("kube_retry_proxy_{name}{{lane=\"stream\"}}"),
    ) as usize
}
