//! Bodies on their way through: streamed as they come, or, for creates and error answers, held in memory within a bound.
//!
//! One type serves both directions. It carries a guard that lives exactly as long as the body does, so that whatever the body occupies
//! (a stream of an upstream connection) is given back when it ends or is dropped. Nothing here decides; `create` and `forward` call it.

mod kept;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::headers;
use kept::KeptBody;
pub use kept::Returned;

/// A body, and the guard `G` that is dropped with it.
#[derive(Debug)]
pub struct Body<G = ()> {
    source: Source,
    guard: Option<G>,
}

#[derive(Debug)]
enum Source {
    /// Wholly in memory: the data, then the trailers.
    Buffered { data: Bytes, trailers: Option<HeaderMap> },
    /// Streamed: what had been read of it before, then the rest.
    Streamed { prefix: VecDeque<Bytes>, rest: Incoming },
    /// The same, and it returns if it is dropped early.
    Kept(Box<KeptBody>),
}

impl<G> Body<G> {
    /// A body of no bytes.
    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// A body of exactly these bytes.
    pub fn full(data: Bytes) -> Self {
        Buffered { data, trailers: None }.into()
    }

    /// The peer's body, streamed.
    pub fn streamed(rest: Incoming) -> Self {
        Self { source: Source::Streamed { prefix: VecDeque::new(), rest }, guard: None }
    }

    /// Takes the guard out, to decide about it when the body has been read.
    pub fn take_guard(&mut self) -> Option<G> {
        self.guard.take()
    }

    /// Puts a guard back that was taken out.
    pub fn with_guard(mut self, guard: Option<G>) -> Self {
        self.guard = guard;
        self
    }

    /// The same body with its guard changed, if it still has one.
    pub fn map_guard<H>(self, change: impl FnOnce(G) -> H) -> Body<H> {
        Body { source: self.source, guard: self.guard.map(change) }
    }

    fn unread(&mut self, chunks: VecDeque<Bytes>) {
        match &mut self.source {
            Source::Streamed { prefix, .. } => *prefix = chunks,
            Source::Kept(kept) => kept.unread(chunks),
            Source::Buffered { data, .. } => *data = concatenated(chunks, 0),
        }
    }

    /// The same body, which can be had back from [`Returned`] when it is dropped, as long as no more than `limit` bytes of it had been read.
    pub fn returning(self, limit: usize) -> (Self, Returned) {
        let (source, returned) = match self.source {
            Source::Streamed { prefix, rest } if !rest.is_end_stream() || !prefix.is_empty() => {
                let (kept, returned) = KeptBody::new(prefix, rest, limit);
                (Source::Kept(Box::new(kept)), returned)
            }
            // Nothing is read of a body that is empty, and one in memory costs nothing to have twice.
            Source::Streamed { prefix, rest } => (Source::Streamed { prefix, rest }, Returned::whole(Buffered::default())),
            Source::Buffered { data, trailers } => {
                let copy = Buffered { data: data.clone(), trailers: trailers.clone() };
                (Source::Buffered { data, trailers }, Returned::whole(copy))
            }
            Source::Kept(kept) => (Source::Kept(kept), Returned::never()),
        };
        (Self { source, guard: self.guard }, returned)
    }

    /// The same body with `guard` held until it ends or is dropped.
    pub fn guarded<H>(self, guard: H) -> Body<H> {
        Body { source: self.source, guard: Some(guard) }
    }
}

impl<G> From<Buffered> for Body<G> {
    fn from(Buffered { data, trailers }: Buffered) -> Self {
        Self { source: Source::Buffered { data, trailers }, guard: None }
    }
}

impl<G: Unpin> HttpBody for Body<G> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = match &mut self.source {
            Source::Buffered { data, .. } if !data.is_empty() => Some(Ok(Frame::data(std::mem::take(data)))),
            Source::Buffered { trailers, .. } => trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            Source::Streamed { prefix, rest } => match prefix.pop_front() {
                Some(data) => Some(Ok(Frame::data(data))),
                None => ready!(Pin::new(rest).poll_frame(cx)),
            },
            Source::Kept(kept) => ready!(kept.poll_frame(cx)),
        };
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()).and_then(Frame::trailers_mut) {
            headers::strip_trailers(trailers);
            if trailers.is_empty() {
                frame = None;
            }
        }
        if !matches!(frame, Some(Ok(_))) {
            self.guard = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Buffered { data, trailers } => data.is_empty() && trailers.is_none(),
            Source::Streamed { prefix, rest } => prefix.is_empty() && rest.is_end_stream(),
            Source::Kept(kept) => kept.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Buffered { data, trailers: None } => SizeHint::with_exact(data.len() as u64),
            // An exact length becomes a Content-Length, behind which HTTP/1.1 has no trailers.
            Source::Buffered { data, trailers: Some(_) } => {
                let mut hint = SizeHint::new();
                hint.set_lower(data.len() as u64);
                hint
            }
            Source::Streamed { prefix, rest } => streamed_size(prefix, rest),
            Source::Kept(kept) => kept.size_hint(),
        }
    }
}

