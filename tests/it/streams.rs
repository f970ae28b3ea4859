//! Watches and followed logs: each piece arrives when it is sent, for as long as both sides keep
//! the stream open.

use std::time::Duration;

use http::StatusCode;
use model_control_plane::envelope;

use crate::support::streaming::{Streamed, watch_path};
use crate::support::{NAMESPACE, Protocol, Rig, eventually, sample, speaking};

const JSON: &str = "application/json";

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf;stream=watch";

cases!(events_arrive_one_by_one_before_the_next_happens, pairs);
async fn events_arrive_one_by_one_before_the_next_happens(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let mut writer = rig.direct(up).await;
    let mut watch = Streamed::open(&mut rig.client(down).await, &watch_path(), JSON).await;
    for name in ["a", "b", "c"] {
        assert_eq!(writer.create(name).await.status, StatusCode::CREATED);
        assert_eq!(watch.event().await, ("ADDED".to_owned(), name.to_owned()));
    }
    rig.plane.store().delete_pod(NAMESPACE, "b").unwrap();
    assert_eq!(watch.event().await, ("DELETED".to_owned(), "b".to_owned()));
    rig.stop().await;
}

cases!(protobuf_frames_arrive_one_by_one_too, pairs);
async fn protobuf_frames_arrive_one_by_one_too(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let mut writer = rig.direct(up).await;
    let mut watch = Streamed::open(&mut rig.client(down).await, &watch_path(), PROTOBUF).await;
    assert_eq!(watch.head.headers["content-type"], PROTOBUF);
    for name in ["a", "b"] {
        assert_eq!(writer.create(name).await.status, StatusCode::CREATED);
        let (event, object) = watch.protobuf_event().await;
        assert_eq!(event, "ADDED");
        assert!(envelope::unwrap(&object).is_some(), "a whole object");
    }
    rig.stop().await;
}

cases!(a_streaming_list_is_open_after_its_initial_events, pairs);
async fn a_streaming_list_is_open_after_its_initial_events(down: Protocol, up: Protocol) {
    let path = format!(
        "{}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        watch_path()
    );
    let rig = Rig::speaking(up).await;
    let mut writer = rig.direct(up).await;
    writer.create("before").await;
    let mut watch = Streamed::open(&mut rig.client(down).await, &path, JSON).await;
    assert_eq!(watch.event().await.1, "before");
    assert!(watch.line().await.contains("k8s.io/initial-events-end"));
    writer.create("after").await;
    assert_eq!(watch.event().await.1, "after");
    rig.stop().await;
}

cases!(a_followed_log_arrives_line_by_line, pairs);
async fn a_followed_log_arrives_line_by_line(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let mut client = rig.client(down).await;
    client.create("a").await;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/a/log?follow=true&container=main");
    let mut log = Streamed::open(&mut client, &path, "*/*").await;
    for line in ["first", "second", "third"] {
        rig.plane.logs().push(NAMESPACE, "a", line);
        assert_eq!(log.line().await, line);
    }
    rig.plane.logs().close(NAMESPACE, "a");
    assert_eq!(log.rest().await, b"", "the end arrives too");
    eventually("no stream is left", || open_streams(&rig) == 0.0).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_watch_outlives_the_time_after_which_idle_connections_are_closed() {
    tokio::join!(
        outlives_idle_connections(Protocol::Http1),
        outlives_idle_connections(Protocol::Http2)
    );
}

async fn outlives_idle_connections(up: Protocol) {
    let rig = Rig::with(speaking(up), |config| {
        config.upstream.idle_timeout = Duration::from_millis(1);
        config.upstream.keep_alive_interval = Duration::from_millis(10).try_into().unwrap();
    })
    .await;
    let mut watch =
        Streamed::open(&mut rig.client(Protocol::Http2).await, &watch_path(), JSON).await;
    let mut client = rig.client(Protocol::Http1).await;
    client.create("a").await;
    assert_eq!(watch.event().await.1, "a");
    // The watch has been silent since the time before the create.
    eventually("the connections of creates are closed", || {
        connections(&rig, "create") == 0.0
    })
    .await;
    assert_eq!(
        (open_streams(&rig), connections(&rig, "stream")),
        (1.0, 1.0)
    );
    client.create("b").await;
    assert_eq!(watch.event().await.1, "b");
    rig.stop().await;
}

cases!(a_client_that_leaves_a_watch_ends_it_upstream, pairs);
async fn a_client_that_leaves_a_watch_ends_it_upstream(down: Protocol, up: Protocol) {
    let rig = Rig::speaking(up).await;
    let abandoned = || {
        rig.plane
            .journal()
            .attempts()
            .iter()
            .filter(|attempt| attempt.abandoned)
            .count()
    };
    let mut client = rig.client(down).await;
    let watch = Streamed::open(&mut client, &watch_path(), JSON).await;
    assert_eq!((open_streams(&rig), abandoned()), (1.0, 0));
    drop(watch);
    eventually("the apiserver sees the client leave", || abandoned() == 1).await;
    eventually("the stream is given back", || open_streams(&rig) == 0.0).await;
    assert_eq!(
        sample(
            &rig.proxy,
            "kube_retry_proxy_upstream_streams{lane=\"stream\"}"
        ),
        0.0
    );
    rig.stop().await;
}

/// The number of open watches and logs, as the proxy counts them.
fn open_streams(rig: &Rig) -> f64 {
    sample(&rig.proxy, "kube_retry_proxy_streams{kind=\"stream\"}")
}

fn connections(rig: &Rig, lane: &str) -> f64 {
    sample(
        &rig.proxy,
        &format!("kube_retry_proxy_upstream_connections{{lane=\"{lane}\"}}"),
    )
}
