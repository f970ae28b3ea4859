//! The connections of one lane, and the requests that wait for a place on one. This is a plain data
//! structure behind the lane's lock: nothing here dials or sends.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::client::conn::http2;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::connect::{ConnectError, Http1};
use super::Lease;
use crate::body::Body;

/// If fewer requests wait, all of them are checked each time.
const FEW: usize = 64;

#[derive(Default)]
pub(super) struct Pool {
    /// The oldest first.
    pub(super) http2: Vec<SharedConnection>,
    /// Idle HTTP/1.1 connections, the longest idle first. Each was ready for a request when it was
    /// put here, so one that is not ready has closed.
    pub(super) http1: VecDeque<(Http1, Instant)>,
    /// Whether the last dial gave an HTTP/1.1 connection, so that every request needs its own.
    pub(super) exclusive: bool,
    /// Dials in progress.
    pub(super) dialing: usize,
    /// The longest waiting first.
    pub(super) waiters: VecDeque<Waiter>,
    /// How many requests began to wait since those were last dropped whose clients have gone.
    unchecked: usize,
    /// Counts how often all connections were retired. An error on a connection of an earlier
    /// generation says nothing about the present ones.
    pub(super) generation: u64,
}

/// A request that waits for a place.
pub(super) struct Waiter {
    reply: oneshot::Sender<Result<Lease, Arc<ConnectError>>>,
    /// How many more dials may fail before the request fails too. It starts as the number of dials
    /// in progress when the request came.
    dials_remaining: usize,
}

/// An HTTP/2 connection. Many requests share it.
#[derive(Debug)]
pub(super) struct SharedConnection {
    pub(super) sender: http2::SendRequest<Body>,
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS.
    pub(super) allowed: Arc<AtomicUsize>,
    pub(super) load: Arc<Load>,
}

/// The counts of a shared connection. Its leases share this with the pool.
#[derive(Debug)]
pub(super) struct Load {
    streams: AtomicUsize,
    /// Requests over the connection's whole life.
    requests: AtomicUsize,
    last_used: Mutex<Instant>,
    /// Set when the server is going away: the connection takes no more requests.
    retired: AtomicBool,
}

impl Pool {
    /// Adds a waiting request. The reply is a place, or the error of the last dial that it waited
    /// for.
    pub(super) fn enqueue(&mut self) -> oneshot::Receiver<Result<Lease, Arc<ConnectError>>> {
        let (reply, receiver) = oneshot::channel();
        // Requests whose clients have disconnected need no connection. Checking all of them each
        // time would take time that grows with the square of a burst.
        self.unchecked += 1;
        if self.waiters.len() < FEW || self.unchecked > self.waiters.len() / 2 {
            self.waiters.retain(|waiter| !waiter.reply.is_closed());
            self.unchecked = 0;
        }
        self.waiters.push_back(Waiter {
            reply,
            dials_remaining: 0,
        });
        receiver
    }

    /// The last request waits for as many dials as are in progress now.
    pub(super) fn last_waits_for_dials(&mut self) {
        let dials = self.dialing.max(1);
        if let Some(waiter) = self.waiters.back_mut() {
            waiter.dials_remaining = dials;
        }
    }

    /// Replies to the request that has waited longest and whose client is still connected. Returns
    /// the lease if no request is waiting.
    pub(super) fn reply_to_first(
        &mut self,
        result: Result<Lease, Arc<ConnectError>>,
    ) -> Option<Lease> {
        let mut result = result;
        while let Some(waiter) = self.waiters.pop_front() {
            match waiter.reply.send(result) {
                Ok(()) => return None,
                Err(unwanted) => result = unwanted,
            }
        }
        result.ok()
    }

    /// Notes a failed dial. Other dials may still succeed, but a request waits only for as many
    /// dials as were in progress when it came.
    pub(super) fn dial_failed(&mut self, error: &Arc<ConnectError>) {
        self.waiters
            .iter_mut()
            .for_each(|waiter| waiter.dials_remaining = waiter.dials_remaining.saturating_sub(1));
        let (failed, waiting) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiter| waiter.dials_remaining == 0);
        self.waiters = waiting;
        // A client that has disconnected does not need the error.
        failed
            .into_iter()
            .for_each(|waiter| drop(waiter.reply.send(Err(Arc::clone(error)))));
    }

    pub(super) fn retire_all(&mut self) {
        self.http1.clear();
        self.http2.clear();
        self.generation += 1;
    }
}

impl SharedConnection {
    pub(super) fn new(sender: http2::SendRequest<Body>, allowed: Arc<AtomicUsize>) -> Self {
        Self {
            sender,
            allowed,
            load: Arc::new(Load {
                streams: AtomicUsize::new(0),
                requests: AtomicUsize::new(0),
                last_used: Mutex::new(Instant::now()),
                retired: AtomicBool::new(false),
            }),
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.load.retired.load(Ordering::Relaxed)
    }
}

impl Load {
    /// Streams open now.
    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn open_stream(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn close_stream(&self) {
        *self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn last_used(&self) -> Instant {
        *self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_whose_clients_have_gone_do_not_pile_up() {
        let mut pool = Pool::default();
        let patient: Vec<_> = (0..1000).map(|_| pool.enqueue()).collect();
        for _ in 0..10_000 {
            drop(pool.enqueue());
        }
        let waiting = pool.waiters.len();
        assert!((1000..2000).contains(&waiting), "{waiting}");
        drop(patient);
        for _ in 0..2000 {
            drop(pool.enqueue());
        }
        assert_eq!(pool.waiters.len(), 1);
    }
}
