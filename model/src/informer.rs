//! The cache of an informer: the store as one client sees it, with the latency of its watch.
//!
//! No task runs in the background. The reader passes the current time, and the cache applies the
//! events that have arrived by then. This keeps the lag exact under paused time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::amounts::Amounts;
use super::dice::{exponential, mix};
use super::object::{Pod, Quota};
use super::store::{Change, Compacted, Event, Store};

/// The number of events read from the store at a time.
const CHUNK: usize = 1000;

/// The lag of one watch: how long an event takes to arrive, and a salt that gives each client its
/// own jitter.
#[derive(Clone, Copy, Debug)]
pub struct Lag {
    /// The mean time from a change to its arrival, on an idle machine.
    pub mean: Duration,
    /// The time added to the mean for each task that shares the CPUs.
    pub shared: Duration,
    /// A number that makes the jitter of each client different.
    pub salt: u64,
}

impl Lag {
    /// The time at which the event reaches this client. The delay is exponentially distributed, as
    /// queueing delays are.
    pub fn arrival<T>(&self, event: &Event<T>) -> Instant {
        event.at
            + exponential(
                mix(self.salt ^ event.revision),
                self.mean + self.shared * event.working,
            )
    }
}

/// The quotas as one client sees them.
#[derive(Debug)]
pub struct QuotaInformer {
    lag: Lag,
    seen: u64,
    quotas: HashMap<String, BTreeMap<String, Arc<Quota>>>,
}

impl QuotaInformer {
    /// Creates an empty cache.
    pub fn new(lag: Lag) -> QuotaInformer {
        QuotaInformer {
            lag,
            seen: 0,
            quotas: HashMap::new(),
        }
    }

    /// The quotas of `namespace` that have arrived by `now`, sorted by name.
    pub fn list(&mut self, store: &Store, namespace: &str, now: Instant) -> Vec<Arc<Quota>> {
        for (change, quota) in self.advance(store, now) {
            let known = self.quotas.entry(quota.namespace.clone()).or_default();
            match change {
                Change::Added | Change::Modified => known.insert(quota.name.clone(), quota),
                Change::Deleted => known.remove(&quota.name),
            };
        }
        self.quotas
            .get(namespace)
            .map(|quotas| quotas.values().cloned().collect())
            .unwrap_or_default()
    }

    fn advance(&mut self, store: &Store, now: Instant) -> Vec<(Change, Arc<Quota>)> {
        match arrived(&self.lag, &mut self.seen, now, |after| {
            store.quota_events(after, CHUNK)
        }) {
            Ok(events) => events
                .into_iter()
                .map(|event| (event.change, event.object))
                .collect(),
            Err(Compacted { .. }) => {
                let (quotas, revision) = store.quotas(None);
                self.seen = revision;
                self.quotas.clear();
                quotas
                    .into_iter()
                    .map(|quota| (Change::Added, quota))
                    .collect()
            }
        }
    }
}

/// The usage of the pods in each namespace as one client sees it, and the namespaces in which pods
/// were deleted.
#[derive(Debug)]
pub struct PodInformer {
    lag: Lag,
    seen: u64,
    usage: HashMap<String, Amounts>,
}

impl PodInformer {
    /// Creates an empty cache.
    pub fn new(lag: Lag) -> PodInformer {
        PodInformer {
            lag,
            seen: 0,
            usage: HashMap::new(),
        }
    }

    /// Applies the events that have arrived by `now`. Returns the namespace of every deleted pod,
    /// once for each pod.
    pub fn advance(&mut self, store: &Store, now: Instant) -> Vec<String> {
        let Ok(events) = arrived(&self.lag, &mut self.seen, now, |after| {
            store.pod_events(after, CHUNK)
        }) else {
            return self.relist(store);
        };
        let mut deleted = Vec::new();
        for event in events {
            let pod: &Pod = &event.object;
            let usage = self.usage.entry(pod.namespace().to_owned()).or_default();
            match event.change {
                Change::Added => usage.add(&pod.posted.usage),
                Change::Modified => {}
                Change::Deleted => {
                    usage.subtract(&pod.posted.usage);
                    deleted.push(pod.namespace().to_owned());
                }
            }
        }
        deleted
    }

    /// The usage of the pods in `namespace` at the last call of [`PodInformer::advance`].
    pub fn usage(&self, namespace: &str) -> Amounts {
        self.usage.get(namespace).cloned().unwrap_or_default()
    }

    /// The arrival time of the next known event. `None` if every stored event has been seen.
    pub fn next_arrival(&self, store: &Store) -> Option<Instant> {
        match store.pod_events(self.seen, 1) {
            Ok(events) => events.first().map(|event| self.lag.arrival(event)),
            Err(Compacted { .. }) => Some(Instant::now()),
        }
    }

    fn relist(&mut self, store: &Store) -> Vec<String> {
        let (pods, revision) = store.pods(None);
        self.seen = revision;
        let known = std::mem::take(&mut self.usage);
        for pod in pods {
            self.usage
                .entry(pod.namespace().to_owned())
                .or_default()
                .add(&pod.posted.usage);
        }
        known.into_keys().collect()
    }
}

/// Takes the events that have arrived by `now`, in order, and moves `seen` past them.
fn arrived<T>(
    lag: &Lag,
    seen: &mut u64,
    now: Instant,
    events: impl Fn(u64) -> Result<Vec<Event<T>>, Compacted>,
) -> Result<Vec<Event<T>>, Compacted> {
    let mut all = Vec::new();
    loop {
        let chunk = events(*seen)?;
        let full = chunk.len() == CHUNK;
        let here = chunk
            .iter()
            .take_while(|event| lag.arrival(event) <= now)
            .count();
        all.extend(chunk.into_iter().take(here));
        if let Some(last) = all.last() {
            *seen = last.revision;
        }
        if !full || here < CHUNK {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::object::NewPod;
    use super::*;

    const LAG: Lag = Lag {
        mean: Duration::from_millis(20),
        shared: Duration::ZERO,
        salt: 7,
    };

    fn one_pod() -> Amounts {
        Amounts::parse([("pods", "1")]).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn sees_a_quota_after_the_watch_latency() {
        let store = Store::new(1);
        store.create_namespace("a").unwrap();
        store.create_quota("a", "q", one_pod()).unwrap();
        let mut informer = QuotaInformer::new(LAG);
        assert!(informer.list(&store, "a", Instant::now()).is_empty());
        tokio::time::advance(LAG.mean * 3 / 2).await;
        assert_eq!(informer.list(&store, "a", Instant::now()).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn counts_usage_and_reports_deletions() {
        let store = Store::new(1);
        store.create_namespace("a").unwrap();
        for name in ["x", "y"] {
            store
                .create_pod(NewPod {
                    namespace: "a".into(),
                    name: name.into(),
                    usage: one_pod(),
                    ..NewPod::default()
                })
                .unwrap();
        }
        let mut informer = PodInformer::new(LAG);
        let later = Instant::now() + LAG.mean * 2;
        assert!(informer.advance(&store, later).is_empty());
        assert_eq!(informer.usage("a").whole("pods"), 2);
        store.delete_pod("a", "x").unwrap();
        assert!(informer.next_arrival(&store).is_some());
        assert_eq!(
            informer.advance(&store, Instant::now() + LAG.mean * 2),
            ["a"]
        );
        assert_eq!(informer.usage("a").whole("pods"), 1);
        assert_eq!(informer.next_arrival(&store), None);
    }
}
