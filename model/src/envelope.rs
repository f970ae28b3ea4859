//! The wrapping of protobuf objects on the wire: the envelope, and the frames of a watch.
//!
//! prost derives the messages. `required` mirrors gogo-protobuf, which writes every plain field
//! even if it is empty.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

/// The first bytes of every protobuf object.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/runtime/serializer/protobuf/protobuf.go>
pub const MAGIC: &[u8] = b"k8s\0";

/// `runtime.Unknown`: an encoded object with its version and kind.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/runtime/generated.proto>
#[derive(Clone, PartialEq, Message)]
pub struct Unknown {
    /// Version and kind of the object.
    #[prost(message, required, tag = "1")]
    pub type_meta: TypeMeta,
    /// The encoded object.
    #[prost(bytes = "bytes", required, tag = "2")]
    pub raw: Bytes,
    #[prost(string, required, tag = "3")]
    content_encoding: String,
    #[prost(string, required, tag = "4")]
    content_type: String,
}

/// `runtime.TypeMeta`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TypeMeta {
    /// `v1`, `apps/v1`, …
    #[prost(string, required, tag = "1")]
    pub api_version: String,
    /// `Pod`, `Status`, …
    #[prost(string, required, tag = "2")]
    pub kind: String,
}

/// `metav1.WatchEvent`, which has no envelope.
#[derive(Clone, PartialEq, Message)]
struct WatchEvent {
    #[prost(string, required, tag = "1")]
    event: String,
    #[prost(message, required, tag = "2")]
    object: RawExtension,
}

/// `runtime.RawExtension`.
#[derive(Clone, PartialEq, Message)]
struct RawExtension {
    #[prost(bytes = "bytes", required, tag = "1")]
    raw: Bytes,
}

/// Puts an object of the core group into an envelope.
pub fn wrap(kind: &str, object: &impl Message) -> Bytes {
    let unknown = Unknown {
        type_meta: TypeMeta {
            api_version: "v1".to_owned(),
            kind: kind.to_owned(),
        },
        raw: object.encode_to_vec().into(),
        ..Unknown::default()
    };
    let mut body = BytesMut::with_capacity(MAGIC.len() + unknown.encoded_len());
    body.put_slice(MAGIC);
    // The capacity is sufficient.
    let _ = unknown.encode(&mut body);
    body.freeze()
}

/// Decodes the envelope of `body`; `None` if there is none or it is damaged.
pub fn unwrap(body: &Bytes) -> Option<Unknown> {
    if !body.starts_with(MAGIC) {
        return None;
    }
    Unknown::decode(body.slice(MAGIC.len()..)).ok()
}

/// One event of a protobuf watch. `object` includes its envelope.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apimachinery/pkg/util/framer/framer.go>
pub fn watch_frame(event: &str, object: &Bytes) -> Bytes {
    let event = WatchEvent {
        event: event.to_owned(),
        object: RawExtension {
            raw: object.clone(),
        },
    };
    let length = event.encoded_len();
    let mut frame = BytesMut::with_capacity(4 + length);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    let _ = event.encode(&mut frame);
    frame.freeze()
}

/// Takes the first event from a protobuf watch: its type, and its object with the envelope. Returns
/// `None` if the event is incomplete or damaged.
pub fn next_watch_event(stream: &mut Bytes) -> Option<(String, Bytes)> {
    let mut rest = stream.clone();
    let length = usize::try_from(rest.try_get_u32().ok()?).ok()?;
    if rest.len() < length {
        return None;
    }
    let frame = WatchEvent::decode(rest.split_to(length)).ok()?;
    *stream = rest;
    Some((frame.event, frame.object.raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_watch_events_from_a_stream_only_when_they_are_complete() {
        let object = wrap("Status", &TypeMeta::default());
        let frame = watch_frame("ADDED", &object);
        let mut stream = Bytes::from([&frame[..], &frame[..7]].concat());
        assert_eq!(
            next_watch_event(&mut stream),
            Some(("ADDED".to_owned(), object))
        );
        assert_eq!(stream, frame[..7]);
        assert_eq!(next_watch_event(&mut stream), None);
    }
}
