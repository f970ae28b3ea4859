//! Ambiguous answers with `replay.ambiguous: Resolve`: the object is looked for as its caller, and
//! the client learns what is true.

mod answers;
mod names;
mod twins;

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT, WARNING};
use http::{Method, StatusCode};
use kube_retry_proxy::config::{Ambiguous, Config, Mode};
use model_control_plane::{Encoding, Fault, Status};

use super::{
    ambiguous, assert_each_stored_once, assert_own_status, attempts, brisk, buffered, captured,
    ended, held, not_replayed, replays, rig,
};
use crate::support::{Answer, NAMESPACE, Protocol, Rig, eventually, pod, speaking};

fn resolving(config: &mut Config) {
    brisk(config);
    config.replay.ambiguous = Ambiguous::Resolve;
    config.replay.budget.other.per_second = 1_000_000.try_into().unwrap();
}

/// What the lookups of the last create found.
async fn lookups(rig: &Rig) -> Vec<String> {
    let decision = rig.decisions().await.swap_remove(0);
    let attempts = decision["attempts"].as_array().unwrap();
    let found = attempts
        .iter()
        .filter_map(|each| each["lookups"].as_array());
    found
        .flatten()
        .map(|found| found.as_str().unwrap().to_owned())
        .collect()
}

fn assert_found(answer: &Answer, name: &str) {
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let warning = answer.headers[WARNING].to_str().unwrap();
    assert!(warning.starts_with("299 kube-retry-proxy \""), "{warning}");
    assert_eq!(answer.json()["metadata"]["name"], name, "{answer:?}");
}

cases!(
    a_create_whose_answer_is_lost_is_found,
    pairs,
    [
        reset(Fault::LoseAnswer),
        cut(Fault::CutAfter),
        broken_off(Fault::Truncate),
    ]
);
async fn a_create_whose_answer_is_lost_is_found(down: Protocol, up: Protocol, fault: Fault) {
    let rig = Rig::with(speaking(up), resolving).await;
    rig.faults().next_create(fault);
    let answer = rig.client(down).await.create("a").await;
    assert_found(&answer, "a");
    assert_eq!(
        answer.json()["metadata"]["uid"],
        rig.plane.pods(NAMESPACE)[0].uid
    );
    assert_eq!(
        (
            attempts(&rig),
            ended(&rig, "resolved"),
            ambiguous(&rig, "found")
        ),
        (1, 1.0, 1.0)
    );
    assert_eq!(lookups(&rig).await, ["ours"]);
    assert_each_stored_once(&rig);
    rig.stop().await;
}

