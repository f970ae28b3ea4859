use std::sync::Mutex;

use tokio::task::JoinSet;

use super::*;
use crate::config::Rate;
use crate::route::CreateTarget;

fn limit(namespace: Option<Rate>, global: Option<Rate>) -> Arc<RateLimit> {
    Arc::new(RateLimit::new(&config::RateLimitConfig {
        namespace,
        global,
        max_namespaces: config::Count::new(2),
        ..config::RateLimitConfig::default()
    }))
}

fn rate(qps: f64, burst: u32) -> Option<Rate> {
    Some(Rate::new(qps, burst))
}

const AT_ONCE: Result<Duration, Rejected> = Ok(Duration::ZERO);

/// A create of a caller who is known.
async fn admit(limit: &RateLimit, namespace: &str) -> Result<Duration, Rejected> {
    let start = Instant::now();
    limit
        .counted(namespace, start, start + limit.max_wait)
        .await
}

/// Whole milliseconds, because tokio's timer rounds up to them.
fn millis(admitted: Result<Duration, Rejected>) -> u128 {
    admitted.unwrap().as_millis()
}

#[tokio::test(start_paused = true)]
async fn without_limits_nobody_waits() {
    let limit = limit(None, None);
    for _ in 0..1000 {
        assert_eq!(admit(&limit, "a").await, AT_ONCE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_passes_and_the_next_waits_its_turn() {
    let limit = limit(rate(10.0, 3), None);
    for _ in 0..3 {
        assert_eq!(admit(&limit, "a").await, AT_ONCE);
    }
    assert!((100..=101).contains(&millis(admit(&limit, "a").await)));
    assert_eq!(admit(&limit, "b").await, AT_ONCE, "namespaces do not share");
}

#[tokio::test(start_paused = true)]
async fn the_global_limit_holds_over_all_namespaces() {
    let limit = limit(None, rate(1.0, 2));
    assert_eq!(admit(&limit, "a").await, AT_ONCE);
    assert_eq!(admit(&limit, "b").await, AT_ONCE);
    assert!((1000..=1001).contains(&millis(admit(&limit, "c").await)));
}

#[tokio::test(start_paused = true)]
async fn rates_below_one_a_second_work() {
    let limit = limit(rate(0.5, 1), None);
    assert_eq!(admit(&limit, "a").await, AT_ONCE);
    assert!((2000..=2001).contains(&millis(admit(&limit, "a").await)));
}

#[tokio::test(start_paused = true)]
async fn a_create_that_would_wait_too_long_is_refused_at_once() {
    let limit = limit(rate(0.1, 1), None);
    assert_eq!(admit(&limit, "a").await, AT_ONCE);
    let before = Instant::now();
    let rejected = admit(&limit, "a").await.unwrap_err();
    assert_eq!(
        (rejected.scope, rejected.retry_after),
        (Scope::Namespace, Duration::from_secs(10))
    );
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_refuses_new_creates_and_serves_the_others_in_order() {
    let limit = limit(rate(1.0, 1), None);
    assert_eq!(admit(&limit, "a").await, AT_ONCE);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let (limit, order) = (Arc::clone(&limit), Arc::clone(&order));
        tasks.spawn(async move {
            let result = admit(&limit, "a").await;
            order.lock().unwrap().push((n, result.is_ok()));
        });
        // Lets it take its place.
        tokio::task::yield_now().await;
    }
    let refused: Vec<_> = order.lock().unwrap().clone();
    assert_eq!(
        refused,
        [(6, false), (7, false)],
        "six in front at one a second are more than 5 s"
    );
    tasks.join_all().await;
    let admitted: Vec<_> = order
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, ok)| *ok)
        .map(|(n, _)| *n)
        .collect();
    assert_eq!(admitted, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_is_dropped_in_the_queue_takes_no_slot() {
    let limit = limit(rate(1.0, 1), None);
    assert_eq!(admit(&limit, "a").await, AT_ONCE);
    assert!(
        tokio::time::timeout(Duration::from_millis(400), admit(&limit, "a"))
            .await
            .is_err()
    );
    assert!((600..=601).contains(&millis(admit(&limit, "a").await)));
}

#[tokio::test(start_paused = true)]
async fn namespaces_without_room_share_one_queue() {
    let limit = limit(rate(1.0, 1), None);
    for namespace in ["a", "b", "c"] {
        assert_eq!(admit(&limit, namespace).await, AT_ONCE, "{namespace}");
    }
    assert!(
        (1000..=1001).contains(&millis(admit(&limit, "d").await)),
        "c has just used the shared queue"
    );
}

#[tokio::test(start_paused = true)]
async fn idle_namespaces_make_room() {
    let limit = limit(rate(1.0, 1), None);
    for namespace in ["a", "b", "c"] {
        assert_eq!(admit(&limit, namespace).await, AT_ONCE);
    }
    tokio::time::advance(Duration::from_secs(7)).await;
    for namespace in ["d", "e"] {
        assert_eq!(
            admit(&limit, namespace).await,
            AT_ONCE,
            "{namespace} has its own queue"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn extreme_rates_do_not_panic() {
    for qps in [0.001, 1.0 / 3.0, 1e6] {
        for burst in [1, 1_000_000] {
            let limit = limit(rate(qps, burst), rate(qps, burst));
            let _ = admit(&limit, "a").await;
            let _ = admit(&limit, "a").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_burst_on_many_threads_is_not_refused() {
    let limit = limit(rate(0.1, 1000), None);
    let mut tasks = JoinSet::new();
    for _ in 0..1000 {
        let limit = Arc::clone(&limit);
        tasks.spawn(async move { admit(&limit, "a").await });
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
}

fn token(token: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::header::AUTHORIZATION,
        http::HeaderValue::from_static(token),
    )])
}

/// The first create of a token in a namespace, and what the apiserver says of it.
async fn first(
    limit: &RateLimit,
    headers: &HeaderMap,
    namespace: &str,
    refused: bool,
) -> Result<(), Rejected> {
    let admitted = limit
        .admit(
            limit.caller(headers, &CreateTarget::of(namespace, "pods")),
            namespace,
        )
        .await?;
    admitted.first_create.unwrap().answered(refused);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn refused_creates_take_nothing_from_the_global_limit() {
    let limit = limit(None, rate(0.001, 2));
    for namespace in ["a", "b", "c", "d"] {
        assert_eq!(
            first(&limit, &token("invalid"), namespace, true).await,
            Ok(())
        );
    }
    let valid = token("valid");
    assert_eq!(
        first(&limit, &valid, "a", false).await,
        Ok(()),
        "and takes one of two turns"
    );
    for namespace in ["invented-1", "invented-2", "invented-3"] {
        assert_eq!(
            first(&limit, &valid, namespace, true).await,
            Ok(()),
            "its turn is given back"
        );
    }
    assert_eq!(first(&limit, &valid, "b", false).await, Ok(()));
    assert_eq!(
        first(&limit, &valid, "c", false).await.unwrap_err().scope,
        Scope::Global
    );
}
