//! Kubernetes Events for creates that were given up: their content, the token they are sent with,
//! and that no request waits for them.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use kube_retry_proxy::config::Config;
use model_control_plane::{Fault, Settings};
use tempfile::TempDir;

use crate::support::{NAMESPACE, Protocol, Rig, captured, conflict, eventually, one, sample};

/// A proxy that makes two attempts and writes Events with a token from a file in the directory. By
/// default it is the client's token.
async fn rig(token: Option<&str>) -> (Rig, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let settings = one();
    std::fs::write(&file, format!("{}\n", token.unwrap_or(&settings.tokens[0]))).unwrap();
    let rig = Rig::with(settings, |config: &mut Config| {
        config.replay.base_delay = Duration::from_millis(1);
        config.replay.max_attempts = 2.try_into().unwrap();
        config.events.enabled = true;
        config.events.token_file = file;
    })
    .await;
    (rig, directory)
}

/// Sends a create that the apiserver refuses at every attempt.
async fn given_up(rig: &Rig, name: &str) {
    (0..2).for_each(|_| rig.faults().next_create(conflict()));
    assert_eq!(
        rig.client(Protocol::Http1).await.create(name).await.status,
        StatusCode::CONFLICT
    );
}

fn counted(rig: &Rig, result: &str) -> f64 {
    sample(
        &rig.proxy,
        &format!("kube_retry_proxy_events_total{{result=\"{result}\"}}"),
    )
}

#[tokio::test]
async fn a_create_that_was_given_up_becomes_an_event() {
    let (rig, _directory) = rig(None).await;
    given_up(&rig, "step-1").await;
    eventually("the event is there", || !rig.plane.events().is_empty()).await;
    let event = rig.plane.events().remove(0);
    assert_eq!(
        (&event["type"], &event["reason"]),
        (&"Warning".into(), &"CreateGivenUp".into())
    );
    assert_eq!(event["metadata"]["namespace"], NAMESPACE);
    assert_eq!(
        event["regarding"],
        serde_json::json!({ "apiVersion": "v1", "kind": "Pod", "namespace": NAMESPACE, "name": "step-1" })
    );
    let note = event["note"].as_str().unwrap();
    assert!(
        note.starts_with("Sent 2 times, ")
            && note.ends_with("all attempts were used. The last answer was 409 (quota_conflict)."),
        "{note}"
    );
    eventually("it is counted", || counted(&rig, "success") == 1.0).await;
    rig.stop().await;
}

/// Anybody can have a create throttled, for any namespace.
#[tokio::test]
async fn a_create_that_was_never_authorized_becomes_no_event() {
    let (rig, _directory) = rig(None).await;
    let throttled = Fault::Answer(captured("too_many_requests_429_apf"));
    (0..2).for_each(|_| rig.faults().next_create(throttled.clone()));
    let answer = rig.client(Protocol::Http1).await.create("stranger").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    given_up(&rig, "step-1").await;
    eventually("the event of the other one is there", || {
        !rig.plane.events().is_empty()
    })
    .await;
    let names = rig
        .plane
        .events()
        .iter()
        .map(|event| event["regarding"]["name"].clone())
        .collect::<Vec<_>>();
    assert_eq!(names, ["step-1"]);
    rig.stop().await;
}

#[tokio::test]
async fn the_event_of_another_resource_names_its_kind_and_its_version() {
    let (rig, _directory) = rig(None).await;
    let of = |kind: &str| format!(r#"{{"apiVersion":"batch/v1","kind":"{kind}","metadata":{{}}}}"#);
    let mut client = rig.client(Protocol::Http2).await;
    let path = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs/mine?fieldManager=me");
    let mut request = client.request(Method::PATCH, &path, of("Job"));
    let content_type = "application/apply-patch+yaml".parse().unwrap();
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    (0..2).for_each(|_| rig.faults().next_request(conflict()));
    assert_eq!(client.ask(request).await.status, StatusCode::CONFLICT);
    eventually("the event is there", || !rig.plane.events().is_empty()).await;
    assert_eq!(
        rig.plane.events()[0]["regarding"],
        serde_json::json!({ "apiVersion": "batch/v1", "kind": "Job", "namespace": NAMESPACE, "name": "mine" })
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_namespace_gets_one_event_for_many_creates_and_none_for_those_that_succeed() {
    let (rig, _directory) = rig(None).await;
    assert_eq!(
        rig.client(Protocol::Http1)
            .await
            .create("fine")
            .await
            .status,
        StatusCode::CREATED
    );
    for n in 0..5 {
        given_up(&rig, &format!("step-{n}")).await;
    }
    rig.plane.create_namespace("other").unwrap();
    (0..2).for_each(|_| rig.faults().next_create(conflict()));
    rig.client(Protocol::Http1)
        .await
        .create_in("other", "step")
        .await;
    eventually("both namespaces have their event", || {
        rig.plane.events().len() >= 2
    })
    .await;
    let of: Vec<_> = rig
        .plane
        .events()
        .iter()
        .map(|event| event["metadata"]["namespace"].clone())
        .collect();
    assert_eq!(of, [NAMESPACE, "other"]);
    rig.stop().await;
}

#[tokio::test]
async fn an_event_that_is_refused_is_counted_and_costs_nobody_anything() {
    let (rig, directory) = rig(Some("not a token of anybody")).await;
    given_up(&rig, "step-1").await;
    eventually("it is counted", || counted(&rig, "failure") == 1.0).await;
    assert!(rig.plane.events().is_empty());

    std::fs::remove_file(directory.path().join("token")).unwrap();
    rig.plane.create_namespace("other").unwrap();
    (0..2).for_each(|_| rig.faults().next_create(conflict()));
    assert_eq!(
        rig.client(Protocol::Http1)
            .await
            .create_in("other", "step")
            .await
            .status,
        StatusCode::CONFLICT
    );
    eventually("a missing token too", || counted(&rig, "failure") == 2.0).await;
    rig.stop().await;
}

#[tokio::test]
async fn nothing_is_written_where_nobody_asked_for_it() {
    let rig = Rig::with(
        Settings {
            apiservers: 1,
            ..Settings::quick()
        },
        |config| config.replay.max_attempts = 1.try_into().unwrap(),
    )
    .await;
    rig.faults().next_create(conflict());
    rig.client(Protocol::Http1).await.create("step").await;
    assert_eq!(rig.decisions().await[0]["outcome"], "gave_up");
    assert!(
        !rig.plane
            .journal()
            .attempts()
            .iter()
            .any(|attempt| attempt.path.contains("events"))
    );
    rig.stop().await;
}
