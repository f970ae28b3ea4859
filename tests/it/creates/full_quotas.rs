//! Creates that wait for a full quota and are woken by the watch of it.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use kube_retry_proxy::config::{Config, OptIn};
use model_control_plane::amounts::Amounts;
use model_control_plane::{Fault, Settings};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{attempts, brisk, ended, held, lasting_conflict, not_replayed, patient};
use crate::support::logs::Logs;
use crate::support::{
    Answer, Client, NAMESPACE, Protocol, Rig, assert_relayed, captured, conflict, eventually, one,
    sample,
};

/// A proxy that waits for full quotas for an hour, in front of a quota of this many pods. The
/// directory has the token that it watches with.
async fn rig(pods: &str, token: &str, edit: impl FnOnce(&mut Config)) -> (Rig, TempDir) {
    rig_on(one(), pods, token, edit).await
}

async fn rig_on(
    settings: Settings,
    pods: &str,
    token: &str,
    edit: impl FnOnce(&mut Config),
) -> (Rig, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, token).unwrap();
    let rig = Rig::with(settings, |config| {
        brisk(config);
        config.replay.exceeded_quota = OptIn {
            enabled: true,
            // The attempts of one that is woken do not count.
            max_attempts: 1.try_into().unwrap(),
            max_hold: Duration::from_secs(3600),
        };
        config.replay.full_quotas.watch = true;
        config.replay.full_quotas.token_file = file;
        edit(config);
    })
    .await;
    rig.plane
        .create_quota(NAMESPACE, "few", &[("pods", pods)])
        .unwrap();
    (rig, directory)
}

const TOKEN: &str = "model-token";

/// Sends a create that the quota refuses, and returns when the queue has it.
async fn waiting(rig: &Rig, client: &Client, name: &str) -> JoinHandle<Answer> {
    let before = sample(&rig.proxy, "kube_retry_proxy_held");
    let (mut client, name) = (client.share(), name.to_owned());
    let create = tokio::spawn(async move { client.create(&name).await });
    eventually("it waits", || {
        sample(&rig.proxy, "kube_retry_proxy_held") > before
            && waits(rig, "watch") + waits(rig, "poll") > before
    })
    .await;
    create
}

fn waits(rig: &Rig, by: &str) -> f64 {
    sample(
        &rig.proxy,
        &format!("kube_retry_proxy_quota_waiting{{by=\"{by}\"}}"),
    )
}

fn wakes(rig: &Rig, why: &str) -> f64 {
    sample(
        &rig.proxy,
        &format!("kube_retry_proxy_quota_wakes_total{{why=\"{why}\"}}"),
    )
}

async fn watched(rig: &Rig, count: u32) {
    eventually("the watch has told of the quota", || {
        waits(rig, "watch") == f64::from(count)
    })
    .await;
}

async fn delete(client: &mut Client, pod: &str) {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}");
    let request = client.request(Method::DELETE, &path, "");
    assert_eq!(client.ask(request).await.status, StatusCode::OK);
}

async fn created(create: JoinHandle<Answer>) {
    assert_eq!(create.await.unwrap().status, StatusCode::CREATED);
}

fn names(rig: &Rig) -> Vec<String> {
    let pods = rig.plane.pods(NAMESPACE);
    pods.iter().map(|pod| pod.name().to_owned()).collect()
}

/// Nothing waits, and nothing is watched.
async fn at_rest(rig: Rig) {
    eventually("nothing waits", || {
        ["held", "quota_watches", "buffered_bytes"]
            .iter()
            .all(|gauge| sample(&rig.proxy, &format!("kube_retry_proxy_{gauge}")) == 0.0)
            && waits(&rig, "watch") + waits(&rig, "poll") == 0.0
    })
    .await;
    rig.stop().await;
}

cases!(a_create_is_woken_when_a_pod_has_ended, protocols);
async fn a_create_is_woken_when_a_pod_has_ended(protocol: Protocol) {
    let (rig, _directory) = rig("1", TOKEN, |_| {}).await;
    let mut client = rig.client(protocol).await;
    assert_eq!(client.create("first").await.status, StatusCode::CREATED);
    let mut other = rig.client(protocol).await;
    let second = tokio::spawn(async move { other.create("second").await });
    watched(&rig, 1).await;
    let shown: serde_json::Value =
        serde_json::from_slice(&rig.admin("/debug/held").await.body).unwrap();
    assert_eq!(shown[0]["waitsFor"], "few: pods: asked 1, free 0 of 1");
    assert!(
        rig.admin("/")
            .await
            .text()
            .contains("few: pods: asked 1, free 0 of 1"),
        "the status page"
    );
    assert_eq!(attempts(&rig), 2);
    delete(&mut client, "first").await;
    created(second).await;
    assert_eq!(names(&rig), ["second"]);
    assert_eq!((attempts(&rig), wakes(&rig, "fits")), (3, 1.0));
    at_rest(rig).await;
}

