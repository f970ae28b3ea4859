//! The socket that hyper uses for one connection. It notices whether the peer reads, limits how
//! much is read at once, and writes a status where hyper would only write a code (see `refusal`).
//! It holds the connection's place for as long as it is open, also as a tunnel.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::HeadLimit;
use super::refusal::Refusal;
use crate::connections::Place;
use crate::metrics::{GaugeGuard, Metrics};

/// How much is read in one poll of the connection. h2 reads for as long as there is data, and only
/// then hands over the requests. Without this limit, a burst of a thousand heads of 300 KiB (2 KiB
/// each on the wire, with HPACK) would be in memory before the first is answered.
const READ_PER_POLL: usize = 64 << 10;

/// How many more bytes the connection may read in this poll.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadAllowance(Arc<AtomicUsize>);

impl ReadAllowance {
    /// Allows the next poll to read.
    pub(super) fn renew(&self) {
        self.0.store(READ_PER_POLL, Ordering::Relaxed);
    }

    /// Removes the limit, for a tunnel.
    pub(super) fn lift(&self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }

    fn is_used_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn subtract(&self, bytes: usize) {
        let remaining = self.0.load(Ordering::Relaxed);
        if remaining != usize::MAX {
            self.0
                .store(remaining.saturating_sub(bytes), Ordering::Relaxed);
        }
    }
}

pub(super) struct Socket<S> {
    stream: S,
    allowance: ReadAllowance,
    place: Arc<Place>,
    stalled: bool,
    /// For HTTP/1.1 only.
    refusal: Option<Box<Refusal>>,
    _open: GaugeGuard,
}

impl<S> Socket<S> {
    /// The socket holds `open` until it is dropped.
    pub(super) fn new(
        stream: S,
        allowance: ReadAllowance,
        place: Arc<Place>,
        open: GaugeGuard,
    ) -> Self {
        Self {
            stream,
            allowance,
            place,
            stalled: false,
            refusal: None,
            _open: open,
        }
    }

    /// For an HTTP/1.1 connection. `limit` is that of a head.
    pub(super) fn refusing(mut self, limit: HeadLimit, metrics: &Arc<Metrics>) -> Self {
        self.refusal = Some(Box::new(Refusal::new(limit, metrics)));
        self
    }

    fn note<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        // Only changes are noted, because most writes never wait.
        if polled.is_pending() != self.stalled {
            self.stalled = polled.is_pending();
            self.place.stalled(self.stalled);
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.allowance.is_used_up() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let filled = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.allowance.subtract(buffer.filled().len() - filled);
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = match &mut this.refusal {
            Some(refusal) if refusal.is_about(bytes) => {
                refusal.poll_write(cx, &mut this.stream, bytes)
            }
            _ => Pin::new(&mut this.stream).poll_write(cx, bytes),
        };
        this.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = match (&mut this.refusal, slices) {
            (Some(refusal), [bytes]) if refusal.is_about(bytes) => {
                refusal.poll_write(cx, &mut this.stream, bytes)
            }
            _ => Pin::new(&mut this.stream).poll_write_vectored(cx, slices),
        };
        this.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this
            .refusal
            .as_ref()
            .is_none_or(|refusal| !refusal.is_lingering())
        {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        match &mut this.refusal {
            Some(refusal) => refusal.poll_linger(cx, &mut this.stream).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}
