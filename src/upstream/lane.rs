//! One lane: its HTTP/2 connections, each with a bounded number of streams, or its idle HTTP/1.1
//! connections.
//!
//! A lane spreads over a few connections (so that a load balancer spreads them over apiservers) and
//! takes the least loaded one, or, where it spreads over one, keeps to the oldest for as long as
//! that has streams left. Either way it opens a further one before the streams run out. Connections
//! are made by tasks of their own, as many as those who wait need, and a place on one is handed to
//! who waits the longest: a client that leaves neither wastes one nor leaves the others waiting.

mod lease;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connect::{ConnectError, Connection, Connector, Http1};
use crate::body::Body;
use crate::config;
use crate::metrics::LaneMetrics;
use lease::Held;
pub use lease::Lease;

/// Connections that may be in the making at the same time. HTTP/1.1 needs one for each request in
/// flight.
const MAX_DIALING: usize = 64;

/// How long those who wait are kept for connections that are still being made, once there is one,
/// so that a burst spreads over all.
const SPREAD_WITHIN: Duration = Duration::from_millis(50);

/// What makes one lane differ from another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// As metrics and logs name it.
    pub(super) name: &'static str,
    /// Over how many connections it spreads, at least one.
    pub(super) spread: usize,
    /// How many bytes of an answer the server may send ahead of its reader, on one stream.
    pub(super) window: u32,
    /// How many requests one HTTP/2 connection serves before the next one takes over.
    pub(super) max_served: usize,
}

/// See the module.
pub(super) struct Lane {
    kind: Kind,
    connector: Arc<Connector>,
    metrics: LaneMetrics,
    max_streams: usize,
    idle_timeout: Duration,
    /// Requests in flight.
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    http2: Vec<Shared>,
    /// Idle HTTP/1.1 connections, the longest idle first. Each was ready for a request when it
    /// came here, so one that is not has closed.
    http1: VecDeque<(Http1, Instant)>,
    /// The last connection made was HTTP/1.1: every request needs one of its own.
    exclusive: bool,
    dialing: usize,
    /// The longest waiting first.
    waiters: VecDeque<Waiter>,
    /// How often the connections have been left: what breaks of an earlier generation says nothing
    /// of this one.
    generation: u64,
}

struct Waiter {
    place: oneshot::Sender<Result<Lease, Arc<ConnectError>>>,
    /// How many more dials may fail before it fails too: as many as were under way when it came.
    hope: usize,
}

/// An HTTP/2 connection that many requests share.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Body>,
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS.
    allowed: Arc<AtomicUsize>,
    load: Arc<Load>,
}

#[derive(Debug)]
struct Load {
    streams: AtomicUsize,
    served: AtomicUsize,
    last_used: Mutex<Instant>,
    /// Its server is going away: no further requests.
    retired: AtomicBool,
}

