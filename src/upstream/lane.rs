//! One lane: connections to one server that carry one kind of request.
//!
//! Over HTTP/2 a lane shares each connection among a bounded number of streams. Over HTTP/1.1 each
//! request has a connection to itself, and the lane keeps the idle ones.
//!
//! A lane can spread over several connections, so that a load balancer spreads them over
//! apiservers; it then uses the least loaded one. A lane that spreads over one connection uses the
//! oldest until its streams run out. Either way the lane dials the next connection before the
//! streams run out. Each dial runs in a separate task, and there is one for each connection that
//! waiting requests need. A new place goes to the request that has waited longest. So a client that
//! disconnects wastes no connection and does not delay the other requests.

mod lease;
mod pool;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connect::{ConnectError, Connection, Connector, Http1};
use crate::config;
use crate::metrics::LaneMetrics;
pub use lease::Lease;
use lease::LeasedConnection;
use pool::{Pool, SharedConnection};

/// Concurrent dials of one lane. HTTP/1.1 needs a connection for each request in flight.
const MAX_DIALS: usize = 64;

/// How long the other waiting requests wait for the dials in progress after one dial has finished.
/// This spreads a burst over all the new connections.
const SPREAD_WITHIN: Duration = Duration::from_millis(50);

/// How one lane differs from another.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneProfile {
    /// The name in metrics and logs.
    pub(super) name: &'static str,
    /// The number of connections that the lane spreads over, at least one.
    pub(super) spread: usize,
    /// How many bytes the server may send ahead of the reader on one stream.
    pub(super) window: u32,
    /// How many requests one HTTP/2 connection serves before the lane replaces it.
    pub(super) max_requests: usize,
}

pub(super) struct Lane {
    profile: LaneProfile,
    connector: Arc<Connector>,
    metrics: LaneMetrics,
    max_streams: usize,
    idle_timeout: Duration,
    in_flight: AtomicUsize,
    pool: Mutex<Pool>,
}

