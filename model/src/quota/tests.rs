use tokio::time::{Instant, advance};

use super::super::machine::Costs;
use super::super::store::QuotaWrites;
use super::*;

const WRITE: Duration = Duration::from_millis(10);

struct Model {
    store: Arc<Store>,
    machine: Arc<Machine>,
    tasks: Tasks,
}

impl Model {
    fn new() -> Model {
        let store = Arc::new(Store::new(1));
        store.create_namespace("a").unwrap();
        let costs = Costs {
            request: Duration::ZERO,
            update: Duration::from_millis(1),
            read: Duration::from_millis(1),
            write: WRITE,
        };
        Model {
            store,
            machine: Arc::new(Machine::new(costs, 1)),
            tasks: Tasks::new(),
        }
    }

    fn quota(&self, name: &str, pods: &str) {
        let hard = Amounts::parse([("pods", pods)]).unwrap();
        let quota = self.store.create_quota("a", name, hard.clone()).unwrap();
        self.store
            .update_quota_status(
                "a",
                name,
                quota.revision,
                hard,
                Amounts::parse([("pods", "0")]).unwrap(),
            )
            .unwrap();
    }

    fn evaluator(&self, latency: Duration, salt: u64) -> Evaluator {
        Evaluator::new(
            self.store.clone(),
            self.machine.clone(),
            self.tasks.clone(),
            Lag {
                mean: latency,
                shared: Duration::ZERO,
                salt,
            },
        )
    }

    /// Evaluates `count` creates at the same time, distributed over the evaluators.
    async fn evaluate(
        &self,
        evaluators: &[Evaluator],
        count: usize,
    ) -> Vec<Result<Admitted, Denied>> {
        let start = |index: usize| {
            let evaluator = evaluators[index % evaluators.len()].clone();
            tokio::spawn(async move { evaluator.evaluate(charge()).await })
        };
        let running: Vec<_> = (0..count).map(start).collect();
        let mut results = Vec::new();
        for task in running {
            results.push(task.await.unwrap());
        }
        results
    }

    fn used(&self, quota: &str) -> i64 {
        self.store.quota("a", quota).unwrap().used.whole("pods")
    }
}

fn charge() -> Charge {
    Charge {
        namespace: "a".into(),
        usage: Amounts::parse([("pods", "1")]).unwrap(),
        unspecified: vec![],
        dry_run: false,
    }
}

#[tokio::test(start_paused = true)]
async fn one_apiserver_never_races_itself() {
    let model = Model::new();
    model.quota("q", "1000");
    let evaluator = model.evaluator(Duration::from_millis(50), 1);
    advance(Duration::from_secs(1)).await;
    let results = model.evaluate(&[evaluator], 100).await;
    assert!(
        results
            .iter()
            .all(|result| *result == Ok(Admitted::Charged)),
        "{results:?}"
    );
    assert_eq!(model.used("q"), 100);
}