fn streamed_size(prefix: &VecDeque<Bytes>, rest: &Incoming) -> SizeHint {
    let read = prefix.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
    let mut hint = rest.size_hint();
    if let Some(upper) = hint.upper() {
        hint.set_upper(upper + read);
    }
    hint.set_lower(hint.lower() + read);
    hint
}

/// A body that was read to its end. Cheap to clone: each attempt sends the same bytes.
#[derive(Clone, Debug, Default)]
pub struct Buffered {
    /// The bytes, without any transfer coding.
    pub data: Bytes,
    /// The trailers that followed them.
    pub trailers: Option<HeaderMap>,
}

/// What came of [`collect_bounded`].
#[derive(Debug)]
pub enum Collected {
    /// All of it is in memory.
    Whole(Buffered),
    /// It is larger than the limit.
    TooLarge,
    /// The reservation could not grow.
    OverBudget,
}

/// Reads a body of at most `limit` bytes into memory, as far as `room` grants it (None: only the limit counts). The only place where a
/// body is gathered.
///
/// Where it is not `Whole` nothing is lost: `body` still yields every byte. A declared length is judged before anything is read.
///
/// # Errors
/// The peer's body broke off.
pub async fn collect_bounded<G: Unpin>(
    body: &mut Body<G>,
    limit: u64,
    mut room: Option<&mut Reservation>,
) -> Result<Collected, hyper::Error> {
    let mut granted = |bytes| room.as_deref_mut().is_none_or(|room| room.grow_to(bytes));
    let declared = body.size_hint().lower();
    if declared > limit {
        return Ok(Collected::TooLarge);
    }
    if !granted(declared) {
        return Ok(Collected::OverBudget);
    }
    let mut chunks = VecDeque::new();
    let mut length = 0;
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                length += data.len() as u64;
                chunks.push_back(data);
                let excess = if length > limit {
                    Collected::TooLarge
                } else if !granted(length) {
                    Collected::OverBudget
                } else {
                    continue;
                };
                body.unread(chunks);
                return Ok(excess);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Collected::Whole(Buffered { data: concatenated(chunks, length), trailers }))
}

fn concatenated(mut chunks: VecDeque<Bytes>, length: u64) -> Bytes {
    if chunks.len() <= 1 {
        return chunks.pop_front().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
    for chunk in chunks {
        whole.extend_from_slice(&chunk);
    }
    whole.freeze()
}

/// The memory that all buffered bodies share, in bytes.
#[derive(Debug)]
pub struct Buffers {
    limit: u64,
    used: AtomicU64,
}

impl Buffers {
    /// Room for `limit` bytes over all bodies.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Bytes reserved now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// An empty reservation; it grows as a body is read and is given back on drop.
    pub fn reserve(self: &Arc<Self>) -> Reservation {
        Reservation { buffers: Arc::clone(self), bytes: 0 }
    }

    fn take(&self, bytes: u64) -> bool {
        let granted = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, granted).is_ok()
    }
}

/// A share of [`Buffers`], released on drop.
#[derive(Debug)]
pub struct Reservation {
    buffers: Arc<Buffers>,
    bytes: u64,
}

impl Reservation {
    fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let granted = more == 0 || self.buffers.take(more);
        if granted {
            self.bytes += more;
        }
        granted
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.buffers.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_grows_within_the_budget_and_is_given_back() {
        let buffers = Buffers::new(100);
        let mut first = buffers.reserve();
        assert!(first.grow_to(60));
        assert!(first.grow_to(40), "a smaller need is already met");
        let mut second = buffers.reserve();
        assert!(!second.grow_to(41));
        assert_eq!(buffers.used(), 60, "a refusal takes nothing");
        assert!(second.grow_to(40));
        drop(first);
        assert_eq!(buffers.used(), 40);
        drop(second);
        assert_eq!(buffers.used(), 0);
    }

    #[test]
    fn several_chunks_become_one() {
        let chunks = VecDeque::from([Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        assert_eq!(concatenated(chunks, 3), "abc");
        assert_eq!(concatenated(VecDeque::new(), 0), "");
    }
}
