//! hyper itself refuses an HTTP/1.1 request whose head is too large or not valid, with a code and
//! no body. This module replaces that response with a `metav1.Status`, and makes sure that it
//! arrives: it reads the rest of the request for a moment, because closing a socket with unread
//! data can discard what was written last (RFC 9112 §9.6).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::head::HeadLimit;
use crate::error::ProxyError;
use crate::headers;
use crate::metrics::{Metrics, RouteLabel};
use crate::status::Encoding;

/// How every refusal of hyper begins and ends. No response of an apiserver has so few headers.
const BEGINNING: &[u8] = b"HTTP/1.1 4";
const REST: &[u8] = b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// How long to read the rest of a refused request, and how much of it. Go's server also waits for
/// half a second.
const LINGER: Duration = Duration::from_millis(500);
const MAX_LINGER: usize = 1 << 20;

pub(super) struct Refusal {
    limit: HeadLimit,
    metrics: Arc<Metrics>,
    progress: Progress,
}

enum Progress {
    /// Nothing was refused.
    None,
    /// The part of the response that is not written yet.
    Writing(Bytes),
    Written,
    Lingering {
        until: Pin<Box<Sleep>>,
        read: usize,
    },
}

impl Refusal {
    pub(super) fn new(limit: HeadLimit, metrics: &Arc<Metrics>) -> Self {
        Self {
            limit,
            metrics: Arc::clone(metrics),
            progress: Progress::None,
        }
    }

    /// Whether these bytes are a refusal of hyper. Then [`Refusal::poll_write`] writes instead.
    pub(super) fn is_about(&self, bytes: &[u8]) -> bool {
        matches!(self.progress, Progress::Writing(_)) || self.error_of(bytes).is_some()
    }

    fn error_of(&self, bytes: &[u8]) -> Option<ProxyError> {
        match bytes.strip_prefix(BEGINNING)?.strip_suffix(REST)? {
            b"31 Request Header Fields Too Large" => Some(self.limit.error()),
            b"14 URI Too Long" => Some(ProxyError::UrlTooLong),
            b"00 Bad Request" => Some(ProxyError::NotHttp),
            _ => None,
        }
    }

    /// Writes the status instead of `bytes`.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let (Progress::None, Some(error)) = (&self.progress, self.error_of(bytes)) {
            self.metrics.request(
                RouteLabel::Call,
                error.code(&Method::GET).as_u16(),
                Duration::ZERO,
            );
            self.progress = Progress::Writing(answer(&error));
        }
        if let Progress::Writing(answer) = &mut self.progress {
            while answer.has_remaining() {
                let written = ready!(Pin::new(&mut *stream).poll_write(cx, answer))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                answer.advance(written);
            }
            self.progress = Progress::Written;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// Whether the response has been written and the write side is shut down.
    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.progress, Progress::Lingering { .. })
    }

    /// Reads the rest of a refused request after the response was written.
    pub(super) fn poll_linger<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<()> {
        if matches!(self.progress, Progress::Written) {
            self.progress = Progress::Lingering {
                until: Box::pin(sleep(LINGER)),
                read: 0,
            };
        }
        let Progress::Lingering { until, read } = &mut self.progress else {
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

/// In JSON, because it is not known what the client accepts.
fn answer(error: &ProxyError) -> Bytes {
    let (code, body) = (
        error.code(&Method::GET),
        error.status(&Method::GET).encode(Encoding::Json),
    );
    let mut answer =
        format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            code.as_str(),
            headers::reason(code),
            body.len()
        )
            .into_bytes();
    answer.extend_from_slice(&body);
    answer.into()
}
