//! Answers: bodies, the headers that every answer has, and the errors that several handlers use.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};

use super::super::dice::Dice;
use super::super::faults::Canned;
use super::super::journal::Entry;
use crate::status::{Details, Status};

/// How long after its head an answer is truncated. Without this delay hyper writes both at once,
/// and the reset discards the data that is not written yet.
const BREAK_AFTER: Duration = Duration::from_millis(20);

/// The answer of a handler.
pub(super) type Answer = Response<Body>;

/// The error of a body that is truncated on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the answer is truncated on purpose")]
pub struct Truncated;

/// The body of an answer. It tells the journal whether the answer was delivered completely.
#[derive(Debug)]
pub struct Body {
    source: Source,
    entry: Option<Entry>,
}

#[derive(Debug)]
enum Source {
    Full {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
    Stream(mpsc::Receiver<Bytes>),
    /// Announces `length` bytes, and fails `soon` after `data`.
    Truncated {
        data: Bytes,
        length: u64,
        soon: Option<Pin<Box<Sleep>>>,
    },
}

impl Body {
    /// A body of these bytes.
    pub(super) fn full(data: impl Into<Bytes>) -> Body {
        Body {
            source: Source::Full {
                data: data.into(),
                trailers: None,
            },
            entry: None,
        }
    }

    /// A body of these bytes, followed by trailers.
    pub(super) fn with_trailers(data: impl Into<Bytes>, trailers: HeaderMap) -> Body {
        Body {
            source: Source::Full {
                data: data.into(),
                trailers: Some(trailers),
            },
            entry: None,
        }
    }

    /// A stream of frames that ends when the sender is dropped. Each message is one frame.
    pub(super) fn stream(frames: mpsc::Receiver<Bytes>) -> Body {
        Body {
            source: Source::Stream(frames),
            entry: None,
        }
    }

    /// Makes the body fail after half of its bytes.
    pub(super) fn truncate(&mut self) {
        if let Source::Full { data, .. } = &mut self.source {
            let length = data.len() as u64;
            data.truncate(data.len() / 2);
            self.source = Source::Truncated {
                data: std::mem::take(data),
                length,
                soon: None,
            };
        }
    }

    /// Records the end of this body in the journal.
    pub(super) fn report_to(&mut self, entry: Entry) {
        self.entry = Some(entry);
        self.delivered_if_ended();
    }

    fn delivered_if_ended(&mut self) {
        if http_body::Body::is_end_stream(self)
            && let Some(entry) = self.entry.take()
        {
            entry.note(|attempt| attempt.delivered = true);
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.note(|attempt| attempt.abandoned = true);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Truncated;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Truncated>>> {
        let frame = match &mut self.source {
            Source::Full { data, .. } if !data.is_empty() => {
                Some(Ok(Frame::data(std::mem::take(data))))
            }
            Source::Full { trailers, .. } => trailers
                .take()
                .map(|trailers| Ok(Frame::trailers(trailers))),
            Source::Truncated { data, .. } if !data.is_empty() => {
                Some(Ok(Frame::data(std::mem::take(data))))
            }
            Source::Truncated { soon, .. } => {
                ready!(
                    soon.get_or_insert_with(|| Box::pin(sleep(BREAK_AFTER)))
                        .as_mut()
                        .poll(cx)
                );
                self.entry = None;
                Some(Err(Truncated))
            }
            Source::Stream(frames) => {
                let next = ready!(frames.poll_recv(cx));
                if next.is_none() {
                    self.source = Source::Full {
                        data: Bytes::new(),
                        trailers: None,
                    };
                }
                next.map(|data| Ok(Frame::data(data)))
            }
        };
        self.delivered_if_ended();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.source, Source::Full { data, trailers: None } if data.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Full {
                data,
                trailers: None,
            } => SizeHint::with_exact(data.len() as u64),
            Source::Truncated { length, .. } => SizeHint::with_exact(*length),
            Source::Full { .. } | Source::Stream(_) => SizeHint::default(),
        }
    }
}

/// Adds the headers of every apiserver answer. If the client sent an `Audit-Id`, the answer has it
/// too.
pub(super) fn headed(
    head: &Parts,
    dice: &Dice,
    code: StatusCode,
    content_type: HeaderValue,
    body: Body,
) -> Answer {
    const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
    const FLOW_SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
    const PRIORITY_LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
    let audit_id = head.headers.get(AUDIT_ID).cloned();
    let audit_id = audit_id.unwrap_or_else(|| {
        HeaderValue::try_from(dice.uid()).unwrap_or(HeaderValue::from_static(""))
    });
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(AUDIT_ID, audit_id);
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    headers.insert(http::header::CONTENT_TYPE, content_type);
    if code != StatusCode::UNAUTHORIZED {
        headers.insert(
            FLOW_SCHEMA,
            HeaderValue::from_static("0448c78a-19d6-46d5-9b3a-ea0da08bba6f"),
        );
        headers.insert(
            PRIORITY_LEVEL,
            HeaderValue::from_static("47c80967-c0ca-499f-a38e-65f98ab6a7a6"),
        );
    }
    answer
}

/// A scripted answer, with its own headers only.
pub(super) fn canned(canned: Canned) -> Answer {
    let mut answer = Response::new(Body::full(canned.body));
    *answer.status_mut() = canned.status;
    *answer.headers_mut() = canned.headers;
    answer
}

/// The answer to a `HEAD`: the length of the body, but no body. hyper would send a body over
/// HTTP/2.
pub(super) fn without_body(answer: Answer) -> Answer {
    let (mut head, body) = answer.into_parts();
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        head.headers
            .insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Body::full(""))
}

/// An error that concerns one object. `kind` may have a group: `jobs.batch`.
pub(super) fn about(code: i32, reason: &str, message: String, kind: &str, name: &str) -> Status {
    let mut status = Status::new(code, reason, message);
    let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
    status.details = Some(Details {
        group: group.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        ..Details::default()
    });
    status
}

pub(super) fn unauthorized() -> Status {
    Status::new(401, "Unauthorized", "Unauthorized")
}

pub(super) fn not_found(kind: &str, name: &str) -> Status {
    about(
        404,
        "NotFound",
        format!("{kind} \"{name}\" not found"),
        kind,
        name,
    )
}

pub(super) fn no_such_path() -> Status {
    Status::new(
        404,
        "NotFound",
        "the server could not find the requested resource",
    )
}

pub(super) fn method_not_allowed() -> Status {
    Status::new(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    )
}

pub(super) fn bad_request(message: impl Into<String>) -> Status {
    Status::new(400, "BadRequest", message)
}

pub(super) fn too_large() -> Status {
    Status::new(413, "RequestEntityTooLarge", "limit is 3145728")
}

pub(super) fn unsupported_media_type() -> Status {
    const MESSAGE: &str = "the body of the request was in an unknown format - accepted media types include: application/json, \
                           application/yaml, application/vnd.kubernetes.protobuf";
    Status::new(415, "UnsupportedMediaType", MESSAGE)
}

pub(super) fn internal(message: &str) -> Status {
    Status::new(
        500,
        "InternalError",
        format!("Internal error occurred: {message}"),
    )
    .caused_by("", message)
}

pub(super) fn timed_out(limit: Duration) -> Status {
    let limit = if limit.subsec_millis() == 0 {
        format!("{}s", limit.as_secs())
    } else {
        format!("{}ms", limit.as_millis())
    };
    Status::new(
        504,
        "Timeout",
        format!("Timeout: request did not complete within requested timeout {limit}"),
    )
}
