//! Objects that are neither pods nor quotas: Services, Jobs, custom resources. The store keeps them
//! as JSON and knows nothing about their kinds. They have no watch log.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Store, StoreError, now};
use crate::amounts::Amounts;
use crate::wire;

/// The place of such an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OtherKey {
    /// The namespace.
    pub namespace: String,
    /// The resource as quotas write it: `services`, `jobs.batch`.
    pub resource: String,
    /// `metadata.name`.
    pub name: String,
}

impl OtherKey {
    /// What the object uses of quotas: `count/RESOURCE` of every resource, and the older names of
    /// some.
    ///
    /// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/pkg/quota/v1/evaluator/core/registry.go>
    pub fn usage(&self) -> Amounts {
        const ONE: i128 = 1000;
        let mut usage = Amounts::new();
        usage.set(&format!("count/{}", self.resource), ONE);
        if matches!(
            self.resource.as_str(),
            "services"
                | "configmaps"
                | "secrets"
                | "persistentvolumeclaims"
                | "replicationcontrollers"
        ) {
            usage.set(&self.resource, ONE);
        }
        usage
    }
}

impl Store {
    /// Stores an object with the metadata that the server sets. `manager` is its field manager, or
    /// empty. With `replace` it may exist already
    /// and keeps its uid.
    pub fn put_other(
        &self,
        key: &OtherKey,
        mut object: Value,
        manager: &str,
        replace: bool,
    ) -> Result<Arc<Value>, StoreError> {
        let mut state = self.state();
        if !state.namespaces.contains_key(&key.namespace) {
            return Err(StoreError::NotFound);
        }
        let uid = match state.others.get(key) {
            Some(_) if !replace => return Err(StoreError::Exists),
            Some(known) => known.pointer("/metadata/uid").cloned(),
            None => None,
        };
        let revision = state.advance();
        let set = [
            ("name", json!(key.name)),
            ("namespace", json!(key.namespace)),
            ("uid", uid.unwrap_or_else(|| json!(self.dice.uid()))),
            ("resourceVersion", json!(revision.to_string())),
            ("creationTimestamp", json!(wire::timestamp(now()))),
        ];
        for (field, value) in set {
            object["metadata"][field] = value;
        }
        if !manager.is_empty() {
            let api_version = object["apiVersion"].as_str().unwrap_or_default();
            let entry = wire::managed_fields(manager, api_version, &wire::timestamp(now()));
            object["metadata"]["managedFields"] = entry;
        }
        let object = Arc::new(object);
        state.others.insert(key.clone(), object.clone());
        self.announce(state);
        Ok(object)
    }

    /// One object.
    pub fn other(&self, key: &OtherKey) -> Option<Arc<Value>> {
        self.state().others.get(key).cloned()
    }

    /// Deletes an object at once.
    pub fn delete_other(&self, key: &OtherKey) -> Result<Arc<Value>, StoreError> {
        let mut state = self.state();
        let object = state.others.remove(key).ok_or(StoreError::NotFound)?;
        state.advance();
        self.announce(state);
        Ok(object)
    }

    /// The names of the objects of one resource in a namespace, in alphabetical order.
    pub fn others(&self, namespace: &str, resource: &str) -> Vec<String> {
        let state = self.state();
        let of = |key: &&OtherKey| key.namespace == namespace && key.resource == resource;
        let keys = state.others.keys().filter(of);
        keys.map(|key| key.name.clone()).collect()
    }

    /// What all such objects of a namespace use of quotas.
    pub fn usage_of_others(&self, namespace: &str) -> Amounts {
        let mut usage = Amounts::new();
        let state = self.state();
        let keys = state.others.keys();
        keys.filter(|key| key.namespace == namespace)
            .for_each(|key| usage.add(&key.usage()));
        usage
    }
}
