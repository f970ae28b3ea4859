//! The quota evaluator of one apiserver. It batches creates by namespace, tries each batch up to
//! four times without a pause, and reads quotas from a cache that lags.
//!
//! It mirrors the admission plugin, including its quirks. Nothing here is random: a conflict
//! happens when another writer wins the compare-and-swap, and the client gets it as an answer when
//! that happens four times in a row. It uses no sockets and runs under paused time.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go>

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::amounts::Amounts;
use super::informer::Lag;
use super::machine::Machine;
use super::object::Quota;
use super::store::{Store, StoreError};
use super::tasks::Tasks;

mod access;
mod check;

use access::Access;
pub use access::update_status;

/// The number of retries after the first attempt: `checkQuotas(quotas, admissionAttributes, 3)`.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go#L210>
const RETRIES: u32 = 3;

/// The number of namespaces evaluated at a time (`numEvaluatorThreads` of the plugin).
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/admission.go#L42>
const WORKERS: usize = 10;

/// The longest time that a request waits for its batch.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go#L631-L636>
const EVALUATION_TIMEOUT: Duration = Duration::from_secs(10);

/// A create that the evaluator checks and charges.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The namespace whose quotas are charged.
    pub namespace: String,
    /// The amounts that the pod uses.
    pub usage: Amounts,
    /// The compute resources that at least one container does not specify.
    pub unspecified: Vec<&'static str>,
    /// Whether the create is checked but not charged.
    pub dry_run: bool,
}

/// How the evaluator admitted a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// No quota limits the pod.
    Unlimited,
    /// The pod fits. Every quota that limits it is charged.
    Charged,
    /// The pod fits. Dry runs are not charged.
    DryRun,
}

/// Why the evaluator denied a create.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Four compare-and-swap writes in a row lost to other writers.
    #[error("conflict on quota {quota}")]
    Conflict {
        /// The quota that could not be written.
        quota: String,
    },
    /// The pod does not fit into a quota.
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    Exceeded {
        /// The exceeded quota.
        quota: String,
        /// The requested amounts of the exceeded resources.
        requested: String,
        /// The used amounts of these resources.
        used: String,
        /// The limits of these resources.
        limited: String,
    },
    /// A quota limits resources that the pod does not specify.
    #[error("failed quota: {quota}: must specify {resources}")]
    Unspecified {
        /// The quota that requires them.
        quota: String,
        /// The missing resources, separated by commas.
        resources: String,
    },
    /// The quota controller has not computed the quota's usage yet.
    #[error("status unknown for quota: {quota}, resources: {resources}")]
    StatusUnknown {
        /// The quota without a status.
        quota: String,
        /// The resources without usage, separated by commas.
        resources: String,
    },
    /// The batch took longer than ten seconds.
    #[error("resource quota evaluation timed out")]
    TimedOut,
    /// The quota was deleted before the write.
    #[error("resourcequotas {quota:?} not found")]
    Gone {
        /// The deleted quota.
        quota: String,
    },
}

/// The quota evaluator of one apiserver. All clones are the same evaluator.
#[derive(Clone, Debug)]
pub struct Evaluator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    access: Access,
    tasks: Tasks,
    /// The creates that wait for the next batch, by namespace. A namespace has an entry while a
    /// task works on it.
    waiting: Mutex<HashMap<String, Vec<Waiter>>>,
    workers: Semaphore,
}

#[derive(Debug)]
struct Waiter {
    charge: Charge,
    /// `None` is the plugin's "default deny": no batch has decided on the create yet.
    result: Option<Result<Admitted, Denied>>,
    answer: oneshot::Sender<Result<Admitted, Denied>>,
}

impl Evaluator {
    /// Creates the evaluator of one apiserver. Its quota informer lags by `lag`.
    pub fn new(store: Arc<Store>, machine: Arc<Machine>, tasks: Tasks, lag: Lag) -> Evaluator {
        let access = Access::new(store, machine, lag);
        Evaluator {
            shared: Arc::new(Shared {
                access,
                tasks,
                waiting: Mutex::default(),
                workers: Semaphore::new(WORKERS),
            }),
        }
    }

