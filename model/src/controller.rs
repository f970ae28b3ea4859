//! The quota controller of kube-controller-manager. It computes the status of new quotas and
//! recalculates usage when pods are deleted.
//!
//! It reads the store through informers that lag, and writes by compare-and-swap against what it
//! read. With a single apiserver it is the only other writer, and so the only cause of quota
//! conflicts. It uses no sockets and runs under paused time.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.32.0/pkg/controller/resourcequota/resource_quota_controller.go>

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::informer::{Lag, PodInformer, QuotaInformer};
use super::machine::Machine;
use super::object::Quota;
use super::quota::update_status;
use super::store::{Store, StoreError};
use super::tasks::Tasks;

/// A failed sync is retried after 5 ms. Each further failure doubles the pause.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/client-go/util/workqueue/default_rate_limiters.go#L48-L56>
const FIRST_BACKOFF: Duration = Duration::from_millis(5);

/// The longest pause, as in client-go. No run of the model reaches it.
const MAX_BACKOFF: Duration = Duration::from_secs(1000);

/// How often and how fast the controller writes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The interval at which every quota is recalculated.
    pub resync: Duration,
    /// Writes per second (`--kube-api-qps`). Each controller of kube-controller-manager has its own
    /// rate limiter.
    pub qps: u32,
    /// The burst of the rate limiter (`--kube-api-burst`).
    pub burst: u32,
}

/// The quota controller. All clones are the same controller.
#[derive(Clone, Debug)]
pub struct Controller {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    machine: Arc<Machine>,
    tasks: Tasks,
    pace: Pace,
    enabled: AtomicBool,
    caches: Mutex<Caches>,
    /// The quotas that are being synced. The `Notify` of a quota asks for one more sync.
    syncing: Mutex<HashMap<Key, Arc<Notify>>>,
    /// The time up to which the rate is used; at most the burst in the past.
    limiter: Mutex<Instant>,
}

#[derive(Debug)]
struct Caches {
    pods: PodInformer,
    quotas: QuotaInformer,
}

/// Namespace and name of a quota.
type Key = (String, String);

impl Controller {
    /// Creates a controller whose informers lag by `lag`. It does nothing until
    /// [`Controller::run`].
    pub fn new(
        store: Arc<Store>,
        machine: Arc<Machine>,
        tasks: Tasks,
        lag: Lag,
        pace: Pace,
    ) -> Controller {
        let caches = Mutex::new(Caches {
            pods: PodInformer::new(lag),
            quotas: QuotaInformer::new(lag),
        });
        let limiter = Mutex::new(Instant::now());
        let shared = Shared {
            store,
            machine,
            tasks,
            pace,
            enabled: AtomicBool::new(true),
            caches,
            syncing: Mutex::default(),
            limiter,
        };
        Controller {
            shared: Arc::new(shared),
        }
    }

    /// Reacts to deleted pods and new quotas; it never returns.
    pub async fn run(self) {
        let mut changes = self.shared.store.subscribe();
        let mut resync = Instant::now() + self.shared.pace.resync;
        let mut known = 0;
        loop {
            changes.mark_unchanged();
            let next = self.follow(&mut known);
            let wake = next.map_or(resync, |next| next.min(resync));
            tokio::select! {
                // The store outlives the controller. While an event is still on its way, later
                // events need no wake-up.
                _ = changes.changed(), if next.is_none() => {}
                () = sleep_until(wake) => {}
            }
            if Instant::now() >= resync {
                resync = Instant::now() + self.shared.pace.resync;
                self.recalculate();
            }
        }
    }

