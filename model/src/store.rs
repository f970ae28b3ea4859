//! The store behind all apiservers, in place of etcd: objects, revisions, compare-and-swap on
//! quotas, and a watch log.
//!
//! The store is synchronous; the caller accounts for the time that a write takes (`machine`). Every
//! write takes the next revision, so revisions order all changes, as in etcd.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::dice::Dice;
use super::machine::Machine;
use super::object::{Namespace, NewPod, Pod, Quota};

mod log;
mod others;
mod quotas;

pub use log::{Change, Compacted, Event, Log};
pub use others::OtherKey;

/// The default number of changes of pods and of quotas that watches can still read.
pub const LOG_LENGTH: usize = 100_000;

/// Why a write was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// An object of this name exists.
    #[error("the object exists")]
    Exists,
    /// No object of this name exists.
    #[error("there is no such object")]
    NotFound,
    /// The object has changed since the revision on which the write was based.
    #[error("the object has been modified")]
    Conflict,
}

/// Counts of compare-and-swap writes to the status of quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaWrites {
    /// Writes that succeeded because the quota had not changed since it was read.
    pub won: u64,
    /// Writes that failed because another write came first.
    pub lost: u64,
}

/// Objects, revisions and watch logs, protected by one mutex.
#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    dice: Dice,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    namespaces: BTreeMap<String, Arc<Namespace>>,
    pods: BTreeMap<(String, String), Arc<Pod>>,
    quotas: BTreeMap<(String, String), Arc<Quota>>,
    others: BTreeMap<OtherKey, Arc<Value>>,
    pod_log: Log<Pod>,
    quota_log: Log<Quota>,
    quota_writes: QuotaWrites,
    events: Vec<Value>,
    /// The number of tasks that share the CPUs of the machine, if the store has one.
    working: Option<Arc<AtomicU32>>,
}

impl Store {
    /// Creates an empty store. `seed` determines the uids.
    pub fn new(seed: u64) -> Store {
        Store::keeping(LOG_LENGTH, seed)
    }

    /// As [`Store::new`], but watches can read the last `changes` of pods and of quotas.
    pub fn keeping(changes: usize, seed: u64) -> Store {
        let state = State {
            pod_log: Log::new(changes),
            quota_log: Log::new(changes),
            ..State::default()
        };
        Store {
            state: Mutex::new(state),
            revision: watch::Sender::new(0),
            dice: Dice::seeded(seed),
        }
    }

    /// Puts the store on a machine. The busier the machine, the later informers learn of a change.
    #[must_use]
    pub fn on(self, machine: &Machine) -> Store {
        self.state().working = Some(machine.working());
        self
    }

    /// The revision of the latest change.
    pub fn revision(&self) -> u64 {
        self.state().revision
    }

    /// A channel that reports every change; its value is the store's revision.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Stores a namespace.
    pub fn create_namespace(&self, name: &str) -> Result<Arc<Namespace>, StoreError> {
        let mut state = self.state();
        if state.namespaces.contains_key(name) {
            return Err(StoreError::Exists);
        }
        let revision = state.advance();
        let namespace = Arc::new(Namespace {
            name: name.to_owned(),
            uid: self.dice.uid(),
            revision,
            created: now(),
            terminating: false,
        });
        state.namespaces.insert(name.to_owned(), namespace.clone());
        self.announce(state);
        Ok(namespace)
    }

    /// Marks a namespace as being deleted. It then refuses new objects.
    pub fn terminate_namespace(&self, name: &str) -> Result<(), StoreError> {
        let mut state = self.state();
        let revision = state.advance();
        let namespace = state.namespaces.get_mut(name).ok_or(StoreError::NotFound)?;
        *namespace = Arc::new(Namespace {
            revision,
            terminating: true,
            ..(**namespace).clone()
        });
        self.announce(state);
        Ok(())
    }