#[tokio::test(start_paused = true)]
async fn creates_that_wait_together_need_one_write() {
    let model = Model::new();
    model.quota("q", "1000");
    let evaluator = model.evaluator(Duration::ZERO, 1);
    advance(Duration::from_secs(1)).await;
    let before = model.store.quota_writes().won;
    model.evaluate(&[evaluator], 100).await;
    // All hundred creates were waiting before the worker took its first batch.
    assert_eq!(model.store.quota_writes().won - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_loses_four_times_fails_as_a_whole() {
    let model = Model::new();
    model.quota("q", "1000");
    let (ahead, behind) = (
        model.evaluator(Duration::ZERO, 1),
        model.evaluator(Duration::from_secs(10), 2),
    );
    advance(Duration::from_secs(60)).await;
    // Both evaluators know the quota. Then one of them writes, and the other does not learn of it
    // for seconds.
    assert_eq!(
        model.evaluate(std::slice::from_ref(&behind), 1).await,
        [Ok(Admitted::Charged)]
    );
    advance(Duration::from_secs(60)).await;
    model.evaluate(std::slice::from_ref(&ahead), 1).await;
    let before = model.store.quota_writes();
    let results = model.evaluate(&[behind], 10).await;
    let conflict = Err(Denied::Conflict { quota: "q".into() });
    assert!(
        results.iter().all(|result| *result == conflict),
        "{results:?}"
    );
    assert_eq!(
        model.store.quota_writes(),
        QuotaWrites {
            lost: before.lost + 4,
            ..before
        }
    );
    assert_eq!(model.used("q"), 2, "refused creates are not charged");
}

#[tokio::test(start_paused = true)]
async fn three_apiservers_lose_some_batches_and_charge_exactly_what_they_admit() {
    let model = Model::new();
    model.quota("q", "100000");
    let evaluators: Vec<_> = (0..3)
        .map(|salt| model.evaluator(Duration::from_millis(20), salt))
        .collect();
    advance(Duration::from_secs(1)).await;
    let mut admitted = 0;
    let mut conflicts = 0;
    for _ in 0..50 {
        for result in model.evaluate(&evaluators, 9).await {
            match result {
                Ok(Admitted::Charged) => admitted += 1,
                Err(Denied::Conflict { .. }) => conflicts += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(
        model.used("q"),
        admitted,
        "every admitted create is charged, and nothing else"
    );
    assert!(conflicts > 0, "three apiservers race");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_one_quota_leaves_the_other_charged() {
    let model = Model::new();
    model.quota("other", "1000");
    model.quota("q", "1000");
    let behind = model.evaluator(Duration::from_secs(10), 2);
    advance(Duration::from_secs(60)).await;
    model.evaluate(std::slice::from_ref(&behind), 1).await;
    advance(Duration::from_secs(60)).await;
    let quota = model.store.quota("a", "q").unwrap();
    model
        .store
        .update_quota_status(
            "a",
            "q",
            quota.revision,
            quota.hard.clone(),
            quota.used.clone(),
        )
        .unwrap();
    let results = model.evaluate(&[behind], 1).await;
    assert_eq!(results, [Err(Denied::Conflict { quota: "q".into() })]);
    assert_eq!((model.used("other"), model.used("q")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn denies_creates_that_do_not_fit_and_admits_the_rest_of_the_batch() {
    let model = Model::new();
    model.quota("q", "3");
    let evaluator = model.evaluator(Duration::ZERO, 1);
    advance(Duration::from_secs(1)).await;
    let results = model.evaluate(&[evaluator], 5).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    let message = results[4].clone().unwrap_err().to_string();
    assert_eq!(
        message,
        "exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_is_checked_but_not_charged() {
    let model = Model::new();
    model.quota("q", "1");
    let evaluator = model.evaluator(Duration::ZERO, 1);
    advance(Duration::from_secs(1)).await;
    let dry = Charge {
        dry_run: true,
        ..charge()
    };
    assert_eq!(evaluator.evaluate(dry.clone()).await, Ok(Admitted::DryRun));
    assert_eq!(model.used("q"), 0);
    evaluator.evaluate(charge()).await.unwrap();
    assert!(matches!(
        evaluator.evaluate(dry).await,
        Err(Denied::Exceeded { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn names_the_compute_resources_that_a_quota_requires() {
    let model = Model::new();
    let hard = Amounts::parse([("pods", "5"), ("requests.cpu", "1")]).unwrap();
    let used = Amounts::parse([("pods", "0"), ("requests.cpu", "0")]).unwrap();
    let quota = model.store.create_quota("a", "q", hard.clone()).unwrap();
    let quota = model
        .store
        .update_quota_status("a", "q", quota.revision, hard.clone(), Amounts::new())
        .unwrap();
    let evaluator = model.evaluator(Duration::ZERO, 1);
    advance(Duration::from_secs(1)).await;
    let open = Charge {
        unspecified: vec!["requests.cpu", "requests.memory"],
        ..charge()
    };
    let message = evaluator.evaluate(open).await.unwrap_err().to_string();
    assert_eq!(message, "failed quota: q: must specify requests.cpu");
    assert!(matches!(
        evaluator.evaluate(charge()).await,
        Err(Denied::StatusUnknown { .. })
    ));
    model
        .store
        .update_quota_status("a", "q", quota.revision, hard, used)
        .unwrap();
    advance(Duration::from_secs(1)).await;
    assert_eq!(evaluator.evaluate(charge()).await, Ok(Admitted::Charged));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_without_quota_is_unlimited() {
    let model = Model::new();
    let evaluator = model.evaluator(Duration::ZERO, 1);
    let start = Instant::now();
    assert_eq!(evaluator.evaluate(charge()).await, Ok(Admitted::Unlimited));
    assert!(
        start.elapsed() < WRITE,
        "it reads the quotas and writes nothing"
    );
}
