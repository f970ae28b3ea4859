//! Request and response bodies: streamed, or held in memory within a limit (for creates and error
//! responses).
//!
//! One type serves both directions. It carries a guard that lives as long as the body, so what the
//! body occupies, such as a stream of an upstream connection, is released when the body ends or is
//! dropped. A body that broke off ends in an error and never looks complete. Nothing here decides
//! anything; `create` and `forward` call it.

mod collect;
mod flow;
mod inflow;
mod kept;
mod memory;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::drain::Watcher;
use crate::headers;
pub use collect::{Collected, collect_bounded, collect_within};
use flow::Flow;
pub use flow::Flows;
use inflow::Inflow;
use kept::KeptBody;
pub use kept::Returned;
pub use memory::{Buffers, ConnectionShare, Reservation};

/// A body, and the guard `G` that is dropped with it.
#[derive(Debug)]
pub struct Body<G = ()> {
    source: Source,
    guard: Option<G>,
}

#[derive(Debug)]
enum Source {
    /// All in memory. The trailers follow the data.
    Buffered {
        data: Bytes,
        trailers: Option<Box<HeaderMap>>,
    },
    /// Streamed: first the bytes that were read already, then the rest.
    Streamed {
        prefix: Option<Box<Prefix>>,
        rest: Inflow,
        /// Where the body is counted if more than its first frame follows, and the bytes that it
        /// may occupy.
        counted: Option<(Arc<Flows>, u64)>,
    },
    /// Streamed, and counted among the responses in progress.
    Counted(Flow),
    /// Streamed, and returned if it is dropped early.
    Kept(Box<KeptBody>),
}

/// The bytes that were read of a body before the decision to stream it.
#[derive(Debug)]
struct Prefix {
    data: Bytes,
    /// Released when the prefix has been sent.
    _room: Option<Reservation>,
}

/// Why a body has no proper end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// hyper reported an error.
    #[error("the body broke off")]
    Read(#[source] hyper::Error),
    /// The stream was reset without an error code, or the connection was cut.
    #[error("the body ended before it was complete")]
    Unfinished,
    /// The proxy cancelled it, because nobody read it while memory was short.
    #[error("the answer was not read while many others were not")]
    LetGo,
}

impl<G> Body<G> {
    /// An empty body.
    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// A body in memory.
    pub fn full(data: Bytes) -> Self {
        Buffered {
            data,
            trailers: None,
        }
        .into()
    }

    /// Streams the peer's body. `version` is that of the message.
    pub fn streamed(rest: Incoming, version: Version) -> Self {
        Self::flowing(Inflow::new(rest, version))
    }

    /// Streams the body of a response.
    pub fn of_answer(answer: Response<Incoming>) -> Response<Self> {
        let version = answer.version();
        answer.map(|body| Self::streamed(body, version))
    }

    /// Streams the body of a client's request. If the drain cuts the client's connection, the body
    /// counts as incomplete.
    pub fn of_request(request: Request<Incoming>, drain: &Watcher) -> Request<Self> {
        let version = request.version();
        request.map(|body| Self::flowing(Inflow::new(body, version).until_cut(drain)))
    }

    /// Counts the body among the responses in progress. It may occupy `cost` bytes while nobody
    /// reads it.
    pub fn counted(mut self, flows: &Arc<Flows>, cost: u64) -> Self {
        if let Source::Streamed { counted, .. } = &mut self.source {
            *counted = Some((Arc::clone(flows), cost));
        }
        self
    }

    fn flowing(rest: Inflow) -> Self {
        Self {
            source: Source::Streamed {
                prefix: None,
                rest,
                counted: None,
            },
            guard: None,
        }
    }

    /// Takes the guard, so that the caller decides when to release it.
    pub fn take_guard(&mut self) -> Option<G> {
        self.guard.take()
    }

    /// Puts back a guard that was taken.
    pub fn with_guard(mut self, guard: Option<G>) -> Self {
        self.guard = guard;
        self
    }

    /// Changes the guard, if the body still has one.
    pub fn map_guard<H>(self, change: impl FnOnce(G) -> H) -> Body<H> {
        Body {
            source: self.source,
            guard: self.guard.map(change),
        }
    }

    fn count(&mut self, flows: Arc<Flows>, cost: u64) {
        let source = std::mem::replace(
            &mut self.source,
            Source::Buffered {
                data: Bytes::new(),
                trailers: None,
            },
        );
        self.source = match source {
            Source::Streamed { rest, .. } => Source::Counted(Flow::new(flows, rest, cost)),
            other => other,
        };
    }

    /// Puts back the bytes that were read from the beginning of the body.
    fn put_back(&mut self, read: Bytes, room: Option<Reservation>) {
        match &mut self.source {
            Source::Streamed { prefix, .. } => *prefix = Prefix::of(read, room),
            Source::Kept(kept) => kept.put_back(read),
            Source::Buffered { data, .. } => *data = read,
            Source::Counted(flow) => {
                // A body that the proxy has cancelled ends in an error, even if bytes of it were
                // read.
                if let Some((rest, flows, cost)) = flow.stop() {
                    self.source = Source::Streamed {
                        prefix: Prefix::of(read, room),
                        rest,
                        counted: Some((flows, cost)),
                    };
                }
            }
        }
    }

