//! The objects that the model stores: namespaces, resource quotas and pods.
//!
//! A pod keeps the posted object. Only the fields that quotas and lists need are decoded. `wire`
//! writes pods as JSON or protobuf.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::amounts::Amounts;
use super::wire::ObjectMeta;

/// A stored namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The store's revision at the last change of this object.
    pub revision: u64,
    /// The time of creation, in whole seconds.
    pub created: OffsetDateTime,
    /// Whether the namespace is being deleted and refuses new objects.
    pub terminating: bool,
}

/// A stored ResourceQuota with its status.
#[derive(Clone, Debug)]
pub struct Quota {
    /// The namespace that the quota limits.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The store's revision at the last change, which compare-and-swap compares.
    pub revision: u64,
    /// The time of creation, in whole seconds.
    pub created: OffsetDateTime,
    /// `spec.hard`.
    pub spec: Amounts,
    /// `status.hard`. It is empty until the quota controller has seen the quota; until then the
    /// quota limits nothing.
    pub hard: Amounts,
    /// `status.used`.
    pub used: Amounts,
}

/// A pod as a client posted it.
#[derive(Clone, Debug, Default)]
pub struct NewPod {
    /// `metadata.namespace`; empty if the body has none.
    pub namespace: String,
    /// `metadata.name`; empty if the name is to be generated.
    pub name: String,
    /// `metadata.generateName`.
    pub generate_name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// The amounts that the pod uses of quotas.
    pub usage: Amounts,
    /// The compute resources that at least one container does not specify. A quota on such a
    /// resource rejects the pod.
    pub unspecified: Vec<&'static str>,
    /// The field manager of the create; empty if nobody asked for one.
    pub manager: String,
    /// The posted object.
    pub content: Content,
}

/// The posted object in its original encoding.
#[derive(Clone, Debug)]
pub enum Content {
    /// `metadata` and `spec` of a JSON body.
    Json {
        /// The complete `metadata`.
        metadata: Map<String, Value>,
        /// The complete `spec`.
        spec: Value,
    },
    /// `metadata` and `spec` of a protobuf body.
    Protobuf {
        /// The complete `metadata`.
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
    /// The posted pod, with namespace and name filled in.
    pub posted: NewPod,
    /// `metadata.uid`.
    pub uid: String,
    /// The store's revision at the creation, or at the deletion in a deletion event.
    pub revision: u64,
    /// The time of creation, in whole seconds.
    pub created: OffsetDateTime,
}

impl Pod {
    /// `metadata.name`, given or generated.
    pub fn name(&self) -> &str {
        &self.posted.name
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        &self.posted.namespace
    }
}

/// An object whose changes the store keeps in a watch log.
pub trait Logged {
    /// The namespace of the object.
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
