//! Giving up: whichever limit ends the replays, the client gets the apiserver's last answer
//! unchanged.

use std::time::Duration;

use http::header::{HeaderName, RETRY_AFTER, WARNING};
use http::{HeaderValue, StatusCode};
use kube_retry_proxy::config::{BudgetConfig, Config};
use model_control_plane::{Canned, Fault};

use super::{attempts, brisk, conflict, ended, held, lasting_conflict, not_replayed, patient, rig};
use crate::support::{Answer, NAMESPACE, Protocol, assert_relayed, captured, sample};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// The same answer with additional headers, some of them repeated.
fn stamped(canned: Canned, number: usize) -> Canned {
    let text = |text: String| HeaderValue::try_from(text).unwrap();
    canned
        .with(WARNING, text(format!("299 - \"first of {number}\"")))
        .with(AUDIT_ID, text(format!("audit-{number}")))
        .with(WARNING, text(format!("299 - \"second of {number}\"")))
}

/// A limit, and answers of which the last one reaches it.
struct Case {
    reason: &'static str,
    edit: fn(&mut Config),
    query: &'static str,
    answers: Vec<Canned>,
}

impl Case {
    async fn check(self, protocol: Protocol) {
        let what = format!("{} over {protocol:?}", self.reason);
        let answers: Vec<_> = self
            .answers
            .into_iter()
            .enumerate()
            .map(|(number, canned)| stamped(canned, number))
            .collect();
        let rig = rig(self.edit).await;
        answers
            .iter()
            .for_each(|canned| rig.faults().next_create(Fault::Answer(canned.clone())));
        let mut client = rig.client(protocol).await;
        let answer = Answer::of(
            client
                .send(client.create_request_with("a", self.query))
                .await,
        )
        .await;
        assert_relayed(&answer, answers.last().unwrap(), &what);
        assert_eq!(attempts(&rig), answers.len(), "{what}");
        assert_eq!(
            (not_replayed(&rig, self.reason), ended(&rig, "gave_up")),
            (1.0, 1.0),
            "{what}"
        );
        rig.stop().await;
    }
}

/// The same answer without `Retry-After`.
fn unhurried(canned: Canned) -> Canned {
    Canned {
        headers: canned
            .headers
            .iter()
            .filter(|(name, _)| *name != RETRY_AFTER)
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect(),
        ..canned
    }
}

fn asking(canned: Canned, seconds: &'static str) -> Canned {
    canned.with(RETRY_AFTER, HeaderValue::from_static(seconds))
}

fn three_attempts(config: &mut Config) {
    brisk(config);
    config.replay.max_attempts = 3.try_into().unwrap();
}

cases!(
    the_last_answer_is_relayed_when_no_attempts_are_left_in_any_encoding,
    protocols,
    [
        json(captured("quota_conflict_409")),
        protobuf(captured("quota_conflict_409_protobuf")),
        yaml(captured("quota_conflict_409_yaml")),
        cbor(captured("quota_conflict_409_cbor")),
        text(unhurried(captured("too_many_requests_429"))),
    ]
);
async fn the_last_answer_is_relayed_when_no_attempts_are_left_in_any_encoding(
    protocol: Protocol,
    canned: Canned,
) {
    Case {
        reason: "attempts",
        edit: three_attempts,
        query: "",
        answers: vec![canned; 3],
    }
    .check(protocol)
    .await;
}

cases!(
    the_last_answer_is_relayed_when_the_next_pause_would_exceed_the_hold,
    protocols
);
async fn the_last_answer_is_relayed_when_the_next_pause_would_exceed_the_hold(protocol: Protocol) {
    let conflict = captured("quota_conflict_409");
    Case {
        reason: "hold",
        edit: brisk,
        query: "",
        answers: vec![conflict.clone(), asking(conflict, "9")],
    }
    .check(protocol)
    .await;
}

cases!(pauses_add_up_until_the_hold_is_used, protocols);
async fn pauses_add_up_until_the_hold_is_used(protocol: Protocol) {
    let rig = rig(|config| {
        config.replay.base_delay = Duration::from_millis(20);
        config.replay.max_delay = Duration::from_millis(20);
        config.replay.max_hold = Duration::from_millis(300);
        config.replay.max_attempts = 100.try_into().unwrap();
    })
    .await;
    rig.faults().every_create(Some(conflict()));
    assert_relayed(
        &rig.client(protocol).await.create("a").await,
        &captured("quota_conflict_409"),
        "held for long enough",
    );
    assert_eq!(
        (not_replayed(&rig, "hold"), ended(&rig, "gave_up")),
        (1.0, 1.0)
    );
    assert!(attempts(&rig) > 2, "no pause is longer than 20 ms");
    rig.stop().await;
}

