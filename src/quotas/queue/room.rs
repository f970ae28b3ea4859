//! What is free in the quotas, while the queue is gone through from the oldest create to the
//! youngest.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::{Limits, Pause};
use crate::quantity::Quantity;

/// What a create asks of one resource of one quota.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) quota: Arc<str>,
    pub(super) resource: Arc<str>,
    pub(super) amount: Quantity,
    /// Whether the quota was among those of the namespace since the create was refused. If it is
    /// gone then, it was deleted. If it never was, it may be a quota of the whole cluster.
    pub(super) is_seen: bool,
}

/// A resource of a quota.
type Key = (Arc<str>, Arc<str>);

/// What is free, while the queue is gone through from the oldest create to the youngest.
pub(super) struct Room<'a> {
    quotas: &'a HashMap<Box<str>, Limits>,
    pauses: &'a HashMap<Box<str>, Pause>,
    now: Instant,
    /// What is kept of each resource of each quota.
    kept: HashMap<Key, Quantity>,
    /// The resources of which an older create is short.
    short: HashSet<Key>,
}

impl<'a> Room<'a> {
    pub(super) fn of(
        quotas: &'a HashMap<Box<str>, Limits>,
        pauses: &'a HashMap<Box<str>, Pause>,
        now: Instant,
    ) -> Self {
        Self {
            quotas,
            pauses,
            now,
            kept: HashMap::new(),
            short: HashSet::new(),
        }
    }

    pub(super) fn holds(&self, asks: &[Ask]) -> bool {
        asks.iter().all(|ask| self.has(ask))
    }

    /// A quota that is gone limits nothing, and neither does one that no longer names the resource.
    fn has(&self, ask: &Ask) -> bool {
        let pause = self.pauses.get(&*ask.quota);
        if pause.is_some_and(|pause| self.now < pause.until) {
            return false;
        }
        let Some(limits) = self.quotas.get(&*ask.quota) else {
            return true;
        };
        let Some(hard) = limits.hard.get(&*ask.resource) else {
            return true;
        };
        let key = ask.key();
        if self.short.contains(&key) {
            return false;
        }
        let kept = self.kept.get(&key).copied().unwrap_or_default();
        let used = limits.used.get(&*ask.resource);
        used.and_then(|used| used.plus(kept)?.plus(ask.amount))
            .is_some_and(|sum| sum <= *hard)
    }

    pub(super) fn never_holds(&self, ask: &Ask) -> bool {
        let limits = self.quotas.get(&*ask.quota);
        limits
            .and_then(|limits| limits.hard.get(&*ask.resource))
            .is_some_and(|hard| ask.amount > *hard)
    }

    pub(super) fn keep(&mut self, asks: &[Ask]) {
        for ask in asks {
            let kept = self.kept.entry(ask.key()).or_default();
            match kept.plus(ask.amount) {
                Some(sum) => *kept = sum,
                None => drop(self.short.insert(ask.key())),
            }
        }
    }

    pub(super) fn keep_for_the_oldest(&mut self, asks: &[Ask]) {
        let short: Vec<_> = asks.iter().filter(|ask| !self.has(ask)).collect();
        self.short.extend(short.into_iter().map(Ask::key));
        self.keep(asks);
    }
}

impl Ask {
    fn key(&self) -> Key {
        (Arc::clone(&self.quota), Arc::clone(&self.resource))
    }
}
