//! Pods and lists of pods as protobuf. Only the fields that the model reads are decoded; the rest
//! of a spec stays encoded.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/api/core/v1/generated.proto>

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::super::object::{Content, Pod};
use crate::envelope::wrap;
use crate::status::ListMeta;

/// `v1.Pod`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PodMessage {
    /// Name, namespace, labels and the rest of the metadata.
    #[prost(message, required, tag = "1")]
    pub(super) metadata: ObjectMeta,
    /// The encoded [`PodSpec`].
    #[prost(bytes = "bytes", required, tag = "2")]
    pub(super) spec: Bytes,
    #[prost(message, required, tag = "3")]
    status: PodStatus,
}

/// `metav1.ObjectMeta`. Fields that the model does not use stay encoded.
#[derive(Clone, PartialEq, Message)]
pub struct ObjectMeta {
    /// The name; empty if the server is to generate one.
    #[prost(string, required, tag = "1")]
    pub name: String,
    /// The prefix of a generated name.
    #[prost(string, required, tag = "2")]
    pub generate_name: String,
    /// The namespace.
    #[prost(string, required, tag = "3")]
    pub namespace: String,
    #[prost(string, required, tag = "4")]
    pub(super) self_link: String,
    #[prost(string, required, tag = "5")]
    pub(super) uid: String,
    #[prost(string, required, tag = "6")]
    pub(super) resource_version: String,
    #[prost(int64, required, tag = "7")]
    pub(super) generation: i64,
    #[prost(message, required, tag = "8")]
    pub(super) creation_timestamp: Time,
    #[prost(message, optional, tag = "9")]
    pub(super) deletion_timestamp: Option<Time>,
    #[prost(int64, optional, tag = "10")]
    pub(super) deletion_grace_period_seconds: Option<i64>,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "11")]
    pub labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    pub(super) annotations: BTreeMap<String, String>,
    #[prost(bytes = "bytes", repeated, tag = "13")]
    pub(super) owner_references: Vec<Bytes>,
    #[prost(string, repeated, tag = "14")]
    pub(super) finalizers: Vec<String>,
    #[prost(bytes = "bytes", repeated, tag = "17")]
    pub(super) managed_fields: Vec<Bytes>,
}

/// `metav1.ManagedFieldsEntry` without its fields.
#[derive(Clone, PartialEq, Eq, Message)]
struct ManagedFields {
    #[prost(string, required, tag = "1")]
    manager: String,
    #[prost(string, required, tag = "2")]
    operation: String,
    #[prost(string, required, tag = "3")]
    api_version: String,
}

/// `metav1.Time`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Time {
    #[prost(int64, required, tag = "1")]
    seconds: i64,
    #[prost(int32, required, tag = "2")]
    nanos: i32,
}

/// `v1.PodSpec` with its containers only.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PodSpec {
    /// The containers.
    #[prost(message, repeated, tag = "2")]
    pub(super) containers: Vec<Container>,
}

/// `v1.Container`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    /// Its name.
    #[prost(string, required, tag = "1")]
    pub(super) name: String,
    /// Its image.
    #[prost(string, required, tag = "2")]
    pub(super) image: String,
    /// Requests and limits.
    #[prost(message, optional, tag = "8")]
    pub(super) resources: Option<Requirements>,
}

/// `v1.ResourceRequirements`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Requirements {
    /// The maximum amounts that the container may use.
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) limits: BTreeMap<String, Quantity>,
    /// The amounts that the container requests.
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) requests: BTreeMap<String, Quantity>,
}

/// `resource.Quantity`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Quantity {
    /// The text of the quantity, for example `250m`.
    #[prost(string, required, tag = "1")]
    pub(super) string: String,
}

/// `v1.PodStatus` with its phase only.
#[derive(Clone, PartialEq, Eq, Message)]
struct PodStatus {
    #[prost(string, required, tag = "1")]
    phase: String,
}

