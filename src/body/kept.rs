//! A streamed request body that comes back when the connection drops it, so that a request that the
//! server refused unprocessed can be sent again.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::inflow::Inflow;
use super::{Body, BodyError, Buffered, Prefix, Source, streamed_size};

/// The most chunks that are kept. A body in unusually small chunks would occupy much more memory
/// than its bytes.
const MAX_CHUNKS: usize = 16;

/// The bytes to send first, and the rest of the body.
type Unsent = (Bytes, Inflow);

/// A body that returns when it is dropped.
///
/// **Invariant:** a body returns with every byte from its first one, in order and once, or it never
/// returns. So the next server gets the whole request or none, and never a truncated one that looks
/// complete.
///
/// - Each frame that leaves is kept in `read` before the connection sees it. A frame that cannot be
///   kept (it is too large, one chunk too many, or trailers) means that the body never returns:
///   `return_to` becomes None and never Some again.
/// - The same holds for an error, because the rest can then not be read.
/// - The body returns only from its drop, when the connection can send nothing more of it. What it
///   keeps is shared with the connection, not copied, and is freed when the body is too large to
///   return.
///
/// If a body returns although a frame was not kept, only a part of it is sent again, and
/// `a_call_that_the_apiserver_refuses_unprocessed_is_sent_again` fails.
#[derive(Debug)]
pub(super) struct KeptBody {
    /// Bytes that were put back and are sent first.
    pending: Bytes,
    /// The chunks that were sent.
    read: Vec<Bytes>,
    /// How many more bytes may be sent before the body is no longer kept.
    remaining: usize,
    /// Some until the drop.
    rest: Option<Inflow>,
    /// None when the body is no longer kept.
    return_to: Option<oneshot::Sender<Unsent>>,
}

/// Gives back the body after it was dropped.
#[derive(Debug)]
pub struct Returned(Return);

#[derive(Debug)]
enum Return {
    Whole(Buffered),
    WhenDropped(oneshot::Receiver<Unsent>),
    Never,
}

impl KeptBody {
    /// A body that returns as long as at most `limit` bytes of it have been read.
    pub(super) fn new(pending: Bytes, rest: Inflow, limit: usize) -> (Self, Returned) {
        let (return_to, returned) = oneshot::channel();
        let kept = Self {
            pending,
            read: Vec::new(),
            remaining: limit,
            rest: Some(rest),
            return_to: Some(return_to),
        };
        (kept, Returned(Return::WhenDropped(returned)))
    }

    pub(super) fn put_back(&mut self, read: Bytes) {
        self.pending = read;
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.rest {
            _ if !self.pending.is_empty() => {
                Some(Ok(Frame::data(std::mem::take(&mut self.pending))))
            }
            Some(rest) => ready!(rest.poll_frame(cx)),
            None => None,
        };
        match &frame {
            Some(Ok(frame)) => self.keep(frame.data_ref()),
            Some(Err(_)) => self.return_to = None,
            None => {}
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.pending.is_empty() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or_else(SizeHint::default, |rest| {
            streamed_size(self.pending.len(), rest)
        })
    }

    /// Keeps a chunk that is about to be sent. Trailers (None) cannot be kept, and neither can a
    /// chunk beyond the limit.
    fn keep(&mut self, data: Option<&Bytes>) {
        match data.filter(|data| {
            data.len() <= self.remaining && self.read.len() < MAX_CHUNKS && self.return_to.is_some()
        }) {
            Some(data) => {
                self.remaining -= data.len();
                self.read.push(data.clone());
            }
            None => {
                self.return_to = None;
                self.read.clear();
            }
        }
    }
}

impl Drop for KeptBody {
    fn drop(&mut self) {
        if let (Some(return_to), Some(rest)) = (self.return_to.take(), self.rest.take()) {
            let whole = joined(&self.read, std::mem::take(&mut self.pending));
            // An error means that the request was answered: nobody waits for the body.
            let _ = return_to.send((whole, rest));
        }
    }
}

fn joined(read: &[Bytes], pending: Bytes) -> Bytes {
    if read.is_empty() {
        return pending;
    }
    let mut whole =
        BytesMut::with_capacity(read.iter().map(Bytes::len).sum::<usize>() + pending.len());
    read.iter().for_each(|chunk| whole.extend_from_slice(chunk));
    whole.extend_from_slice(&pending);
    whole.freeze()
}

impl Returned {
    pub(super) fn whole(body: Buffered) -> Self {
        Self(Return::Whole(body))
    }

    pub(super) fn never() -> Self {
        Self(Return::Never)
    }

    /// Waits until the connection has dropped the body, and returns it as it was. None if too much
    /// of it had been sent.
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
