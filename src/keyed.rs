//! A map from namespaces to shared state with a limit on its size, for `budget`, `ratelimit` and
//! `upstream`.
//!
//! The keys come from URLs, so clients can invent them. Values that were idle for a while make room
//! for new ones. If there is no room, the caller uses a state that all namespaces share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The length of the longest namespace. Longer keys are refused, because they would only cost
/// memory.
const MAX_KEY: usize = 63;
/// A sweep for idle values visits all of them, so it must not happen for each request of a flood.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// At most `max` values. A value that nobody holds may be dropped after it was unused for `idle`.
#[derive(Debug)]
pub(crate) struct Keyed<V> {
    values: Mutex<KeyedValues<V>>,
    max: usize,
    idle: Duration,
}

#[derive(Debug)]
struct KeyedValues<V> {
    by_key: HashMap<Box<str>, KeyedValue<V>>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct KeyedValue<V> {
    value: Arc<V>,
    last_used: Instant,
}

impl<V> Keyed<V> {
    /// An empty map. A dropped value loses its state, so `idle` should be longer than anything that
    /// the value remembers.
    pub(crate) fn new(max: usize, idle: Duration) -> Self {
        Self {
            values: Mutex::new(KeyedValues {
                by_key: HashMap::new(),
                swept: None,
            }),
            max,
            idle,
        }
    }

    /// The value of `key`. `make` makes it if the key is new. None if there is no room.
    pub(crate) fn get(&self, key: &str, make: impl FnOnce() -> V) -> Option<Arc<V>> {
        if key.len() > MAX_KEY {
            return None;
        }
        let now = Instant::now();
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keyed) = values.by_key.get_mut(key) {
            keyed.last_used = now;
            return Some(Arc::clone(&keyed.value));
        }
        if values.by_key.len() >= self.max && !values.sweep(now, self.idle) {
            return None;
        }
        let value = Arc::new(make());
        values.by_key.insert(
            key.into(),
            KeyedValue {
                value: Arc::clone(&value),
                last_used: now,
            },
        );
        Some(value)
    }

    /// All keys and values, in any order.
    pub(crate) fn all(&self) -> Vec<(Box<str>, Arc<V>)> {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values
            .by_key
            .iter()
            .map(|(key, keyed)| (key.clone(), Arc::clone(&keyed.value)))
            .collect()
    }
}

impl<V> KeyedValues<V> {
    /// Drops idle values, unless the last sweep was too recent. Returns whether there is room now.
    fn sweep(&mut self, now: Instant, idle: Duration) -> bool {
        if self
            .swept
            .is_some_and(|swept| now.duration_since(swept) < SWEEP_EVERY)
        {
            return false;
        }
        self.swept = Some(now);
        let len = self.by_key.len();
        self.by_key.retain(|_, keyed| {
            Arc::strong_count(&keyed.value) > 1 || now.duration_since(keyed.last_used) < idle
        });
        self.by_key.len() < len
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
    async fn a_value_in_use_is_not_dropped() {
        let keyed = Keyed::new(1, IDLE);
        let held = keyed.get("a", || ()).unwrap();
        tokio::time::advance(IDLE * 2).await;
        assert!(keyed.get("b", || ()).is_none());
        drop(held);
        tokio::time::advance(SWEEP_EVERY).await;
        assert!(keyed.get("b", || ()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_cannot_be_a_namespace_takes_no_room() {
        let keyed = Keyed::new(1, IDLE);
        assert!(keyed.get(&"x".repeat(64), || ()).is_none());
        assert!(keyed.get("a", || ()).is_some());
    }
}
