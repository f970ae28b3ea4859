//! Collects what an HTTP/2 connection writes while it is polled, and then sends it at once.
//!
//! h2 flushes after each frame of data, so each small answer, and each body of a create, would be a
//! TLS record and a system call of its own. Many of them are ready at the same time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is collected before it is sent all the same.
const FULL: usize = 32 << 10;
/// What is sent at once, since it gains nothing: much of a list.
const LARGE: usize = 8 << 10;
/// How many flushes are sent at once after one has waited in vain. To wait costs a poll, and may wake
/// another thread.
const IN_A_HURRY: u8 = 7;

/// The side of the connection that h2 reads and writes.
#[derive(Debug)]
pub struct Corked<S>(Arc<Mutex<Shared<S>>>);

/// The side that polls h2.
#[derive(Debug)]
pub struct Cork<S>(Arc<Mutex<Shared<S>>>);

#[derive(Debug)]
struct Shared<S> {
    stream: S,
    /// Whether h2 is being polled. Otherwise a flush is a flush.
    is_polled: bool,
    flush_due: bool,
    collected: Vec<u8>,
    /// How much was collected when the connection began to wait for others.
    waits_since: Option<usize>,
    /// How many flushes do not wait, because the last one has waited in vain.
    in_a_hurry: u8,
    sent: usize,
    /// Why a flush after a poll failed. The next call of h2 gets it.
    failed: Option<io::Error>,
}

