//! The metrics of creates: replays, budgets and the rate limit.

use std::time::Duration;

use http::StatusCode;
use kube_retry_proxy::config::{BudgetConfig, Config, Mode, Rate};
use model_control_plane::Fault;

use super::{json, of, rig};
use crate::cases::every;
use crate::support::{NAMESPACE, Protocol, Rig, conflict, eventually};

#[tokio::test]
async fn a_replayed_create_moves_every_family_of_the_loop() {
    let rig = Rig::new().await;
    rig.plane.faults(0).unwrap().next_create(conflict());
    let mut client = rig.client(Protocol::Http1).await;
    assert_eq!(client.create("a").await.status, StatusCode::CREATED);
    assert_eq!(client.create("b").await.status, StatusCode::CREATED);
    assert_eq!(
        client.get("/api/v1/namespaces/team/pods").await.status,
        StatusCode::OK
    );
    eventually("the answers' ends", || {
        of(&rig.proxy, "upstream_streams{lane=\"create\"}") == 0.0
    })
    .await;
    every(
        [
            ("requests_total{code=\"201\",route=\"create\"}", 2.0),
            ("requests_total{code=\"200\",route=\"call\"}", 1.0),
            ("request_duration_seconds_count{route=\"create\"}", 2.0),
            ("request_duration_seconds_count{route=\"call\"}", 1.0),
            ("overhead_seconds_count{route=\"create\"}", 2.0),
            ("overhead_seconds_count{route=\"call\"}", 1.0),
            ("attempts_total{class=\"quota_conflict\",code=\"409\"}", 1.0),
            ("attempts_total{class=\"success\",code=\"201\"}", 2.0),
            (
                "conflicts_total{class=\"quota_conflict\",namespace=\"team\"}",
                1.0,
            ),
            ("replays_total{class=\"quota_conflict\"}", 1.0),
            (
                "outcomes_total{namespace=\"team\",outcome=\"created\"}",
                1.0,
            ),
            (
                "outcomes_total{namespace=\"team\",outcome=\"created_after_replay\"}",
                1.0,
            ),
            ("hold_seconds_count", 1.0),
            ("held", 0.0),
            ("buffered_bytes", 0.0),
            ("downstream_connections", 1.0),
            ("mode{mode=\"enforce\"}", 1.0),
            ("mode{mode=\"off\"}", 0.0),
            ("upstream_connections{lane=\"create\"}", 1.0),
            (
                "upstream_connect_duration_seconds_count{lane=\"create\",result=\"success\"}",
                1.0,
            ),
            (
                concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
                1.0,
            ),
        ],
        async |(series, expected)| {
            assert_eq!(of(&rig.proxy, series), expected, "{series}");
        },
    )
    .await;
    drop(client);
    eventually("no connection", || {
        of(&rig.proxy, "downstream_connections") == 0.0
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn what_is_not_replayed_is_counted_with_its_reason() {
    async fn refused(edit: impl FnOnce(&mut Config), faults: usize, reason: &str, outcome: &str) {
        let rig = rig(edit).await;
        for _ in 0..faults {
            rig.plane.faults(0).unwrap().next_create(conflict());
        }
        let mut client = rig.client(Protocol::Http1).await;
        assert_eq!(
            client.create("a").await.status,
            StatusCode::CONFLICT,
            "{reason}"
        );
        assert_eq!(
            of(
                &rig.proxy,
                &format!("not_replayed_total{{reason=\"{reason}\"}}")
            ),
            1.0,
            "{reason}"
        );
        let total: f64 = ["team", "_other"]
            .map(|namespace| {
                of(
                    &rig.proxy,
                    &format!("outcomes_total{{namespace=\"{namespace}\",outcome=\"{outcome}\"}}"),
                )
            })
            .iter()
            .sum();
        assert_eq!(total, 1.0, "{reason}: {outcome}");
        assert_eq!(rig.plane.journal().creates().len(), faults, "{reason}");
        rig.stop().await;
    }
    refused(|config| config.mode = Mode::Off, 1, "mode_off", "refused").await;
    refused(
        |config| config.mode = Mode::Observe,
        1,
        "mode_observe",
        "observed",
    )
    .await;
    refused(
        |config| config.replay.max_attempts = 2.try_into().unwrap(),
        2,
        "attempts",
        "gave_up",
    )
    .await;
    refused(
        |config| config.replay.max_hold = Duration::ZERO,
        1,
        "hold",
        "gave_up",
    )
    .await;
    refused(
        |config| config.creates.max_body = 16,
        1,
        "body_too_large",
        "refused",
    )
    .await;
    refused(
        |config| config.creates.max_buffered = 16,
        1,
        "buffer_full",
        "refused",
    )
    .await;
    let spent =
        |config: &mut Config| config.replay.budget.quota_conflict = BudgetConfig::new(0.0, 0);
    refused(spent, 1, "budget", "gave_up").await;
}

#[tokio::test]
async fn a_spent_budget_is_counted_with_its_scope() {
    let rig = rig(|config| config.replay.budget.quota_conflict = BudgetConfig::new(0.0, 0)).await;
    rig.plane.faults(0).unwrap().next_create(conflict());
    assert_eq!(
        rig.client(Protocol::Http1).await.create("a").await.status,
        StatusCode::CONFLICT
    );
    assert_eq!(
        of(
            &rig.proxy,
            "budget_exhausted_total{kind=\"quota_conflict\",scope=\"namespace\"}"
        ),
        1.0
    );
    assert_eq!(
        of(
            &rig.proxy,
            "budget_exhausted_total{kind=\"other\",scope=\"namespace\"}"
        ),
        0.0
    );
    rig.stop().await;
}

#[tokio::test]
async fn the_rate_limit_counts_who_waited_and_who_was_refused() {
    let limited = |qps, max_wait: Duration| {
        rig(move |config| {
            config.rate_limit.namespace = Some(Rate::new(qps, 1));
            config.rate_limit.max_wait = max_wait.try_into().unwrap();
        })
    };
    let rig = limited(1.0, Duration::from_secs(10)).await;
    let (mut first, mut second) = (
        rig.client(Protocol::Http1).await,
        rig.client(Protocol::Http1).await,
    );
    // Both are sent together, so that the second arrives within the second whose burst is used up.
    let (first, second) = tokio::join!(first.create("a"), second.create("b"));
    assert_eq!(
        (first.status, second.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(
        of(&rig.proxy, "rate_limit_wait_seconds_count"),
        1.0,
        "the first had its burst"
    );
    assert_eq!(of(&rig.proxy, "hold_seconds_count"), 0.0, "that is no hold");
    rig.stop().await;

    let rig = limited(0.001, Duration::ZERO).await;
    let mut client = rig.client(Protocol::Http1).await;
    assert_eq!(client.create("a").await.status, StatusCode::CREATED);
    let refused = client.create("b").await;
    assert_eq!(
        (refused.status, &refused.json()["reason"]),
        (StatusCode::TOO_MANY_REQUESTS, &"TooManyRequests".into())
    );
    assert_eq!(
        of(&rig.proxy, "rate_limit_rejected_total{scope=\"namespace\"}"),
        1.0
    );
    assert_eq!(
        of(&rig.proxy, "rate_limit_rejected_total{scope=\"global\"}"),
        0.0
    );
    assert_eq!(
        of(
            &rig.proxy,
            "outcomes_total{namespace=\"team\",outcome=\"rate_limited\"}"
        ),
        1.0
    );
    assert_eq!(rig.plane.journal().creates().len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_lost_answer_is_counted_and_never_replayed() {
    let rig = Rig::new().await;
    rig.plane.faults(0).unwrap().next_create(Fault::LoseAnswer);
    assert_eq!(
        rig.client(Protocol::Http1).await.create("a").await.status,
        StatusCode::GATEWAY_TIMEOUT
    );
    assert_eq!(of(&rig.proxy, "upstream_errors_total{kind=\"lost\"}"), 1.0);
    assert_eq!(
        of(&rig.proxy, "attempts_total{class=\"lost\",code=\"none\"}"),
        1.0
    );
    let attempt = &json(&rig.proxy, "/debug/decisions").await[0]["attempts"][0];
    assert_eq!(
        (&attempt["error"], attempt.get("code")),
        (&"lost".into(), None)
    );
    assert_eq!(
        rig.plane.pods(NAMESPACE).len(),
        1,
        "it was stored all the same"
    );
    rig.stop().await;
}
