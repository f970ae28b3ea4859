//! Reading a posted pod: its metadata, what it takes from quotas, and the rest as it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::amounts::Amounts;
use super::super::object::{Content, NewPod};
use crate::status::protobuf::{self, Value as Field};

/// The compute resources that a quota may ask every container for.
const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// Why a body is no pod; `Display` is what the apiserver answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not an object at all.
    #[error(
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: {error} ({start})"
    )]
    Unrecognized {
        /// The parser's complaint.
        error: String,
        /// The beginning of the body.
        start: String,
    },
    /// An object of another kind.
    #[error("{kind} in version {api_version:?} cannot be handled as a Pod")]
    OtherKind {
        /// Its kind.
        kind: String,
        /// Its version.
        api_version: String,
    },
    /// A pod whose fields do not have their types.
    #[error("Pod in version \"v1\" cannot be handled as a Pod: {0}")]
    Fields(&'static str),
}

/// Resources of one container.
#[derive(Default)]
struct Resources {
    requests: BTreeMap<String, String>,
    limits: BTreeMap<String, String>,
}

/// Reads a pod from a JSON or protobuf body.
pub fn parse_pod(body: &Bytes) -> Result<NewPod, Malformed> {
    if body.starts_with(&protobuf::MAGIC) {
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

/// A map of strings; quantities may be written as numbers.
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

/// Field numbers:
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/api/core/v1/generated.proto>
fn parse_protobuf(body: &Bytes) -> Result<NewPod, Malformed> {
    const BROKEN: Malformed = Malformed::Fields("protobuf: wrong wire format");
    let object = protobuf::decode_object(body).ok_or(BROKEN)?;
    kind_is_pod(object.kind, object.api_version)?;
    let (mut metadata, mut spec) = (Bytes::new(), Bytes::new());
    for field in protobuf::fields(object.raw) {
        match field.map_err(|_| BROKEN)? {
            (1, Field::Bytes(bytes)) => metadata = body.slice_ref(bytes),
            (2, Field::Bytes(bytes)) => spec = body.slice_ref(bytes),
            _ => {}
        }
    }
    let mut pod = NewPod::default();
    for field in protobuf::fields(&metadata) {
        match field.map_err(|_| BROKEN)? {
            (1, Field::Bytes(bytes)) => pod.name = utf8(bytes),
            (2, Field::Bytes(bytes)) => pod.generate_name = utf8(bytes),
            (3, Field::Bytes(bytes)) => pod.namespace = utf8(bytes),
            (11, Field::Bytes(bytes)) => pod
                .labels
                .extend(entry(bytes).map(|(key, value)| (key, utf8(value)))),
            _ => {}
        }
    }
    let mut containers = Vec::new();
    for field in protobuf::fields(&spec) {
        if let (2, Field::Bytes(container)) = field.map_err(|_| BROKEN)? {
            containers.push(protobuf_resources(container));
        }
    }
    pod.content = Content::Protobuf { metadata, spec };
    measured(pod, containers)
}

fn protobuf_resources(container: &[u8]) -> Resources {
    let mut resources = Resources::default();
    let all = protobuf::fields(container)
        .flatten()
        .filter_map(|field| match field {
            (8, Field::Bytes(bytes)) => Some(bytes),
            _ => None,
        });
    for field in all.flat_map(|bytes| protobuf::fields(bytes).flatten()) {
        match field {
            (1, Field::Bytes(bytes)) => resources.limits.extend(quantity(bytes)),
            (2, Field::Bytes(bytes)) => resources.requests.extend(quantity(bytes)),
            _ => {}
        }
    }
    resources
}

/// One entry of a map from names to `Quantity{1 string}`.
fn quantity(bytes: &[u8]) -> Option<(String, String)> {
    let (key, value) = entry(bytes)?;
    protobuf::fields(value)
        .flatten()
        .find_map(|field| match field {
            (1, Field::Bytes(text)) => Some((key.clone(), utf8(text))),
            _ => None,
        })
}

/// One entry of a map: key and undecoded value.
fn entry(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (mut key, mut value): (_, &[u8]) = (None, &[]);
    for field in protobuf::fields(bytes) {
        match field.ok()? {
            (1, Field::Bytes(bytes)) => key = Some(utf8(bytes)),
            (2, Field::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Some((key?, value))
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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

/// Sums what the containers take, under every name that a quota may use for it. A limit stands in
/// for a missing request.
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
