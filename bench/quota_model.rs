//! Prints how often the model control plane answers a create with a quota conflict, for comparison with a real control plane
//! (bench/README.md, "Calibration of the model"): `cargo bench --bench quota_model [-- RUNS]`.
//!
//! 1,000 creates of a small pod a run, HTTP/1.1 keep-alive, round robin over the apiservers, no retries.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark that prints a table, and has nobody to return an error to")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Version};
use kube_retry_proxy::model::client::{Client, Endpoint};
use kube_retry_proxy::model::{ControlPlane, Settings};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

const PODS: usize = 1000;
const NAMESPACE: &str = "bench";
const RUNS: usize = 3;

/// One run.
#[derive(Clone, Copy)]
struct Outcome {
    conflicts: usize,
    longest_burst: usize,
    per_second: f64,
    writes_won: u64,
    writes_lost: u64,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let runs = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(RUNS);
    println!("| set-up | in flight | answered 409 % | created per second | longest burst | quota writes won + lost |");
    println!("|---|---|---|---|---|---|");
    for deletes in [false, true] {
        for apiservers in [1, 2, 3] {
            if deletes && apiservers == 2 {
                continue;
            }
            for in_flight in [10, 50, 100, 200] {
                let mut outcomes = Vec::new();
                for _ in 0..runs {
                    outcomes.push(run(apiservers, in_flight, deletes).await);
                }
                print_row(apiservers, in_flight, deletes, &outcomes);
            }
        }
    }
}

fn print_row(apiservers: usize, in_flight: usize, deletes: bool, outcomes: &[Outcome]) {
    let of = |value: &dyn Fn(&Outcome) -> f64, digits: usize| {
        let mut values: Vec<f64> = outcomes.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let (low, middle, high) = (values[0], values[values.len() / 2], values[values.len() - 1]);
        format!("{middle:.digits$} ({low:.digits$}–{high:.digits$})")
    };
    let percent = of(&|outcome| outcome.conflicts as f64 * 100.0 / PODS as f64, 1);
    let per_second = of(&|outcome| outcome.per_second, 0);
    let burst = of(&|outcome| outcome.longest_burst as f64, 0);
    let won = of(&|outcome| outcome.writes_won as f64, 0);
    let lost = of(&|outcome| outcome.writes_lost as f64, 0);
    let plural = if apiservers == 1 { "" } else { "s" };
    let deleting = if deletes { ", deleting up to 100/s" } else { "" };
    println!("| {apiservers} apiserver{plural}{deleting} | {in_flight} | {percent} | {per_second} | {burst} | {won} + {lost} |");
}

async fn run(apiservers: usize, in_flight: usize, deletes: bool) -> Outcome {
    let plane = ControlPlane::start(Settings { apiservers, ..Settings::default() }).await.expect("loopback ports are free");
    plane.create_namespace(NAMESPACE).expect("a new namespace");
    let hard = [("pods", "100000"), ("requests.cpu", "10000"), ("requests.memory", "1000Gi")];
    plane.create_quota(NAMESPACE, "compute-quota", &hard).expect("a new quota");
    let before = plane.quota_writes();
    let endpoints: Vec<Endpoint> = plane.urls().iter().map(|url| endpoint(&plane, url)).collect();
    let endpoints = Arc::new(endpoints);

    let (created, to_delete) = mpsc::unbounded_channel();
    let deleter = deletes.then(|| tokio::spawn(delete(endpoints.clone(), to_delete)));
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for _ in 0..in_flight {
        let mut clients = connect(&endpoints).await;
        let (next, created) = (next.clone(), created.clone());
        workers.push(async move {
            let mut conflicts = 0;
            loop {
                let pod = next.fetch_add(1, Ordering::Relaxed);
                if pod >= PODS {
                    return conflicts;
                }
                let server = pod % clients.len();
                let answer = clients[server].create_pod(NAMESPACE, &format!("pod-{pod}")).await.expect("the model answers");
                match answer.status {
                    StatusCode::CREATED => drop(created.send(format!("pod-{pod}"))),
                    StatusCode::CONFLICT => conflicts += 1,
                    status => unreachable!("{status}: {}", String::from_utf8_lossy(&answer.body)),
                }
            }
        });
    }
    drop(created);
    let start = Instant::now();
    let running: Vec<_> = workers.into_iter().map(tokio::spawn).collect();
    let mut conflicts = 0;
    for worker in running {
        conflicts += worker.await.expect("no worker panics");
    }
    let seconds = start.elapsed().as_secs_f64();
    if let Some(deleter) = deleter {
        deleter.abort();
    }
    let stored = plane.journal().creates().iter().filter(|attempt| attempt.stored.is_some()).count();
    assert_eq!(stored, PODS - conflicts, "a conflict never leaves a pod");
    let writes = plane.quota_writes();
    let longest_burst = longest_burst(&plane);
    plane.shutdown().await;
    Outcome {
        conflicts,
        longest_burst,
        per_second: (PODS - conflicts) as f64 / seconds,
        writes_won: writes.won - before.won,
        writes_lost: writes.lost - before.lost,
    }
}

fn endpoint(plane: &ControlPlane, url: &str) -> Endpoint {
    Endpoint::new(url, plane.ca_pem(), plane.token(), Version::HTTP_11).expect("the model's own address")
}

async fn connect(endpoints: &[Endpoint]) -> Vec<Client> {
    let mut clients = Vec::new();
    for endpoint in endpoints {
        clients.push(endpoint.connect().await.expect("the model accepts"));
    }
    clients
}

/// Deletes what has been created, at up to 100/s.
async fn delete(endpoints: Arc<Vec<Endpoint>>, mut pods: mpsc::UnboundedReceiver<String>) {
    let mut clients = connect(&endpoints).await;
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut server = 0;
    while let Some(pod) = pods.recv().await {
        ticks.tick().await;
        server = (server + 1) % clients.len();
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}");
        clients[server].send(Method::DELETE, &path, "").await.expect("the model answers");
    }
}

/// The most conflicts that one apiserver answered in a row: about one lost batch.
fn longest_burst(plane: &ControlPlane) -> usize {
    let mut longest = 0;
    for apiserver in 0..plane.urls().len() {
        let mut burst = 0;
        for attempt in plane.journal().creates().iter().filter(|attempt| attempt.apiserver == apiserver) {
            burst = if attempt.status == Some(StatusCode::CONFLICT) { burst + 1 } else { 0 };
            longest = longest.max(burst);
        }
    }
    longest
}
