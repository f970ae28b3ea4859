//! `metav1.Status`, the apiserver's error object, as the other side has it: derived messages for
//! prost and serde.

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::encoding::Encoding;
use crate::envelope;

/// An error of an apiserver.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto>
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Always empty.
    #[prost(message, required, tag = "1")]
    pub metadata: ListMeta,
    /// `Failure` or `Success`.
    #[prost(string, required, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The sentence for people.
    #[prost(string, required, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The cause for programs, e.g. `Conflict`.
    #[prost(string, required, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What the error is about.
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// The HTTP status code.
    #[prost(int32, required, tag = "6")]
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i32,
}

/// `metav1.StatusDetails`.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Details {
    /// Name of the object.
    #[prost(string, required, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group, empty for core.
    #[prost(string, required, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource in most errors, the kind in validation errors.
    #[prost(string, required, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Set by some errors that are about an object's identity. In JSON it stands behind the kind.
    #[prost(string, required, tag = "6")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Single findings, e.g. of validation.
    #[prost(message, repeated, tag = "4")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds to wait before another attempt, 0 = none given.
    #[prost(int32, required, tag = "5")]
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

/// `metav1.StatusCause`.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// The cause for programs, e.g. `NamespaceTerminating`.
    #[prost(string, required, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The sentence for people.
    #[prost(string, required, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field that a finding of validation is about.
    #[prost(string, required, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `metav1.ListMeta`.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListMeta {
    /// Of old apiservers.
    #[prost(string, required, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub self_link: String,
    /// The revision of a list.
    #[prost(string, required, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Where a list in pages goes on.
    #[prost(string, required, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#continue: String,
}

/// A Status with its kind and version, as JSON and YAML have them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed<S> {
    kind: String,
    api_version: String,
    #[serde(flatten)]
    status: S,
}

impl Status {
    /// A failure without details.
    pub fn new(code: i32, reason: &str, message: impl Into<String>) -> Status {
        Status {
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            code,
            ..Status::default()
        }
    }

    /// The details; empty where there are none.
    pub fn details(&self) -> Details {
        self.details.clone().unwrap_or_default()
    }

    /// Adds a finding to the details.
    #[must_use]
    pub fn caused_by(mut self, reason: &str, message: &str) -> Status {
        let details = self.details.get_or_insert_default();
        details.causes.push(Cause {
            reason: reason.to_owned(),
            message: message.to_owned(),
            field: String::new(),
        });
        self
    }

    /// The body of an answer. None of the encoders fails on plain data.
    pub fn encode(&self, encoding: Encoding) -> Bytes {
        let typed = Typed {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            status: self,
        };
        match encoding {
            Encoding::Json => crate::wire::to_bytes(&typed),
            // A value of JSON has its keys sorted, as Go's YAML has them.
            Encoding::Yaml => serde_json::to_value(&typed)
                .ok()
                .and_then(|sorted| serde_saphyr::to_string(&sorted).ok())
                .unwrap_or_default()
                .into(),
            Encoding::Protobuf => envelope::wrap("Status", self),
        }
    }

    /// The failure in `body`, whatever its encoding; None where there is none.
    pub fn decode(body: &[u8]) -> Option<Status> {
        let status = match Encoding::of(body) {
            Encoding::Json => serde_json::from_slice::<Typed<Status>>(body).ok()?.own()?,
            Encoding::Yaml => serde_saphyr::from_slice::<Typed<Status>>(body)
                .ok()?
                .own()?,
            Encoding::Protobuf => {
                let unknown = envelope::unwrap(&Bytes::copy_from_slice(body))?;
                if unknown.type_meta.kind != "Status" {
                    return None;
                }
                Status::decode_raw(unknown.raw)?
            }
        };
        (status.status != "Success").then_some(status)
    }

    fn decode_raw(raw: Bytes) -> Option<Status> {
        <Status as Message>::decode(raw).ok()
    }
}

impl Typed<Status> {
    fn own(self) -> Option<Status> {
        (self.kind == "Status").then_some(self.status)
    }
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
