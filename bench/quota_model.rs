//! Prints how often the model control plane answers a create with a quota conflict, for comparison with a real control plane
//! (bench/README.md, "Calibration of the model"): `cargo bench --bench quota_model [-- RUNS]`.
//!
//! 1,000 creates of a small pod a run, HTTP/1.1 keep-alive, round robin over the apiservers, no retries.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark that prints a table, and has nobody to return an error to")]

use http::{StatusCode, Version};
use kube_retry_proxy::model::client::Endpoint;
use kube_retry_proxy::model::storm::{Retry, Storm};
use kube_retry_proxy::model::{ControlPlane, Settings};

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
    let endpoint = |url: &String| Endpoint::new(url, plane.ca_pem(), plane.token(), Version::HTTP_11).expect("the model's own address");
    let storm = Storm {
        servers: plane.urls().iter().map(endpoint).collect(),
        namespaces: vec![NAMESPACE.to_owned()],
        pods: PODS,
        in_flight,
        retry: Retry::NONE,
        deletes_per_second: deletes.then_some(100),
    };
    let ended = storm.run(|_| ()).await.expect("the model accepts");
    let conflicts = ended.creates.iter().filter(|create| create.conflicts > 0).count();
    assert_eq!(ended.failed(), conflicts, "nothing else goes wrong");
    let mut stored = 0;
    plane.journal().for_each_create(|attempt| stored += usize::from(attempt.stored.is_some()));
    assert_eq!(stored, PODS - conflicts, "a conflict never leaves a pod");
    let writes = plane.quota_writes();
    let longest_burst = longest_burst(&plane);
    plane.shutdown().await;
    Outcome {
        conflicts,
        longest_burst,
        per_second: (PODS - conflicts) as f64 / ended.elapsed.as_secs_f64(),
        writes_won: writes.won - before.won,
        writes_lost: writes.lost - before.lost,
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