/// Both sides of a connection over `stream`.
pub fn corked<S>(stream: S) -> (Corked<S>, Cork<S>) {
    let shared = Arc::new(Mutex::new(Shared {
        stream,
        is_polled: false,
        flush_due: false,
        collected: Vec::new(),
        waits_since: None,
        in_a_hurry: 0,
        sent: 0,
        failed: None,
    }));
    (Corked(Arc::clone(&shared)), Cork(shared))
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// Polls a connection with `poll`, and then sends what it has written.
    pub fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        lock(&self.0).is_polled = true;
        let polled = poll(cx);
        let mut shared = lock(&self.0);
        shared.is_polled = false;
        if !shared.flush_due {
            return polled;
        }
        if polled.is_pending() && shared.waits_for_others() {
            cx.waker().wake_by_ref();
            return polled;
        }
        if let Poll::Ready(Err(error)) = shared.poll_flush(cx) {
            shared.failed = Some(error);
            cx.waker().wake_by_ref();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Whether to send only after the tasks that are ready have run. The one that had the last frame
    /// may be the first of many, or the only one.
    fn waits_for_others(&mut self) -> bool {
        if let Some(then) = self.waits_since.take() {
            if self.collected.len() <= then {
                self.in_a_hurry = IN_A_HURRY;
            }
            return false;
        }
        if self.collected.is_empty() {
            return false;
        }
        if self.in_a_hurry > 0 {
            self.in_a_hurry -= 1;
            return false;
        }
        self.waits_since = Some(self.collected.len());
        true
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let rest @ [_, ..] = &self.collected[self.sent..] {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        // An idle connection keeps no memory.
        self.collected = Vec::new();
        self.sent = 0;
        self.waits_since = self.waits_since.map(|_| 0);
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.flush_due = false;
        Poll::Ready(Ok(()))
    }

    /// Makes room for `bytes` more.
    fn poll_room(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        if bytes >= LARGE || self.collected.len() + bytes > FULL {
            ready!(self.poll_send(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.0);
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        ready!(shared.poll_room(cx, bytes))?;
        if bytes >= LARGE {
            return Pin::new(&mut shared.stream).poll_write_vectored(cx, slices);
        }
        for slice in slices {
            shared.collected.extend_from_slice(slice);
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        if let Some(error) = shared.failed.take() {
            return Poll::Ready(Err(error));
        }
        if shared.is_polled {
            shared.flush_due = true;
            return Poll::Ready(Ok(()));
        }
        shared.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        ready!(shared.poll_flush(cx))?;
        Pin::new(&mut shared.stream).poll_shutdown(cx)
    }
}

fn lock<S>(shared: &Mutex<Shared<S>>) -> MutexGuard<'_, Shared<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// What a socket was given, and how much more it takes.
    #[derive(Debug, Default)]
    struct Socket {
        writes: Vec<Vec<u8>>,
        flushes: usize,
        is_shut_down: bool,
        /// None: all of it. Then as many bytes as it says, and no more for now.
        takes: Option<usize>,
        is_broken: bool,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.is_broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let taken = self.takes.unwrap_or(bytes.len()).min(bytes.len());
            if taken == 0 {
                return Poll::Pending;
            }
            self.takes = self.takes.map(|takes| takes - taken);
            self.writes.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_shut_down = true;
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection in place of h2, which writes and flushes in each poll.
    struct Connection {
        corked: Corked<Socket>,
        cork: Cork<Socket>,
        wakes: Arc<Wakes>,
    }

    impl Connection {
        fn new() -> Self {
            let (corked, cork) = corked(Socket::default());
            Self {
                corked,
                cork,
                wakes: Arc::default(),
            }
        }

        fn socket<T>(&self, see: impl FnOnce(&mut Socket) -> T) -> T {
            see(&mut lock(&self.cork.0).stream)
        }

        fn writes(&self) -> Vec<Vec<u8>> {
            self.socket(|socket| socket.writes.clone())
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::Relaxed)
        }

        /// Polls the connection, which writes `frames` and then returns `polled`.
        fn poll(&mut self, frames: &[&[u8]], polled: Poll<()>) -> Vec<Poll<io::Result<usize>>> {
            let waker = Arc::clone(&self.wakes).into();
            let mut wrote = Vec::new();
            let corked = &mut self.corked;
            let ended = self.cork.poll(&mut Context::from_waker(&waker), |cx| {
                for frame in frames {
                    wrote.push(Pin::new(&mut *corked).poll_write(cx, frame));
                    assert!(Pin::new(&mut *corked).poll_flush(cx).is_ready());
                }
                polled
            });
            assert_eq!(ended, polled);
            wrote
        }
    }

    #[test]
    fn what_other_tasks_write_in_the_meantime_goes_with_it() {
        let mut connection = Connection::new();
        connection.poll(&[b"one ", b"two "], Poll::Pending);
        assert_eq!((connection.writes().len(), connection.wakes()), (0, 1));
        connection.poll(&[b"three"], Poll::Pending);
        assert_eq!(connection.writes(), [b"one two three"]);
        assert_eq!(connection.socket(|socket| socket.flushes), 1);
        // It waits for others once, and then not until there is more to send.
        connection.poll(&[], Poll::Pending);
        assert_eq!((connection.writes().len(), connection.wakes()), (1, 1));
    }

    #[test]
    fn a_connection_that_is_alone_seldom_waits() {
        let mut connection = Connection::new();
        for sent in 1..=IN_A_HURRY + 1 {
            connection.poll(&[b"alone"], Poll::Pending);
            connection.poll(&[], Poll::Pending);
            assert_eq!(connection.writes().len(), usize::from(sent));
        }
        assert_eq!(connection.wakes(), 1);
        connection.poll(&[b"first "], Poll::Pending);
        connection.poll(&[b"second"], Poll::Pending);
        assert_eq!(connection.wakes(), 2, "it tries again");
        // It was not in vain.
        connection.poll(&[b"third "], Poll::Pending);
        assert_eq!(connection.wakes(), 3);
    }

    #[test]
    fn a_connection_that_ends_sends_its_last_words() {
        let mut connection = Connection::new();
        connection.poll(&[b"GOAWAY"], Poll::Ready(()));
        assert_eq!(connection.writes(), [b"GOAWAY"]);
    }

    #[test]
    fn large_writes_are_sent_at_once_and_in_their_order() {
        let mut connection = Connection::new();
        connection.poll(&[b"small", &[7; LARGE], b"last"], Poll::Pending);
        assert_eq!(connection.writes(), [b"small".to_vec(), vec![7; LARGE]]);
        connection.poll(&[], Poll::Pending);
        assert_eq!(connection.writes()[2..], [b"last"]);
    }

    #[test]
    fn a_socket_that_takes_nothing_stops_the_connection() {
        let mut connection = Connection::new();
        connection.socket(|socket| socket.takes = Some(0));
        let frame = [1; 1 << 10];
        let frames = [&frame[..]; FULL / (1 << 10)];
        assert!(
            connection
                .poll(&frames, Poll::Pending)
                .iter()
                .all(Poll::is_ready)
        );
        assert!(connection.poll(&[b"more"], Poll::Pending)[0].is_pending());
        // It takes half of a frame, then the rest.
        connection.socket(|socket| socket.takes = Some(512));
        assert!(connection.poll(&[b"more"], Poll::Pending)[0].is_pending());
        connection.socket(|socket| socket.takes = None);
        assert!(connection.poll(&[b"more"], Poll::Pending)[0].is_ready());
        connection.poll(&[], Poll::Pending);
        let sent = connection.writes().concat();
        assert_eq!(sent, [&[1; FULL][..], b"more"].concat());
        assert_eq!(lock(&connection.cork.0).collected.capacity(), 0);
    }

    #[test]
    fn a_flush_that_fails_later_is_not_forgotten() {
        let mut connection = Connection::new();
        connection.socket(|socket| socket.is_broken = true);
        connection.poll(&[b"lost"], Poll::Pending);
        connection.poll(&[], Poll::Pending);
        assert_eq!(connection.wakes(), 2, "the connection must hear of it");
        let wrote = connection.poll(&[b"more"], Poll::Pending);
        assert!(
            matches!(&wrote[0], Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe)
        );
    }

    #[test]
    fn while_nothing_is_polled_a_flush_is_a_flush() {
        let mut connection = Connection::new();
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let corked = &mut connection.corked;
        assert!(Pin::new(&mut *corked).poll_write(cx, b"preface").is_ready());
        assert!(Pin::new(&mut *corked).poll_flush(cx).is_ready());
        assert_eq!(connection.writes(), [b"preface"]);
    }

    #[test]
    fn what_was_written_is_sent_before_the_end() {
        let mut connection = Connection::new();
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        connection.poll(&[b"GOAWAY"], Poll::Pending);
        assert!(
            Pin::new(&mut connection.corked)
                .poll_shutdown(cx)
                .is_ready()
        );
        assert_eq!(connection.writes(), [b"GOAWAY"]);
        assert!(connection.socket(|socket| socket.is_shut_down));
    }
}