    /// Turns the controller on (the default) or off.
    pub fn set_enabled(&self, enabled: bool) {
        self.shared.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Queues every quota for recalculation, as the periodic resync does.
    pub fn recalculate(&self) {
        for quota in self.shared.store.quotas(None).0 {
            self.enqueue(&quota);
        }
    }

    /// Applies the events that have arrived, queues the quotas they affect, and returns the arrival
    /// time of the next known event.
    fn follow(&self, known: &mut u64) -> Option<Instant> {
        let shared = &self.shared;
        let deleted = shared.caches().pods.advance(&shared.store, Instant::now());
        let fresh = shared
            .store
            .quota_events(*known, usize::MAX)
            .unwrap_or_default();
        if let Some(last) = fresh.last() {
            *known = last.revision;
        }
        if shared.enabled.load(Ordering::Relaxed) {
            for namespace in deleted {
                shared
                    .store
                    .quotas(Some(&namespace))
                    .0
                    .iter()
                    .for_each(|quota| self.enqueue(quota));
            }
            let quotas = fresh.iter().filter_map(|event| {
                shared
                    .store
                    .quota(&event.object.namespace, &event.object.name)
            });
            quotas
                .filter(|quota| quota.spec != quota.hard)
                .for_each(|quota| self.enqueue(&quota));
        }
        shared.caches().pods.next_arrival(&shared.store)
    }

    fn enqueue(&self, quota: &Quota) {
        let key = (quota.namespace.clone(), quota.name.clone());
        let again = match self.shared.syncing().entry(key.clone()) {
            Entry::Occupied(syncing) => return syncing.get().notify_one(),
            Entry::Vacant(vacant) => vacant.insert(Arc::default()).clone(),
        };
        let shared = self.shared.clone();
        self.shared
            .tasks
            .spawn_until_stop(async move { shared.sync_until_settled(key, again).await });
    }
}

impl Shared {
    /// Syncs one quota, and retries after failures, until no further sync is queued.
    async fn sync_until_settled(&self, key: Key, again: Arc<Notify>) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            match self.sync(&key).await {
                Ok(()) => {
                    backoff = FIRST_BACKOFF;
                    let mut syncing = self.syncing();
                    // A pending notification means one more sync at once.
                    if !pending(&again) {
                        syncing.remove(&key);
                        return;
                    }
                }
                Err(_) => {
                    // A deletion in the meantime queues the quota again without waiting for the
                    // backoff.
                    tokio::select! {
                        () = again.notified() => {}
                        () = sleep(backoff) => {}
                    }
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }

    /// Writes the usage that the informers show if it differs from the quota's.
    async fn sync(&self, (namespace, name): &Key) -> Result<(), StoreError> {
        let seen = {
            let mut caches = self.caches();
            let now = Instant::now();
            caches.pods.advance(&self.store, now);
            let quota = caches
                .quotas
                .list(&self.store, namespace, now)
                .into_iter()
                .find(|quota| quota.name == *name);
            quota.map(|quota| (caches.pods.usage(namespace), quota))
        };
        // The informer has not seen this quota yet.
        let Some((mut usage, quota)) = seen else {
            return Err(StoreError::NotFound);
        };
        usage.add(&self.store.usage_of_others(namespace));
        let mut used = usage.masked(&quota.spec);
        for resource in quota
            .spec
            .names()
            .filter(|resource| usage.milli(resource).is_none())
        {
            used.set(resource, 0);
        }
        if quota.hard == quota.spec && quota.used == used {
            return Ok(());
        }
        self.admitted().await;
        update_status(&self.store, &self.machine, &quota, quota.spec.clone(), used)
            .await
            .map(drop)
    }

    /// Waits for the rate limiter of the client.
    async fn admitted(&self) {
        if self.pace.qps == 0 {
            return;
        }
        let cost = Duration::from_secs(1) / self.pace.qps;
        let allowed = {
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            let full = Instant::now().checked_sub(cost * self.pace.burst);
            *limiter = full.map_or(*limiter, |full| full.max(*limiter)) + cost;
            *limiter
        };
        sleep_until(allowed).await;
    }

    fn caches(&self) -> MutexGuard<'_, Caches> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn syncing(&self) -> MutexGuard<'_, HashMap<Key, Arc<Notify>>> {
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a pending notification if there is one; it does not wait.
fn pending(notify: &Notify) -> bool {
    let notified = std::pin::pin!(notify.notified());
    notified.enable()
}

#[cfg(test)]
mod tests {
    use super::super::amounts::Amounts;
    use super::super::machine::Costs;
    use super::super::object::NewPod;
    use super::*;

    const LAG: Lag = Lag {
        mean: Duration::from_millis(20),
        shared: Duration::ZERO,
        salt: 7,
    };

    fn start() -> (Arc<Store>, Controller) {
        let store = Arc::new(Store::new(1));
        store.create_namespace("a").unwrap();
        let costs = Costs {
            request: Duration::ZERO,
            update: Duration::ZERO,
            read: Duration::ZERO,
            write: Duration::from_millis(10),
        };
        let pace = Pace {
            resync: Duration::from_secs(300),
            qps: 20,
            burst: 30,
        };
        let tasks = Tasks::new();
        let controller = Controller::new(
            store.clone(),
            Arc::new(Machine::new(costs, 1)),
            tasks.clone(),
            LAG,
            pace,
        );
        tasks.spawn_until_stop(controller.clone().run());
        (store, controller)
    }

    fn amounts(pods: &str) -> Amounts {
        Amounts::parse([("pods", pods)]).unwrap()
    }

    async fn used(store: &Store, pods: i64) {
        let mut changes = store.subscribe();
        while store.quota("a", "q").unwrap().used.whole("pods") != pods
            || store.quota("a", "q").unwrap().hard.whole("pods") == 0
        {
            changes.changed().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn computes_the_status_of_a_new_quota() {
        let (store, _controller) = start();
        store.create_quota("a", "q", amounts("5")).unwrap();
        used(&store, 0).await;
        assert_eq!(store.quota("a", "q").unwrap().hard, amounts("5"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_corrects_an_overcharged_quota() {
        let (store, _controller) = start();
        let quota = store.create_quota("a", "q", amounts("99")).unwrap();
        used(&store, 0).await;
        for name in ["x", "y"] {
            store
                .create_pod(NewPod {
                    namespace: "a".into(),
                    name: name.into(),
                    usage: amounts("1"),
                    ..NewPod::default()
                })
                .unwrap();
        }
        let current = store.quota("a", &quota.name).unwrap();
        store
            .update_quota_status("a", "q", current.revision, amounts("99"), amounts("30"))
            .unwrap();
        let before = Instant::now();
        store.delete_pod("a", "x").unwrap();
        used(&store, 1).await;
        assert!(
            before.elapsed() < Duration::from_secs(1),
            "{:?}",
            before.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deletion_only_the_resync_corrects_a_quota() {
        let (store, _controller) = start();
        store.create_quota("a", "q", amounts("99")).unwrap();
        used(&store, 0).await;
        let current = store.quota("a", "q").unwrap();
        store
            .update_quota_status("a", "q", current.revision, amounts("99"), amounts("30"))
            .unwrap();
        let before = Instant::now();
        used(&store, 0).await;
        assert!(
            before.elapsed() > Duration::from_secs(250),
            "{:?}",
            before.elapsed()
        );
    }
}
