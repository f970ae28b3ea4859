//! Faults that a test requests of one apiserver: scripted answers, stalls, resets, lost answers,
//! GOAWAY, a server that is down.
//!
//! Quota conflicts are not among them, because they emerge from the race. A fault applies to the
//! next request, or to every request until it is cleared.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A fault of one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered with this instead of by a handler. Nothing is stored.
    Answer(Canned),
    /// Answered with this after a delay. Nothing is stored.
    AnswerAfter(Duration, Canned),
    /// Handled only after this time. If the timeout of the request is shorter, the client gets a
    /// 504, and the request is still handled later.
    Stall(Duration),
    /// As [`Fault::Stall`], but until [`Faults::release`].
    Hold,
    /// Not handled: the HTTP/2 stream is reset with INTERNAL_ERROR, or the HTTP/1.1 connection is
    /// closed.
    Reset,
    /// Not handled: the HTTP/2 stream is refused with REFUSED_STREAM, or the HTTP/1.1 connection is
    /// closed.
    Refuse,
    /// Not handled: the whole connection is cut.
    Cut,
    /// Handled and stored, but not answered: the stream is reset, or the HTTP/1.1 connection is
    /// closed.
    LoseAnswer,
    /// Handled and stored, but not answered: the whole connection is cut.
    CutAfter,
    /// Handled at once, and answered after this time.
    DelayAnswer(Duration),
    /// Handled, but the answer is truncated in the middle of its body.
    Truncate,
    /// Handled and answered. The connection gets a GOAWAY, or `Connection: close` over HTTP/1.1.
    GoAway,
}

/// A scripted answer.
#[derive(Clone, Debug)]
pub struct Canned {
    /// The HTTP status code.
    pub status: StatusCode,
    /// The headers, except `Date` and `Content-Length`.
    pub headers: HeaderMap,
    /// The body of the answer.
    pub body: Bytes,
}

