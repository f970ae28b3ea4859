//! A place on a connection of a lane, from the pick until the answer's body has ended or was
//! dropped.

use std::error::Error as StdError;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use tokio::time::Instant;

use super::super::connect::{Http1, MAX_SEND_BUFFER};
use super::{Lane, Load};
use crate::body::{Body, BodyError};
use crate::metrics::GaugeGuard;

/// A place on a connection, held from the pick until the answer's body ended or was dropped.
pub struct Lease {
    lane: Arc<Lane>,
    held: Held,
    generation: u64,
    _stream: GaugeGuard,
    /// What else lasts as long as the answer.
    _open: Option<GaugeGuard>,
}

/// What a place is.
#[derive(Debug)]
pub(super) enum Held {
    Stream(http2::SendRequest<Body>, Arc<Load>),
    /// The connection, idle again when the answer's body has been read; None where it is not to be
    /// used again.
    Exclusive(Option<Http1>),
}

impl Lease {
    /// A place in `lane`, on a connection of this generation.
    pub(super) fn new(lane: &Arc<Lane>, held: Held, generation: u64) -> Self {
        lane.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            lane: Arc::clone(lane),
            held,
            generation,
            _stream: lane.metrics.stream(),
            _open: None,
        }
    }

    /// Sends the one request that the place is for.
    pub(in crate::upstream) async fn try_send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        match &mut self.held {
            Held::Exclusive(Some(sender)) => sender.try_send_request(request).await,
            Held::Stream(sender, _) => sender.try_send_request(request).await,
            // Only a lease that is being given up has none.
            Held::Exclusive(None) => std::future::pending().await,
        }
    }

    /// Whether it is a stream of an HTTP/2 connection.
    pub(in crate::upstream) fn is_http2(&self) -> bool {
        matches!(self.held, Held::Stream(..))
    }

    /// Whether it is a connection that was idle after the answer to another request.
    pub(in crate::upstream) fn is_reused(&self) -> bool {
        matches!(&self.held, Held::Exclusive(Some(sender)) if sender.reused)
    }

    /// Ends the connection's use: what comes next goes elsewhere, what is in flight on it goes on.
    pub(in crate::upstream) fn retire(mut self) {
        match &mut self.held {
            Held::Stream(_, load) => load.retired.store(true, Ordering::Relaxed),
            Held::Exclusive(sender) => *sender = None,
        }
    }

    /// The request or its answer was lost. If its connection broke, the others of the lane may be
    /// about to: those of a server that dies break one after the other, and each would take
    /// with it what had moved there from the last. A new one shows whether the server is there.
    pub fn lost(self, why: &(dyn StdError + 'static)) {
        if breaks_a_stream_only(why) {
            return;
        }
        if let Held::Stream(_, load) = &self.held {
            load.retired.store(true, Ordering::Relaxed);
        }
        let mut state = self.lane.lock();
        // Once for all that were in flight, lest the later ones let go of the new connections.
        if state.generation == self.generation {
            state.leave();
        }
    }

    /// What the answer occupies while nobody reads it: what its server may send ahead, and what
    /// waits for the client.
    pub(in crate::upstream) fn may_occupy(&self) -> u64 {
        u64::from(self.lane.kind.window) + MAX_SEND_BUFFER as u64
    }

    /// Whether it is a place in `lane`.
    pub(in crate::upstream) fn is_of(&self, lane: &Arc<Lane>) -> bool {
        Arc::ptr_eq(&self.lane, lane)
    }

    /// Host and port of the server that answers.
    pub fn server(&self) -> (&str, u16) {
        self.lane.connector.address()
    }

    /// Keeps `open` for as long as the answer lasts.
    pub fn keeping(mut self, open: Option<GaugeGuard>) -> Self {
        self._open = open;
        self
    }

    pub(super) fn take_exclusive(&mut self) -> Option<Http1> {
        match &mut self.held {
            Held::Exclusive(sender) => sender.take(),
            Held::Stream(..) => None,
        }
    }
}

/// Whether the connection goes on: the peer reset the stream.
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
        match &mut self.held {
            Held::Stream(_, load) => {
                *load
                    .last_used
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Instant::now();
                load.streams.fetch_sub(1, Ordering::Relaxed);
                if !self.lane.lock().waiters.is_empty() {
                    self.lane.serve(1);
                }
            }
            Held::Exclusive(sender) => {
                if let Some(mut sender) = sender.take() {
                    let lane = Arc::clone(&self.lane);
                    tokio::spawn(async move {
                        // Ready again once the answer was read to its end; an error means that it
                        // was not, and the connection closes.
                        if sender.ready().await.is_ok() {
                            // A server that closes behind its answer, without announcing it, often
                            // has done so by now.
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
