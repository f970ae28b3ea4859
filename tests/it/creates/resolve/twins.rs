//! Creates of the same name at about the same time: at most one is told that the object is its own.

use http::{Method, StatusCode};
use kube_retry_proxy::config::Attempts;
use model_control_plane::{Encoding, Fault};
use tokio::task::JoinHandle;

use super::{
    ambiguous, assert_found, assert_own_status, attempts, captured, lookups, resolving, rig,
    rig_creates,
};
use crate::support::{Answer, NAMESPACE, Protocol, Rig, eventually, pod};

cases!(
    an_object_that_another_create_was_told_is_not_ours,
    protocols
);
async fn an_object_that_another_create_was_told_is_not_ours(protocol: Protocol) {
    let rig = rig(resolving).await;
    let mut client = rig.client(protocol).await;
    assert_eq!(client.create("a").await.status, StatusCode::CREATED);
    rig.faults().next_create(Fault::LoseAnswer);
    let answer = client.create("a").await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{answer:?}");
    // The same if the other one was told after a lookup.
    rig.faults().next_create(Fault::LoseAnswer);
    rig.faults().next_create(Fault::LoseAnswer);
    assert_found(&client.create("b").await, "b");
    let answer = client.create("b").await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{answer:?}");
    assert_eq!(ambiguous(&rig, "exists"), 2.0);
    rig.stop().await;
}

/// A create that is the one of this number to arrive.
async fn creating(rig: &Rig, number: usize) -> JoinHandle<Answer> {
    let mut client = rig.client(Protocol::Http2).await;
    let created = tokio::spawn(async move { client.create("a").await });
    eventually("it has arrived", || attempts(rig) == number).await;
    created
}

#[tokio::test]
async fn a_twin_in_flight_is_waited_for() {
    let rig = rig(|config| {
        resolving(config);
        config.replay.max_attempts = Attempts::MAX;
    })
    .await;
    rig.faults().next_create(Fault::Hold);
    let held = creating(&rig, 1).await;
    eventually("it is held", || rig_creates(&rig) == 1).await;
    rig.faults().next_create(Fault::LoseAnswer);
    let lost = creating(&rig, 2).await;
    eventually("it is looked for", || {
        rig.plane
            .journal()
            .attempts()
            .iter()
            .any(|each| !each.is_create())
    })
    .await;
    rig.faults().release();
    let (held, lost) = (held.await.unwrap(), lost.await.unwrap());
    assert_eq!(held.status, StatusCode::CONFLICT, "{held:?}");
    assert!(
        matches!(
            lost.status,
            StatusCode::CREATED | StatusCode::GATEWAY_TIMEOUT
        ),
        "{lost:?}"
    );
    assert_eq!(rig.plane.pods(crate::support::NAMESPACE).len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn of_two_twins_without_an_answer_none_is_told_that_the_object_is_its_own() {
    let rig = rig(|config| {
        resolving(config);
        config.replay.max_attempts = 3.try_into().unwrap();
    })
    .await;
    rig.faults().every_create(Some(Fault::LoseAnswer));
    let (mut one, mut other) = (
        rig.client(Protocol::Http2).await,
        rig.client(Protocol::Http2).await,
    );
    let answers = tokio::join!(one.create("a"), other.create("a"));
    let created = [&answers.0, &answers.1].map(|answer| answer.status == StatusCode::CREATED);
    assert!(created != [true, true], "{answers:?}");
    rig.stop().await;
}

#[tokio::test]
async fn what_a_client_that_left_may_have_stored_is_nobodys() {
    let rig = rig(resolving).await;
    rig.faults().next_create(Fault::Hold);
    let mut client = rig.client(Protocol::Http2).await;
    let create = tokio::spawn(async move { client.create("a").await });
    eventually("it has arrived", || rig_creates(&rig) == 1).await;
    create.abort();
    eventually("it has ended", || super::ended(&rig, "client_gone") == 1.0).await;
    rig.faults().next_create(Fault::LoseAnswer);
    let answer = rig.client(Protocol::Http2).await.create("a").await;
    assert_own_status(&answer, 504, "Timeout", Encoding::Json);
    assert_eq!(
        (lookups(&rig).await, ambiguous(&rig, "unproven")),
        (vec!["ours".to_owned()], 1.0)
    );
    rig.faults().release();
    rig.stop().await;
}

cases!(
    a_create_whose_name_is_not_known_leaves_doubt_unless_it_is_refused,
    [twice(""), streamed(" ")]
);
async fn a_create_whose_name_is_not_known_leaves_doubt_unless_it_is_refused(padding: &str) {
    let rig = rig(|config| {
        resolving(config);
        config.creates.max_body = 1 << 10;
    })
    .await;
    let mut client = rig.client(Protocol::Http2).await;
    let twice = pod("x").replace(r#""name":"x""#, r#""name":"x","name":"x""#);
    let nameless = twice + &padding.repeat(2 << 10);
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let refusals = ["unauthorized_401", "anonymous_403", "rbac_forbidden_403"];
    for (n, refusal) in refusals.into_iter().enumerate() {
        rig.faults().next_create(Fault::Answer(captured(refusal)));
        let request = client.request(Method::POST, &path, nameless.clone());
        assert!(client.ask(request).await.status.is_client_error());
        rig.faults().next_create(Fault::LoseAnswer);
        let name = format!("a-{n}");
        assert_found(&client.create(&name).await, &name);
    }
    let request = client.request(Method::POST, &path, nameless);
    assert_eq!(client.ask(request).await.status, StatusCode::CREATED);
    rig.faults().next_create(Fault::LoseAnswer);
    assert_own_status(&client.create("b").await, 504, "Timeout", Encoding::Json);
    assert_eq!(ambiguous(&rig, "unproven"), 1.0);
    rig.stop().await;
}
