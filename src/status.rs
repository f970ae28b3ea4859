//! `metav1.Status`, the error object of the apiserver: decodes those of the upstream and encodes
//! those that the proxy writes itself.
//!
//! This module knows the four encodings of the apiserver (JSON, protobuf, YAML and CBOR), and finds
//! the name of an object in a request body. It does not decide what a Status proves; `verdict` does.
//! Malformed input of any kind gives `None` and never a panic.

mod cbor;
mod json;
mod meta;
mod negotiate;
pub mod protobuf;
mod yaml;

pub use meta::{ObjectMeta, object_meta};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

/// A `metav1.Status` of `status: Failure`.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/types.go>
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The HTTP status code; 0 if the sender left it out.
    pub code: u16,
    /// The reason for programs, as in `Conflict`; empty if unknown.
    pub reason: String,
    /// The sentence for people.
    pub message: String,
    /// The object of the error; empty if the sender gave none.
    pub details: Details,
}

/// The object that an error is about, and how long to wait. The object may differ from the
/// requested one: a quota conflict names the quota.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// The name of the object.
    pub name: String,
    /// The API group; empty for core.
    pub group: String,
    /// The *resource* in most errors (`pods`, `resourcequotas`), the kind in validation errors.
    pub kind: String,
    /// Details of the error, as for each field that fails validation.
    pub causes: Vec<Cause>,
    /// Seconds to wait before the next attempt; 0 if the sender gave none.
    pub retry_after_seconds: u32,
}

/// One cause in [`Details`]. The field path of a validation error is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// The reason for programs, as in `NamespaceTerminating`.
    pub reason: String,
    /// The sentence for people.
    pub message: String,
}

/// An encoding in which the apiserver writes objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// `application/json`, the default.
    #[default]
    Json,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
    /// `application/yaml`.
    Yaml,
    /// `application/cbor`.
    Cbor,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Encoding; 4] = [
        Encoding::Json,
        Encoding::Protobuf,
        Encoding::Yaml,
        Encoding::Cbor,
    ];

    /// The encoding in which the apiserver would answer an error to a request with these headers.
    pub fn negotiate(headers: &HeaderMap) -> Encoding {
        Encoding::of_accept(headers.get(http::header::ACCEPT))
    }

    /// The same for a value of `Accept`. If there are several lines, pass the first, since the
    /// apiserver reads no other.
    pub fn of_accept(accept: Option<&HeaderValue>) -> Encoding {
        accept.map_or(Encoding::Json, |accept| {
            negotiate::negotiate(accept.as_bytes())
        })
    }

    /// The encoding of a body, judged by its first bytes, because `Content-Type` is wrong too
    /// often. Plain text counts as YAML.
    pub fn sniff(body: &[u8]) -> Encoding {
        if body.starts_with(&protobuf::MAGIC) {
            Encoding::Protobuf
        } else if cbor::starts(body) {
            Encoding::Cbor
        } else if body.trim_ascii_start().starts_with(b"{") {
            Encoding::Json
        } else {
            Encoding::Yaml
        }
    }

    /// The value for `Content-Type`.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(self.media_type())
    }

    /// The media type, without parameters.
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
            Encoding::Yaml => "application/yaml",
            Encoding::Cbor => "application/cbor",
        }
    }
}

impl Status {
    /// A Status without details.
    pub fn new(code: u16, reason: impl Into<String>, message: impl Into<String>) -> Status {
        Status {
            code,
            reason: reason.into(),
            message: message.into(),
            details: Details::default(),
        }
    }

