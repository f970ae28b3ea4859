//! A place on a connection of a lane. The request holds it from the pick until the body of the
//! response has ended or was dropped.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};

use super::super::connect::{Http1, MAX_SEND_BUFFER, max_frame};
use super::Lane;
use super::pool::Load;
use crate::body::{Body, BodyError};
use crate::metrics::GaugeGuard;

/// A place on a connection. Dropping it gives the place back to the lane.
pub struct Lease {
    lane: Arc<Lane>,
    connection: LeasedConnection,
    generation: u64,
    _stream: GaugeGuard,
    /// Another count that lasts as long as the response.
    _open: Option<GaugeGuard>,
}

#[derive(Debug)]
pub(super) enum LeasedConnection {
    /// One stream of an HTTP/2 connection.
    Shared(http2::SendRequest<Body>, Arc<Load>),
    /// A whole HTTP/1.1 connection. It is idle again when the body of the response has been read.
    /// None if it must not be used again.
    Exclusive(Option<Http1>),
}

impl Lease {
    /// `generation` is the pool's when the connection was picked.
    pub(super) fn new(lane: &Arc<Lane>, connection: LeasedConnection, generation: u64) -> Self {
        lane.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            lane: Arc::clone(lane),
            connection,
            generation,
            _stream: lane.metrics.stream(),
            _open: None,
        }
    }

    /// Sends the one request that the lease is for.
    pub(in crate::upstream) async fn try_send(
        &mut self,
        request: Box<Request<Body>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        match &mut self.connection {
            LeasedConnection::Exclusive(Some(sender)) => sender.try_send_request(*request).await,
            LeasedConnection::Shared(sender, _) => sender.try_send_request(*request).await,
            // Only `retire` and `take_exclusive` leave None, and nobody sends after them.
            LeasedConnection::Exclusive(None) => std::future::pending().await,
        }
    }

    pub(in crate::upstream) fn is_http2(&self) -> bool {
        matches!(self.connection, LeasedConnection::Shared(..))
    }

    /// Whether the connection has carried an earlier request and was idle since.
    pub(in crate::upstream) fn is_reused(&self) -> bool {
        matches!(&self.connection, LeasedConnection::Exclusive(Some(sender)) if sender.reused)
    }

    /// Stops using the connection. Its other requests in flight finish; later requests get another
    /// one.
    pub(in crate::upstream) fn retire(mut self) {
        match &mut self.connection {
            LeasedConnection::Shared(_, load) => load.retire(),
            LeasedConnection::Exclusive(sender) => *sender = None,
        }
    }

    /// Tells the lane that the request or its response was lost. If the connection broke, the
    /// lane's other connections may be about to break: those of a dying server break one after the
    /// other, and each would take the requests with it that moved there from the one before. So the
    /// lane retires them all. A new connection shows whether the server is there.
    pub fn lost(self, why: &(dyn StdError + 'static)) {
        if breaks_a_stream_only(why) {
            return;
        }
        if let LeasedConnection::Shared(_, load) = &self.connection {
            load.retire();
        }
        let mut pool = self.lane.lock();
        // Once for all requests that were in flight: the later ones must not retire the new
        // connections.
        if pool.generation == self.generation {
            pool.retire_all();
        }
    }

    /// The most memory that the response occupies while nobody reads it: what the server may send
    /// ahead, and what waits to be sent to the client, which can be one frame more than its limit.
    pub(in crate::upstream) fn may_occupy(&self) -> u64 {
        let window = self.lane.profile.window;
        u64::from(window) + MAX_SEND_BUFFER as u64 + u64::from(max_frame(window))
    }

    pub(in crate::upstream) fn belongs_to(&self, lane: &Arc<Lane>) -> bool {
        Arc::ptr_eq(&self.lane, lane)
    }

    /// Host and port of the server that answers.
    pub fn server(&self) -> (&str, u16) {
        self.lane.connector.address()
    }

    /// Keeps `open` for as long as the response lasts.
    pub fn keeping(mut self, open: Option<GaugeGuard>) -> Self {
        self._open = open;
        self
    }

    pub(super) fn take_exclusive(&mut self) -> Option<Http1> {
        match &mut self.connection {
            LeasedConnection::Exclusive(sender) => sender.take(),
            LeasedConnection::Shared(..) => None,
        }
    }
}

/// Whether the peer reset one stream and the connection goes on.
fn breaks_a_stream_only(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let unfinished = matches!(cause.downcast_ref(), Some(BodyError::Unfinished));
        if unfinished
            || cause
                .downcast_ref::<h2::Error>()
                .is_some_and(h2::Error::is_reset)
        {
            return true;
        }
        next = cause.source();
    }
    false
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lane.in_flight.fetch_sub(1, Ordering::Relaxed);
        match &mut self.connection {
            LeasedConnection::Shared(_, load) => {
                load.close_stream();
                if !self.lane.lock().waiters.is_empty() {
                    self.lane.serve_waiters(1);
                }
            }
            LeasedConnection::Exclusive(sender) => {
                if let Some(mut sender) = sender.take() {
                    let lane = Arc::clone(&self.lane);
                    tokio::spawn(async move {
                        // The connection is ready when the response has been read to its end. An
                        // error means that it was not, and the connection closes.
                        if sender.ready().await.is_ok() {
                            // A server that closes after its response without announcing it has
                            // often done so by now.
                            tokio::task::yield_now().await;
                            if sender.is_ready() {
                                lane.give_back(sender);
                            }
                        }
                    });
                }
            }
        }
    }
}
