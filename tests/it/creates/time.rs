//! The time limit of a create counts from its arrival, however slow its client and the apiserver
//! are. The tests count attempts and never measure seconds.

use std::time::Duration;

use http::{Method, StatusCode};
use model_control_plane::Fault;

use super::{attempts, brisk, not_replayed, rig};
use crate::support::{
    Answer, NAMESPACE, Posted, Protocol, Rig, assert_relayed, captured, eventually, pod,
};

/// The minimum duration of an attempt.
const SLOW: Duration = Duration::from_millis(600);

/// Answers every create with a late quota conflict.
fn conflicts_slowly(rig: &Rig) {
    rig.faults().every_create(Some(Fault::AnswerAfter(
        SLOW,
        captured("quota_conflict_409"),
    )));
}

cases!(slow_attempts_count_towards_the_hold, protocols);
async fn slow_attempts_count_towards_the_hold(protocol: Protocol) {
    let rig = rig(|config| {
        brisk(config);
        config.replay.max_hold = SLOW * 5 / 2;
    })
    .await;
    rig.plane.create_namespace("other").unwrap();
    conflicts_slowly(&rig);
    let mut client = rig.client(protocol).await;
    let slow = tokio::spawn(async move { client.create("a").await });
    eventually("it is under way", || attempts(&rig) == 1).await;
    let mut neighbour = rig.client(protocol).await;
    assert_eq!(neighbour.get("/version").await.status, StatusCode::OK);
    assert_relayed(
        &slow.await.unwrap(),
        &captured("quota_conflict_409"),
        "held for long enough",
    );
    assert!(
        (2..=3).contains(&attempts(&rig)),
        "{} attempts, of which the last began within the hold",
        attempts(&rig)
    );
    assert_eq!(not_replayed(&rig, "hold"), 1.0);
    rig.faults().every_create(None);
    assert_eq!(
        neighbour.create_in("other", "b").await.status,
        StatusCode::CREATED
    );
    rig.stop().await;
}

cases!(a_slow_body_counts_towards_the_hold, protocols);
async fn a_slow_body_counts_towards_the_hold(protocol: Protocol) {
    let rig = rig(|config| {
        brisk(config);
        config.replay.max_hold = SLOW / 2;
    })
    .await;
    rig.faults().every_create(Some(super::conflict()));
    let mut client = rig.client(protocol).await;
    let (body, open) = Posted::gated(pod("a"));
    let request = client
        .request(
            Method::POST,
            &format!("/api/v1/namespaces/{NAMESPACE}/pods"),
            "",
        )
        .map(|_| body);
    let sending = tokio::spawn(async move { Answer::of(client.send(request).await).await });
    tokio::time::sleep(SLOW).await;
    drop(open);
    assert_relayed(
        &sending.await.unwrap(),
        &captured("quota_conflict_409"),
        "the client has waited for so long already",
    );
    assert_eq!((attempts(&rig), not_replayed(&rig, "hold")), (1, 1.0));
    rig.stop().await;
}

cases!(
    no_attempt_is_begun_whose_like_took_longer_than_the_clients_timeout_leaves,
    protocols
);
async fn no_attempt_is_begun_whose_like_took_longer_than_the_clients_timeout_leaves(
    protocol: Protocol,
) {
    let rig = rig(brisk).await;
    conflicts_slowly(&rig);
    let mut client = rig.client(protocol).await;
    let request =
        client.create_request_with("a", &format!("?timeout={}ms", (SLOW * 5 / 2).as_millis()));
    let answer = Answer::of(client.send(request).await).await;
    assert_relayed(
        &answer,
        &captured("quota_conflict_409"),
        "the apiserver's own answer, while the client waits for it",
    );
    assert!(
        attempts(&rig) <= 2,
        "{} attempts: a third one could only have ended too late",
        attempts(&rig)
    );
    assert_eq!(not_replayed(&rig, "client_timeout"), 1.0);
    rig.stop().await;
}