    /// One namespace.
    pub fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.state().namespaces.get(name).cloned()
    }

    /// All namespaces sorted by name, with the revision of this listing.
    pub fn namespaces(&self) -> (Vec<Arc<Namespace>>, u64) {
        let state = self.state();
        (state.namespaces.values().cloned().collect(), state.revision)
    }

    /// Stores a Kubernetes Event as it was posted.
    pub fn add_event(&self, event: Value) {
        self.state().events.push(event);
    }

    /// All Kubernetes Events.
    pub fn events(&self) -> Vec<Value> {
        self.state().events.clone()
    }

    /// Stores a pod. Its name must be set and its namespace must exist.
    pub fn create_pod(&self, posted: NewPod) -> Result<Arc<Pod>, StoreError> {
        let mut state = self.state();
        if !state.namespaces.contains_key(&posted.namespace) {
            return Err(StoreError::NotFound);
        }
        let key = (posted.namespace.clone(), posted.name.clone());
        if state.pods.contains_key(&key) {
            return Err(StoreError::Exists);
        }
        let revision = state.advance();
        let pod = Arc::new(Pod {
            posted,
            uid: self.dice.uid(),
            revision,
            created: now(),
        });
        state.pods.insert(key, pod.clone());
        let event = state.event(revision, Change::Added, &pod);
        state.pod_log.push(event);
        self.announce(state);
        Ok(pod)
    }

    /// Deletes a pod at once, without a grace period. Returns its last state with the revision of
    /// the deletion.
    pub fn delete_pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, StoreError> {
        let mut state = self.state();
        let pod = state
            .pods
            .remove(&(namespace.to_owned(), name.to_owned()))
            .ok_or(StoreError::NotFound)?;
        let revision = state.advance();
        let pod = Arc::new(Pod {
            revision,
            ..(*pod).clone()
        });
        let event = state.event(revision, Change::Deleted, &pod);
        state.pod_log.push(event);
        self.announce(state);
        Ok(pod)
    }

    /// One pod.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.state()
            .pods
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// The pods of one namespace, or of all if it is `None`, sorted by name, with the revision of
    /// this listing.
    pub fn pods(&self, namespace: Option<&str>) -> (Vec<Arc<Pod>>, u64) {
        let state = self.state();
        (within(&state.pods, namespace), state.revision)
    }

    /// Up to `max` changes of pods after `revision`, oldest first.
    pub fn pod_events(&self, revision: u64, max: usize) -> Result<Vec<Event<Pod>>, Compacted> {
        self.state().pod_log.after(revision, max)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // At worst, a writer that panicked has stored a change without logging it. `Tasks` reports
        // the panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, state: MutexGuard<'_, State>) {
        let revision = state.revision;
        drop(state);
        // Another writer may already have announced a later revision.
        self.revision.send_if_modified(|announced| {
            std::mem::replace(announced, revision.max(*announced)) < revision
        });
    }
}

impl State {
    fn advance(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn event<T>(&self, revision: u64, change: Change, object: &Arc<T>) -> Event<T> {
        let working = self
            .working
            .as_ref()
            .map_or(0, |working| working.load(Ordering::Relaxed));
        Event {
            revision,
            at: Instant::now(),
            working,
            change,
            object: object.clone(),
        }
    }
}

/// The objects of one namespace, or of all namespaces, sorted by name.
fn within<T>(objects: &BTreeMap<(String, String), Arc<T>>, namespace: Option<&str>) -> Vec<Arc<T>> {
    let Some(namespace) = namespace else {
        return objects.values().cloned().collect();
    };
    let from = (namespace.to_owned(), String::new());
    let range = objects.range((Bound::Included(from), Bound::Unbounded));
    range
        .take_while(|((of, _), _)| of == namespace)
        .map(|(_, object)| object.clone())
        .collect()
}

/// The current time in whole seconds, as in `creationTimestamp`.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}

#[cfg(test)]
mod tests;
