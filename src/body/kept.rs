//! A streamed body that comes back when it is dropped unsent, so that a request which its server refused unprocessed can be sent again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::{Body, Buffered, Source, streamed_size};

/// What there is to read, as [`Source::Streamed`] has it.
type Streamed = (VecDeque<Bytes>, Incoming);

/// See the module. Chunks are shared, not copied.
#[derive(Debug)]
pub(super) struct KeptBody {
    unread: VecDeque<Bytes>,
    read: VecDeque<Bytes>,
    /// How much more may be read before the body is no longer kept.
    left: usize,
    /// Some until the drop.
    rest: Option<Incoming>,
    /// None once too much has been read.
    home: Option<oneshot::Sender<Streamed>>,
}

/// Where a body returns to.
#[derive(Debug)]
pub struct Returned(Return);

#[derive(Debug)]
enum Return {
    Whole(Buffered),
    WhenDropped(oneshot::Receiver<Streamed>),
    Never,
}

impl KeptBody {
    /// A body that returns as long as at most `limit` bytes of it have been read.
    pub(super) fn new(unread: VecDeque<Bytes>, rest: Incoming, limit: usize) -> (Self, Returned) {
        let (home, returned) = oneshot::channel();
        let kept = Self { unread, read: VecDeque::new(), left: limit, rest: Some(rest), home: Some(home) };
        (kept, Returned(Return::WhenDropped(returned)))
    }

    pub(super) fn unread(&mut self, chunks: VecDeque<Bytes>) {
        self.unread = chunks;
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match (self.unread.pop_front(), &mut self.rest) {
            (Some(data), _) => Some(Ok(Frame::data(data))),
            (None, Some(rest)) => ready!(Pin::new(rest).poll_frame(cx)),
            (None, None) => None,
        };
        match &frame {
            Some(Ok(frame)) => self.keep(frame.data_ref()),
            Some(Err(_)) => self.home = None,
            None => {}
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.unread.is_empty() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or_else(SizeHint::default, |rest| streamed_size(&self.unread, rest))
    }

    /// Keeps a chunk that goes out; trailers (None) are not kept, nor is what is too large.
    fn keep(&mut self, data: Option<&Bytes>) {
        match data.filter(|data| data.len() <= self.left && self.home.is_some()) {
            Some(data) => {
                self.left -= data.len();
                self.read.push_back(data.clone());
            }
            None => {
                self.home = None;
                self.read.clear();
            }
        }
    }
}

impl Drop for KeptBody {
    fn drop(&mut self) {
        if let (Some(home), Some(rest)) = (self.home.take(), self.rest.take()) {
            let mut whole = std::mem::take(&mut self.read);
            whole.append(&mut self.unread);
            // Nobody waits for it where the request was answered.
            let _ = home.send((whole, rest));
        }
    }
}

impl Returned {
    pub(super) fn whole(body: Buffered) -> Self {
        Self(Return::Whole(body))
    }

    pub(super) fn never() -> Self {
        Self(Return::Never)
    }

    /// The body as it was, once the connection has let go of it; None if too much of it had been read.
    pub async fn body(self) -> Option<Body> {
        match self.0 {
            Return::Whole(body) => Some(body.into()),
            Return::WhenDropped(returned) => {
                let (prefix, rest) = returned.await.ok()?;
                Some(Body { source: Source::Streamed { prefix, rest }, guard: None })
            }
            Return::Never => None,
        }
    }
}
