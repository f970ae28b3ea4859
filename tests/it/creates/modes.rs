//! The modes: a plain proxy, a proxy that only observes, and a proxy that replays. All other tests
//! use the last one.

use http::{Request, StatusCode};
use kube_retry_proxy::config::Mode;

use super::{attempts, brisk, buffered, conflict, ended, not_replayed, replays, rig};
use crate::support::{Answer, Posted, Protocol, assert_relayed, captured, eventually, pod};

cases!(off_relays_a_conflict_and_counts_no_replay, protocols);
async fn off_relays_a_conflict_and_counts_no_replay(protocol: Protocol) {
    let rig = rig(|config| {
        brisk(config);
        config.mode = Mode::Off;
    })
    .await;
    rig.faults().next_create(conflict());
    let mut client = rig.client(protocol).await;
    assert_relayed(
        &client.create("a").await,
        &captured("quota_conflict_409"),
        "Off",
    );
    assert_eq!(
        (
            attempts(&rig),
            replays(&rig, "quota_conflict"),
            not_replayed(&rig, "mode_off")
        ),
        (1, 0.0, 1.0)
    );
    assert_eq!(
        (
            ended(&rig, "refused"),
            ended(&rig, "gave_up"),
            ended(&rig, "observed")
        ),
        (1.0, 0.0, 0.0)
    );
    assert_eq!(client.create("a").await.status, StatusCode::CREATED);
    rig.stop().await;
}

cases!(off_streams_the_body_of_a_create, protocols);
async fn off_streams_the_body_of_a_create(protocol: Protocol) {
    let rig = rig(|config| config.mode = Mode::Off).await;
    let mut client = rig.client(protocol).await;
    let (body, gate) = Posted::gated(pod("a"));
    let (head, _) = client.create_request("").into_parts();
    let answer = tokio::spawn(async move {
        Answer::of(client.send(Request::from_parts(head, body)).await).await
    });
    eventually("the apiserver sees the create", || attempts(&rig) == 1).await;
    assert_eq!(buffered(&rig), 0.0);
    gate.send(()).unwrap();
    assert_eq!(answer.await.unwrap().status, StatusCode::CREATED);
    rig.stop().await;
}

cases!(
    observe_relays_a_conflict_and_counts_what_it_would_have_replayed,
    protocols
);
async fn observe_relays_a_conflict_and_counts_what_it_would_have_replayed(protocol: Protocol) {
    let rig = rig(|config| {
        brisk(config);
        config.mode = Mode::Observe;
    })
    .await;
    rig.faults().next_create(conflict());
    let mut client = rig.client(protocol).await;
    assert_relayed(
        &client.create("a").await,
        &captured("quota_conflict_409"),
        "Observe",
    );
    assert_eq!(
        (
            attempts(&rig),
            replays(&rig, "quota_conflict"),
            not_replayed(&rig, "mode_observe")
        ),
        (1, 0.0, 1.0)
    );
    assert_eq!(ended(&rig, "observed"), 1.0);
    // Answers that are never replayed are not counted as replays.
    assert_eq!(client.create("b").await.status, StatusCode::CREATED);
    assert_eq!(client.create("b").await.status, StatusCode::CONFLICT);
    assert_eq!(
        (
            ended(&rig, "observed"),
            ended(&rig, "created"),
            ended(&rig, "refused")
        ),
        (1.0, 1.0, 1.0)
    );
    rig.stop().await;
}