    /// Makes the body available again from [`Returned`] after it was dropped, if at most `limit`
    /// bytes of it had been read.
    pub fn keep(&mut self, limit: usize) -> Returned {
        let empty = Source::Buffered {
            data: Bytes::new(),
            trailers: None,
        };
        let (source, returned) = match std::mem::replace(&mut self.source, empty) {
            Source::Streamed { prefix, rest, .. } if !rest.is_end_stream() || prefix.is_some() => {
                let prefix = prefix.map_or_else(Bytes::new, |prefix| prefix.data);
                let (kept, returned) = KeptBody::new(prefix, rest, limit);
                (Source::Kept(Box::new(kept)), returned)
            }
            // An empty body has nothing to keep.
            empty @ Source::Streamed { .. } => (empty, Returned::whole(Buffered::default())),
            // A body in memory is cheap to copy: both share the bytes.
            Source::Buffered { data, trailers } => {
                let copy = Buffered {
                    data: data.clone(),
                    trailers: trailers.clone(),
                };
                (Source::Buffered { data, trailers }, Returned::whole(copy))
            }
            other @ (Source::Kept(_) | Source::Counted(_)) => (other, Returned::never()),
        };
        self.source = source;
        returned
    }

    /// Holds `guard` until the body ends or is dropped.
    pub fn guarded<H>(self, guard: H) -> Body<H> {
        Body {
            source: self.source,
            guard: Some(guard),
        }
    }
}

impl Prefix {
    /// The most that is handed to the connection at once.
    const PIECE: usize = 64 << 10;

    fn of(data: Bytes, room: Option<Reservation>) -> Option<Box<Self>> {
        (!data.is_empty()).then(|| Box::new(Self { data, _room: room }))
    }

    /// The next piece. None if there is no prefix.
    fn next(prefix: &mut Option<Box<Self>>) -> Option<Bytes> {
        let data = &mut prefix.as_mut()?.data;
        let piece = data.split_to(data.len().min(Self::PIECE));
        if data.is_empty() {
            *prefix = None;
        }
        Some(piece)
    }
}

impl<G> From<Buffered> for Body<G> {
    fn from(Buffered { data, trailers }: Buffered) -> Self {
        Self {
            source: Source::Buffered { data, trailers },
            guard: None,
        }
    }
}

impl<G: Unpin> HttpBody for Body<G> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut frame = match &mut self.source {
            Source::Buffered { data, .. } if !data.is_empty() => {
                Some(Ok(Frame::data(std::mem::take(data))))
            }
            Source::Buffered { trailers, .. } => trailers
                .take()
                .map(|trailers| Ok(Frame::trailers(*trailers))),
            Source::Streamed {
                prefix: prefix @ Some(_),
                ..
            } => Prefix::next(prefix).map(|data| Ok(Frame::data(data))),
            Source::Streamed { rest, counted, .. } => {
                let frame = ready!(rest.poll_frame(cx));
                let flows = if matches!(frame, Some(Ok(_))) && !rest.is_end_stream() {
                    counted.take()
                } else {
                    None
                };
                if let Some((flows, cost)) = flows {
                    self.count(flows, cost);
                }
                frame
            }
            Source::Counted(flow) => ready!(flow.poll_frame(cx)),
            Source::Kept(kept) => ready!(kept.poll_frame(cx)),
        };
        if let Some(trailers) = frame
            .as_mut()
            .and_then(|frame| frame.as_mut().ok())
            .and_then(Frame::trailers_mut)
        {
            headers::strip_trailers(trailers);
            if trailers.is_empty() {
                frame = None;
            }
        }
        if !matches!(frame, Some(Ok(_))) {
            self.guard = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Buffered { data, trailers } => data.is_empty() && trailers.is_none(),
            Source::Streamed { prefix, rest, .. } => prefix.is_none() && rest.is_end_stream(),
            Source::Counted(flow) => flow.is_end_stream(),
            Source::Kept(kept) => kept.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Buffered {
                data,
                trailers: None,
            } => SizeHint::with_exact(data.len() as u64),
            // An exact length becomes a Content-Length, and HTTP/1.1 allows no trailers with it.
            Source::Buffered {
                data,
                trailers: Some(_),
            } => {
                let mut hint = SizeHint::new();
                hint.set_lower(data.len() as u64);
                hint
            }
            Source::Counted(flow) => flow.size_hint(),
            Source::Streamed { prefix, rest, .. } => {
                streamed_size(prefix.as_ref().map_or(0, |prefix| prefix.data.len()), rest)
            }
            Source::Kept(kept) => kept.size_hint(),
        }
    }
}

fn streamed_size(prefix: usize, rest: &Inflow) -> SizeHint {
    let read = prefix as u64;
    let mut hint = rest.size_hint();
    if let Some(upper) = hint.upper() {
        hint.set_upper(upper + read);
    }
    hint.set_lower(hint.lower() + read);
    hint
}

impl Buffered {
    /// Keeps `room` for as long as anybody has the data, which may be long: what a client does not
    /// read waits in its connection, after the body itself has ended.
    pub fn in_room(mut self, room: Reservation) -> Self {
        self.data = Bytes::from_owner(Reserved {
            data: self.data,
            _room: room,
        });
        self
    }
}

/// Bytes with the memory that is reserved for them.
struct Reserved {
    data: Bytes,
    _room: Reservation,
}

impl AsRef<[u8]> for Reserved {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// A complete body in memory. Cheap to clone: each attempt sends the same bytes.
#[derive(Clone, Debug, Default)]
pub struct Buffered {
    /// The content, without transfer coding.
    pub data: Bytes,
    /// The trailers that followed the content.
    pub trailers: Option<Box<HeaderMap>>,
}
