//! Classes that are replayed only if the operator enables them, each with its own limits.

use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use kube_retry_proxy::config::{OptIn, ReplayConfig};
use model_control_plane::{Canned, Fault};

use super::{attempts, brisk, not_replayed, replays, rig};
use crate::cases::every;
use crate::support::{Answer, NAMESPACE, Protocol, assert_relayed, captured, eventually};

/// A class, its switch, and an answer of it.
type Class = (&'static str, fn(&mut ReplayConfig) -> &mut OptIn, Canned);

fn classes() -> Vec<Class> {
    const WEBHOOK: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Internal error occurred: failed calling webhook \"a.example.com\": failed to call webhook: Post \"https://a.example.svc:443/?timeout=10s\": dial tcp 10.0.0.1:443: connect: connection refused","reason":"InternalError","details":{"causes":[{"message":"failed calling webhook \"a.example.com\": failed to call webhook: Post \"https://a.example.svc:443/?timeout=10s\": dial tcp 10.0.0.1:443: connect: connection refused"}]},"code":500}"#;
    let webhook = Canned::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "application/json",
        WEBHOOK,
    );
    let webhook = webhook.with(
        DATE,
        HeaderValue::from_static("Mon, 23 Nov 2026 04:45:11 GMT"),
    );
    vec![
        (
            "exceeded_quota",
            |replay| &mut replay.exceeded_quota,
            full("exceeded_quota_403"),
        ),
        (
            "exceeded_quota",
            |replay| &mut replay.exceeded_quota,
            full("exceeded_quota_403_protobuf"),
        ),
        (
            "quota_status_unknown",
            |replay| &mut replay.quota_status_unknown,
            captured("quota_status_unknown_403"),
        ),
        (
            "quota_evaluation_timeout",
            |replay| &mut replay.quota_evaluation_timeout,
            captured("etcd_stalled_quota_timeout_500"),
        ),
        (
            "webhook_unreachable",
            |replay| &mut replay.webhook_unreachable,
            webhook,
        ),
    ]
}

/// A captured refusal of a create that asks for five times the limit, changed to one that asks for
/// as much as the limit, and so for what can be free again.
fn full(name: &str) -> Canned {
    let canned = captured(name);
    let mut body = canned.body.to_vec();
    for (asked, limit) in [(b"=5,", b"=1,"), (b"2Gi", b"1Gi")] {
        while let Some(at) = body.windows(3).position(|part| part == asked) {
            body[at..at + 3].copy_from_slice(limit);
        }
    }
    Canned {
        body: body.into(),
        ..canned
    }
}

/// Enables every other class, to show a switch that affects the wrong class.
fn all_but(replay: &mut ReplayConfig, own: fn(&mut ReplayConfig) -> &mut OptIn) {
    for (_, other, _) in classes() {
        other(replay).enabled = true;
    }
    own(replay).enabled = false;
}

cases!(a_class_that_is_off_is_relayed_after_one_attempt, protocols);
async fn a_class_that_is_off_is_relayed_after_one_attempt(protocol: Protocol) {
    every(classes(), async |(class, own, canned)| {
        let rig = rig(|config| {
            brisk(config);
            all_but(&mut config.replay, own);
        })
        .await;
        rig.faults().next_create(Fault::Answer(canned.clone()));
        assert_relayed(
            &rig.client(protocol).await.create("a").await,
            &canned,
            class,
        );
        assert_eq!((attempts(&rig), replays(&rig, class)), (1, 0.0), "{class}");
        rig.stop().await;
    })
    .await;
}

cases!(a_class_that_is_on_is_replayed_into_a_pod, protocols);
async fn a_class_that_is_on_is_replayed_into_a_pod(protocol: Protocol) {
    every(classes(), async |(class, own, canned)| {
        let rig = rig(|config| {
            brisk(config);
            own(&mut config.replay).enabled = true;
        })
        .await;
        rig.faults().next_create(Fault::Answer(canned.clone()));
        assert_eq!(
            rig.client(protocol).await.create("a").await.status,
            StatusCode::CREATED,
            "{class}"
        );
        assert_eq!((attempts(&rig), replays(&rig, class)), (2, 1.0), "{class}");
        rig.stop().await;
    })
    .await;
}

cases!(a_class_that_is_on_has_limits_of_its_own, protocols);
async fn a_class_that_is_on_has_limits_of_its_own(protocol: Protocol) {
    every(classes(), async |(class, own, canned)| {
        let rig = rig(|config| {
            brisk(config);
            // The limits of the other classes would allow no replay, or all of them.
            config.replay.max_attempts = 1.try_into().unwrap();
            config.replay.max_hold = Duration::from_secs(3600);
            *own(&mut config.replay) = OptIn {
                enabled: true,
                max_attempts: 3.try_into().unwrap(),
                max_hold: Duration::from_secs(9),
            };
        })
        .await;
        rig.faults()
            .every_create(Some(Fault::Answer(canned.clone())));
        let mut client = rig.client(protocol).await;
        assert_relayed(&client.create("a").await, &canned, class);
        assert_eq!(
            (attempts(&rig), not_replayed(&rig, "attempts")),
            (3, 1.0),
            "{class}"
        );

        let asking = canned.with(RETRY_AFTER, HeaderValue::from_static("10"));
        rig.faults()
            .every_create(Some(Fault::Answer(asking.clone())));
        assert_relayed(&client.create("b").await, &asking, class);
        assert_eq!(
            (attempts(&rig), not_replayed(&rig, "hold")),
            (4, 1.0),
            "{class}"
        );
        rig.stop().await;
    })
    .await;
}

cases!(
    a_create_beyond_the_quota_is_held_until_another_pod_is_deleted,
    protocols
);
async fn a_create_beyond_the_quota_is_held_until_another_pod_is_deleted(protocol: Protocol) {
    let rig = rig(|config| {
        brisk(config);
        config.replay.max_delay = Duration::from_millis(20);
        config.replay.exceeded_quota = OptIn {
            enabled: true,
            max_attempts: kube_retry_proxy::config::Attempts::MAX,
            max_hold: Duration::from_secs(3600),
        };
        config.replay.budget.other.per_second = 1_000_000.try_into().unwrap();
    })
    .await;
    rig.plane
        .create_quota(NAMESPACE, "one-pod", &[("pods", "1")])
        .unwrap();
    let mut client = rig.client(protocol).await;
    assert_eq!(client.create("first").await.status, StatusCode::CREATED);
    let mut other = rig.client(protocol).await;
    let second = tokio::spawn(async move { other.create("second").await });
    eventually("it has been tried again", || {
        replays(&rig, "exceeded_quota") >= 2.0
    })
    .await;
    let delete = client.request(
        Method::DELETE,
        &format!("/api/v1/namespaces/{NAMESPACE}/pods/first"),
        "",
    );
    assert_eq!(
        Answer::of(client.send(delete).await).await.status,
        StatusCode::OK
    );
    assert_eq!(second.await.unwrap().status, StatusCode::CREATED);
    let present: Vec<_> = rig
        .plane
        .pods(NAMESPACE)
        .iter()
        .map(|pod| pod.name().to_owned())
        .collect();
    assert_eq!(present, ["second"]);
    rig.stop().await;
}
