//! Every captured answer of a real apiserver: either a replay creates the pod, or the answer is
//! relayed byte for byte after one attempt.

use http::StatusCode;
use model_control_plane::Encoding;
use model_control_plane::{Canned, Fault};
use tokio::task::JoinSet;

use super::{
    assert_each_stored_once, attempts, brisk, conflict, ended, not_replayed, replays, rig,
};
use crate::cases::every;
use crate::support::{
    Answer, BOTH, NAMESPACE, Protocol, Rig, assert_relayed, captured, sample, samples,
};

/// The captured answers after which a create is replayed at once.
const CONFLICTS: [&str; 8] = [
    "quota_conflict_409",
    "quota_conflict_409_cbor",
    "quota_conflict_409_clientgo_accept",
    "quota_conflict_409_nonexempt_user",
    "quota_conflict_409_protobuf",
    "quota_conflict_409_yaml",
    "v1_37_quota_conflict_409",
    "v1_37_quota_conflict_409_protobuf",
];

/// The captured answers after which a create is replayed after one second, as they ask for.
const THROTTLED: [&str; 4] = [
    "too_many_requests_429",
    "too_many_requests_429_apf",
    "too_many_requests_429_get",
    "v1_37_too_many_requests_429",
];

/// The names of all captured answers.
fn names() -> Vec<String> {
    let files = std::fs::read_dir(samples())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = files
        .filter_map(|file| file.strip_suffix(".http").map(str::to_owned))
        .collect();
    names.sort();
    names
}

cases!(
    replays_a_quota_conflict_until_the_pod_is_created,
    protocols,
    [json(Encoding::Json), protobuf(Encoding::Protobuf)]
);
async fn replays_a_quota_conflict_until_the_pod_is_created(protocol: Protocol, encoding: Encoding) {
    let rig = Rig::new().await;
    rig.faults().next_create(conflict());
    rig.faults().next_create(conflict());
    let mut client = rig.client(protocol).await;
    let answer = Answer::of(client.send(client.create_request_in("a", encoding)).await).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    assert_eq!(Encoding::of(&answer.body), encoding);
    assert_eq!(attempts(&rig), 3);
    assert_each_stored_once(&rig);
    let conflicts = format!(
        "kube_retry_proxy_conflicts_total{{class=\"quota_conflict\",namespace=\"{NAMESPACE}\"}}"
    );
    assert_eq!(sample(&rig.proxy, &conflicts), 2.0);
    assert_eq!(
        (
            replays(&rig, "quota_conflict"),
            ended(&rig, "created_after_replay")
        ),
        (2.0, 1.0)
    );
    rig.stop().await;
}

