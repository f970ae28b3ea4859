//! `metav1.Status`, the error object of the apiserver, as messages derived with prost and serde.
//! The proxy's own implementation is written by hand.

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
    /// Empty in every known error.
    #[prost(message, required, tag = "1")]
    pub metadata: ListMeta,
    /// `Failure` or `Success`.
    #[prost(string, required, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The message for people.
    #[prost(string, required, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The reason for programs, for example `Conflict`.
    #[prost(string, required, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The object that the error is about, and further details.
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
    /// The name of the object.
    #[prost(string, required, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The API group; empty for the core group.
    #[prost(string, required, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource in most errors, the kind in validation errors.
    #[prost(string, required, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The uid of the object, in some errors about its identity. JSON has it after the kind.
    #[prost(string, required, tag = "6")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Single causes, for example of a failed validation.
    #[prost(message, repeated, tag = "4")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds to wait before the next attempt; 0 if the server gives none.
    #[prost(int32, required, tag = "5")]
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

/// `metav1.StatusCause`.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// The reason for programs, for example `NamespaceTerminating`.
    #[prost(string, required, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The message for people.
    #[prost(string, required, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field that a validation error is about.
    #[prost(string, required, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `metav1.ListMeta`.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListMeta {
    /// Only old apiservers set it.
    #[prost(string, required, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub self_link: String,
    /// The revision of a list.
    #[prost(string, required, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// The token for the next page of a list.
    #[prost(string, required, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#continue: String,
}

/// A Status with its kind and API version, as in JSON and YAML.
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

    /// The details; empty if there are none.
    pub fn details(&self) -> Details {
        self.details.clone().unwrap_or_default()
    }

    /// Adds a cause to the details.
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

    /// Encodes the body of an answer. No encoder fails on plain data.
    pub fn encode(&self, encoding: Encoding) -> Bytes {
        let typed = Typed {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            status: self,
        };
        match encoding {
            Encoding::Json => crate::wire::to_bytes(&typed),
            // The keys of a JSON value are sorted, as in Go's YAML.
            Encoding::Yaml => serde_json::to_value(&typed)
                .ok()
                .and_then(|sorted| serde_saphyr::to_string(&sorted).ok())
                .unwrap_or_default()
                .into(),
            Encoding::Protobuf => envelope::wrap("Status", self),
        }
    }

    /// Decodes the failure in `body`, in any encoding. `None` if the body is not a failure.
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
