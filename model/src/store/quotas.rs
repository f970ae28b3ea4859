//! Quotas in the store. The compare-and-swap on their status is the race that this control plane is
//! for.

use std::sync::Arc;

use super::{Change, Compacted, Event, QuotaWrites, State, Store, StoreError, now, within};
use crate::amounts::Amounts;
use crate::object::Quota;

impl Store {
    /// Stores a quota without a status. The quota controller computes the status later.
    pub fn create_quota(
        &self,
        namespace: &str,
        name: &str,
        spec: Amounts,
    ) -> Result<Arc<Quota>, StoreError> {
        self.create_quota_with_status(namespace, name, spec, Amounts::new(), Amounts::new())
    }

    /// Stores a quota with its status, so that the quota controller has nothing to compute.
    pub fn create_quota_with_status(
        &self,
        namespace: &str,
        name: &str,
        spec: Amounts,
        hard: Amounts,
        used: Amounts,
    ) -> Result<Arc<Quota>, StoreError> {
        let mut state = self.state();
        let key = (namespace.to_owned(), name.to_owned());
        if !state.namespaces.contains_key(namespace) {
            return Err(StoreError::NotFound);
        }
        if state.quotas.contains_key(&key) {
            return Err(StoreError::Exists);
        }
        let quota = Quota {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: self.dice.uid(),
            revision: state.advance(),
            created: now(),
            spec,
            hard,
            used,
        };
        let quota = state.put_quota(Change::Added, quota);
        self.announce(state);
        Ok(quota)
    }

    /// Changes the limits of a quota, in its specification and in its status.
    pub fn set_limits(
        &self,
        namespace: &str,
        name: &str,
        hard: Amounts,
    ) -> Result<Arc<Quota>, StoreError> {
        let mut state = self.state();
        let key = (namespace.to_owned(), name.to_owned());
        let current = state.quotas.get(&key).cloned();
        let current = current.ok_or(StoreError::NotFound)?;
        let quota = Quota {
            revision: state.advance(),
            spec: hard.clone(),
            hard,
            ..(*current).clone()
        };
        let quota = state.put_quota(Change::Modified, quota);
        self.announce(state);
        Ok(quota)
    }

    /// Removes a quota.
    pub fn delete_quota(&self, namespace: &str, name: &str) -> Result<(), StoreError> {
        let mut state = self.state();
        let key = (namespace.to_owned(), name.to_owned());
        let quota = state.quotas.remove(&key).ok_or(StoreError::NotFound)?;
        let revision = state.advance();
        let quota = Arc::new(Quota {
            revision,
            ..(*quota).clone()
        });
        let event = state.event(revision, Change::Deleted, &quota);
        state.quota_log.push(event);
        self.announce(state);
        Ok(())
    }

    /// One quota.
    pub fn quota(&self, namespace: &str, name: &str) -> Option<Arc<Quota>> {
        self.state()
            .quotas
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// The quotas of one namespace, or of all if it is `None`, sorted by name, with the revision of
    /// this listing.
    pub fn quotas(&self, namespace: Option<&str>) -> (Vec<Arc<Quota>>, u64) {
        let state = self.state();
        (within(&state.quotas, namespace), state.revision)
    }

    /// Writes `hard` and `used` as the status of a quota unless another write has happened since
    /// the revision `based_on`. This is the race that causes quota conflicts.
    pub fn update_quota_status(
        &self,
        namespace: &str,
        name: &str,
        based_on: u64,
        hard: Amounts,
        used: Amounts,
    ) -> Result<Arc<Quota>, StoreError> {
        let mut state = self.state();
        let key = (namespace.to_owned(), name.to_owned());
        let current = state
            .quotas
            .get(&key)
            .cloned()
            .ok_or(StoreError::NotFound)?;
        if current.revision != based_on {
            state.quota_writes.lost += 1;
            return Err(StoreError::Conflict);
        }
        state.quota_writes.won += 1;
        let quota = Quota {
            revision: state.advance(),
            hard,
            used,
            ..(*current).clone()
        };
        let quota = state.put_quota(Change::Modified, quota);
        self.announce(state);
        Ok(quota)
    }

    /// The number of status writes that succeeded and failed so far.
    pub fn quota_writes(&self) -> QuotaWrites {
        self.state().quota_writes
    }

    /// Up to `max` changes of quotas after `revision`, oldest first.
    pub fn quota_events(&self, revision: u64, max: usize) -> Result<Vec<Event<Quota>>, Compacted> {
        self.state().quota_log.after(revision, max)
    }
}

impl State {
    fn put_quota(&mut self, change: Change, quota: Quota) -> Arc<Quota> {
        let quota = Arc::new(quota);
        self.quotas
            .insert((quota.namespace.clone(), quota.name.clone()), quota.clone());
        let event = self.event(quota.revision, change, &quota);
        self.quota_log.push(event);
        quota
    }
}