#[tokio::test]
async fn the_oldest_go_first_and_only_as_many_as_fit() {
    let (rig, _directory) = rig("10", TOKEN, |_| {}).await;
    let mut client = rig.client(Protocol::Http2).await;
    for n in 0..10 {
        client.create(&format!("first-{n}")).await;
    }
    let mut creates = Vec::new();
    for n in 10..60 {
        creates.push(waiting(&rig, &client, &format!("next-{n}")).await);
    }
    watched(&rig, 50).await;
    let before = attempts(&rig);
    for n in 0..10 {
        delete(&mut client, &format!("first-{n}")).await;
    }
    for create in creates.drain(..10) {
        created(create).await;
    }
    let expected: Vec<_> = (10..20).map(|n| format!("next-{n}")).collect();
    assert_eq!(names(&rig), expected);
    assert!(attempts(&rig) - before <= 11, "{}", attempts(&rig) - before);
    assert!(rig.plane.journal().stored_twice().is_none());
    creates.iter().for_each(JoinHandle::abort);
    drop((client, creates));
    at_rest(rig).await;
}

#[tokio::test]
async fn a_quota_that_is_raised_or_deleted_wakes() {
    for deleted in [false, true] {
        let (rig, _directory) = rig("1", TOKEN, |_| {}).await;
        let mut client = rig.client(Protocol::Http2).await;
        client.create("first").await;
        let second = waiting(&rig, &client, "second").await;
        watched(&rig, 1).await;
        let store = rig.plane.store();
        if deleted {
            store.delete_quota(NAMESPACE, "few").unwrap();
        } else {
            let raised = Amounts::parse([("pods", "2")]).unwrap();
            store.set_limits(NAMESPACE, "few", raised).unwrap();
        }
        created(second).await;
        assert_eq!(names(&rig), ["first", "second"], "{deleted}");
        at_rest(rig).await;
    }
}

/// The watch is refused, or there is no token. Both are logged once.
#[tokio::test]
async fn without_a_watch_creates_poll() {
    for token in [Some("of nobody"), None] {
        let logs = Logs::collect();
        let (rig, directory) = rig("1", token.unwrap_or_default(), |config| {
            config.replay.budget.other.per_second = 1_000_000.try_into().unwrap();
        })
        .await;
        if token.is_none() {
            std::fs::remove_file(directory.path().join("token")).unwrap();
        }
        let mut client = rig.client(Protocol::Http2).await;
        client.create("first").await;
        let second = waiting(&rig, &client, "second").await;
        eventually("it polls", || wakes(&rig, "poll") >= 3.0).await;
        eventually("the watch has failed twice", || {
            sample(&rig.proxy, "kube_retry_proxy_quota_watch_failures_total") >= 2.0
        })
        .await;
        delete(&mut client, "first").await;
        created(second).await;
        assert_eq!(logs.with("Cannot watch quotas").len(), 1, "{token:?}");
        at_rest(rig).await;
    }
}

#[tokio::test]
async fn a_watch_that_ends_or_expires_goes_on() {
    let settings = Settings {
        changes: 1,
        ..one()
    };
    let (rig, _directory) = rig_on(settings, "1", TOKEN, |_| {}).await;
    let mut client = rig.client(Protocol::Http2).await;
    client.create("first").await;
    let second = waiting(&rig, &client, "second").await;
    watched(&rig, 1).await;
    rig.faults().cut_connections();
    // The log of the store forgets the changes of this time.
    for n in 0..5 {
        let limit = Amounts::parse([("pods", if n < 4 { "1" } else { "2" })]).unwrap();
        let store = rig.plane.store();
        store.set_limits(NAMESPACE, "few", limit).unwrap();
    }
    created(second).await;
    at_rest(rig).await;
}

