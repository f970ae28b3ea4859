//! What hyper answers by itself over HTTP/1.1, where a head is too large or is none, is a code
//! without a word. Here it becomes a `metav1.Status`, and it arrives: the rest of such a request is
//! read for a moment, for a socket that is closed with something unread in it takes back what was
//! written last (RFC 9112 §9.6).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::head::Head;
use crate::error::ProxyError;
use crate::metrics::{Metrics, RouteLabel};
use crate::status::Encoding;

/// How every refusal of hyper begins, and all of one: no answer of an apiserver is as bare.
const BEGINNING: &[u8] = b"HTTP/1.1 4";
const REST: &[u8] = b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// How long the rest of a refused request is read, and how much of it. As Go's server, which waits
/// for half a second.
const LINGER: Duration = Duration::from_millis(500);
const MAX_LINGER: usize = 1 << 20;

/// See the module.
pub(super) struct Refusal {
    limit: Head,
    metrics: Arc<Metrics>,
    state: State,
}

enum State {
    /// Nothing was refused.
    None,
    /// What is still to be written.
    Writing(Bytes),
    Written,
    Lingering {
        until: Pin<Box<Sleep>>,
        read: usize,
    },
}

impl Refusal {
    pub(super) fn new(limit: Head, metrics: &Arc<Metrics>) -> Self {
        Self {
            limit,
            metrics: Arc::clone(metrics),
            state: State::None,
        }
    }

    /// Whether these bytes are a refusal of hyper, to be written by [`Refusal::poll_write`]
    /// instead.
    pub(super) fn is_about(&self, bytes: &[u8]) -> bool {
        matches!(self.state, State::Writing(_)) || self.error_of(bytes).is_some()
    }

    fn error_of(&self, bytes: &[u8]) -> Option<ProxyError> {
        match bytes.strip_prefix(BEGINNING)?.strip_suffix(REST)? {
            b"31 Request Header Fields Too Large" => Some(self.limit.error()),
            b"14 URI Too Long" => Some(ProxyError::UrlTooLong),
            b"00 Bad Request" => Some(ProxyError::NotHttp),
            _ => None,
        }
    }

    /// Writes all that there is to say instead of `bytes`.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let (State::None, Some(error)) = (&self.state, self.error_of(bytes)) {
            self.metrics.request(
                RouteLabel::Call,
                error.code(&Method::GET).as_u16(),
                Duration::ZERO,
            );
            self.state = State::Writing(answer(&error));
        }
        if let State::Writing(answer) = &mut self.state {
            while answer.has_remaining() {
                let written = ready!(Pin::new(&mut *stream).poll_write(cx, answer))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                answer.advance(written);
            }
            self.state = State::Written;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// Whether the end of the answer has been written already.
    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.state, State::Lingering { .. })
    }

    /// Reads what still comes of a request that was refused, after the end of the answer was
    /// written.
    pub(super) fn poll_linger<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<()> {
        if matches!(self.state, State::Written) {
            self.state = State::Lingering {
                until: Box::pin(sleep(LINGER)),
                read: 0,
            };
        }
        let State::Lingering { until, read } = &mut self.state else {
            return Poll::Ready(());
        };
        let mut space = [0; 4096];
        while *read < MAX_LINGER && until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *read += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

/// In JSON: what the client accepts is not known.
fn answer(error: &ProxyError) -> Bytes {
    let (code, body) = (
        error.code(&Method::GET),
        error.status(&Method::GET).encode(Encoding::Json),
    );
    let mut answer =
        format!("HTTP/1.1 {code}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())
            .into_bytes();
    answer.extend_from_slice(&body);
    answer.into()
}
