//! Repeats the measurements of bench/README.md without sockets and under paused time, so that a run
//! is fast and the same seed gives the same result.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, interval};

use super::Settings;
use super::amounts::Amounts;
use super::controller::{Controller, Pace};
use super::dice::Dice;
use super::machine::Machine;
use super::object::NewPod;
use super::quota::{Admitted, Charge, Denied, Evaluator};
use super::store::{QuotaWrites, Store};
use super::tasks::Tasks;

const PODS: usize = 1000;

struct Race {
    apiservers: usize,
    in_flight: usize,
    deletes: bool,
}

#[derive(Debug)]
struct Outcome {
    conflicts: usize,
    seconds: f64,
    writes: QuotaWrites,
}

impl Race {
    async fn run(&self, settings: &Settings) -> Outcome {
        let dice = Dice::seeded(settings.seed);
        let machine = Arc::new(Machine::new(settings.costs(), dice.next()));
        let store = Arc::new(Store::new(dice.next()).on(&machine));
        let tasks = Tasks::new();
        let lag = || settings.lag(&dice);
        let hard = Amounts::parse([("pods", "100000")]).unwrap();
        store.create_namespace("a").unwrap();
        let quota = store.create_quota("a", "q", hard.clone()).unwrap();
        store
            .update_quota_status(
                "a",
                "q",
                quota.revision,
                hard,
                Amounts::parse([("pods", "0")]).unwrap(),
            )
            .unwrap();
        let (qps, burst) = settings.controller_rate;
        let pace = Pace {
            resync: settings.resync,
            qps,
            burst,
        };
        let controller =
            Controller::new(store.clone(), machine.clone(), tasks.clone(), lag(), pace);
        tasks.spawn_until_stop(controller.run());
        let evaluators: Vec<_> = (0..self.apiservers)
            .map(|_| Evaluator::new(store.clone(), machine.clone(), tasks.clone(), lag()))
            .collect();
        tokio::time::advance(Duration::from_secs(1)).await;

        let before = store.quota_writes();
        let start = Instant::now();
        let next = Arc::new(AtomicUsize::new(0));
        let (created, to_delete) = mpsc::unbounded_channel();
        if self.deletes {
            tasks.spawn_until_stop(delete(store.clone(), machine.clone(), to_delete));
        }
        let mut running = Vec::new();
        for _ in 0..self.in_flight {
            let (evaluators, next, created) = (evaluators.clone(), next.clone(), created.clone());
            let (store, machine) = (store.clone(), machine.clone());
            running.push(tokio::spawn(async move {
                let mut conflicts = 0;
                loop {
                    let pod = next.fetch_add(1, Ordering::Relaxed);
                    if pod >= PODS {
                        return conflicts;
                    }
                    machine.receive().await;
                    let usage = Amounts::parse([("pods", "1")]).unwrap();
                    let charge = Charge {
                        namespace: "a".into(),
                        usage: usage.clone(),
                        unspecified: vec![],
                        dry_run: false,
                    };
                    match evaluators[pod % evaluators.len()].evaluate(charge).await {
                        Ok(Admitted::Charged) => {}
                        Err(Denied::Conflict { .. }) => {
                            conflicts += 1;
                            machine.respond().await;
                            continue;
                        }
                        other => panic!("{other:?}"),
                    }
                    let name = format!("pod-{pod}");
                    let posted = NewPod {
                        namespace: "a".into(),
                        name: name.clone(),
                        usage,
                        ..NewPod::default()
                    };
                    machine.write(|| store.create_pod(posted)).await.unwrap();
                    machine.respond().await;
                    let _ = created.send(name);
                }
            }));
        }
        let mut conflicts = 0;
        for worker in running {
            conflicts += worker.await.unwrap();
        }
        let seconds = start.elapsed().as_secs_f64();
        let after = store.quota_writes();
        tasks.finish().await;
        Outcome {
            conflicts,
            seconds,
            writes: QuotaWrites {
                won: after.won - before.won,
                lost: after.lost - before.lost,
            },
        }
    }
}

async fn delete(
    store: Arc<Store>,
    machine: Arc<Machine>,
    mut pods: mpsc::UnboundedReceiver<String>,
) {
    let mut ticks = interval(Duration::from_millis(10));
    while let Some(pod) = pods.recv().await {
        ticks.tick().await;
        machine.receive().await;
        machine.write(|| store.delete_pod("a", &pod)).await.unwrap();
        machine.respond().await;
    }
}

/// The percentage of creates that end in a quota conflict, over a few seeds. A single run varies as
/// much as a run of a real control plane.
async fn conflicts(apiservers: usize, in_flight: usize, deletes: bool) -> f64 {
    const SEEDS: usize = 5;
    let mut conflicts = 0;
    for seed in 0..SEEDS as u64 {
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        let outcome = Race {
            apiservers,
            in_flight,
            deletes,
        }
        .run(&settings)
        .await;
        println!(
            "{apiservers} apiservers, {in_flight} in flight, deletes: {deletes}: {:.1} %, {:.0}/s, {:?}",
            outcome.conflicts as f64 * 100.0 / PODS as f64,
            (PODS - outcome.conflicts) as f64 / outcome.seconds,
            outcome.writes,
        );
        conflicts += outcome.conflicts;
    }
    conflicts as f64 * 100.0 / (PODS * SEEDS) as f64
}

#[tokio::test(start_paused = true)]
async fn one_apiserver_alone_answers_no_conflict() {
    for in_flight in [10, 50, 100, 200] {
        assert_eq!(
            conflicts(1, in_flight, false).await,
            0.0,
            "{in_flight} in flight"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn three_apiservers_answer_conflicts_as_often_as_measured() {
    for (in_flight, measured) in [
        (10, 3.0..12.0),
        (50, 5.0..20.0),
        (100, 6.0..22.0),
        (200, 6.0..22.0),
    ] {
        let percent = conflicts(3, in_flight, false).await;
        assert!(
            measured.contains(&percent),
            "{in_flight} in flight: {percent} %"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn deletions_let_even_one_apiserver_answer_conflicts() {
    let mut percent = 0.0;
    for in_flight in [10, 50, 100, 200] {
        percent += conflicts(1, in_flight, true).await / 4.0;
    }
    assert!((0.3..5.0).contains(&percent), "{percent} %");
}
