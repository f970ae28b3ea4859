//! What the apiserver answers to an attempt or to a lookup.

use std::time::Duration;

use http::StatusCode;
use kube_retry_proxy::config::Attempts;
use model_control_plane::{Canned, Encoding, Fault};

use super::{
    ambiguous, assert_each_stored_once, assert_found, assert_own_status, attempts, captured, ended,
    lookups, resolving, rig, rig_creates,
};
use crate::support::{Protocol, eventually};

/// A 500 or 504 with this message and reason.
fn failure(code: u16, reason: &str, message: &str) -> Canned {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    Canned::new(
        StatusCode::from_u16(code).unwrap(),
        "application/json",
        status.to_string(),
    )
}

cases!(
    an_apiserver_that_ran_out_of_time_is_asked_again,
    protocols,
    [
        handler(failure(
            504,
            "Timeout",
            "Timeout: request did not complete within 60s"
        )),
        storage(failure(500, "", "etcdserver: request timed out")),
        leader(failure(500, "", "etcdserver: leader changed")),
        gateway(Canned::new(StatusCode::BAD_GATEWAY, "text/html", "<html>")),
    ]
);
async fn an_apiserver_that_ran_out_of_time_is_asked_again(protocol: Protocol, answer: Canned) {
    let rig = rig(resolving).await;
    rig.faults().next_create(Fault::Answer(answer));
    let created = rig.client(protocol).await.create("a").await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    assert_eq!(
        (attempts(&rig), lookups(&rig).await),
        (2, vec!["absent".to_owned()])
    );
    assert_each_stored_once(&rig);
    rig.stop().await;
}

cases!(
    what_the_apiserver_would_say_again_is_relayed,
    protocols,
    [
        server_error(
            failure(500, "InternalError", "Internal error occurred: broken"),
            Attempts::MAX
        ),
        not_http_of_an_apiserver(
            Canned::new(StatusCode::NOT_FOUND, "text/html", "<html>"),
            Attempts::MAX
        ),
        at_the_limit(
            failure(504, "Timeout", "Timeout: no"),
            1.try_into().unwrap()
        ),
    ]
);
async fn what_the_apiserver_would_say_again_is_relayed(
    protocol: Protocol,
    answer: Canned,
    max: Attempts,
) {
    let rig = rig(|config| {
        resolving(config);
        config.replay.max_attempts = max;
    })
    .await;
    rig.faults().next_create(Fault::Answer(answer.clone()));
    let relayed = rig.client(protocol).await.create("a").await;
    assert_eq!(
        (relayed.status, &relayed.body),
        (answer.status, &answer.body)
    );
    assert_eq!(
        (attempts(&rig), lookups(&rig).await),
        (1, vec!["absent".to_owned()])
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_refusal_after_an_ambiguous_answer_is_relayed_only_if_nothing_was_stored() {
    let rig = rig(resolving).await;
    let refusal = captured("exceeded_quota_403");
    for (first, expected) in [
        (Fault::Cut, StatusCode::FORBIDDEN),
        (Fault::Hold, StatusCode::CREATED),
    ] {
        let stored_late = matches!(first, Fault::Hold);
        rig.faults().next_create(first);
        rig.faults().next_create(Fault::AnswerAfter(
            Duration::from_millis(300),
            refusal.clone(),
        ));
        let before = rig_creates(&rig);
        let mut client = rig.client(Protocol::Http2).await;
        let name = format!("late-{stored_late}");
        let create = tokio::spawn(async move { client.create(&name).await });
        if stored_late {
            eventually("it has arrived", || rig_creates(&rig) > before).await;
            rig.faults().cut_connections();
            let arrived = rig.plane.journal().creates().len();
            eventually("it is sent again", || attempts(&rig) > arrived).await;
            rig.faults().release();
        }
        assert_eq!(create.await.unwrap().status, expected);
    }
    assert_eq!(
        (ambiguous(&rig, "refused"), ambiguous(&rig, "found")),
        (1.0, 1.0)
    );
    assert_each_stored_once(&rig);
    rig.stop().await;
}

cases!(a_caller_who_may_not_get_the_object_gets_the_504, protocols);
async fn a_caller_who_may_not_get_the_object_gets_the_504(protocol: Protocol) {
    let rig = rig(resolving).await;
    rig.faults().next_create(Fault::LoseAnswer);
    rig.faults()
        .next_request(Fault::Answer(captured("anonymous_403")));
    let answer = rig.client(protocol).await.create("a").await;
    assert_own_status(&answer, 504, "Timeout", Encoding::Json);
    assert_eq!(
        (
            attempts(&rig),
            ended(&rig, "no_answer"),
            ambiguous(&rig, "forbidden")
        ),
        (1, 1.0, 1.0)
    );
    rig.stop().await;
}

cases!(
    only_the_apiserver_says_that_there_is_no_object,
    protocols,
    [
        a_load_balancer(Canned::new(
            StatusCode::NOT_FOUND,
            "text/html",
            "<html>no</html>"
        )),
        another_object(captured("namespace_not_found_404")),
        a_server_that_starts(Canned::starting_up().with(http::header::RETRY_AFTER, 0.into())),
    ]
);
async fn only_the_apiserver_says_that_there_is_no_object(protocol: Protocol, other: Canned) {
    let mut other = other;
    other.headers.remove(http::header::RETRY_AFTER);
    if other.status == StatusCode::SERVICE_UNAVAILABLE {
        other.body = "{}".into();
    }
    let rig = rig(resolving).await;
    rig.faults().next_create(Fault::LoseAnswer);
    rig.faults().next_request(Fault::Answer(other));
    assert_found(&rig.client(protocol).await.create("a").await, "a");
    assert_eq!(
        (attempts(&rig), lookups(&rig).await),
        (1, vec!["failed".to_owned(), "ours".to_owned()])
    );
    rig.stop().await;
}