    /// The same with `details.retryAfterSeconds`. client-go obeys only the `Retry-After` header, so
    /// send that too.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Status {
        self.details.retry_after_seconds = seconds;
        self
    }

    /// The body to send, byte for byte as the apiserver would write it. In CBOR the apiserver
    /// begins at a random field; this begins at the first.
    pub fn encode(&self, encoding: Encoding) -> Bytes {
        match encoding {
            Encoding::Json => json::encode(self).into(),
            Encoding::Protobuf => protobuf::encode_status(self),
            Encoding::Yaml => yaml::encode(self).into(),
            Encoding::Cbor => cbor::encode(self),
        }
    }

    /// The Status in `body`, in any encoding (see [`Encoding::sniff`]). None: the body is not a
    /// Status, or does not say `Failure`.
    pub fn decode(body: &[u8]) -> Option<Status> {
        match Encoding::sniff(body) {
            Encoding::Json => json::decode(body),
            Encoding::Protobuf => protobuf::decode_status(body),
            Encoding::Yaml => yaml::decode(body),
            Encoding::Cbor => cbor::decode(body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;
    use proptest::prelude::*;

    /// Body of a captured answer in `tests/samples`.
    fn sample(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/samples/{name}.http", env!("CARGO_MANIFEST_DIR"));
        let raw = std::fs::read(path).unwrap();
        let head = raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        raw[head + 4..].to_vec()
    }

    fn quota_conflict() -> Status {
        let message = "Operation cannot be fulfilled on resourcequotas \"compute-quota\": the object has been modified; \
                       please apply your changes to the latest version and try again";
        let mut status = Status::new(409, "Conflict", message);
        status.details.name = "compute-quota".into();
        status.details.kind = "resourcequotas".into();
        status
    }

    #[test]
    fn reads_the_same_status_from_every_encoding_the_apiserver_sent() {
        every(
            [
                "quota_conflict_409",
                "quota_conflict_409_protobuf",
                "quota_conflict_409_clientgo_accept",
                "quota_conflict_409_yaml",
                "quota_conflict_409_cbor",
            ],
            |name| {
                assert_eq!(
                    Status::decode(&sample(name)),
                    Some(quota_conflict()),
                    "{name}"
                );
            },
        );
    }

    #[test]
    fn writes_the_bytes_that_the_apiserver_wrote() {
        let all = [
            "already_exists_409",
            "already_exists_409_cbor",
            "already_exists_409_protobuf",
            "anonymous_403",
            "bad_json_400",
            "etcd_stalled_quota_timeout_500",
            "exceeded_quota_403",
            "exceeded_quota_403_cbor",
            "exceeded_quota_403_protobuf",
            "invalid_422_two_causes",
            "namespace_mismatch_400",
            "quota_conflict_409",
            "quota_conflict_409_clientgo_accept",
            "quota_conflict_409_protobuf",
            "quota_conflict_409_yaml",
            "quota_status_unknown_403",
            "sa_token_missing_500",
            "unauthorized_401",
        ];
        every(all, |name| {
            let body = sample(name);
            let written = Status::decode(&body)
                .unwrap()
                .encode(Encoding::sniff(&body));
            if name.starts_with("invalid") {
                // The field paths of causes are not kept.
                assert_ne!(written, body);
                return;
            }
            assert_eq!(
                written,
                body,
                "{name}: {:?}",
                String::from_utf8_lossy(&written)
            );
        });
    }

    #[test]
    fn finds_no_status_in_other_objects_and_texts() {
        let none: [&[u8]; 9] = [
            b"",
            b"Too many requests, please try again later.\n",
            b"<html><body>kind: Status</body></html>",
            b"{}",
            b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}",
            b"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Success\"}",
            b"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"code\":99999}",
            b"k8s\0",
            b"kind: Status\napiVersion: [v1",
        ];
        every(none, |body| {
            assert_eq!(
                Status::decode(body),
                None,
                "{}",
                String::from_utf8_lossy(body)
            );
        });
        for created in [
            "created_201",
            "created_201_cbor",
            "created_201_custom_resource_cbor",
        ] {
            assert_eq!(Status::decode(&sample(created)), None, "{created}");
        }
        assert_eq!(Status::decode(&sample("too_many_requests_429")), None);
    }

    #[test]
    fn finds_no_status_in_a_truncated_body() {
        // The last bytes of the protobuf are the envelope's two empty strings, the last of the JSON is
        // the newline.
        for (name, idle) in [
            ("quota_conflict_409", 1),
            ("quota_conflict_409_protobuf", 4),
            ("quota_conflict_409_cbor", 0),
        ] {
            let body = sample(name);
            for end in 0..body.len() - idle {
                assert_eq!(Status::decode(&body[..end]), None, "{name} cut at {end}");
            }
        }
    }

    #[test]
    fn reads_null_as_absent() {
        let body = br#"{"kind":"Status","apiVersion":"v1","metadata":null,"message":null,"reason":"Conflict","details":null,"code":409}"#;
        assert_eq!(Status::decode(body), Some(Status::new(409, "Conflict", "")));
    }

    fn any_status() -> impl Strategy<Value = Status> {
        let cause =
            ("\\PC{0,20}", "\\PC{0,90}").prop_map(|(reason, message)| Cause { reason, message });
        let details = (
            "\\PC{0,20}",
            "[a-z.]{0,20}",
            "\\PC{0,20}",
            prop::collection::vec(cause, 0..3),
            0..=i32::MAX as u32,
        )
            .prop_map(|(name, group, kind, causes, retry_after_seconds)| Details {
                name,
                group,
                kind,
                causes,
                retry_after_seconds,
            });
        (any::<u16>(), "\\PC{0,20}", any::<String>(), details).prop_map(
            |(code, reason, message, details)| Status {
                code,
                reason,
                message,
                details,
            },
        )
    }

    proptest! {
        #[test]
        fn decode_never_panics(body: Vec<u8>) {
            let _ = Status::decode(&body);
            let _ = object_meta(&body);
        }

        #[test]
        fn decode_never_panics_behind_each_mark(mark in prop::sample::select(vec![&b"k8s\0"[..], b"{\"kind\":\"Status\"", b"kind: Status\n", b"\xd9\xd9\xf7", b"\xd9\xd9\xf7\xa8DkindFStatus"]), tail: Vec<u8>) {
            let body = [mark, &tail].concat();
            let _ = Status::decode(&body);
            let _ = object_meta(&body);
        }

        #[test]
        fn decode_never_panics_on_a_damaged_body(encoding in prop::sample::select(vec![Encoding::Protobuf, Encoding::Cbor]), at in 0usize..250, byte: u8) {
            let mut body = quota_conflict().encode(encoding).to_vec();
            let at = at % body.len();
            body[at] = byte;
            let _ = Status::decode(&body);
        }

        #[test]
        fn every_status_survives_json_protobuf_and_cbor(status in any_status()) {
            for encoding in [Encoding::Json, Encoding::Protobuf, Encoding::Cbor] {
                let body = status.encode(encoding);
                prop_assert_eq!(Encoding::sniff(&body), encoding);
                let read = Status::decode(&body);
                prop_assert_eq!(read.as_ref(), Some(&status));
            }
        }

        #[test]
        fn every_status_survives_yaml(status in any_status()) {
            let body = status.encode(Encoding::Yaml);
            let read = Status::decode(&body);
            prop_assert_eq!(read.as_ref(), Some(&status), "{}", String::from_utf8_lossy(&body));
        }
    }
}