    /// Checks and charges one create, in a batch with all other creates that wait for the same
    /// namespace.
    ///
    /// If the caller stops waiting, the charge stays.
    pub async fn evaluate(&self, charge: Charge) -> Result<Admitted, Denied> {
        let (answer, decision) = oneshot::channel();
        self.add_work(Waiter {
            charge,
            result: None,
            answer,
        });
        match timeout(EVALUATION_TIMEOUT, decision).await {
            Ok(Ok(result)) => result,
            // The worker is gone only if the control plane is stopping or the worker has panicked.
            // `Tasks::finish` reports a panic.
            Ok(Err(_)) | Err(_) => Err(Denied::TimedOut),
        }
    }

    fn add_work(&self, waiter: Waiter) {
        let namespace = waiter.charge.namespace.clone();
        let mut waiting = self.shared.waiting();
        if let Some(batch) = waiting.get_mut(&namespace) {
            batch.push(waiter);
            return;
        }
        waiting.insert(namespace.clone(), vec![waiter]);
        let shared = self.shared.clone();
        self.shared
            .tasks
            .spawn_until_stop(async move { shared.work(&namespace).await });
    }
}

impl Shared {
    /// Evaluates batches of one namespace until no create waits.
    async fn work(&self, namespace: &str) {
        loop {
            let Ok(_worker) = self.workers.acquire().await else {
                return;
            };
            let batch = {
                let mut waiting = self.waiting();
                match waiting.get_mut(namespace) {
                    Some(batch) if !batch.is_empty() => std::mem::take(batch),
                    _ => {
                        waiting.remove(namespace);
                        return;
                    }
                }
            };
            self.check_batch(namespace, batch).await;
        }
    }

    async fn check_batch(&self, namespace: &str, mut batch: Vec<Waiter>) {
        let quotas = self.access.quotas(namespace).await;
        if quotas.is_empty() {
            batch
                .iter_mut()
                .for_each(|waiter| waiter.result = Some(Ok(Admitted::Unlimited)));
        } else {
            self.check_quotas(namespace, quotas, &mut batch).await;
        }
        for waiter in batch {
            // A waiter may have timed out in the meantime.
            let _ = waiter
                .answer
                .send(waiter.result.unwrap_or(Err(Denied::TimedOut)));
        }
    }

    /// Adds the whole batch to copies of the quotas, writes the changed quotas, and repeats with
    /// the writes that lost.
    ///
    /// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go#L213-L341>
    async fn check_quotas(&self, namespace: &str, mut quotas: Vec<Quota>, batch: &mut [Waiter]) {
        for remaining in (0..=RETRIES).rev() {
            let originals = quotas.clone();
            check::batch(&mut quotas, batch);
            let mut lost: Option<Denied> = None;
            let mut to_check = Vec::new();
            for (quota, original) in quotas.iter().zip(&originals) {
                if quota.used == original.used {
                    continue;
                }
                if let Err(error) = self.access.update(quota).await {
                    to_check.push(quota.name.clone());
                    lost = Some(denied(error, &quota.name));
                }
            }
            let verdict = match lost {
                None => Ok(Admitted::Charged),
                Some(denied) if remaining == 0 => Err(denied),
                Some(_) => {
                    // No pause: the cache may not have the winner's write yet.
                    quotas = self.access.quotas(namespace).await;
                    quotas.retain(|quota| to_check.contains(&quota.name));
                    continue;
                }
            };
            for waiter in batch.iter_mut().filter(|waiter| waiter.result.is_none()) {
                waiter.result = Some(verdict.clone());
            }
            return;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn denied(error: StoreError, quota: &str) -> Denied {
    let quota = quota.to_owned();
    match error {
        StoreError::Conflict | StoreError::Exists => Denied::Conflict { quota },
        StoreError::NotFound => Denied::Gone { quota },
    }
}

#[cfg(test)]
mod tests;
