//! Request bodies that consist of several frames.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::oneshot;

/// The body of a request.
pub enum Posted {
    /// A body with a known length.
    Full(Full<Bytes>),
    /// A sequence of frames without a known length.
    Frames {
        frames: VecDeque<Bytes>,
        /// Delays the last frame until the sender is used or dropped.
        gate: Option<oneshot::Receiver<()>>,
        trailers: Option<HeaderMap>,
    },
}

impl Posted {
    /// A body in frames of at most 64 KiB, without a known length.
    pub fn frames(body: impl Into<Bytes>) -> Self {
        let mut body = body.into();
        let mut frames = VecDeque::new();
        while !body.is_empty() {
            frames.push_back(body.split_to(body.len().min(64 << 10)));
        }
        Self::Frames {
            frames,
            gate: None,
            trailers: None,
        }
    }

    /// As [`Posted::frames`], but the last frame waits until the sender is used or dropped.
    pub fn gated(body: impl Into<Bytes>) -> (Self, oneshot::Sender<()>) {
        let (open, closed) = oneshot::channel();
        let mut posted = Self::frames(body);
        if let Self::Frames { gate, .. } = &mut posted {
            *gate = Some(closed);
        }
        (posted, open)
    }

    /// As [`Posted::frames`], with trailers. Over HTTP/1.1 a `Trailer` header must announce them.
    pub fn with_trailers(body: impl Into<Bytes>, headers: HeaderMap) -> Self {
        let mut posted = Self::frames(body);
        if let Self::Frames { trailers, .. } = &mut posted {
            *trailers = Some(headers);
        }
        posted
    }
}

impl HttpBody for Posted {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Full(full) => Pin::new(full).poll_frame(cx),
            Self::Frames {
                frames,
                gate,
                trailers,
            } => {
                if let (1, Some(closed)) = (frames.len(), gate.as_mut()) {
                    // Using and dropping the sender have the same effect.
                    let _ = ready!(Pin::new(closed).poll(cx));
                    *gate = None;
                }
                let data = frames.pop_front().map(Frame::data);
                Poll::Ready(
                    data.or_else(|| trailers.take().map(Frame::trailers))
                        .map(Ok),
                )
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Frames { .. } => SizeHint::default(),
        }
    }
}