#[tokio::test]
async fn a_drain_releases_with_the_refusal() {
    let (rig, _directory) = rig("1", TOKEN, |_| {}).await;
    let mut client = rig.client(Protocol::Http2).await;
    client.create("first").await;
    let second = waiting(&rig, &client, "second").await;
    watched(&rig, 1).await;
    let metrics = std::sync::Arc::clone(&rig.proxy.metrics);
    rig.stop().await;
    let answer = second.await.unwrap();
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text().contains("exceeded quota: few"), "{answer:?}");
    let draining = "kube_retry_proxy_not_replayed_total{reason=\"draining\"}";
    assert_eq!(crate::support::sample_of(&metrics, draining), 1.0);
    assert_eq!(
        crate::support::sample_of(&metrics, "kube_retry_proxy_quota_watches"),
        0.0
    );
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_turn_to_the_next() {
    let (rig, _directory) = rig("1", TOKEN, |_| {}).await;
    let mut client = rig.client(Protocol::Http2).await;
    client.create("first").await;
    let gone = rig.client(Protocol::Http2).await;
    let second = waiting(&rig, &gone, "second").await;
    let third = waiting(&rig, &client, "third").await;
    second.abort();
    drop(gone);
    held(&rig, 1).await;
    watched(&rig, 1).await;
    delete(&mut client, "first").await;
    created(third).await;
    assert_eq!(names(&rig), ["third"]);
    assert_eq!(ended(&rig, "client_gone"), 1.0);
    at_rest(rig).await;
}

#[tokio::test]
async fn the_creates_of_a_namespace_that_wait_are_bounded() {
    for watch in [true, false] {
        let (rig, _directory) = rig("1", TOKEN, |config| {
            config.replay.full_quotas.watch = watch;
            config.replay.full_quotas.max_waiting = 1.try_into().unwrap();
            config.replay.exceeded_quota.max_attempts = kube_retry_proxy::config::Attempts::MAX;
            config.replay.budget.other.per_second = 1_000_000.try_into().unwrap();
        })
        .await;
        let mut client = rig.client(Protocol::Http2).await;
        client.create("first").await;
        let (mut share, name) = (client.share(), "second");
        let second = tokio::spawn(async move { share.create(name).await });
        eventually("it waits", || {
            attempts(&rig) >= 2 && (!watch || waits(&rig, "watch") == 1.0)
        })
        .await;
        let refused = client.create("third").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{watch}");
        assert_eq!(not_replayed(&rig, "quota_queue_full"), 1.0, "{watch}");
        delete(&mut client, "first").await;
        created(second).await;
        rig.stop().await;
    }
}

/// With and without a watch, creates that wait for a full quota have half of the places.
#[tokio::test]
async fn creates_that_wait_leave_places_to_conflicts_of_other_namespaces() {
    for watch in [true, false] {
        let (rig, _directory) = rig("1", TOKEN, |config| {
            patient(config);
            config.creates.max_held = 3.try_into().unwrap();
            config.replay.full_quotas.watch = watch;
            config.replay.exceeded_quota.max_attempts = kube_retry_proxy::config::Attempts::MAX;
            // Polls are so far apart that there are none.
            config.replay.base_delay = Duration::from_secs(3600);
            config.replay.max_delay = Duration::from_secs(3600);
        })
        .await;
        rig.plane.create_namespace("other").unwrap();
        let mut client = rig.client(Protocol::Http2).await;
        client.create("first").await;
        let mut creates = Vec::new();
        for name in ["second", "third"] {
            let mut client = client.share();
            creates.push(tokio::spawn(async move { client.create(name).await }));
        }
        held(&rig, 2).await;
        let refused = client.create("fourth").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{watch}");
        assert_eq!(not_replayed(&rig, "held_full"), 1.0, "{watch}");

        rig.faults().next_create(Fault::Answer(lasting_conflict()));
        let mut request = client.create_request("a");
        let path = request.uri().to_string().replace(NAMESPACE, "other");
        *request.uri_mut() = path.parse().unwrap();
        let mut share = client.share();
        creates.push(tokio::spawn(async move {
            Answer::of(share.send(request).await).await
        }));
        held(&rig, 3).await;
        creates.iter().for_each(JoinHandle::abort);
        drop((client, creates));
        at_rest(rig).await;
    }
}

#[tokio::test]
async fn a_create_above_the_limit_is_refused_at_once() {
    let (rig, _directory) = rig("1", TOKEN, |_| {}).await;
    let canned = captured("exceeded_quota_403");
    rig.faults().next_create(Fault::Answer(canned.clone()));
    let mut client = rig.client(Protocol::Http2).await;
    assert_relayed(&client.create("a").await, &canned, "one pod of 0");
    let decision = &rig.decisions().await[0];
    assert_eq!(decision["outcome"], "refused");
    let why = decision["why"].as_str().unwrap();
    assert!(why.contains("more than the limit of the quota"), "{why}");
    assert_eq!(attempts(&rig), 1);
    at_rest(rig).await;
}

