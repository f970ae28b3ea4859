//! The metrics of streams and of the upstream, their labels, and the whole scrape.

use std::collections::BTreeSet;
use std::process::Command;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};

use super::{create_in, exec_request, of, rig, series};
use crate::support::executable::run_with_input;
use crate::support::{Client, Protocol, Rig, admin, conflict, eventually, sample};

#[tokio::test]
async fn open_streams_are_counted_until_they_end() {
    let rig = Rig::new().await;
    let mut client = rig.client(Protocol::Http2).await;
    let watch = client
        .send(client.request(Method::GET, "/api/v1/namespaces/team/pods?watch=true", ""))
        .await;
    assert_eq!(of(&rig.proxy, "streams{kind=\"stream\"}"), 1.0);
    assert_eq!(of(&rig.proxy, "upstream_streams{lane=\"stream\"}"), 1.0);
    assert_eq!(
        of(&rig.proxy, "requests_total{code=\"200\",route=\"stream\"}"),
        1.0
    );
    drop(watch);
    eventually("the watch is over", || {
        of(&rig.proxy, "streams{kind=\"stream\"}") == 0.0
    })
    .await;
    eventually("its place is free", || {
        of(&rig.proxy, "upstream_streams{lane=\"stream\"}") == 0.0
    })
    .await;

    let mut client = rig.client(Protocol::Http1).await;
    let exec = client.send(exec_request(&client)).await;
    assert_eq!(exec.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(of(&rig.proxy, "streams{kind=\"upgrade\"}"), 1.0);
    assert_eq!(
        of(&rig.proxy, "requests_total{code=\"101\",route=\"upgrade\"}"),
        1.0
    );
    drop((exec, client));
    eventually("the tunnel is over", || {
        of(&rig.proxy, "streams{kind=\"upgrade\"}") == 0.0
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_counted() {
    let rig = rig(|config| config.replay.max_attempts = 2.try_into().unwrap()).await;
    rig.client(Protocol::Http1).await.get("/version").await;
    assert_eq!(of(&rig.proxy, "upstream_connections{lane=\"call\"}"), 1.0);
    rig.plane.faults(0).unwrap().set_down(true);
    let answer = rig.client(Protocol::Http1).await.create("a").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        of(&rig.proxy, "upstream_errors_total{kind=\"connect\"}"),
        2.0
    );
    assert!(
        of(
            &rig.proxy,
            "upstream_connect_duration_seconds_count{lane=\"create\",result=\"failure\"}"
        ) >= 2.0
    );
    assert_eq!(
        of(&rig.proxy, "replays_total{class=\"connect_failed\"}"),
        1.0
    );
    assert_eq!(
        of(
            &rig.proxy,
            "outcomes_total{namespace=\"_other\",outcome=\"no_answer\"}"
        ),
        1.0
    );
    eventually("disconnected", || {
        of(&rig.proxy, "upstream_connections{lane=\"call\"}") == 0.0
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn namespaces_beyond_the_first_hundred_share_a_label() {
    let rig = Rig::new().await;
    let mut client = rig.client(Protocol::Http2).await;
    for number in 0..150 {
        let namespace = format!("tenant-{number}");
        rig.plane.create_namespace(&namespace).unwrap();
        assert_eq!(
            create_in(&mut client, &namespace, "a").await.status,
            StatusCode::CREATED
        );
    }
    let created = "kube_retry_proxy_outcomes_total{namespace=\"";
    let series = series(&rig.proxy).await;
    let labels: BTreeSet<_> = series
        .iter()
        .filter_map(|series| series.strip_prefix(created)?.split('"').next())
        .collect();
    assert_eq!(labels.len(), 101, "{labels:?}");
    assert!(
        labels.contains("_other") && labels.contains("tenant-99") && !labels.contains("tenant-100"),
        "{labels:?}"
    );
    assert_eq!(
        of(
            &rig.proxy,
            "outcomes_total{namespace=\"_other\",outcome=\"created\"}"
        ),
        50.0
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_stranger_cannot_use_the_labels_up() {
    let rig = Rig::new().await;
    let mut stranger = Client::connect(
        rig.proxy.address,
        rig.proxy.ca_pem.as_deref().unwrap(),
        "no-such-token",
        Protocol::Http2,
    )
    .await;
    for number in 0..3 {
        assert_eq!(
            create_in(&mut stranger, &format!("guess-{number}"), "a")
                .await
                .status,
            StatusCode::UNAUTHORIZED
        );
    }
    assert!(
        !series(&rig.proxy)
            .await
            .iter()
            .any(|series| series.contains("guess-"))
    );
    assert_eq!(
        of(
            &rig.proxy,
            "outcomes_total{namespace=\"_other\",outcome=\"refused\"}"
        ),
        3.0
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_live_scrape_is_what_prometheus_expects() {
    let rig = Rig::new().await;
    rig.plane.faults(0).unwrap().next_create(conflict());
    let mut client = rig.client(Protocol::Http1).await;
    assert_eq!(
        client.create("a-pod-name").await.status,
        StatusCode::CREATED
    );
    assert_eq!(
        client
            .get("/api/v1/namespaces/team/pods/a-pod-name")
            .await
            .status,
        StatusCode::OK
    );
    let scrape = admin::get(rig.proxy.admin_address, "/metrics").await;
    assert!(
        scrape.headers[CONTENT_TYPE]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4"),
        "{:?}",
        scrape.headers
    );
    assert!(
        !scrape.text().contains("a-pod-name") && !scrape.text().contains(rig.plane.token()),
        "{}",
        scrape.text()
    );
    let expiry = of(&rig.proxy, "certificate_expiry_timestamp_seconds");
    assert!(
        expiry > sample(&rig.proxy, "process_start_time_seconds") + 300.0 * 86_400.0,
        "a year from now: {expiry}"
    );

    match Command::new("promtool").arg("--version").output() {
        Ok(_) => {
            let mut promtool = Command::new("promtool");
            promtool.args(["check", "metrics"]);
            let checked = run_with_input(promtool, &scrape.body).await;
            assert_eq!(
                (checked.code, checked.stderr.as_str()),
                (Some(0), ""),
                "{}",
                checked.stdout
            );
        }
        Err(error) if std::env::var("CI").is_ok_and(|value| value == "true") => {
            panic!("promtool is missing: {error}")
        }
        Err(error) => eprintln!("promtool is missing, the scrape is not checked by it: {error}"),
    }
    rig.stop().await;
}