cases!(
    every_captured_answer_ends_in_a_pod_or_is_relayed_after_one_attempt,
    protocols
);
async fn every_captured_answer_ends_in_a_pod_or_is_relayed_after_one_attempt(protocol: Protocol) {
    let names = names();
    assert!(
        CONFLICTS
            .iter()
            .chain(&THROTTLED)
            .all(|name| names.iter().any(|file| file == name)),
        "{names:?}"
    );
    let rig = rig(brisk).await;
    let mut client = rig.client(protocol).await;
    every(
        names
            .iter()
            .filter(|name| !THROTTLED.contains(&name.as_str())),
        async |name| {
            let canned = captured(name);
            rig.faults().next_create(Fault::Answer(canned.clone()));
            let before = attempts(&rig);
            let pod = name.replace('_', "-");
            let answer = client.create(&pod).await;
            let stored = rig.plane.store().pod(NAMESPACE, &pod);
            if CONFLICTS.contains(&name.as_str()) {
                assert_eq!(
                    (answer.status, attempts(&rig) - before),
                    (StatusCode::CREATED, 2),
                    "{name}"
                );
                assert!(stored.is_some(), "{name}");
            } else {
                assert_relayed(&answer, &canned, name);
                assert_eq!(attempts(&rig) - before, 1, "{name}");
                assert!(stored.is_none(), "{name}");
            }
        },
    )
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn throttled_creates_come_back_no_sooner_than_they_were_asked_to() {
    let rig = rig(brisk).await;
    let mut creates = JoinSet::new();
    for protocol in BOTH {
        for (n, name) in THROTTLED.into_iter().enumerate() {
            rig.faults().next_create(Fault::Answer(captured(name)));
            let mut client = rig.client(protocol).await;
            creates.spawn(async move {
                client
                    .create(&format!("{protocol:?}-{n}").to_lowercase())
                    .await
                    .status
            });
        }
    }
    assert_eq!(creates.join_all().await, [StatusCode::CREATED; 8]);
    assert_eq!(attempts(&rig), 16);
    assert_each_stored_once(&rig);
    let decisions = rig.decisions().await;
    assert_eq!(decisions.len(), 8);
    for decision in decisions {
        assert!(
            decision["attempts"][0]["delayMs"].as_u64().unwrap() >= 1000,
            "{decision}"
        );
        assert!(decision["heldMs"].as_u64().unwrap() >= 1000, "{decision}");
    }
    rig.stop().await;
}

cases!(
    an_answer_too_large_for_an_apiservers_error_is_relayed_unjudged,
    protocols
);
async fn an_answer_too_large_for_an_apiservers_error_is_relayed_unjudged(protocol: Protocol) {
    let rig = rig(brisk).await;
    let conflict = captured("quota_conflict_409");
    let padding = " ".repeat((64 << 10) + 1 - conflict.body.len());
    let large = Canned {
        body: [&conflict.body, padding.as_bytes()].concat().into(),
        ..conflict
    };
    rig.faults().next_create(Fault::Answer(large.clone()));
    assert_relayed(
        &rig.client(protocol).await.create("a").await,
        &large,
        "a byte too many",
    );
    assert_eq!(
        (attempts(&rig), not_replayed(&rig, "answer_too_large")),
        (1, 1.0)
    );

    let largest = Canned {
        body: large.body.slice(..64 << 10),
        ..large
    };
    rig.faults().next_create(Fault::Answer(largest));
    assert_eq!(
        (
            rig.client(protocol).await.create("a").await.status,
            attempts(&rig)
        ),
        (StatusCode::CREATED, 3)
    );
    rig.stop().await;
}

cases!(
    a_replay_goes_elsewhere_only_when_the_server_is_going_or_coming,
    protocols,
    [
        shutting_down(
            text("The apiserver is shutting down, please try again later.\n"),
            "shutting_down",
            true
        ),
        starting_up(starting(), "starting_up", true),
        throttled(
            text("Too many requests, please try again later.\n"),
            "throttled",
            false
        ),
        quota_conflict(captured("quota_conflict_409"), "quota_conflict", false),
    ]
);
async fn a_replay_goes_elsewhere_only_when_the_server_is_going_or_coming(
    protocol: Protocol,
    canned: Canned,
    class: &str,
    elsewhere: bool,
) {
    let rig = rig(|config| {
        brisk(config);
        config.upstream.connections_per_lane = 1.try_into().unwrap();
    })
    .await;
    rig.faults().next_create(Fault::Answer(canned));
    assert_eq!(
        rig.client(protocol).await.create("a").await.status,
        StatusCode::CREATED
    );
    let connections: Vec<_> = rig
        .plane
        .journal()
        .creates()
        .into_iter()
        .map(|attempt| attempt.connection)
        .collect();
    assert_eq!(
        (connections.len(), connections[0] != connections[1]),
        (2, elsewhere)
    );
    assert_eq!(replays(&rig, class), 1.0);
    rig.stop().await;
}

fn text(text: &'static str) -> Canned {
    Canned::new(
        StatusCode::TOO_MANY_REQUESTS,
        "text/plain; charset=utf-8",
        text,
    )
}

/// The answer of a server that is starting, without `retryAfterSeconds`.
fn starting() -> Canned {
    let starting = Canned::starting_up();
    let unhurried = String::from_utf8_lossy(&starting.body).replace("\"retryAfterSeconds\":5", "");
    Canned::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "application/json",
        unhurried,
    )
}