/// The limit is lowered, but what refuses the create then is another quota.
#[tokio::test]
async fn a_create_above_a_lowered_limit_is_sent_once_more() {
    let (rig, _directory) = rig("1", TOKEN, |_| {}).await;
    let mut client = rig.client(Protocol::Http2).await;
    client.create("first").await;
    let second = waiting(&rig, &client, "second").await;
    watched(&rig, 1).await;
    let another = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"second\" is forbidden: exceeded quota: another, requested: pods=1, used: pods=1, limited: pods=1","reason":"Forbidden","details":{"name":"second","kind":"pods"},"code":403}"#;
    let another =
        model_control_plane::Canned::new(StatusCode::FORBIDDEN, "application/json", another);
    rig.faults().next_create(Fault::Answer(another));
    let lowered = Amounts::parse([("pods", "0")]).unwrap();
    let store = rig.plane.store();
    store.set_limits(NAMESPACE, "few", lowered).unwrap();
    let answer = second.await.unwrap();
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(
        answer.text().contains("exceeded quota: another"),
        "{answer:?}"
    );
    assert_eq!((attempts(&rig), wakes(&rig, "never_fits")), (3, 1.0));
    at_rest(rig).await;
}

#[tokio::test]
async fn all_quotas_of_a_namespace_are_waited_for() {
    let (rig, _directory) = rig("1", TOKEN, |_| {}).await;
    rig.plane
        .create_quota(NAMESPACE, "zz", &[("pods", "1")])
        .unwrap();
    let mut client = rig.client(Protocol::Http2).await;
    client.create("first").await;
    let second = waiting(&rig, &client, "second").await;
    watched(&rig, 1).await;
    let raised = Amounts::parse([("pods", "2")]).unwrap();
    let store = rig.plane.store();
    store.set_limits(NAMESPACE, "few", raised.clone()).unwrap();
    eventually("the other quota has refused it", || attempts(&rig) == 3).await;
    watched(&rig, 1).await;
    store.set_limits(NAMESPACE, "zz", raised).unwrap();
    created(second).await;
    at_rest(rig).await;
}

/// A create that has waited for a minute must not be given up at the first conflict.
#[tokio::test]
async fn the_wait_for_a_quota_uses_up_no_limit_of_other_answers() {
    let (rig, _directory) = rig("1", TOKEN, |config| {
        config.replay.max_hold = Duration::from_millis(300);
        config.replay.max_attempts = 2.try_into().unwrap();
    })
    .await;
    let mut client = rig.client(Protocol::Http2).await;
    client.create("first").await;
    let second = waiting(&rig, &client, "second").await;
    watched(&rig, 1).await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    rig.faults().next_create(conflict());
    delete(&mut client, "first").await;
    created(second).await;
    at_rest(rig).await;
}

#[tokio::test]
async fn the_longest_hold_ends_the_wait_with_the_refusal() {
    let (rig, _directory) = rig("1", TOKEN, |config| {
        config.replay.exceeded_quota.max_hold = Duration::from_millis(200);
    })
    .await;
    let mut client = rig.client(Protocol::Http2).await;
    client.create("first").await;
    let answer = client.create("second").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text().contains("exceeded quota: few"));
    assert_eq!(not_replayed(&rig, "hold"), 1.0);
    let decision = &rig.decisions().await[0];
    assert_eq!(decision["outcome"], "gave_up");
    at_rest(rig).await;
}

#[tokio::test]
async fn an_apply_waits_too() {
    let (rig, _directory) = rig("1", TOKEN, |_| {}).await;
    let refusal = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"mine\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1","reason":"Forbidden","details":{"name":"mine","kind":"pods"},"code":403}"#;
    let refusal =
        model_control_plane::Canned::new(StatusCode::FORBIDDEN, "application/json", refusal);
    rig.faults().next_request(Fault::Answer(refusal));
    let mut client = rig.client(Protocol::Http2).await;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/mine?fieldManager=me");
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"mine"}}"#;
    let mut request = client.request(Method::PATCH, &path, body);
    let content_type = "application/apply-patch+yaml".parse().unwrap();
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    let answer = client.ask(request).await;
    assert_ne!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    at_rest(rig).await;
}