impl Lane {
    /// A lane without connections.
    pub(super) fn new(
        kind: Kind,
        connector: Arc<Connector>,
        settings: &config::Upstream,
        metrics: LaneMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            kind,
            connector,
            metrics,
            max_streams: settings.max_streams_per_connection.size(),
            idle_timeout: settings.idle_timeout,
            in_flight: AtomicUsize::new(0),
            state: Mutex::default(),
        })
    }

    /// A place on a connection; opens connections as needed and waits for them.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Lease, Arc<ConnectError>> {
        loop {
            let place = {
                let mut state = self.lock();
                if let Some(lease) = self.pick(&mut state) {
                    return Ok(lease);
                }
                self.wait_in(&mut state)
            };
            // Nobody forgets a waiter; looking again would be right then too.
            if let Ok(place) = place.await {
                return place;
            }
        }
    }

    /// Requests in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Open connections.
    pub(super) fn connections(&self) -> usize {
        let state = self.lock();
        let busy = if state.exclusive { self.in_flight() } else { 0 };
        state.http2.len() + state.http1.len() + busy
    }

    /// Lets go of every connection: what is in flight on it goes on, what comes next gets another
    /// one.
    pub(super) fn leave_connections(&self) {
        self.lock().leave();
    }

    /// Drops connections that nobody used for `idle_timeout`, and those that have closed.
    pub(super) fn close_idle(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        state
            .http1
            .retain(|(sender, since)| !sender.is_closed() && now - *since < self.idle_timeout);
        state.http2.retain(|shared| {
            shared.usable()
                && (shared.load.streams() > 0 || now - shared.load.last_used() < self.idle_timeout)
        });
    }

    fn wait_in(
        self: &Arc<Self>,
        state: &mut State,
    ) -> oneshot::Receiver<Result<Lease, Arc<ConnectError>>> {
        let (place, waiting) = oneshot::channel();
        // Those whose clients have left need no connection.
        state.waiters.retain(|waiter| !waiter.place.is_closed());
        state.waiters.push_back(Waiter { place, hope: 0 });
        self.dial_for_waiters(state);
        let hope = state.dialing.max(1);
        if let Some(waiter) = state.waiters.back_mut() {
            waiter.hope = hope;
        }
        waiting
    }

    fn pick(self: &Arc<Self>, state: &mut State) -> Option<Lease> {
        while let Some((sender, _)) = state.http1.pop_back() {
            if sender.is_ready() {
                return Some(self.lease(Held::Exclusive(Some(sender)), state));
            }
        }
        state.http2.retain(|shared| {
            shared.usable() && shared.load.served.load(Ordering::Relaxed) < self.kind.max_served
        });
        let room = |shared: &Shared| self.room(shared);
        let picked = if self.kind.spread == 1 {
            state.http2.iter().find(|shared| room(shared) > 0)?
        } else {
            state
                .http2
                .iter()
                .filter(|shared| room(shared) > 0)
                .min_by_key(|shared| shared.load.streams())?
        };
        let idle = picked.load.streams() == 0;
        picked.load.streams.fetch_add(1, Ordering::Relaxed);
        picked.load.served.fetch_add(1, Ordering::Relaxed);
        let lease = self.lease(
            Held::Stream(picked.sender.clone(), Arc::clone(&picked.load)),
            state,
        );
        let few = !idle && state.http2.len() + state.dialing < self.kind.spread;
        // A quarter of a connection's streams last while the next one is made.
        let scarce = state.dialing == 0
            && state.http2.iter().map(room).sum::<usize>() < self.capacity(&state.http2[0]) / 4;
        if few || scarce {
            self.dial(state);
        }
        Some(lease)
    }

    fn lease(self: &Arc<Self>, held: Held, state: &State) -> Lease {
        Lease::new(self, held, state.generation)
    }

    /// How many more requests the connection takes now.
    fn room(&self, shared: &Shared) -> usize {
        let left = self
            .kind
            .max_served
            .saturating_sub(shared.load.served.load(Ordering::Relaxed));
        self.capacity(shared)
            .saturating_sub(shared.load.streams())
            .min(left)
    }

    fn capacity(&self, shared: &Shared) -> usize {
        // A server that allows none for now makes its requests wait, not this lane dial for ever.
        self.max_streams
            .min(shared.allowed.load(Ordering::Relaxed))
            .max(1)
    }

    /// Hands at most `most` places to those who wait, as far as there are any, and dials for the
    /// others.
    fn serve(self: &Arc<Self>, most: usize) {
        let mut spare = None;
        let mut state = self.lock();
        for _ in 0..most {
            if state.waiters.is_empty() {
                break;
            }
            let Some(lease) = spare.take().or_else(|| self.pick(&mut state)) else {
                break;
            };
            spare = state.hand(Ok(lease));
        }
        if !state.waiters.is_empty() {
            self.dial_for_waiters(&mut state);
        }
        // A lease takes the lock when it is dropped.
        drop(state);
        drop(spare);
    }

    /// As many connections as the waiters need: one each over HTTP/1.1, one for every `max_streams`
    /// over HTTP/2, where a burst that meets no connection at all starts the lane's whole
    /// spread.
    fn dial_for_waiters(self: &Arc<Self>, state: &mut State) {
        let waiting = state.waiters.len();
        let wanted = if state.exclusive {
            waiting
        } else {
            waiting
                .div_ceil(self.max_streams)
                .max(waiting.min(self.kind.spread.saturating_sub(state.http2.len())))
        };
        while state.dialing < wanted.min(MAX_DIALING) {
            self.dial(state);
        }
    }

    fn dial(self: &Arc<Self>, state: &mut State) {
        state.dialing += 1;
        let lane = Arc::clone(self);
        tokio::spawn(async move {
            let started = Instant::now();
            let connected = lane
                .connector
                .connect(lane.kind.window, lane.metrics.connection())
                .await;
            lane.metrics.connect(connected.is_ok(), started.elapsed());
            lane.dialed(connected);
        });
    }

    fn dialed(self: &Arc<Self>, connected: Result<Connection, ConnectError>) {
        let mut state = self.lock();
        state.dialing -= 1;
        match connected {
            Ok(Connection::Http2(sender, allowed)) => {
                state.exclusive = false;
                state.http2.push(Shared {
                    sender,
                    allowed,
                    load: Arc::new(Load::new()),
                });
            }
            Ok(Connection::Http1(sender)) => {
                state.exclusive = true;
                state.http1.push_back((sender, Instant::now()));
            }
            Err(error) => {
                tracing::debug!(lane = self.kind.name, error = %crate::telemetry::chain(&error), "Cannot connect to the upstream");
                state.fail_hopeless(&Arc::new(error));
            }
        }
        // The others wait for the connections that are still being made, if these come soon.
        let share = state.waiters.len().div_ceil(state.dialing + 1);
        let others = state.waiters.len() > share && !state.exclusive;
        drop(state);
        self.serve(share);
        if others {
            let lane = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(SPREAD_WITHIN).await;
                lane.serve(usize::MAX);
            });
        }
    }

    /// An HTTP/1.1 connection is ready again.
    fn give_back(self: &Arc<Self>, mut sender: Http1) {
        sender.reused = true;
        let mut state = self.lock();
        while !state.waiters.is_empty() {
            let lease = self.lease(Held::Exclusive(Some(sender)), &state);
            match state
                .hand(Ok(lease))
                .and_then(|mut unwanted| unwanted.take_exclusive())
            {
                Some(unwanted) => sender = unwanted,
                None => return,
            }
        }
        state.http1.push_back((sender, Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives a place to who waits the longest and is still there; returns it if nobody is.
    fn hand(&mut self, lease: Result<Lease, Arc<ConnectError>>) -> Option<Lease> {
        let mut place = lease;
        while let Some(waiter) = self.waiters.pop_front() {
            match waiter.place.send(place) {
                Ok(()) => return None,
                Err(unwanted) => place = unwanted,
            }
        }
        place.ok()
    }

    /// A dial has failed. Others under way may still succeed, but nobody waits for more of them
    /// than there were when they came.
    fn fail_hopeless(&mut self, error: &Arc<ConnectError>) {
        self.waiters
            .iter_mut()
            .for_each(|waiter| waiter.hope = waiter.hope.saturating_sub(1));
        let (hopeless, hopeful) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiter| waiter.hope == 0);
        self.waiters = hopeful;
        // Who has left need not know.
        hopeless
            .into_iter()
            .for_each(|waiter| drop(waiter.place.send(Err(Arc::clone(error)))));
    }

    fn leave(&mut self) {
        self.http1.clear();
        self.http2.clear();
        self.generation += 1;
    }
}

impl Shared {
    fn usable(&self) -> bool {
        !self.sender.is_closed() && !self.load.retired.load(Ordering::Relaxed)
    }
}

impl Load {
    fn new() -> Self {
        Self {
            streams: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
            retired: AtomicBool::new(false),
        }
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn last_used(&self) -> Instant {
        *self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
