//! What goes wrong with one apiserver on demand: scripted answers, stalls, resets, lost answers,
//! GOAWAY, a dead server.
//!
//! Quota conflicts are not among them: those emerge. A fault applies to the next request or to
//! every one, until cleared.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Something that goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answered by this instead of by a handler; nothing is stored.
    Answer(Canned),
    /// Answered by this after this time; nothing is stored.
    AnswerAfter(Duration, Canned),
    /// Handled only after this time, or answered by a 504 if the request's timeout is shorter. It
    /// is handled all the same then.
    Stall(Duration),
    /// Like [`Fault::Stall`], until [`Faults::release`].
    Hold,
    /// Not handled: the HTTP/2 stream is reset with INTERNAL_ERROR, an HTTP/1.1 connection is
    /// closed.
    Reset,
    /// Not handled: the HTTP/2 stream is refused with REFUSED_STREAM, an HTTP/1.1 connection is
    /// closed.
    Refuse,
    /// Not handled: the whole connection is cut.
    Cut,
    /// Handled (and stored), then the stream is reset or the HTTP/1.1 connection closed without an
    /// answer.
    LoseAnswer,
    /// Handled (and stored), then the whole connection is cut without an answer.
    CutAfter,
    /// Handled, and answered only after this time.
    DelayAnswer(Duration),
    /// Handled, and the answer breaks off in the middle of its body.
    Truncate,
    /// Handled and answered; the connection gets a GOAWAY, or `Connection: close`.
    GoAway,
}

/// An answer made beforehand.
#[derive(Clone, Debug)]
pub struct Canned {
    /// Its code.
    pub status: StatusCode,
    /// Its headers, beside `Date` and `Content-Length`.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Canned {
    /// An answer of one content type.
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

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Canned {
        self.headers.append(name, value);
        self
    }

    /// The 429 of max-in-flight and of priority and fairness.
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

    /// The 429 of a server that is shutting down.
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

    /// The 503 of a server that is starting up.
    pub fn starting_up() -> Canned {
        const BODY: &str = concat!(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the request has been made before all known "#,
            r#"HTTP paths have been installed, please try again","reason":"ServiceUnavailable","details":{"retryAfterSeconds":5},"code":503}"#,
            "\n"
        );
        Canned::new(StatusCode::SERVICE_UNAVAILABLE, "application/json", BODY)
            .with(http::header::RETRY_AFTER, HeaderValue::from(5))
    }

    /// A captured HTTP/1.1 answer, head and body; `None` if it is none.
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

/// The faults of one apiserver.
#[derive(Debug)]
pub struct Faults {
    script: Mutex<Script>,
    /// Counts the releases.
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

/// How all present connections of an apiserver are reached. Connections made later get the next
/// ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    /// GOAWAY, or close after the answers under way.
    pub(super) leave: CancellationToken,
    /// Close at once.
    pub(super) cut: CancellationToken,
}

impl Faults {
    /// None yet.
    pub fn new() -> Faults {
        Faults {
            script: Mutex::default(),
            released: watch::Sender::new(0),
            down: watch::Sender::new(false),
        }
    }

    /// One more pod create goes wrong like this, after those already lined up.
    pub fn next_create(&self, fault: Fault) {
        self.script().next_creates.push_back(fault);
    }

    /// One more request of any kind goes wrong like this, after those already lined up.
    pub fn next_request(&self, fault: Fault) {
        self.script().next_requests.push_back(fault);
    }

    /// Every pod create goes wrong like this, until changed; what is lined up comes first.
    pub fn every_create(&self, fault: Option<Fault>) {
        self.script().every_create = fault;
    }

    /// Every request goes wrong like this, until changed; what is lined up comes first.
    pub fn every_request(&self, fault: Option<Fault>) {
        self.script().every_request = fault;
    }

    /// Whoever asks `/readyz` without a token gets this instead of "ok", until changed.
    pub fn answer_readyz(&self, answer: Option<Canned>) {
        self.script().readyz = answer;
    }

    /// Forgets all that is scripted, and releases what is held.
    pub fn clear(&self) {
        let mut script = self.script();
        *script = Script {
            signals: script.signals.clone(),
            ..Script::default()
        };
        drop(script);
        self.release();
    }

    /// Lets everything go on that a [`Fault::Hold`] holds now.
    pub fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    /// Sends a GOAWAY on every open HTTP/2 connection; HTTP/1.1 connections close after the answer
    /// under way.
    pub fn go_away(&self) {
        let leave = std::mem::take(&mut self.script().signals.leave);
        leave.cancel();
    }

    /// Cuts every open connection, in the middle of whatever it carries.
    pub fn cut_connections(&self) {
        let cut = std::mem::take(&mut self.script().signals.cut);
        cut.cancel();
    }

    /// Takes the server down (its port refuses connections, those open are cut) or up again on the
    /// same port. What it was writing to the store is still stored.
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

    /// The fault of the request that has just arrived.
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

    /// How often `/readyz` was asked without a token.
    pub fn probes(&self) -> usize {
        self.script().probes
    }

    /// The answer to a probe.
    pub(super) fn readyz(&self) -> Option<Canned> {
        let mut script = self.script();
        script.probes += 1;
        script.readyz.clone()
    }

    /// Returns at the next release.
    pub(super) async fn held(&self) {
        let mut released = self.released.subscribe();
        released.mark_unchanged();
        // The sender lives in `self`.
        let _ = released.changed().await;
    }

    /// The signals for a new connection.
    pub(super) fn signals(&self) -> Signals {
        let script = self.script();
        Signals {
            leave: script.signals.leave.child_token(),
            cut: script.signals.cut.child_token(),
        }
    }

    /// Follows [`Faults::set_down`].
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
    fn scripted_faults_come_before_standing_ones() {
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