cases!(
    the_last_answer_is_relayed_when_the_next_pause_would_exceed_the_clients_timeout,
    protocols
);
async fn the_last_answer_is_relayed_when_the_next_pause_would_exceed_the_clients_timeout(
    protocol: Protocol,
) {
    let conflict = captured("quota_conflict_409");
    let answers = vec![conflict.clone(), asking(conflict, "31")];
    Case {
        reason: "client_timeout",
        edit: patient,
        query: "?timeout=30s",
        answers,
    }
    .check(protocol)
    .await;
}

cases!(
    the_last_answer_is_relayed_when_the_namespaces_budget_is_spent,
    protocols
);
async fn the_last_answer_is_relayed_when_the_namespaces_budget_is_spent(protocol: Protocol) {
    fn one_replay(config: &mut Config) {
        brisk(config);
        config.replay.budget.quota_conflict = BudgetConfig::new(1.0, 0);
    }
    Case {
        reason: "budget",
        edit: one_replay,
        query: "",
        answers: vec![captured("quota_conflict_409"); 2],
    }
    .check(protocol)
    .await;
}

cases!(
    the_answer_is_relayed_when_other_namespaces_have_spent_the_global_budget,
    protocols
);
async fn the_answer_is_relayed_when_other_namespaces_have_spent_the_global_budget(
    protocol: Protocol,
) {
    let rig = rig(|config| {
        brisk(config);
        config.replay.max_attempts = 100.try_into().unwrap();
        config.replay.budget.quota_conflict = BudgetConfig::new(0.0, 1);
    })
    .await;
    rig.plane.create_namespace("other").unwrap();
    let last = captured("quota_conflict_409");
    rig.faults().every_create(Some(Fault::Answer(last.clone())));
    let mut client = rig.client(protocol).await;
    assert_relayed(&client.create("a").await, &last, "the first namespace");
    let spent = attempts(&rig);
    assert_eq!(spent, 1 + 10, "one a second, over ten seconds");
    let mut request = client.create_request("b");
    *request.uri_mut() = request
        .uri()
        .to_string()
        .replace(NAMESPACE, "other")
        .parse()
        .unwrap();
    assert_relayed(
        &Answer::of(client.send(request).await).await,
        &last,
        "the second namespace",
    );
    assert_eq!(attempts(&rig) - spent, 1);
    for scope in ["namespace", "global"] {
        let exhausted = format!(
            "kube_retry_proxy_budget_exhausted_total{{kind=\"quota_conflict\",scope=\"{scope}\"}}"
        );
        assert_eq!(sample(&rig.proxy, &exhausted), 1.0, "{scope}");
    }
    rig.stop().await;
}

cases!(
    the_answer_is_relayed_when_too_many_creates_are_held,
    protocols
);
async fn the_answer_is_relayed_when_too_many_creates_are_held(protocol: Protocol) {
    let rig = rig(|config| {
        patient(config);
        config.creates.max_held = 1.try_into().unwrap();
    })
    .await;
    rig.faults().next_create(Fault::Answer(lasting_conflict()));
    let mut first = rig.client(protocol).await;
    let first = tokio::spawn(async move { first.create("first").await });
    held(&rig, 1).await;

    let refused = stamped(captured("quota_conflict_409"), 2);
    rig.faults().next_create(Fault::Answer(refused.clone()));
    let mut client = rig.client(protocol).await;
    assert_relayed(&client.create("second").await, &refused, "no place");
    assert_eq!((attempts(&rig), not_replayed(&rig, "held_full")), (2, 1.0));

    first.abort();
    held(&rig, 0).await;
    rig.faults().next_create(conflict());
    assert_eq!(
        client.create("third").await.status,
        StatusCode::CREATED,
        "the place is free again"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_permanent_conflict_costs_eight_attempts_by_default() {
    let rig = rig(brisk).await;
    rig.faults().every_create(Some(conflict()));
    let answer = rig.client(Protocol::Http2).await.create("a").await;
    assert_relayed(&answer, &captured("quota_conflict_409"), "the defaults");
    assert_eq!(attempts(&rig), 8);
    let decision = &rig.decisions().await[0];
    assert_eq!(
        (
            &decision["outcome"],
            decision["attempts"].as_array().map(Vec::len)
        ),
        (&"gave_up".into(), Some(8)),
        "{decision}"
    );
    rig.stop().await;
}
