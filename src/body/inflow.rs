//! Reads a body from its peer, and checks that it is complete. hyper ends some bodies that broke
//! off as if they were complete. A proxy must not pass them on like that.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::BodyError;
use crate::drain::{Stage, Watcher};

/// The peer's body.
#[derive(Debug)]
pub(super) struct Inflow {
    incoming: Incoming,
    end: End,
    /// The last bytes of a body with a declared length, held until its end has come. Over HTTP/1.1
    /// these bytes would themselves be the end.
    last: Option<Bytes>,
    /// The trailers that came after `last`.
    trailers: Option<Box<HeaderMap>>,
}

/// The sign that a body is complete.
#[derive(Debug)]
enum End {
    /// HTTP/2: END_STREAM. hyper does not check it, and takes every error with the code NO_ERROR
    /// for the end. That can be the RST_STREAM(NO_ERROR) of an incomplete stream, which Envoy sends
    /// for each of its own resets, or the GOAWAY(NO_ERROR) of a connection that closes. RFC 9113
    /// §8.1 allows RST_STREAM(NO_ERROR) only after a complete message.
    Stream,
    /// HTTP/1.1: hyper reports a missing part of the declared length, or a missing last chunk.
    Message,
    /// HTTP/1.1 from a client. At the deadline of the drain the connection is dropped, and hyper
    /// takes that for the end of the body.
    MessageUntilCut(Watcher),
}

impl Inflow {
    /// `version` is that of the message.
    pub(super) fn new(incoming: Incoming, version: Version) -> Self {
        Self {
            incoming,
            end: if version == Version::HTTP_2 {
                End::Stream
            } else {
                End::Message
            },
            last: None,
            trailers: None,
        }
    }

    /// For a body whose connection is dropped in the last stage of the drain.
    pub(super) fn until_cut(mut self, drain: &Watcher) -> Self {
        if matches!(self.end, End::Message) && !self.incoming.is_end_stream() {
            self.end = End::MessageUntilCut(drain.clone());
        }
        self
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
        }
        loop {
            let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => match self.hold_last(frame) {
                    Some(frame) => frame,
                    None => continue,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::Read(error)))),
                None if self.is_whole() => {
                    return Poll::Ready(self.last.take().map(|last| Ok(Frame::data(last))));
                }
                None => return Poll::Ready(Some(Err(BodyError::Unfinished))),
            };
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    /// Holds back the bytes that complete the declared length, until the end has come. Returns
    /// every other frame.
    fn hold_last(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let complete = matches!(self.end, End::Stream)
            && self.incoming.size_hint().exact() == Some(0)
            && !self.incoming.is_end_stream();
        match frame.into_data() {
            Ok(data) if complete && !data.is_empty() => {
                self.last = Some(data);
                None
            }
            // An empty frame that only ends the stream: `last` is the end now. The empty frame is
            // dropped, because h2 closes connections that send many of them.
            Ok(data) if data.is_empty() && self.last.is_some() => None,
            Ok(data) => Some(Frame::data(data)),
            Err(frame) => match (self.last.take(), frame.into_trailers()) {
                (Some(last), Ok(trailers)) => {
                    self.trailers = Some(Box::new(trailers));
                    Some(Frame::data(last))
                }
                (_, Ok(trailers)) => Some(Frame::trailers(trailers)),
                (_, Err(frame)) => Some(frame),
            },
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.trailers.is_none() && self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.last {
            Some(last) => SizeHint::with_exact(last.len() as u64),
            None => self.incoming.size_hint(),
        }
    }

    /// Whether the body is complete, after hyper has ended it.
    fn is_whole(&self) -> bool {
        match &self.end {
            // h2 remembers END_STREAM even if a reset follows it.
            End::Stream => self.incoming.is_end_stream(),
            End::Message => true,
            End::MessageUntilCut(drain) => drain.stage() < Stage::Cut,
        }
    }
}
