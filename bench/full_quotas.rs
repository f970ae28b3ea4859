//! A full quota: 500 creates at once against a quota of 50 pods, of which 10 end each second from the
//! moment on when all creates were sent once. The creates wait in the proxy and are woken by its watch, or poll; or the client asks again itself
//! after a fixed time, as Argo does. `bench/README.md` shows results.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at what it did not expect, and prints"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube_retry_proxy::config::{Attempts, Config, OptIn};
use kube_retry_proxy_support::rig::Rig;
use kube_retry_proxy_support::{Client, NAMESPACE, Protocol, sample};
use model_control_plane::Settings;
use model_control_plane::store::Store;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

const CREATES: usize = 500;
const PODS: &str = "50";
const END_EVERY: Duration = Duration::from_millis(100);
/// What Argo's workflow-controller waits by default before it asks again.
const REQUEUE: Duration = Duration::from_secs(10);
/// The streams that one connection takes.
const PER_CONNECTION: usize = 50;

#[derive(Clone, Copy)]
enum Way {
    Direct,
    Polled,
    Woken,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    println!(
        "| creates | seconds to the last | creates sent | refused | reads of quotas | places from the order of arrival: mean | most late | most early |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (name, way) in [
        ("direct, asking again after 10 s", Way::Direct),
        ("proxied, polling", Way::Polled),
        ("proxied, woken", Way::Woken),
    ] {
        run(name, way).await;
    }
}

async fn run(name: &str, way: Way) {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    let settings = Settings {
        apiservers: 1,
        watch_latency: Duration::from_millis(5),
        ..Settings::default()
    };
    std::fs::write(&token, &settings.tokens[0]).expect("a file");
    let rig = Rig::with(settings, |config: &mut Config| {
        config.replay.exceeded_quota = OptIn {
            enabled: true,
            max_attempts: Attempts::MAX,
            max_hold: Duration::from_secs(600),
        };
        config.replay.full_quotas.watch = matches!(way, Way::Woken);
        config.replay.full_quotas.token_file = token;
        // By default the budget ends most polls early.
        config.replay.budget.other.per_second = 10_000.try_into().expect("in range");
    })
    .await;
    rig.plane
        .create_quota(NAMESPACE, "few", &[("pods", PODS)])
        .expect("a quota");
    let mut clients = Vec::new();
    for _ in 0..CREATES.div_ceil(PER_CONNECTION) {
        clients.push(match way {
            Way::Direct => rig.direct(Protocol::Http2).await,
            Way::Polled | Way::Woken => rig.client(Protocol::Http2).await,
        });
    }
    let done = Arc::new(AtomicBool::new(false));
    let mut creates = JoinSet::new();
    for index in 0..CREATES {
        let client = clients[index / PER_CONNECTION].share();
        creates.spawn(create(client, index, way));
        // Arrival has an order.
        sleep(Duration::from_millis(1)).await;
    }
    // A create that was not refused yet is in no queue.
    while rig.plane.journal().creates().len() < CREATES {
        sleep(Duration::from_millis(10)).await;
    }
    let started = Instant::now();
    let ending = tokio::spawn(end_pods(Arc::clone(rig.plane.store()), Arc::clone(&done)));
    let mut stored: Vec<(u64, usize)> = creates.join_all().await;
    let took = started.elapsed();
    done.store(true, Ordering::Relaxed);
    ending.await.expect("the pods end");
    assert_eq!(rig.plane.journal().stored_twice(), None);
    stored.sort_unstable();
    // How many places later than by the order of arrival each was stored.
    let places = stored.iter().enumerate();
    let late: Vec<_> = places
        .map(|(place, (_, index))| place.cast_signed() - index.cast_signed())
        .collect();
    let attempts = rig.plane.journal().attempts();
    let sent = attempts.iter().filter(|each| each.is_create());
    let quotas = attempts
        .iter()
        .filter(|each| each.path.ends_with("/resourcequotas"));
    println!(
        "| {name} | {:.1} | {} | {} | {} | {:.1} | {} | {} |",
        took.as_secs_f64(),
        sent.clone().count(),
        sent.filter(|each| each.stored.is_none()).count(),
        quotas.count(),
        late.iter().map(|each| each.unsigned_abs()).sum::<usize>() as f64 / CREATES as f64,
        late.iter().max().unwrap_or(&0),
        -late.iter().min().unwrap_or(&0),
    );
    assert_eq!(sample(&rig.proxy, "kube_retry_proxy_quota_watches"), 0.0);
    drop(clients);
    rig.stop().await;
}

/// Creates one pod, and returns its revision and the place of its arrival.
async fn create(mut client: Client, index: usize, way: Way) -> (u64, usize) {
    loop {
        let answer = client.create(&format!("step-{index}")).await;
        if answer.status.is_success() {
            let revision = &answer.json()["metadata"]["resourceVersion"];
            let revision = revision.as_str().and_then(|text| text.parse().ok());
            return (revision.expect("a revision"), index);
        }
        assert!(matches!(way, Way::Direct), "{answer:?}");
        sleep(REQUEUE).await;
    }
}

/// Deletes the oldest pod ten times a second.
async fn end_pods(store: Arc<Store>, done: Arc<AtomicBool>) {
    let mut every = interval(END_EVERY);
    while !done.load(Ordering::Relaxed) {
        every.tick().await;
        let pods = store.pods(Some(NAMESPACE)).0;
        if let Some(oldest) = pods.iter().min_by_key(|pod| pod.revision) {
            // It may be gone already.
            let _ = store.delete_pod(NAMESPACE, oldest.name());
        }
    }
}
