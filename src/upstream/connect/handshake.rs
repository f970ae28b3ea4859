//! The HTTP handshake on a connected stream, and the task that then runs the connection.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::{Connection, Connector, HandshakeError, Http1};
use crate::body::Body;
use crate::connections::socket::cork::{Cork, Corked, corked};

/// The largest head of a response; apiservers send less. Over HTTP/1.1 also how much is read ahead
/// of the reader.
const MAX_HEADER_BYTES: u32 = 256 << 10;

/// How many bytes the server may send ahead of the readers, on all streams of an HTTP/2 connection
/// together.
///
/// This is at least the sum of the streams' windows, so that a reader that has stopped cannot stop
/// the other streams (RFC 9113 §5.2.2). The windows of the streams bound the memory. It is more
/// than their sum because of small frames: h2 counts 256 bytes for each unread frame, and closes
/// the connection with ENHANCE_YOUR_CALM when they cost more than half of this window. With this
/// value that takes more than 100 stopped streams full of frames of 7 bytes, or of 25 bytes with
/// the window of calls.
const CONNECTION_WINDOW: u32 = 512 << 20;
/// How much of a streamed body may wait to be sent on one stream. The listener has the same limit
/// towards clients.
pub(in crate::upstream) const MAX_SEND_BUFFER: usize = 64 << 10;

/// The largest frame that the server may send to fill a window of that size. Lists in frames of
/// 64 KiB take about a tenth less processor time than in those of 16 KiB, the least that HTTP/2
/// allows. h2 hands on whole frames, so with larger ones a reader would wait, and unread answers
/// would need more memory.
pub(in crate::upstream) const fn max_frame(window: u32) -> u32 {
    window / 4
}

/// How many cancelled streams a connection remembers. It ignores what the server had already sent
/// on them.
const MAX_CANCELLED: usize = 1024;

impl Connector {
    /// An HTTP/1.1 connection that is ready for a request. It is ready only after its task has run.
    pub(super) async fn ready_http1<S>(
        &self,
        stream: S,
        open: impl Send + 'static,
    ) -> Result<Connection, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut sender = self.handshake_http1(stream, open).await?;
        sender.ready().await.map_err(HandshakeError::Http)?;
        Ok(Connection::Http1(Http1 {
            sender,
            reused: false,
        }))
    }

    pub(super) async fn handshake_http1<S>(
        &self,
        stream: S,
        open: impl Send + 'static,
    ) -> Result<http1::SendRequest<Body>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_headers(1000)
            .max_buf_size(MAX_HEADER_BYTES as usize)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(HandshakeError::Http)?;
        tokio::spawn(async move {
            // An error also reaches the connection's requests, through the sender.
            let _ended = connection.with_upgrades().await;
            drop(open);
        });
        Ok(sender)
    }

    pub(super) async fn handshake_http2<S>(
        &self,
        stream: S,
        window: u32,
        open: impl Send + 'static,
    ) -> Result<Connection, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (stream, cork) = corked(stream);
        let executor = Executor::new(cork);
        let (sender, mut connection) = http2::Builder::new(executor.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(self.keep_alive_interval)
            .keep_alive_timeout(self.keep_alive_timeout)
            .keep_alive_while_idle(true)
            .max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(window)
            .max_frame_size(max_frame(window))
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_concurrent_reset_streams(MAX_CANCELLED)
            // Late frames on forgotten streams are answered with a reset. How often that happens
            // depends on the server and on the clients, so it must not close the connection.
            .max_local_error_reset_streams(None)
            .initial_max_send_streams(0)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(HandshakeError::Http)?;
        self.settled(&mut connection, &executor.progress).await?;
        let allowed = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let tell = Arc::clone(&allowed);
        tokio::spawn(async move {
            // Only the connection knows the peer's SETTINGS. Each request wakes this task, so a
            // change is soon seen.
            let _ended = std::future::poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                tell.store(connection.current_max_send_streams(), Ordering::Relaxed);
                polled
            })
            .await;
            drop(open);
        });
        Ok(Connection::Http2(sender, allowed))
    }

    /// Waits for the server's SETTINGS. Without them the number of allowed streams is not known,
    /// and the server would refuse part of a burst with REFUSED_STREAM.
    async fn settled<S>(
        &self,
        connection: &mut http2::Connection<TokioIo<Corked<S>>, Body, Executor<S>>,
        progress: &Notify,
    ) -> Result<(), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        while connection.current_max_send_streams() == 0 {
            tokio::select! {
                ended = &mut *connection => return Err(match ended {
                    Ok(()) => HandshakeError::Closed,
                    Err(source) => HandshakeError::Http(source),
                }),
                () = progress.notified() => {}
            }
        }
        Ok(())
    }
}

/// Runs hyper's tasks of one connection. The first of them is the connection itself: it is polled
/// with the cork, and each time `progress` is notified. hyper itself does not tell when SETTINGS
/// arrive. The other tasks are those of requests.
struct Executor<S> {
    progress: Arc<Notify>,
    /// None once the connection runs. Only its task may hold the socket open.
    cork: Arc<Mutex<Option<Cork<S>>>>,
}

impl<S> Executor<S> {
    fn new(cork: Cork<S>) -> Self {
        Self {
            progress: Arc::default(),
            cork: Arc::new(Mutex::new(Some(cork))),
        }
    }

    fn take_cork(&self) -> Option<Cork<S>> {
        let mut cork = self.cork.lock().unwrap_or_else(PoisonError::into_inner);
        cork.take()
    }
}

impl<S> Clone for Executor<S> {
    fn clone(&self) -> Self {
        Self {
            progress: Arc::clone(&self.progress),
            cork: Arc::clone(&self.cork),
        }
    }
}

impl<F, S> hyper::rt::Executor<F> for Executor<S>
where
    F: Future<Output: Send> + Send + 'static,
    S: AsyncWrite + Send + Unpin + 'static,
{
    fn execute(&self, task: F) {
        let Some(cork) = self.take_cork() else {
            // Tokio moves a task seven times before it runs, and this one has 2 KiB.
            tokio::spawn(Box::pin(task));
            return;
        };
        let progress = Arc::clone(&self.progress);
        tokio::spawn(async move {
            let mut task = std::pin::pin!(task);
            std::future::poll_fn(|cx| {
                let polled = cork.poll(cx, |cx| task.as_mut().poll(cx));
                progress.notify_one();
                polled
            })
            .await
        });
    }
}
