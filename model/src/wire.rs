//! Pods on the wire: decoding of posted JSON and protobuf bodies, and encoding of pods and lists.
//!
//! A pod is returned in the encoding of its create exactly as it was posted, with the fields that
//! the server sets. In the other encoding it has only metadata and status, because translating a
//! whole spec would need the whole schema. This module does no IO.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::object::{Content, Namespace, NewPod, Pod, Quota};

mod parse;
mod proto;

pub use parse::{Malformed, parse_pod};
pub use proto::{
    ObjectMeta, bookmark_protobuf, name_of_protobuf, pod_list_protobuf, pod_protobuf,
    posted_protobuf,
};

/// A time in RFC 3339, as in `creationTimestamp`.
pub fn timestamp(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

/// Encodes a pod as JSON.
pub fn pod_json(pod: &Pod) -> Bytes {
    to_bytes(&PodJson::new(pod, Some("Pod")))
}

/// Encodes a list of pods as JSON.
pub fn pod_list_json<'a>(pods: impl Iterator<Item = &'a Pod>, revision: u64) -> Bytes {
    let items = pods.map(|pod| PodJson::new(pod, None)).collect();
    to_bytes(&List {
        kind: "PodList",
        api_version: "v1",
        metadata: json!({ "resourceVersion": revision.to_string() }),
        items,
    })
}

/// Encodes a list of other objects as JSON.
pub fn list_json(kind: &'static str, items: Vec<Value>, revision: u64) -> Bytes {
    to_bytes(&List {
        kind,
        api_version: "v1",
        metadata: json!({ "resourceVersion": revision.to_string() }),
        items,
    })
}

/// Encodes a namespace as JSON.
pub fn namespace_json(namespace: &Namespace) -> Value {
    let phase = if namespace.terminating {
        "Terminating"
    } else {
        "Active"
    };
    json!({
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {
            "name": namespace.name,
            "uid": namespace.uid,
            "resourceVersion": namespace.revision.to_string(),
            "creationTimestamp": timestamp(namespace.created),
        },
        "spec": { "finalizers": ["kubernetes"] },
        "status": { "phase": phase },
    })
}

/// Encodes a quota as JSON.
pub fn quota_json(quota: &Quota) -> Value {
    let quantities = |amounts: &super::amounts::Amounts| {
        amounts
            .quantities()
            .map(|(name, text)| (name.to_owned(), text))
            .collect::<BTreeMap<_, _>>()
    };
    json!({
        "kind": "ResourceQuota",
        "apiVersion": "v1",
        "metadata": {
            "name": quota.name,
            "namespace": quota.namespace,
            "uid": quota.uid,
            "resourceVersion": quota.revision.to_string(),
            "creationTimestamp": timestamp(quota.created),
        },
        "spec": { "hard": quantities(&quota.spec) },
        "status": { "hard": quantities(&quota.hard), "used": quantities(&quota.used) },
    })
}

/// One frame of a JSON watch.
pub fn watch_frame_json(event: &str, object: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(object.len() + 32);
    frame.extend_from_slice(br#"{"type":""#);
    frame.extend_from_slice(event.as_bytes());
    frame.extend_from_slice(br#"","object":"#);
    frame.extend_from_slice(object.trim_ascii_end());
    frame.extend_from_slice(b"}\n");
    frame.into()
}

/// Encodes a value as Go does: with a newline at the end, and with escapes for HTML characters and
/// for the JavaScript line separators.
pub fn to_bytes(value: &impl Serialize) -> Bytes {
    // Plain data with string keys always serializes.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    for special in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
        if text.contains(special) {
            text = text.replace(special, &format!("\\u{:04x}", u32::from(special)));
        }
    }
    text.push('\n');
    text.into()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Value,
    items: Vec<T>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<&'a Value>,
    status: Status,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    phase: &'static str,
    qos_class: &'static str,
}

impl<'a> PodJson<'a> {
    /// `kind` is omitted inside lists.
    fn new(pod: &'a Pod, kind: Option<&'static str>) -> PodJson<'a> {
        let posted = &pod.posted;
        let (mut metadata, spec) = match &posted.content {
            Content::Json { metadata, spec } => (metadata.clone(), Some(spec)),
            Content::Protobuf { .. } => (from_protobuf(posted), None),
        };
        metadata.insert("name".into(), posted.name.as_str().into());
        metadata.insert("namespace".into(), posted.namespace.as_str().into());
        metadata.insert("uid".into(), pod.uid.as_str().into());
        metadata.insert("resourceVersion".into(), pod.revision.to_string().into());
        metadata.insert("creationTimestamp".into(), timestamp(pod.created).into());
        if !posted.manager.is_empty() {
            let entry = managed_fields(&posted.manager, "v1", &timestamp(pod.created));
            metadata.insert("managedFields".into(), entry);
        }
        let status = Status {
            phase: "Pending",
            qos_class: "Burstable",
        };
        PodJson {
            kind,
            api_version: kind.map(|_| "v1"),
            metadata,
            spec,
            status,
        }
    }
}

/// The `managedFields` of an object that one manager has created. Its fields are not listed.
pub fn managed_fields(manager: &str, api_version: &str, time: &str) -> Value {
    json!([{
        "manager": manager, "operation": "Update", "apiVersion": api_version, "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": {},
    }])
}

fn from_protobuf(posted: &NewPod) -> Map<String, Value> {
    let mut metadata = Map::new();
    if !posted.generate_name.is_empty() {
        metadata.insert("generateName".into(), posted.generate_name.as_str().into());
    }
    if !posted.labels.is_empty() {
        metadata.insert("labels".into(), json!(posted.labels));
    }
    metadata
}

#[cfg(test)]
mod tests;
