//! Reads a socket in larger pieces than rustls asks for.
//!
//! rustls reads 4 KiB at a time, which is less than a create and a quarter of a full record. With
//! many requests on one connection, most of the time of such small reads is the system call's.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once: the largest record of TLS 1.2, which is larger than those of TLS 1.3.
const PIECE: usize = (16 << 10) + 2048 + 5;

thread_local! {
    /// A buffer that no connection needs at the moment. Most of the time all that was read is asked
    /// for at once, so one buffer serves all connections of a thread.
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A socket that is read ahead of its reader, by less than 19 KiB.
#[derive(Debug)]
pub struct ReadAhead<S> {
    stream: S,
    /// What was read and is not yet asked for: never empty.
    ahead: Option<Ahead>,
}

#[derive(Debug)]
struct Ahead {
    buffer: Box<[u8]>,
    unread: Range<usize>,
}

impl<S> ReadAhead<S> {
    /// Reads `stream` ahead.
    pub const fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        asked: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut ahead = match this.ahead.take() {
            Some(ahead) => ahead,
            None => {
                let mut buffer = SPARE.take().unwrap_or_else(|| vec![0; PIECE].into());
                let mut read = ReadBuf::new(&mut buffer);
                let polled = Pin::new(&mut this.stream).poll_read(cx, &mut read);
                let unread = 0..read.filled().len();
                if !matches!(polled, Poll::Ready(Ok(()))) {
                    SPARE.set(Some(buffer));
                    return polled;
                }
                Ahead { buffer, unread }
            }
        };
        let bytes = ahead.unread.len().min(asked.remaining());
        asked.put_slice(&ahead.buffer[ahead.unread.start..][..bytes]);
        ahead.unread.start += bytes;
        if ahead.unread.is_empty() {
            SPARE.set(Some(ahead.buffer));
        } else {
            this.ahead = Some(ahead);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// Counts how often it is read.
    struct Counted(DuplexStream, usize);

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1 += 1;
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    fn numbered(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|n| (n % 251) as u8).collect()
    }

    async fn with(bytes: &[u8]) -> (ReadAhead<Counted>, DuplexStream) {
        let (near, mut far) = duplex(1 << 20);
        far.write_all(bytes).await.unwrap();
        (ReadAhead::new(Counted(near, 0)), far)
    }

    #[tokio::test]
    async fn what_is_asked_for_in_pieces_is_read_at_once() {
        let sent = numbered(10_000);
        let (mut stream, _far) = with(&sent).await;
        let mut read = Vec::new();
        for piece in [4096, 1, 4096, 1807] {
            let mut buffer = vec![0; piece];
            stream.read_exact(&mut buffer).await.unwrap();
            read.extend(buffer);
        }
        assert_eq!(read, sent);
        assert_eq!(stream.stream.1, 1);
        assert!(stream.ahead.is_none(), "it keeps no memory");
    }

    #[tokio::test]
    async fn the_end_comes_after_all_that_was_sent() {
        let sent = numbered(3 * PIECE + 7);
        let (mut stream, far) = with(&sent).await;
        drop(far);
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        while let bytes @ 1.. = stream.read(&mut buffer).await.unwrap() {
            read.extend_from_slice(&buffer[..bytes]);
        }
        assert_eq!(read, sent);
    }

    #[tokio::test]
    async fn connections_of_one_thread_do_not_mix() {
        let (mine, theirs) = (numbered(9000), vec![255; 9000]);
        let ((mut a, _a), (mut b, _b)) = (with(&mine).await, with(&theirs).await);
        let (mut of_a, mut of_b) = ([0; 9000], [0; 9000]);
        for part in [0..100, 100..4000, 4000..9000] {
            a.read_exact(&mut of_a[part.clone()]).await.unwrap();
            b.read_exact(&mut of_b[part]).await.unwrap();
        }
        assert!(of_a[..] == mine && of_b[..] == theirs);
    }

    #[tokio::test]
    async fn nothing_is_lost_while_nothing_comes() {
        let (mut stream, mut far) = with(b"").await;
        let mut buffer = [0; 5];
        let reading = async { stream.read_exact(&mut buffer).await.unwrap() };
        let sending = async {
            tokio::task::yield_now().await;
            far.write_all(b"hello").await.unwrap();
        };
        tokio::join!(reading, sending);
        assert_eq!(&buffer, b"hello");
    }
}
