//! Collectors that accept nothing, never answer or reject spans.

use std::sync::Arc;

use http::StatusCode;

use super::{rig, spans_counted};
use crate::support::collector::{Collector, CollectorMode};
use crate::support::logs::Logs;
use crate::support::{Protocol, eventually};

cases!(
    a_collector_that_takes_nothing_costs_no_create_and_is_told_once,
    [
        closing(CollectorMode::Closing),
        refusing(CollectorMode::Refusing(StatusCode::SERVICE_UNAVAILABLE)),
    ]
);
async fn a_collector_that_takes_nothing_costs_no_create_and_is_told_once(
    collecting: CollectorMode,
) {
    let logs = Logs::collect();
    let collector = Collector::with(collecting).await;
    let rig = rig(&collector, |_| {}).await;
    let mut client = rig.client(Protocol::Http2).await;
    let metrics = Arc::clone(&rig.proxy.metrics);
    for (name, dropped) in [("a", 2.0), ("b", 4.0)] {
        assert_eq!(client.create(name).await.status, StatusCode::CREATED);
        // Two batches: the second create starts after the first one has ended.
        eventually("the spans are dropped", || {
            spans_counted(&metrics, "failure") == dropped
        })
        .await;
    }
    rig.stop().await;
    assert_eq!(spans_counted(&metrics, "success"), 0.0);
    assert_eq!(
        logs.with("The collector does not accept traces").len(),
        1,
        "{:?}",
        logs.with("")
    );
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    let collector = Collector::with(CollectorMode::Silent).await;
    let rig = rig(&collector, |_| {}).await;
    assert_eq!(
        rig.client(Protocol::Http2).await.create("a").await.status,
        StatusCode::CREATED
    );
    let metrics = Arc::clone(&rig.proxy.metrics);
    // Fails if the request takes long.
    rig.stop().await;
    assert_eq!(spans_counted(&metrics, "failure"), 2.0);
}

#[tokio::test]
async fn spans_that_the_collector_rejects_count_as_dropped() {
    let collector = Collector::with(CollectorMode::Rejecting(1)).await;
    let rig = rig(&collector, |_| {}).await;
    assert_eq!(
        rig.client(Protocol::Http2).await.create("a").await.status,
        StatusCode::CREATED
    );
    let metrics = Arc::clone(&rig.proxy.metrics);
    rig.stop().await;
    assert_eq!(
        (
            spans_counted(&metrics, "success"),
            spans_counted(&metrics, "failure")
        ),
        (1.0, 1.0)
    );
}