impl Canned {
    /// An answer with one header, `Content-Type`.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Canned {
        let headers = HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static(content_type),
        )]);
        Canned {
            status,
            headers,
            body: body.into(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Canned {
        self.headers.append(name, value);
        self
    }

    /// The 429 of an apiserver that is overloaded, from max-in-flight or from priority and
    /// fairness.
    pub fn throttled(retry_after: u32) -> Canned {
        Canned::new(
            StatusCode::TOO_MANY_REQUESTS,
            "text/plain; charset=utf-8",
            "Too many requests, please try again later.\n",
        )
        .with(http::header::RETRY_AFTER, HeaderValue::from(retry_after))
        .with(
            http::header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        )
    }

    /// The 429 of an apiserver that is shutting down.
    ///
    /// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apiserver/pkg/server/filters/with_retry_after.go>
    pub fn shutting_down() -> Canned {
        Canned::new(
            StatusCode::TOO_MANY_REQUESTS,
            "text/plain; charset=utf-8",
            "The apiserver is shutting down, please try again later.\n",
        )
        .with(http::header::RETRY_AFTER, HeaderValue::from(5))
        .with(http::header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// The 503 of an apiserver that is starting.
    pub fn starting_up() -> Canned {
        const BODY: &str = concat!(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the request has been made before all known "#,
            r#"HTTP paths have been installed, please try again","reason":"ServiceUnavailable","details":{"retryAfterSeconds":5},"code":503}"#,
            "\n"
        );
        Canned::new(StatusCode::SERVICE_UNAVAILABLE, "application/json", BODY)
            .with(http::header::RETRY_AFTER, HeaderValue::from(5))
    }

    /// Parses a captured HTTP/1.1 answer. Returns `None` if it is malformed.
    pub fn captured(raw: &[u8]) -> Option<Canned> {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
        let mut lines = str::from_utf8(&raw[..end]).ok()?.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            headers.append(name.parse::<HeaderName>().ok()?, value.trim().parse().ok()?);
        }
        headers.remove(http::header::CONTENT_LENGTH);
        headers.remove(http::header::DATE);
        Some(Canned {
            status,
            headers,
            body: Bytes::copy_from_slice(&raw[end + 4..]),
        })
    }
}

/// The faults requested of one apiserver.
#[derive(Debug)]
pub struct Faults {
    script: Mutex<Script>,
    /// The number of calls of [`Faults::release`].
    released: watch::Sender<u64>,
    down: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Script {
    next_creates: VecDeque<Fault>,
    next_requests: VecDeque<Fault>,
    every_create: Option<Fault>,
    every_request: Option<Fault>,
    readyz: Option<Canned>,
    probes: usize,
    signals: Signals,
}

/// Signals to all open connections of an apiserver. Connections that open later get new signals.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    /// Sends a GOAWAY, or closes after the answers in flight over HTTP/1.1.
    pub(super) go_away: CancellationToken,
    /// Closes the connection at once.
    pub(super) cut: CancellationToken,
}

impl Faults {
    /// No faults.
    pub fn new() -> Faults {
        Faults {
            script: Mutex::default(),
            released: watch::Sender::new(0),
            down: watch::Sender::new(false),
        }
    }

    /// Adds a fault for one pod create, after those that are already scripted.
    pub fn next_create(&self, fault: Fault) {
        self.script().next_creates.push_back(fault);
    }

    /// Adds a fault for one request of any kind, after those that are already scripted.
    pub fn next_request(&self, fault: Fault) {
        self.script().next_requests.push_back(fault);
    }

    /// Sets the fault of every pod create until it is changed. Faults from [`Faults::next_create`]
    /// come first.
    pub fn every_create(&self, fault: Option<Fault>) {
        self.script().every_create = fault;
    }

    /// Sets the fault of every request until it is changed. Faults from [`Faults::next_request`]
    /// come first.
    pub fn every_request(&self, fault: Option<Fault>) {
        self.script().every_request = fault;
    }

    /// Sets the answer to `/readyz` without a token until it is changed. `None` means "ok".
    pub fn answer_readyz(&self, answer: Option<Canned>) {
        self.script().readyz = answer;
    }

    /// Removes all faults, and releases the requests that [`Fault::Hold`] has stopped.
    pub fn clear(&self) {
        let mut script = self.script();
        *script = Script {
            signals: script.signals.clone(),
            ..Script::default()
        };
        drop(script);
        self.release();
    }

    /// Releases the requests that a [`Fault::Hold`] has stopped.
    pub fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    /// Sends a GOAWAY on every open HTTP/2 connection. HTTP/1.1 connections close after the answer
    /// in flight.
    pub fn go_away(&self) {
        let go_away = std::mem::take(&mut self.script().signals.go_away);
        go_away.cancel();
    }

    /// Cuts every open connection, even in the middle of an answer.
    pub fn cut_connections(&self) {
        let cut = std::mem::take(&mut self.script().signals.cut);
        cut.cancel();
    }

    /// Takes the server down or up. A server that is down refuses connections, and its open
    /// connections are cut. It returns on the same port. Writes to the store that had begun still
    /// complete.
    pub fn set_down(&self, down: bool) {
        self.down.send_replace(down);
        if down {
            self.cut_connections();
        }
    }

    /// Whether the server is down.
    pub fn is_down(&self) -> bool {
        *self.down.borrow()
    }

    /// Takes the fault for a request that has just arrived.
    pub(super) fn take(&self, create: bool) -> Option<Fault> {
        let mut script = self.script();
        let next = if create {
            script.next_creates.pop_front()
        } else {
            None
        };
        let next = next.or_else(|| script.next_requests.pop_front());
        let next = next.or_else(|| {
            if create {
                script.every_create.clone()
            } else {
                None
            }
        });
        next.or_else(|| script.every_request.clone())
    }

    /// The number of requests to `/readyz` without a token.
    pub fn probes(&self) -> usize {
        self.script().probes
    }

    /// Counts a probe and returns its scripted answer, if there is one.
    pub(super) fn readyz(&self) -> Option<Canned> {
        let mut script = self.script();
        script.probes += 1;
        script.readyz.clone()
    }

    /// Waits for the next [`Faults::release`].
    pub(super) async fn held(&self) {
        let mut released = self.released.subscribe();
        released.mark_unchanged();
        // `self` owns the sender, so the channel stays open.
        let _ = released.changed().await;
    }

    /// Signals for a new connection.
    pub(super) fn signals(&self) -> Signals {
        let script = self.script();
        Signals {
            go_away: script.signals.go_away.child_token(),
            cut: script.signals.cut.child_token(),
        }
    }

    /// Reports the changes of [`Faults::set_down`].
    pub(super) fn watch_down(&self) -> watch::Receiver<bool> {
        self.down.subscribe()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_one_request_come_before_those_of_every_request() {
        let faults = Faults::new();
        faults.every_create(Some(Fault::Reset));
        faults.next_create(Fault::Refuse);
        assert!(faults.take(false).is_none(), "not a create");
        assert!(matches!(faults.take(true), Some(Fault::Refuse)));
        assert!(matches!(faults.take(true), Some(Fault::Reset)));
        faults.clear();
        assert!(faults.take(true).is_none());
    }

    #[test]
    fn reads_a_captured_answer() {
        let canned = Canned::captured(
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 3\r\n\r\nno\n",
        )
        .unwrap();
        assert_eq!(
            (canned.status.as_u16(), &canned.body[..]),
            (429, &b"no\n"[..])
        );
        assert_eq!(canned.headers.get("retry-after").unwrap(), "1");
        assert!(Canned::captured(b"nothing").is_none());
    }
}
