//! A bounded map from namespaces to shared state, for `budget`, `ratelimit` and `upstream`.
//!
//! The keys come from URLs, so anybody can make them up. Entries that nobody has used for long make
//! room for others; where there is none, the caller falls back to what all share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// No namespace is longer; a longer key would only cost memory.
const MAX_KEY: usize = 63;
/// Looking for idle entries costs a walk over all of them: not for each request of a flood.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// At most `max` entries; those that nobody holds and nobody has asked for in `idle` may be
/// dropped.
#[derive(Debug)]
pub(crate) struct Keyed<V> {
    entries: Mutex<Entries<V>>,
    max: usize,
    idle: Duration,
}

#[derive(Debug)]
struct Entries<V> {
    by_key: HashMap<Box<str>, Entry<V>>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Entry<V> {
    value: Arc<V>,
    used: Instant,
}

impl<V> Keyed<V> {
    /// An empty map. A dropped entry starts afresh, so `idle` should outlast whatever the state
    /// remembers.
    pub(crate) fn new(max: usize, idle: Duration) -> Self {
        Self {
            entries: Mutex::new(Entries {
                by_key: HashMap::new(),
                swept: None,
            }),
            max,
            idle,
        }
    }

    /// The state of `key`, made if it is new. None if there is no room for it.
    pub(crate) fn get(&self, key: &str, make: impl FnOnce() -> V) -> Option<Arc<V>> {
        if key.len() > MAX_KEY {
            return None;
        }
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.by_key.get_mut(key) {
            entry.used = now;
            return Some(Arc::clone(&entry.value));
        }
        if entries.by_key.len() >= self.max && !entries.sweep(now, self.idle) {
            return None;
        }
        let value = Arc::new(make());
        entries.by_key.insert(
            key.into(),
            Entry {
                value: Arc::clone(&value),
                used: now,
            },
        );
        Some(value)
    }

    /// All entries, in no order.
    pub(crate) fn all(&self) -> Vec<(Box<str>, Arc<V>)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .by_key
            .iter()
            .map(|(key, entry)| (key.clone(), Arc::clone(&entry.value)))
            .collect()
    }
}

impl<V> Entries<V> {
    /// Drops what is idle, if it is time to look. Whether there is room now.
    fn sweep(&mut self, now: Instant, idle: Duration) -> bool {
        if self
            .swept
            .is_some_and(|swept| now.duration_since(swept) < SWEEP_EVERY)
        {
            return false;
        }
        self.swept = Some(now);
        let before = self.by_key.len();
        self.by_key.retain(|_, entry| {
            Arc::strong_count(&entry.value) > 1 || now.duration_since(entry.used) < idle
        });
        self.by_key.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn the_same_key_shares_its_state() {
        let keyed = Keyed::new(2, IDLE);
        let first = keyed.get("a", || 1).unwrap();
        assert!(Arc::ptr_eq(&first, &keyed.get("a", || 2).unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_map_has_no_room_until_an_entry_is_idle() {
        let keyed = Keyed::new(2, IDLE);
        keyed.get("a", || ()).unwrap();
        keyed.get("b", || ()).unwrap();
        assert!(keyed.get("c", || ()).is_none());
        tokio::time::advance(IDLE).await;
        keyed.get("b", || ()).unwrap();
        assert!(keyed.get("c", || ()).is_some(), "a is idle");
        assert!(keyed.get("a", || ()).is_none(), "b and c are not");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_not_dropped() {
        let keyed = Keyed::new(1, IDLE);
        let held = keyed.get("a", || ()).unwrap();
        tokio::time::advance(IDLE * 2).await;
        assert!(keyed.get("b", || ()).is_none());
        drop(held);
        tokio::time::advance(SWEEP_EVERY).await;
        assert!(keyed.get("b", || ()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_can_be_no_namespace_takes_no_room() {
        let keyed = Keyed::new(1, IDLE);
        assert!(keyed.get(&"x".repeat(64), || ()).is_none());
        assert!(keyed.get("a", || ()).is_some());
    }
}
