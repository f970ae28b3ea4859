//! Reads and writes of quotas for the evaluator. A lagging informer provides the quotas, corrected
//! by the last writes of this apiserver.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/resource_access.go>

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::amounts::Amounts;
use super::super::informer::{Lag, QuotaInformer};
use super::super::machine::Machine;
use super::super::object::Quota;
use super::super::store::{Store, StoreError};

/// The number of remembered writes of this apiserver: `lru.New(100)`.
const OWN_WRITES: usize = 100;

/// How long the result of a live lookup is valid: `liveTTL`.
const LIVE_TTL: Duration = Duration::from_secs(30);

/// The evaluator's view of the quotas.
#[derive(Debug)]
pub(super) struct Access {
    store: Arc<Store>,
    machine: Arc<Machine>,
    cache: Mutex<Cache>,
}

#[derive(Debug)]
struct Cache {
    informer: QuotaInformer,
    /// The last writes of this apiserver, the most recently used at the end.
    own: Vec<Arc<Quota>>,
    /// Results of live lookups, for namespaces in which the informer had no quota.
    live: HashMap<String, (Instant, Vec<Arc<Quota>>)>,
}

impl Access {
    pub(super) fn new(store: Arc<Store>, machine: Arc<Machine>, lag: Lag) -> Access {
        let cache = Cache {
            informer: QuotaInformer::new(lag),
            own: Vec::new(),
            live: HashMap::new(),
        };
        Access {
            store,
            machine,
            cache: Mutex::new(cache),
        }
    }

    /// Copies of the quotas of `namespace`, as far as this apiserver knows them.
    pub(super) async fn quotas(&self, namespace: &str) -> Vec<Quota> {
        let cached = self.cache().cached(&self.store, namespace, Instant::now());
        if let Some(quotas) = cached {
            return quotas;
        }
        self.machine.read().await;
        let found = self.store.quotas(Some(namespace)).0;
        let mut cache = self.cache();
        cache.live.insert(
            namespace.to_owned(),
            (Instant::now() + LIVE_TTL, found.clone()),
        );
        found
            .into_iter()
            .map(|quota| cache.newer_of_own(quota))
            .collect()
    }

    /// Writes the status of a quota that came from [`Access::quotas`].
    pub(super) async fn update(&self, quota: &Quota) -> Result<(), StoreError> {
        let written = update_status(
            &self.store,
            &self.machine,
            quota,
            quota.hard.clone(),
            quota.used.clone(),
        )
        .await?;
        self.cache().remember(written);
        Ok(())
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// The quotas that are known without asking the store. `None` if the informer has none and no
    /// recent lookup has confirmed that.
    fn cached(&mut self, store: &Store, namespace: &str, now: Instant) -> Option<Vec<Quota>> {
        let mut quotas = self.informer.list(store, namespace, now);
        if quotas.is_empty() {
            let (_, found) = self.live.get(namespace).filter(|(until, _)| *until > now)?;
            quotas.clone_from(found);
        }
        Some(
            quotas
                .into_iter()
                .map(|quota| self.newer_of_own(quota))
                .collect(),
        )
    }

    /// The newer of the informer's copy and this apiserver's own last write (`checkCache`).
    fn newer_of_own(&mut self, seen: Arc<Quota>) -> Quota {
        let Some(index) = self
            .own
            .iter()
            .position(|own| own.name == seen.name && own.namespace == seen.namespace)
        else {
            return (*seen).clone();
        };
        let own = self.own.remove(index);
        if seen.revision >= own.revision {
            return (*seen).clone();
        }
        self.own.push(own.clone());
        (*own).clone()
    }

    fn remember(&mut self, written: Arc<Quota>) {
        self.own
            .retain(|own| own.name != written.name || own.namespace != written.namespace);
        if self.own.len() == OWN_WRITES {
            self.own.remove(0);
        }
        self.own.push(written);
    }
}

/// `UpdateStatus` of a quota, as a request to an apiserver. It reads the stored quota, and writes
/// only if the stored quota is still the one that `quota` was copied from. If another write came
/// first, it fails after the read, earlier than a conflict in the write itself.
pub async fn update_status(
    store: &Store,
    machine: &Machine,
    quota: &Quota,
    hard: Amounts,
    used: Amounts,
) -> Result<Arc<Quota>, StoreError> {
    machine.receive_update().await;
    let write =
        || store.update_quota_status(&quota.namespace, &quota.name, quota.revision, hard, used);
    let current = store
        .quota(&quota.namespace, &quota.name)
        .is_some_and(|stored| stored.revision == quota.revision);
    let written = if current {
        machine.write(write).await
    } else {
        machine.read().await;
        write()
    };
    machine.respond_update().await;
    written
}
