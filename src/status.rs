//! contract only
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

/// A `metav1.Status` of `status: Failure`.
pub struct Status { pub code: u16, pub reason: String, pub message: String, pub details: Details }
pub struct Details { pub name: String, pub group: String, pub kind: String, pub causes: Vec<Cause>, pub retry_after_seconds: u32 }
pub struct Cause { pub reason: String, pub message: String }

pub enum Encoding { Json, Protobuf, Yaml }
impl Encoding {
    /// The encoding in which the apiserver would answer an error to this `Accept`.
    pub fn negotiate(headers: &HeaderMap) -> Encoding { todo!() }
    pub fn content_type(self) -> HeaderValue { todo!() }
}
impl Status {
    pub fn encode(&self, encoding: Encoding) -> Bytes { todo!() }
    /// Sniffs: `k8s\0` = protobuf, `{` = JSON, else YAML; None where it is no Status.
    pub fn decode(body: &[u8]) -> Option<Status> { todo!() }
}
/// Name, generateName and namespace of an object in a request body (JSON or protobuf).
pub struct ObjectMeta { pub name: String, pub generate_name: String, pub namespace: String }
pub fn object_meta(body: &[u8]) -> Option<ObjectMeta> { todo!() }
