//! What comes of a body from its peer, and whether it is whole. hyper ends some bodies that broke off as if they were complete; whoever
//! passes one on must not.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::BodyError;
use crate::drain::{Stage, Watcher};

/// The peer's body.
#[derive(Debug)]
pub(super) struct Inflow {
    incoming: Incoming,
    end: End,
}

/// How the end of a body proves that it is whole.
#[derive(Debug)]
enum End {
    /// HTTP/2: by END_STREAM, which hyper does not ask for. It takes every error with the code NO_ERROR for the end: RST_STREAM(NO_ERROR) of
    /// a stream that was never completed, as Envoy sends for each reset of its own, and GOAWAY(NO_ERROR) of a connection that closes.
    /// RFC 9113 §8.1 allows the former after a complete message only.
    Stream,
    /// HTTP/1.1: hyper itself tells what is missing of a length or of the last chunk.
    Message,
    /// The same, but hyper's connection may be dropped under it, at the deadline of the drain, and hyper takes that for the end.
    MessageUntilCut(Watcher),
}

impl Inflow {
    /// A body of a message of this version.
    pub(super) fn new(incoming: Incoming, version: Version) -> Self {
        Self { incoming, end: if version == Version::HTTP_2 { End::Stream } else { End::Message } }
    }

    /// A body whose connection is dropped when the drain has come to its last stage.
    pub(super) fn until_cut(mut self, drain: &Watcher) -> Self {
        if matches!(self.end, End::Message) && !self.incoming.is_end_stream() {
            self.end = End::MessageUntilCut(drain.clone());
        }
        self
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        Poll::Ready(match frame {
            Some(frame) => Some(frame.map_err(BodyError::Read)),
            None if self.is_whole() => None,
            None => Some(Err(BodyError::Unfinished)),
        })
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    /// Whether the body is whole, once hyper has ended it.
    fn is_whole(&self) -> bool {
        match &self.end {
            // h2 remembers END_STREAM also when a reset follows it.
            End::Stream => self.incoming.is_end_stream(),
            End::Message => true,
            End::MessageUntilCut(drain) => drain.stage() < Stage::Cut,
        }
    }
}
