//! The quota evaluator of one apiserver: batches per namespace, four sleepless attempts, a cache
//! that lags.
//!
//! Mirrors the admission plugin, quirks included. It decides nothing by chance: a conflict happens
//! when another writer wins the compare-and-swap, and becomes an answer when that happens four
//! times in a row. No sockets; runs under paused time.
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

/// Attempts after the first: `checkQuotas(quotas, admissionAttributes, 3)`.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go#L210>
const RETRIES: u32 = 3;

/// Namespaces evaluated at a time (`numEvaluatorThreads` of the plugin).
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/admission.go#L42>
const WORKERS: usize = 10;

/// How long a request waits for its batch.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go#L631-L636>
const EVALUATION_TIMEOUT: Duration = Duration::from_secs(10);

/// A create that asks for quota.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The namespace that is charged.
    pub namespace: String,
    /// What the object uses.
    pub usage: Amounts,
    /// Compute resources that the object leaves open.
    pub unspecified: Vec<&'static str>,
    /// Checked, but not charged.
    pub dry_run: bool,
}

/// How the evaluator let a create pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// No quota limits it.
    Unlimited,
    /// It fits, and is charged in every quota that limits it.
    Charged,
    /// It fits; dry runs are not charged.
    DryRun,
}

/// Why the evaluator refused a create.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Four compare-and-swap writes in a row lost to somebody else.
    #[error("conflict on quota {quota}")]
    Conflict {
        /// The quota that could not be written.
        quota: String,
    },
    /// It does not fit.
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    Exceeded {
        /// The quota that is exceeded.
        quota: String,
        /// What was asked of the exceeded resources.
        requested: String,
        /// What was used of them.
        used: String,
        /// Their limits.
        limited: String,
    },
    /// The quota limits resources that the pod leaves open.
    #[error("failed quota: {quota}: must specify {resources}")]
    Unspecified {
        /// The quota in question.
        quota: String,
        /// What to specify, with commas.
        resources: String,
    },
    /// The quota controller has not computed the quota's usage yet.
    #[error("status unknown for quota: {quota}, resources: {resources}")]
    StatusUnknown {
        /// The quota in question.
        quota: String,
        /// The resources without usage, with commas.
        resources: String,
    },
    /// The batch took more than ten seconds.
    #[error("resource quota evaluation timed out")]
    TimedOut,
    /// The quota disappeared while it was written.
    #[error("resourcequotas {quota:?} not found")]
    Gone {
        /// The quota in question.
        quota: String,
    },
}

/// The quota evaluator of one apiserver. Clones share it.
#[derive(Clone, Debug)]
pub struct Evaluator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    access: Access,
    tasks: Tasks,
    /// The creates waiting for the next batch, by namespace. A namespace is listed while a task
    /// works on it.
    waiting: Mutex<HashMap<String, Vec<Waiter>>>,
    workers: Semaphore,
}

#[derive(Debug)]
struct Waiter {
    charge: Charge,
    /// `None` is the plugin's "default deny": no batch has decided yet.
    result: Option<Result<Admitted, Denied>>,
    answer: oneshot::Sender<Result<Admitted, Denied>>,
}

impl Evaluator {
    /// The evaluator of one apiserver, whose quota informer lags by `lag`.
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

    /// Checks and charges one create; it shares a batch with all others that wait for the same
    /// namespace.
    ///
    /// A caller that goes away does not undo the charge.
    pub async fn evaluate(&self, charge: Charge) -> Result<Admitted, Denied> {
        let (answer, decision) = oneshot::channel();
        self.add_work(Waiter {
            charge,
            result: None,
            answer,
        });
        match timeout(EVALUATION_TIMEOUT, decision).await {
            Ok(Ok(result)) => result,
            // The worker is gone only when the control plane stops, or has panicked, which surfaces
            // by itself.
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
    /// Evaluates batch after batch of one namespace until nobody waits.
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
            // A waiter may have timed out meanwhile.
            let _ = waiter
                .answer
                .send(waiter.result.unwrap_or(Err(Denied::TimedOut)));
        }
    }

    /// Adds the whole batch to copies of the quotas, writes what changed, and repeats with what
    /// lost.
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
                    // Without a pause, from a cache that may not have seen the winner's write yet.
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
