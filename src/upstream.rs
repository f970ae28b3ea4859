//! The way to kube-apiserver: connections kept in lanes, so that watches, which never end, can never use up what creates need.
//!
//! A request is given back, or its error says so, wherever it provably did not reach the apiserver; whether to send it again is for the
//! caller. Nothing here repeats what may have been processed.

mod connect;
mod lane;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::config;
use crate::metrics::Metrics;
pub use connect::{ConnectError, Connector, Tls};
pub use lane::Lease;
use lane::{Lane, Sender};

/// How often a request that never left is offered to another connection. A connection closes between two requests now and then, several
/// in a row only while a server goes away.
const UNSENT_TRIES: usize = 3;

/// Which connections a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// Creates: never behind anything else.
    Create,
    /// Short requests.
    Call,
    /// Watches and other answers without an end.
    Stream,
}

/// The upstream and its lanes.
pub struct Upstream {
    target: Target,
    connector: Arc<Connector>,
    create: Arc<Lane>,
    call: Arc<Lane>,
    stream: Arc<Lane>,
    metrics: Arc<Metrics>,
}

/// What a request must name to be at the right server.
#[derive(Debug)]
struct Target {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
}

/// Why there is no answer of the upstream.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection could be made: the request never left.
    #[error("no connection to the upstream")]
    Connect(#[source] Arc<ConnectError>),
    /// Every connection closed before the request was written: it never left.
    #[error("the upstream closed {UNSENT_TRIES} connections before the request was sent")]
    Unsent,
    /// REFUSED_STREAM, or a GOAWAY that excludes the request: the upstream says that it was not processed.
    #[error("the upstream refused the request unprocessed")]
    Refused(#[source] hyper::Error),
    /// The connection failed after the request was sent: it may have been processed.
    #[error("the connection to the upstream was lost before it answered")]
    Lost(#[source] hyper::Error),
}

impl SendError {
    /// The label of metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Unsent => "unsent",
            Self::Refused(_) => "refused",
            Self::Lost(_) => "lost",
        }
    }

    /// Whether the request surely was not processed.
    pub fn provably_unprocessed(&self) -> bool {
        !matches!(self, Self::Lost(_))
    }
}

impl Upstream {
    /// Lanes to the server that `connector` reaches. Connects when the first request comes.
    pub fn new(connector: Connector, settings: &config::Upstream, metrics: &Arc<Metrics>) -> Self {
        let connector = Arc::new(connector);
        let lane = |name| Lane::new(name, Arc::clone(&connector), settings, metrics.lane(name));
        Self {
            target: Target::of(&connector),
            create: lane("create"),
            call: lane("call"),
            stream: lane("stream"),
            connector,
            metrics: Arc::clone(metrics),
        }
    }

    /// Sends one request and returns the head of its answer; the body streams and holds its place in the lane.
    ///
    /// # Errors
    /// See [`SendError`]; only `Lost` leaves open whether the request was processed.
    pub async fn send(&self, lane: LaneKind, mut request: Request<Body>) -> Result<Response<Body<Lease>>, SendError> {
        let lane = self.lane(lane);
        for _ in 0..UNSENT_TRIES {
            let (mut sender, lease) = lane.acquire().await.map_err(|error| self.failed(SendError::Connect(error)))?;
            self.target.address(&mut request, matches!(sender, Sender::Http2(_)));
            match sender.try_send(request).await {
                Ok(response) => return Ok(response.map(|body| Body::<()>::streamed(body).guarded(lease.of(sender)))),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.failed(classified(failed.into_error()))),
                },
            }
        }
        Err(self.failed(SendError::Unsent))
    }

    /// Sends an upgrade request over an HTTP/1.1 connection of its own, which a 101 turns into a tunnel.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    pub async fn upgrade(&self, mut request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        let mut sender = self.connector.http1().await.map_err(|error| self.failed(SendError::Connect(Arc::new(error))))?;
        self.target.address(&mut request, false);
        sender.try_send_request(request).await.map_err(|mut failed| match failed.take_message() {
            Some(_) => self.failed(SendError::Unsent),
            None => self.failed(classified(failed.into_error())),
        })
    }

    /// Whether the upstream can be reached: connects the call lane, unless it is connected.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn reachable(&self) -> Result<(), Arc<ConnectError>> {
        self.call.connected().await
    }

    /// Closes idle connections in time, until `stop`: a server that closes first may do so just as a request is on its way.
    pub async fn close_idle_until(&self, stop: CancellationToken) {
        let mut every = tokio::time::interval(Duration::from_secs(5));
        while stop.run_until_cancelled(every.tick()).await.is_some() {
            [&self.create, &self.call, &self.stream].into_iter().for_each(|lane| lane.close_idle());
        }
    }

    fn failed(&self, error: SendError) -> SendError {
        self.metrics.upstream_error(error.kind());
        error
    }

    fn lane(&self, kind: LaneKind) -> &Arc<Lane> {
        match kind {
            LaneKind::Create => &self.create,
            LaneKind::Call => &self.call,
            LaneKind::Stream => &self.stream,
        }
    }
}

impl Target {
    fn of(connector: &Connector) -> Self {
        let (scheme, authority, host) = connector.target();
        Self { scheme, authority, host }
    }

    /// Names the upstream in the form that the protocol wants: `:authority` in HTTP/2, `Host` in HTTP/1.1. Path and query stay as they are.
    fn address<B>(&self, request: &mut Request<B>, http2: bool) {
        let path = std::mem::take(request.uri_mut()).into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if http2 {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(self.scheme.clone());
            parts.authority = Some(self.authority.clone());
            parts.path_and_query = Some(path);
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            *request.version_mut() = Version::HTTP_2;
            // `Host` stands first in what clients send, so HeaderMap's swap-removal would move the last header to the front.
            if request.headers().contains_key(HOST) {
                request.headers_mut().insert(HOST, self.host.clone());
            }
        } else {
            *request.uri_mut() = Uri::from(path);
            *request.version_mut() = Version::HTTP_11;
            request.headers_mut().insert(HOST, self.host.clone());
        }
    }
}

/// Tells what a failed exchange proves. h2 reports a remote GOAWAY only to streams above its last stream id; those at or below it end with
/// an I/O error when the connection closes (`h2/src/proto/streams/streams.rs`, `recv_go_away` and `recv_eof`).
fn classified(error: hyper::Error) -> SendError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            if h2.is_remote() && (refused || h2.is_go_away()) {
                return SendError::Refused(error);
            }
        }
        source = cause.source();
    }
    SendError::Lost(error)
}
