//! Encodes spans as OTLP's protobuf. Pure. The tests decode it with OpenTelemetry's own types.
//! Field numbers:
//! <https://github.com/open-telemetry/opentelemetry-proto/blob/v1.8.0/opentelemetry/proto/trace/v1/trace.proto>

use std::time::Duration;

use bytes::Bytes;

use crate::status::protobuf::{FieldValue, MalformedProtobuf, Message, fields};

/// `Status.StatusCode` of a span that failed.
const STATUS_ERROR: u64 = 2;

/// The side of a request that a span describes, with the numbers of `Span.SpanKind`.
#[derive(Debug, Clone, Copy)]
pub(super) enum SpanKind {
    Server = 2,
    Client = 3,
}

/// One span that has ended. Times are nanoseconds since 1970.
#[derive(Debug)]
pub(super) struct Span<'a> {
    pub(super) trace_id: u128,
    pub(super) id: u64,
    /// Zero if the trace begins with this span.
    pub(super) parent: u64,
    pub(super) state: &'a str,
    pub(super) name: &'a str,
    pub(super) kind: SpanKind,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: Attributes,
    /// The time, name and attributes of an event.
    pub(super) event: Option<(u64, &'static str, Attributes)>,
    pub(super) failed: bool,
}

/// Attributes in the order in which they were added. Callers add each key only once.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<Message>);

impl Attributes {
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.add(key, Message::new().string(1, value));
    }

    pub(super) fn int(&mut self, key: &str, value: u64) {
        self.add(key, Message::new().int(3, value));
    }

    pub(super) fn seconds(&mut self, key: &str, value: Duration) {
        self.add(
            key,
            Message::new().fixed64(4, value.as_secs_f64().to_bits()),
        );
    }

    fn add(&mut self, key: &str, value: Message) {
        self.0
            .push(Message::new().string(1, key).message(2, &value));
    }

    fn onto(self, message: Message, number: u32) -> Message {
        self.0.iter().fold(message, |message, attribute| {
            message.message(number, attribute)
        })
    }
}

impl Span<'_> {
    pub(super) fn encode(self) -> Message {
        let mut span = Message::new()
            .bytes(1, &self.trace_id.to_be_bytes())
            .bytes(2, &self.id.to_be_bytes())
            .string(3, self.state);
        if self.parent != 0 {
            span = span.bytes(4, &self.parent.to_be_bytes());
        }
        span = span
            .string(5, self.name)
            .int(6, self.kind as u64)
            .fixed64(7, self.start)
            .fixed64(8, self.end);
        span = self.attributes.onto(span, 9);
        if let Some((time, name, attributes)) = self.event {
            span = span.message(
                11,
                &attributes.onto(Message::new().fixed64(1, time).string(2, name), 3),
            );
        }
        if self.failed {
            span.message(15, &Message::new().int(3, STATUS_ERROR))
        } else {
            span
        }
    }
}

/// An `ExportTraceServiceRequest` with these spans.
pub(super) fn request(service_name: &str, spans: &[Message]) -> Bytes {
    let mut service = Attributes::default();
    service.text("service.name", service_name);
    service.text("service.version", env!("CARGO_PKG_VERSION"));
    let scope = Message::new()
        .string(1, env!("CARGO_PKG_NAME"))
        .string(2, env!("CARGO_PKG_VERSION"));
    let scope_spans = spans
        .iter()
        .fold(Message::new().message(1, &scope), |message, span| {
            message.message(2, span)
        });
    let resource_spans = Message::new()
        .message(1, &service.onto(Message::new(), 1))
        .message(2, &scope_spans);
    Bytes::copy_from_slice(Message::new().message(1, &resource_spans).as_bytes())
}

/// How many spans an `ExportTraceServiceResponse` says were rejected.
pub(super) fn rejected(response: &[u8]) -> Result<u64, MalformedProtobuf> {
    let mut rejected = 0;
    for field in fields(response) {
        let (1, FieldValue::Bytes(partial_success)) = field? else {
            continue;
        };
        for field in fields(partial_success) {
            if let (1, FieldValue::Varint(spans)) = field? {
                rejected = spans;
            }
        }
    }
    Ok(rejected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_how_many_spans_were_rejected() {
        assert_eq!(rejected(&[]), Ok(0));
        let partial = Message::new().message(1, &Message::new().int(1, 3).string(2, "too old"));
        assert_eq!(rejected(partial.as_bytes()), Ok(3));
        assert_eq!(rejected(b"<html>"), Err(MalformedProtobuf));
    }
}
