//! The objects that the model stores: namespaces, resource quotas and pods.
//!
//! A pod keeps what was posted, undecoded beyond what quota and listing need; `wire` turns it into
//! JSON or protobuf.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::amounts::Amounts;
use super::wire::ObjectMeta;

/// A namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Unique over time.
    pub uid: String,
    /// The store's revision at its last change.
    pub revision: u64,
    /// When it was created, in whole seconds.
    pub created: OffsetDateTime,
    /// Whether it refuses new objects because it is being deleted.
    pub terminating: bool,
}

/// A ResourceQuota with its status.
#[derive(Clone, Debug)]
pub struct Quota {
    /// The namespace that it limits.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Unique over time.
    pub uid: String,
    /// The store's revision at its last change: what compare-and-swap compares.
    pub revision: u64,
    /// When it was created, in whole seconds.
    pub created: OffsetDateTime,
    /// `spec.hard`.
    pub spec: Amounts,
    /// `status.hard`: empty until the quota controller has seen the quota, and until then nothing
    /// is limited.
    pub hard: Amounts,
    /// `status.used`.
    pub used: Amounts,
}

/// A pod as a client posted it.
#[derive(Clone, Debug, Default)]
pub struct NewPod {
    /// `metadata.namespace`; empty when the body names none.
    pub namespace: String,
    /// `metadata.name`; empty when it is to be generated.
    pub name: String,
    /// `metadata.generateName`.
    pub generate_name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// What the pod takes from quotas.
    pub usage: Amounts,
    /// The compute resources that at least one container leaves open, which a quota on them does
    /// not accept.
    pub unspecified: Vec<&'static str>,
    /// The posted object.
    pub content: Content,
}

/// What was posted, in the encoding in which it came.
#[derive(Clone, Debug)]
pub enum Content {
    /// `metadata` and `spec` of a JSON body.
    Json {
        /// The whole of `metadata`.
        metadata: Map<String, Value>,
        /// The whole of `spec`.
        spec: Value,
    },
    /// `metadata` and `spec` of a protobuf body.
    Protobuf {
        /// The whole of `metadata`.
        metadata: Box<ObjectMeta>,
        /// The encoded `spec`.
        spec: Bytes,
    },
}

impl Default for Content {
    fn default() -> Content {
        Content::Json {
            metadata: Map::new(),
            spec: Value::Object(Map::new()),
        }
    }
}

/// A stored pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// As posted, with namespace and name filled in.
    pub posted: NewPod,
    /// Unique over time.
    pub uid: String,
    /// The store's revision at its creation, or at its deletion in a deletion event.
    pub revision: u64,
    /// When it was created, in whole seconds.
    pub created: OffsetDateTime,
}

impl Pod {
    /// The pod's name.
    pub fn name(&self) -> &str {
        &self.posted.name
    }

    /// The pod's namespace.
    pub fn namespace(&self) -> &str {
        &self.posted.namespace
    }
}

/// An object of which the store keeps a watch log.
pub trait Logged {
    /// The namespace that the object is in.
    fn namespace(&self) -> &str;
    /// The store's revision at the object's last change.
    fn revision(&self) -> u64;
}

impl Logged for Pod {
    fn namespace(&self) -> &str {
        self.namespace()
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

impl Logged for Quota {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}