/// `v1.PodList`.
#[derive(Clone, PartialEq, Message)]
struct PodList {
    #[prost(message, required, tag = "1")]
    metadata: ListMeta,
    #[prost(message, repeated, tag = "2")]
    items: Vec<PodMessage>,
}

impl PodMessage {
    /// A pod as a client posts it.
    pub(super) fn posted(metadata: ObjectMeta, spec: &PodSpec) -> PodMessage {
        PodMessage {
            metadata,
            spec: spec.encode_to_vec().into(),
            status: PodStatus::default(),
        }
    }

    fn of(pod: &Pod) -> PodMessage {
        let (posted, spec) = match &pod.posted.content {
            Content::Protobuf { metadata, spec } => ((**metadata).clone(), spec.clone()),
            Content::Json { .. } => (
                ObjectMeta {
                    labels: pod.posted.labels.clone(),
                    ..ObjectMeta::default()
                },
                Bytes::new(),
            ),
        };
        PodMessage {
            metadata: ObjectMeta {
                name: pod.posted.name.clone(),
                generate_name: pod.posted.generate_name.clone(),
                namespace: pod.posted.namespace.clone(),
                self_link: String::new(),
                uid: pod.uid.clone(),
                resource_version: pod.revision.to_string(),
                generation: 0,
                creation_timestamp: Time {
                    seconds: pod.created.unix_timestamp(),
                    nanos: 0,
                },
                managed_fields: if pod.posted.manager.is_empty() {
                    Vec::new()
                } else {
                    let entry = ManagedFields {
                        manager: pod.posted.manager.clone(),
                        operation: "Update".to_owned(),
                        api_version: "v1".to_owned(),
                    };
                    vec![entry.encode_to_vec().into()]
                },
                ..posted
            },
            spec,
            status: PodStatus {
                phase: "Pending".to_owned(),
            },
        }
    }
}

/// Encodes a pod with its envelope.
pub fn pod_protobuf(pod: &Pod) -> Bytes {
    wrap("Pod", &PodMessage::of(pod))
}

/// Encodes a list of pods with its envelope.
pub fn pod_list_protobuf<'a>(pods: impl Iterator<Item = &'a Pod>, revision: u64) -> Bytes {
    let list = PodList {
        metadata: ListMeta {
            resource_version: revision.to_string(),
            ..ListMeta::default()
        },
        items: pods.map(PodMessage::of).collect(),
    };
    wrap("PodList", &list)
}

/// Encodes a pod with one container, as a client posts it. `amounts` are both its requests and its
/// limits.
pub fn posted_protobuf(name: &str, amounts: &[(&str, &str)]) -> Bytes {
    let metadata = ObjectMeta {
        name: name.to_owned(),
        ..ObjectMeta::default()
    };
    let amounts: BTreeMap<_, _> = amounts
        .iter()
        .map(|(name, amount)| {
            let string = (*amount).to_owned();
            ((*name).to_owned(), Quantity { string })
        })
        .collect();
    let container = Container {
        name: "main".to_owned(),
        image: "busybox".to_owned(),
        resources: (!amounts.is_empty()).then(|| Requirements {
            limits: amounts.clone(),
            requests: amounts,
        }),
    };
    let spec = PodSpec {
        containers: vec![container],
    };
    wrap("Pod", &PodMessage::posted(metadata, &spec))
}

/// The name in an encoded pod.
pub fn name_of_protobuf(pod: &Bytes) -> Option<String> {
    let object = crate::envelope::unwrap(pod)?;
    let pod = PodMessage::decode(object.raw).ok()?;
    Some(pod.metadata.name)
}

/// The empty pod that ends the initial events of a streaming list.
pub fn bookmark_protobuf(revision: u64, annotation: &str) -> Bytes {
    let metadata = ObjectMeta {
        resource_version: revision.to_string(),
        annotations: BTreeMap::from([(annotation.to_owned(), "true".to_owned())]),
        ..ObjectMeta::default()
    };
    wrap("Pod", &PodMessage::posted(metadata, &PodSpec::default()))
}