cases!(
    the_object_comes_in_the_encoding_that_the_client_accepts,
    encodings
);
async fn the_object_comes_in_the_encoding_that_the_client_accepts(encoding: Encoding) {
    let rig = rig(resolving).await;
    rig.faults().next_create(Fault::LoseAnswer);
    let mut client = rig.client(Protocol::Http2).await;
    let answer = client.ask(client.create_request_in("a", encoding)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(answer.headers[CONTENT_TYPE], encoding.content_type());
    assert!(answer.headers.contains_key(WARNING));

    rig.faults().next_create(Fault::LoseAnswer);
    let mut request = client.create_request_in("b", Encoding::Protobuf);
    request.headers_mut().remove(ACCEPT);
    let answer = client.ask(request).await;
    assert_eq!(answer.headers[CONTENT_TYPE], Encoding::Json.content_type());
    rig.stop().await;
}

cases!(
    a_create_that_was_not_stored_is_sent_again,
    pairs,
    [reset(Fault::Reset), cut(Fault::Cut)]
);
async fn a_create_that_was_not_stored_is_sent_again(down: Protocol, up: Protocol, fault: Fault) {
    let rig = Rig::with(speaking(up), resolving).await;
    rig.faults().next_create(fault.clone());
    rig.faults().next_create(fault);
    let answer = rig.client(down).await.create("a").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(
        answer.headers.get(WARNING),
        None,
        "it is the apiserver's own"
    );
    assert_eq!((attempts(&rig), replays(&rig, "lost")), (3, 2.0));
    assert_eq!(
        (
            ended(&rig, "created_after_replay"),
            ambiguous(&rig, "sent_again")
        ),
        (1.0, 1.0)
    );
    assert_eq!(lookups(&rig).await, ["absent", "absent"]);
    assert_each_stored_once(&rig);
    rig.stop().await;
}

#[tokio::test]
async fn a_create_that_is_stored_late_is_found_too() {
    let rig = rig(resolving).await;
    rig.faults().next_create(Fault::Hold);
    // The second attempt is handled after the first.
    rig.faults()
        .next_create(Fault::Stall(Duration::from_millis(300)));
    let mut client = rig.client(Protocol::Http2).await;
    let create = tokio::spawn(async move { client.create("a").await });
    let arrived = async |count| {
        eventually("it has arrived", || rig_creates(&rig) == count).await;
    };
    arrived(1).await;
    rig.faults().cut_connections();
    arrived(2).await;
    rig.faults().release();
    assert_found(&create.await.unwrap(), "a");
    assert_eq!(lookups(&rig).await, ["absent", "ours"]);
    assert_each_stored_once(&rig);
    rig.stop().await;
}

fn rig_creates(rig: &Rig) -> usize {
    let creates = rig.plane.journal().creates();
    creates.iter().filter(|create| create.body > 0).count()
}

#[tokio::test]
async fn lookups_without_an_answer_end_at_the_limits() {
    let rig = rig(|config| {
        resolving(config);
        config.replay.max_attempts = 3.try_into().unwrap();
    })
    .await;
    rig.faults().next_create(Fault::LoseAnswer);
    rig.faults().every_request(Some(Fault::Reset));
    let answer = rig.client(Protocol::Http2).await.create("a").await;
    assert_own_status(&answer, 504, "Timeout", Encoding::Json);
    assert_eq!((attempts(&rig), ambiguous(&rig, "failed")), (1, 1.0));
    assert_eq!(lookups(&rig).await, ["failed", "failed"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_large_object_is_found_whole() {
    let rig = rig(resolving).await;
    let text = "x".repeat(150 << 10);
    let mut body: serde_json::Value = serde_json::from_str(&pod("a")).unwrap();
    body["metadata"]["annotations"]["text"] = text.as_str().into();
    let mut client = rig.client(Protocol::Http2).await;
    rig.faults().next_create(Fault::Truncate);
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let answer = client
        .ask(client.request(Method::POST, &path, body.to_string()))
        .await;
    assert_found(&answer, "a");
    assert_eq!(answer.json()["metadata"]["annotations"]["text"], text);
    eventually("its memory is free", || buffered(&rig) == 0.0).await;
    rig.stop().await;
}

#[tokio::test]
async fn another_server_is_asked_when_one_dies() {
    let settings = model_control_plane::Settings {
        apiservers: 2,
        ..model_control_plane::Settings::quick()
    };
    let rig = Rig::listed(settings, resolving).await;
    for index in 0..2 {
        rig.plane.faults(index).unwrap().next_create(Fault::Hold);
    }
    let mut client = rig.client(Protocol::Http2).await;
    let create = tokio::spawn(async move { client.create("a").await });
    eventually("it has arrived", || rig_creates(&rig) == 1).await;
    let dies = rig.plane.journal().creates()[0].apiserver;
    rig.plane.faults(1 - dies).unwrap().clear();
    rig.plane.faults(dies).unwrap().set_down(true);
    assert_eq!(create.await.unwrap().status, StatusCode::CREATED);
    rig.plane.faults(dies).unwrap().clear();
    assert_eq!(lookups(&rig).await, ["absent"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_lookup() {
    let rig = rig(resolving).await;
    rig.faults().next_create(Fault::LoseAnswer);
    rig.faults().next_request(Fault::Hold);
    let mut client = rig.client(Protocol::Http2).await;
    let create = tokio::spawn(async move { client.create("a").await });
    eventually("it is looked for", || rig.plane.journal().len() == 2).await;
    create.abort();
    eventually("it has ended", || ended(&rig, "client_gone") == 1.0).await;
    assert_eq!(ambiguous(&rig, "client_gone"), 1.0);
    eventually("its memory is free", || buffered(&rig) == 0.0).await;
    held(&rig, 0).await;
    rig.faults().release();
    rig.stop().await;
}

#[tokio::test]
async fn a_proxy_that_stops_gives_the_answer_at_hand() {
    let rig = rig(resolving).await;
    rig.faults().next_create(Fault::LoseAnswer);
    rig.faults().next_request(Fault::Hold);
    let mut client = rig.client(Protocol::Http2).await;
    let create = tokio::spawn(async move { client.create("a").await });
    eventually("it is looked for", || rig.plane.journal().len() == 2).await;
    let Rig { plane, proxy } = rig;
    let stopped = tokio::spawn(proxy.stop());
    let answer = create.await.unwrap();
    assert_own_status(&answer, 504, "Timeout", Encoding::Json);
    stopped.await.unwrap();
    plane.faults(0).unwrap().release();
    plane.shutdown().await;
}

#[tokio::test]
async fn observe_and_relay_only_count() {
    for (mode, how, outcome) in [
        (Mode::Observe, Ambiguous::Resolve, "no_answer"),
        (Mode::Enforce, Ambiguous::Relay, "no_answer"),
        (Mode::Observe, Ambiguous::Relay, "no_answer"),
    ] {
        let rig = rig(|config| {
            resolving(config);
            (config.mode, config.replay.ambiguous) = (mode, how);
        })
        .await;
        rig.faults().next_create(Fault::LoseAnswer);
        let answer = rig.client(Protocol::Http2).await.create("a").await;
        assert_own_status(&answer, 504, "Timeout", Encoding::Json);
        assert_eq!(
            (ended(&rig, outcome), ambiguous(&rig, "relayed")),
            (1.0, 1.0)
        );
        assert_eq!(rig.plane.journal().len(), 1, "nobody looks");
        let would = mode == Mode::Observe && how == Ambiguous::Resolve;
        assert_eq!(
            not_replayed(&rig, "mode_observe"),
            f64::from(u8::from(would))
        );
        rig.stop().await;
    }
}

#[tokio::test]
async fn an_apply_is_not_resolved() {
    let rig = rig(resolving).await;
    let mut client = rig.client(Protocol::Http2).await;
    rig.faults().next_request(Fault::LoseAnswer);
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/a?fieldManager=m");
    let mut request = client.request(Method::PATCH, &path, r#"{"metadata":{"name":"a"}}"#);
    let apply = "application/apply-patch+yaml".parse().unwrap();
    request.headers_mut().insert(CONTENT_TYPE, apply);
    assert_eq!(
        client.ask(request).await.status,
        StatusCode::GATEWAY_TIMEOUT
    );
    assert_eq!(
        (rig.plane.journal().len(), ambiguous(&rig, "unnamed")),
        (1, 1.0)
    );
    rig.stop().await;
}

/// A pod of somebody else.
async fn store_foreign(rig: &Rig, name: &str) {
    let mut client = rig.direct(Protocol::Http2).await;
    let mut request = client.create_request(name);
    let other = pod(name).replace("busybox", "other");
    *request.body_mut() = http_body_util::Full::new(other.into());
    let agent = "somebody/1.0".parse().unwrap();
    request.headers_mut().insert(USER_AGENT, agent);
    assert_eq!(client.ask(request).await.status, StatusCode::CREATED);
}

cases!(
    an_object_of_somebody_else_is_a_conflict_in_the_apiservers_words,
    encodings
);
async fn an_object_of_somebody_else_is_a_conflict_in_the_apiservers_words(encoding: Encoding) {
    let rig = rig(resolving).await;
    store_foreign(&rig, "a").await;
    rig.faults().next_create(Fault::LoseAnswer);
    let mut client = rig.client(Protocol::Http2).await;
    let mut request = client.create_request("a");
    request
        .headers_mut()
        .insert(ACCEPT, encoding.content_type());
    let answer = client.ask(request).await;
    let direct = {
        let mut request = client.create_request("a");
        request
            .headers_mut()
            .insert(ACCEPT, encoding.content_type());
        client.ask(request).await
    };
    assert_eq!(answer.status, StatusCode::CONFLICT, "{answer:?}");
    assert_eq!(Status::decode(&answer.body), Status::decode(&direct.body));
    assert_eq!(answer.headers[CONTENT_TYPE], direct.headers[CONTENT_TYPE]);
    assert_eq!(
        (ambiguous(&rig, "exists"), lookups_of(&rig, 1).await),
        (1.0, vec!["foreign".into()])
    );
    assert_each_stored_once(&rig);
    rig.stop().await;
}

/// What the lookups of the create before the last `skipped` ones found.
async fn lookups_of(rig: &Rig, skipped: usize) -> Vec<serde_json::Value> {
    let decision = &rig.decisions().await[skipped];
    let found = decision["attempts"][0]["lookups"].as_array();
    found.cloned().unwrap_or_default()
}
