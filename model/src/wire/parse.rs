//! Parses a posted pod. Metadata and resources are decoded; the rest is kept as it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Value};

use super::super::amounts::Amounts;
use super::super::object::{Content, NewPod};
use super::proto::{Container, PodMessage, PodSpec, Quantity};
use crate::envelope;

/// The compute resources that a quota can require of every container.
const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// Why a body is not a pod. The apiserver answers with the `Display` text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The body is not an object.
    #[error(
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: {error} ({start})"
    )]
    Unrecognized {
        /// The message of the parser.
        error: String,
        /// The beginning of the body.
        start: String,
    },
    /// The body is an object of another kind.
    #[error("{kind} in version {api_version:?} cannot be handled as a Pod")]
    OtherKind {
        /// The kind of the object.
        kind: String,
        /// The API version of the object.
        api_version: String,
    },
    /// A field of the pod has the wrong type.
    #[error("Pod in version \"v1\" cannot be handled as a Pod: {0}")]
    Fields(&'static str),
}

/// The resources of one container.
#[derive(Default)]
struct Resources {
    requests: BTreeMap<String, String>,
    limits: BTreeMap<String, String>,
}

/// Parses a pod from a JSON or protobuf body.
pub fn parse_pod(body: &Bytes) -> Result<NewPod, Malformed> {
    if body.starts_with(envelope::MAGIC) {
        parse_protobuf(body)
    } else {
        parse_json(body)
    }
}

fn parse_json(body: &Bytes) -> Result<NewPod, Malformed> {
    let unrecognized = |error: serde_json::Error| {
        let start = String::from_utf8_lossy(&body[..body.len().min(25)]);
        Malformed::Unrecognized {
            error: error.to_string(),
            start: format!("{start} ..."),
        }
    };
    let mut object: Map<String, Value> = serde_json::from_slice(body).map_err(unrecognized)?;
    kind_is_pod(text(&object, "kind"), text(&object, "apiVersion"))?;
    let metadata = match object.remove("metadata") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(metadata)) => metadata,
        Some(_) => return Err(Malformed::Fields("metadata is no object")),
    };
    let spec = object.remove("spec").unwrap_or(Value::Null);
    let containers = spec
        .get("containers")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let containers: Vec<_> = containers.iter().map(json_resources).collect();
    let labels = strings(metadata.get("labels"));
    let pod = NewPod {
        namespace: text(&metadata, "namespace").to_owned(),
        name: text(&metadata, "name").to_owned(),
        generate_name: text(&metadata, "generateName").to_owned(),
        labels,
        content: Content::Json { metadata, spec },
        ..NewPod::default()
    };
    measured(pod, containers)
}

fn json_resources(container: &Value) -> Resources {
    let resources = container.get("resources");
    let of = |key| strings(resources.and_then(|resources| resources.get(key)));
    Resources {
        requests: of("requests"),
        limits: of("limits"),
    }
}

/// Parses a map of strings. Quantities may also be numbers.
fn strings(value: Option<&Value>) -> BTreeMap<String, String> {
    let Some(Value::Object(map)) = value else {
        return BTreeMap::new();
    };
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    map.iter()
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn parse_protobuf(body: &Bytes) -> Result<NewPod, Malformed> {
    const BROKEN: Malformed = Malformed::Fields("protobuf: wrong wire format");
    let object = envelope::unwrap(body).ok_or(BROKEN)?;
    kind_is_pod(&object.type_meta.kind, &object.type_meta.api_version)?;
    let PodMessage { metadata, spec, .. } = Message::decode(object.raw).map_err(|_| BROKEN)?;
    let containers = PodSpec::decode(spec.clone())
        .map_err(|_| BROKEN)?
        .containers;
    let pod = NewPod {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        generate_name: metadata.generate_name.clone(),
        labels: metadata.labels.clone(),
        content: Content::Protobuf {
            metadata: Box::new(metadata),
            spec,
        },
        ..NewPod::default()
    };
    measured(pod, containers.into_iter().map(Resources::from).collect())
}

impl From<Container> for Resources {
    fn from(container: Container) -> Resources {
        let texts = |quantities: BTreeMap<String, Quantity>| {
            quantities
                .into_iter()
                .map(|(name, quantity)| (name, quantity.string))
                .collect()
        };
        let resources = container.resources.unwrap_or_default();
        Resources {
            requests: texts(resources.requests),
            limits: texts(resources.limits),
        }
    }
}

fn kind_is_pod(kind: &str, api_version: &str) -> Result<(), Malformed> {
    if kind == "Pod" && api_version == "v1" {
        return Ok(());
    }
    Err(Malformed::OtherKind {
        kind: kind.to_owned(),
        api_version: api_version.to_owned(),
    })
}

/// Adds up the resources of all containers, under every name that quotas use. A limit replaces a
/// missing request.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/pkg/quota/v1/evaluator/core/pods.go#L260-L300>
fn measured(mut pod: NewPod, containers: Vec<Resources>) -> Result<NewPod, Malformed> {
    const QUANTITY: Malformed = Malformed::Fields("quantities must match the regular expression");
    let mut usage = Amounts::parse([("pods", "1"), ("count/pods", "1")]).ok_or(QUANTITY)?;
    for container in &containers {
        for name in COMPUTE {
            let limit = container.limits.get(name);
            if let Some(request) = container.requests.get(name).or(limit) {
                usage.add(
                    &Amounts::parse([(requests(name), request.as_str()), (name, request.as_str())])
                        .ok_or(QUANTITY)?,
                );
            } else {
                pod.unspecified.extend([requests(name), name]);
            }
            if let Some(limit) = limit {
                usage.add(&Amounts::parse([(limits(name), limit.as_str())]).ok_or(QUANTITY)?);
            } else {
                pod.unspecified.push(limits(name));
            }
        }
    }
    pod.usage = usage;
    Ok(pod)
}

fn requests(name: &str) -> &'static str {
    if name == "cpu" {
        "requests.cpu"
    } else {
        "requests.memory"
    }
}

fn limits(name: &str) -> &'static str {
    if name == "cpu" {
        "limits.cpu"
    } else {
        "limits.memory"
    }
}
