//! A streamed body that comes back when it is dropped unsent, so that a request which its server
//! refused unprocessed can be sent again.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::inflow::Inflow;
use super::{Body, BodyError, Buffered, Prefix, Source, streamed_size};

/// The most chunks that are kept: what comes in smaller ones than is usual occupies more than it is
/// worth.
const MAX_CHUNKS: usize = 16;

/// What there is to read, as [`Source::Streamed`] has it.
type Streamed = (Bytes, Inflow);

/// See the module. Chunks are shared, not copied.
#[derive(Debug)]
pub(super) struct KeptBody {
    unread: Bytes,
    read: Vec<Bytes>,
    /// How much more may be read before the body is no longer kept.
    left: usize,
    /// Some until the drop.
    rest: Option<Inflow>,
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
    pub(super) fn new(unread: Bytes, rest: Inflow, limit: usize) -> (Self, Returned) {
        let (home, returned) = oneshot::channel();
        let kept = Self {
            unread,
            read: Vec::new(),
            left: limit,
            rest: Some(rest),
            home: Some(home),
        };
        (kept, Returned(Return::WhenDropped(returned)))
    }

    pub(super) fn unread(&mut self, read: Bytes) {
        self.unread = read;
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.rest {
            _ if !self.unread.is_empty() => Some(Ok(Frame::data(std::mem::take(&mut self.unread)))),
            Some(rest) => ready!(rest.poll_frame(cx)),
            None => None,
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
        self.rest.as_ref().map_or_else(SizeHint::default, |rest| {
            streamed_size(self.unread.len(), rest)
        })
    }

    /// Keeps a chunk that goes out; trailers (None) are not kept, nor is what is too large.
    fn keep(&mut self, data: Option<&Bytes>) {
        match data.filter(|data| {
            data.len() <= self.left && self.read.len() < MAX_CHUNKS && self.home.is_some()
        }) {
            Some(data) => {
                self.left -= data.len();
                self.read.push(data.clone());
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
            let whole = joined(&self.read, std::mem::take(&mut self.unread));
            // Nobody waits for it where the request was answered.
            let _ = home.send((whole, rest));
        }
    }
}

fn joined(read: &[Bytes], unread: Bytes) -> Bytes {
    if read.is_empty() {
        return unread;
    }
    let mut whole =
        BytesMut::with_capacity(read.iter().map(Bytes::len).sum::<usize>() + unread.len());
    read.iter().for_each(|chunk| whole.extend_from_slice(chunk));
    whole.extend_from_slice(&unread);
    whole.freeze()
}

impl Returned {
    pub(super) fn whole(body: Buffered) -> Self {
        Self(Return::Whole(body))
    }

    pub(super) fn never() -> Self {
        Self(Return::Never)
    }

    /// The body as it was, once the connection has let go of it; None if too much of it had been
    /// read.
    pub async fn body(self) -> Option<Body> {
        match self.0 {
            Return::Whole(body) => Some(body.into()),
            Return::WhenDropped(returned) => {
                let (prefix, rest) = returned.await.ok()?;
                Some(Body {
                    source: Source::Streamed {
                        prefix: Prefix::of(prefix, None),
                        rest,
                        counted: None,
                    },
                    guard: None,
                })
            }
            Return::Never => None,
        }
    }
}
