//! The socket of one connection under hyper: notices whether what is written goes out, and puts a
//! sentence where hyper would only write the code of its refusal. Holds the connection's place, in
//! a tunnel too, for as long as it is open.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::Head;
use super::refusal::Refusal;
use crate::connections::Place;
use crate::metrics::{GaugeGuard, Metrics};

/// How much is read in one turn. h2 reads for as long as there is something to read, and only then
/// looks at the requests that came: without this, a burst of a thousand heads of 300 KiB each (2
/// KiB on the wire, by HPACK) is in memory before the first is answered.
const READ_IN_A_TURN: usize = 64 << 10;

/// What is left to be read in a turn of a connection's task.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Arc<AtomicUsize>);

impl Turn {
    /// A turn begins.
    pub(super) fn begin(&self) {
        self.0.store(READ_IN_A_TURN, Ordering::Relaxed);
    }

    /// There are no turns any more, as in a tunnel.
    pub(super) fn end(&self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn read(&self, bytes: usize) {
        let left = self.0.load(Ordering::Relaxed);
        if left != usize::MAX {
            self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
    }
}

/// See the module.
pub(super) struct Socket<S> {
    stream: S,
    turn: Turn,
    place: Arc<Place>,
    stalled: bool,
    /// Of HTTP/1.1 only.
    refusal: Option<Box<Refusal>>,
    _open: GaugeGuard,
}

impl<S> Socket<S> {
    /// `open` is held for as long as the socket is.
    pub(super) fn new(stream: S, turn: Turn, place: Arc<Place>, open: GaugeGuard) -> Self {
        Self {
            stream,
            turn,
            place,
            stalled: false,
            refusal: None,
            _open: open,
        }
    }

    /// Of a connection in HTTP/1.1, whose heads have this limit.
    pub(super) fn refusing(mut self, limit: Head, metrics: &Arc<Metrics>) -> Self {
        self.refusal = Some(Box::new(Refusal::new(limit, metrics)));
        self
    }

    fn note<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        // Only changes are told: most writes never wait.
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
        if self.turn.is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.turn.read(buffer.filled().len() - before);
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
