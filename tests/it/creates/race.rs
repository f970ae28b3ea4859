//! Real races: several apiservers write to one quota. The only setting is a watch latency that is a
//! little longer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use kube_retry_proxy::config::Pin;
use model_control_plane::{QuotaOutcome, Settings};
use tokio::task::JoinSet;

use super::{assert_each_stored_once, ended};
use crate::support::{Answer, NAMESPACE, Protocol, Rig};

const CREATES: usize = 250;
const IN_FLIGHT: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_create_is_lost_or_stored_twice_in_a_race_for_the_quota_over_http1() {
    race(Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_create_is_lost_or_stored_twice_in_a_race_for_the_quota_over_http2() {
    race(Protocol::Http2).await;
}

async fn race(protocol: Protocol) {
    // Pinned creates would not race.
    let rig = Rig::with(
        Settings {
            seed: 1,
            ..Settings::default()
        },
        |config| config.upstream.pin = Pin::None,
    )
    .await;
    let acknowledged = create_all(&rig, protocol).await;

    let creates = rig.plane.journal().creates();
    let conflicts = creates
        .iter()
        .filter(|attempt| attempt.quota == QuotaOutcome::Conflict)
        .count();
    assert!(conflicts > 0, "there was no race");
    assert_eq!(
        creates.len(),
        CREATES + conflicts,
        "only conflicts were replayed"
    );
    assert_eq!(acknowledged.len(), CREATES);
    let present: BTreeSet<_> = rig
        .plane
        .pods(NAMESPACE)
        .iter()
        .map(|pod| pod.name().to_owned())
        .collect();
    assert_eq!(acknowledged, present);
    assert_each_stored_once(&rig);
    assert!(ended(&rig, "created_after_replay") > 0.0);
    rig.stop().await;
}

/// Creates pods, [`IN_FLIGHT`] at a time, and returns the names of the created ones. Fails if a
/// create is refused.
async fn create_all(rig: &Rig, protocol: Protocol) -> BTreeSet<String> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (mut client, next) = (rig.client(protocol).await, Arc::clone(&next));
        workers.spawn(async move {
            let mut acknowledged = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= CREATES {
                    return acknowledged;
                }
                let answer: Answer = client.create(&format!("pod-{n}")).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
                acknowledged.push(
                    answer.json()["metadata"]["name"]
                        .as_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        });
    }
    let all = tokio::time::timeout(Duration::from_secs(60), workers.join_all())
        .await
        .unwrap();
    all.into_iter().flatten().collect()
}