impl Lane {
    /// A lane without connections. It dials for the first request.
    pub(super) fn new(
        profile: LaneProfile,
        connector: Arc<Connector>,
        settings: &config::UpstreamConfig,
        metrics: LaneMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            profile,
            connector,
            metrics,
            max_streams: settings.max_streams_per_connection.size(),
            idle_timeout: settings.idle_timeout,
            in_flight: AtomicUsize::new(0),
            pool: Mutex::default(),
        })
    }

    /// Waits for a place on a connection, and dials if there is none.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Lease, Arc<ConnectError>> {
        loop {
            let reply = {
                let mut pool = self.lock();
                if let Some(lease) = self.pick(&mut pool) {
                    return Ok(lease);
                }
                self.enqueue(&mut pool)
            };
            // The pool never drops a waiter without a reply. If it did, trying again would be
            // right.
            if let Ok(result) = reply.await {
                return result;
            }
        }
    }

    /// Requests in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Open connections.
    pub(super) fn connections(&self) -> usize {
        let pool = self.lock();
        let busy = if pool.exclusive { self.in_flight() } else { 0 };
        pool.http2.len() + pool.http1.len() + busy
    }

    /// Stops using every connection. Requests in flight finish; later requests get new
    /// connections.
    pub(super) fn retire_connections(&self) {
        self.lock().retire_all();
    }

    /// Drops closed connections, and those that were idle for `idle_timeout`.
    pub(super) fn close_idle(&self) {
        let now = Instant::now();
        let mut pool = self.lock();
        pool.http1
            .retain(|(sender, since)| !sender.is_closed() && now - *since < self.idle_timeout);
        pool.http2.retain(|shared| {
            shared.is_usable()
                && (shared.load.streams() > 0 || now - shared.load.last_used() < self.idle_timeout)
        });
    }

    fn enqueue(
        self: &Arc<Self>,
        pool: &mut Pool,
    ) -> oneshot::Receiver<Result<Lease, Arc<ConnectError>>> {
        let reply = pool.enqueue();
        self.dial_for_waiters(pool);
        pool.last_waits_for_dials();
        reply
    }

    /// Takes a place on a connection, if one is free.
    ///
    /// **Invariant:** a request uses a connection only while it holds a [`Lease`], and `pick` gives
    /// out a stream only if the connection then carries at most [`Lane::capacity`] streams. With
    /// more, the server refuses a stream, or hyper holds the request back behind streams that may
    /// never end.
    ///
    /// - The lock is held from reading the load of a connection until `open_stream` has counted the
    ///   stream. Otherwise two requests could take the last stream. Only the drop of the lease
    ///   takes the stream off the count, so it does not matter how a request ends.
    /// - A connection that is closed, retired, or has served its requests leaves the pool here. Its
    ///   leases keep it open for the requests in flight.
    /// - A dial starts before the last stream is taken, so requests rarely wait for one.
    ///
    /// A capacity that ignores what the server allows fails
    /// `watches_respect_the_streams_that_the_apiserver_allows`.
    fn pick(self: &Arc<Self>, pool: &mut Pool) -> Option<Lease> {
        while let Some((sender, _)) = pool.http1.pop_back() {
            if sender.is_ready() {
                return Some(self.lease(LeasedConnection::Exclusive(Some(sender)), pool));
            }
        }
        pool.http2.retain(|shared| {
            shared.is_usable() && shared.load.requests() < self.profile.max_requests
        });
        let free = |shared: &SharedConnection| self.free_streams(shared);
        let picked = if self.profile.spread == 1 {
            pool.http2.iter().find(|shared| free(shared) > 0)?
        } else {
            pool.http2
                .iter()
                .filter(|shared| free(shared) > 0)
                .min_by_key(|shared| shared.load.streams())?
        };
        let was_idle = picked.load.streams() == 0;
        picked.load.open_stream();
        let lease = self.lease(
            LeasedConnection::Shared(picked.sender.clone(), Arc::clone(&picked.load)),
            pool,
        );
        let below_spread = !was_idle && pool.http2.len() + pool.dialing < self.profile.spread;
        // A quarter of one connection's streams lasts while the next connection is dialled.
        let nearly_full = pool.dialing == 0
            && pool.http2.iter().map(free).sum::<usize>() < self.capacity(&pool.http2[0]) / 4;
        if below_spread || nearly_full {
            self.dial(pool);
        }
        Some(lease)
    }

    fn lease(self: &Arc<Self>, connection: LeasedConnection, pool: &Pool) -> Lease {
        Lease::new(self, connection, pool.generation)
    }

    /// How many more requests the connection takes now.
    fn free_streams(&self, shared: &SharedConnection) -> usize {
        let remaining = self
            .profile
            .max_requests
            .saturating_sub(shared.load.requests());
        self.capacity(shared)
            .saturating_sub(shared.load.streams())
            .min(remaining)
    }

    /// How many streams the connection may carry.
    fn capacity(&self, shared: &SharedConnection) -> usize {
        // If a server allows no streams for now, its requests must wait. At 0 the lane would dial
        // without end.
        self.max_streams
            .min(shared.allowed.load(Ordering::Relaxed))
            .max(1)
    }

    /// Gives at most `most` places to waiting requests, and dials for the others.
    fn serve_waiters(self: &Arc<Self>, most: usize) {
        let mut spare = None;
        let mut pool = self.lock();
        for _ in 0..most {
            if pool.waiters.is_empty() {
                break;
            }
            let Some(lease) = spare.take().or_else(|| self.pick(&mut pool)) else {
                break;
            };
            spare = pool.reply_to_first(Ok(lease));
        }
        if !pool.waiters.is_empty() {
            self.dial_for_waiters(&mut pool);
        }
        // Dropping a lease takes the lock.
        drop(pool);
        drop(spare);
    }

    /// Dials as many connections as the waiting requests need: one for each over HTTP/1.1, one for
    /// every `max_streams` over HTTP/2. A burst that finds no connection at all dials the lane's
    /// whole spread.
    fn dial_for_waiters(self: &Arc<Self>, pool: &mut Pool) {
        let waiting = pool.waiters.len();
        let wanted = if pool.exclusive {
            waiting
        } else {
            waiting
                .div_ceil(self.max_streams)
                .max(waiting.min(self.profile.spread.saturating_sub(pool.http2.len())))
        };
        while pool.dialing < wanted.min(MAX_DIALS) {
            self.dial(pool);
        }
    }

    fn dial(self: &Arc<Self>, pool: &mut Pool) {
        pool.dialing += 1;
        let lane = Arc::clone(self);
        tokio::spawn(async move {
            let started = Instant::now();
            let connected = lane
                .connector
                .connect(lane.profile.window, || lane.metrics.connection())
                .await;
            lane.metrics.connect(connected.is_ok(), started.elapsed());
            lane.dialed(connected);
        });
    }

    fn dialed(self: &Arc<Self>, connected: Result<Connection, ConnectError>) {
        let mut pool = self.lock();
        pool.dialing -= 1;
        match connected {
            Ok(Connection::Http2(sender, allowed)) => {
                pool.exclusive = false;
                pool.http2.push(SharedConnection::new(sender, allowed));
            }
            Ok(Connection::Http1(sender)) => {
                pool.exclusive = true;
                pool.http1.push_back((sender, Instant::now()));
            }
            Err(error) => {
                tracing::debug!(
                    lane = self.profile.name,
                    error = %crate::telemetry::chain(&error),
                    "Cannot connect to the upstream"
                );
                pool.dial_failed(&Arc::new(error));
            }
        }
        // The other waiters wait for the dials in progress, but only for a moment.
        let share = pool.waiters.len().div_ceil(pool.dialing + 1);
        let others = pool.waiters.len() > share && !pool.exclusive;
        drop(pool);
        self.serve_waiters(share);
        if others {
            let lane = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(SPREAD_WITHIN).await;
                lane.serve_waiters(usize::MAX);
            });
        }
    }

    /// Takes back an HTTP/1.1 connection that is ready for the next request.
    fn give_back(self: &Arc<Self>, mut sender: Http1) {
        sender.reused = true;
        let mut pool = self.lock();
        while !pool.waiters.is_empty() {
            let lease = self.lease(LeasedConnection::Exclusive(Some(sender)), &pool);
            match pool
                .reply_to_first(Ok(lease))
                .and_then(|mut unwanted| unwanted.take_exclusive())
            {
                Some(unwanted) => sender = unwanted,
                None => return,
            }
        }
        pool.http1.push_back((sender, Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
