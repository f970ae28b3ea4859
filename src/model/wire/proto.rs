//! Pods and lists of pods as protobuf.
//!
//! <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/api/core/v1/generated.proto>

use bytes::Bytes;

use super::super::object::{Content, Pod};
use crate::status::protobuf::{Message, Value, encode_object, fields};

/// A pod in its envelope.
pub fn pod_protobuf(pod: &Pod) -> Bytes {
    encode_object("v1", "Pod", &message(pod))
}

/// A list of pods in its envelope.
pub fn pod_list_protobuf<'a>(pods: impl Iterator<Item = &'a Pod>, revision: u64) -> Bytes {
    let metadata = Message::new()
        .string(1, "")
        .string(2, &revision.to_string())
        .string(3, "");
    let list = pods.fold(Message::new().message(1, &metadata), |list, pod| {
        list.message(2, &message(pod))
    });
    encode_object("v1", "PodList", &list)
}

fn message(pod: &Pod) -> Message {
    let spec: &[u8] = match &pod.posted.content {
        Content::Protobuf { spec, .. } => spec,
        Content::Json { .. } => &[],
    };
    Message::new()
        .message(1, &metadata(pod))
        .bytes(2, spec)
        .message(3, &Message::new().string(1, "Pending"))
}

/// `ObjectMeta`: the server's fields, then whatever else was posted.
fn metadata(pod: &Pod) -> Message {
    let posted = &pod.posted;
    let created = Message::new()
        .int(1, u64::try_from(pod.created.unix_timestamp()).unwrap_or(0))
        .int(2, 0);
    let mut message = Message::new()
        .string(1, &posted.name)
        .string(2, &posted.generate_name)
        .string(3, &posted.namespace)
        .string(4, "")
        .string(5, &pod.uid)
        .string(6, &pod.revision.to_string())
        .int(7, 0)
        .message(8, &created);
    match &posted.content {
        Content::Protobuf { metadata, .. } => {
            for (number, value) in fields(metadata).flatten().filter(|(number, _)| *number > 8) {
                message = match value {
                    Value::Varint(value) => message.int(number, value),
                    Value::Bytes(value) => message.bytes(number, value),
                    Value::Fixed64(_) | Value::Fixed32(_) => message,
                };
            }
        }
        Content::Json { .. } => {
            for (key, value) in &posted.labels {
                message = message.message(11, &Message::new().string(1, key).string(2, value));
            }
        }
    }
    message
}
