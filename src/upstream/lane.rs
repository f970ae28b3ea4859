//! One lane: its HTTP/2 connections, each with a bounded number of streams, or its idle HTTP/1.1 connections.
//!
//! A lane spreads over a few connections (so that a load balancer spreads them over apiservers) and takes the least loaded one, or, where
//! it spreads over one, keeps to the oldest for as long as that has streams left. Either way it opens a further one before the streams run
//! out. Connections are made by tasks of their own: a client that leaves neither wastes one nor leaves the others waiting, and a failure
//! answers everyone who waited for it.

use std::collections::VecDeque;
use std::error::Error as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connect::{ConnectError, Connection, Connector};
use crate::body::Body;
use crate::config;
use crate::metrics::{GaugeGuard, LaneMetrics};

/// Connections that may be in the making at the same time. HTTP/1.1 needs one for each request in flight.
const MAX_DIALING: usize = 64;

/// See the module.
pub(super) struct Lane {
    name: &'static str,
    connector: Arc<Connector>,
    metrics: LaneMetrics,
    spread: usize,
    max_streams: usize,
    idle_timeout: Duration,
    /// Requests in flight.
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    http2: Vec<Shared>,
    /// Idle HTTP/1.1 connections, the longest idle first.
    http1: VecDeque<(http1::SendRequest<Body>, Instant)>,
    /// The last connection made was HTTP/1.1: every request needs one of its own.
    exclusive: bool,
    dialing: usize,
    waiters: VecDeque<oneshot::Sender<Result<(), Arc<ConnectError>>>>,
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
    last_used: Mutex<Instant>,
    /// Its server is going away: no further requests.
    retired: AtomicBool,
}

/// The sending half of the connection that a request was given.
pub(super) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// A place on a connection, held from the pick until the answer's body ended or was dropped.
pub struct Lease {
    lane: Arc<Lane>,
    held: Held,
    _stream: GaugeGuard,
    /// What else lasts as long as the answer.
    _open: Option<GaugeGuard>,
}

#[derive(Debug)]
enum Held {
    Stream(Arc<Load>),
    /// The connection, once its answer's head came: it is idle again when the body has been read.
    Exclusive(Option<http1::SendRequest<Body>>),
}

impl Lane {
    /// A lane without connections that will spread over `spread` of them.
    pub(super) fn new(
        name: &'static str,
        connector: Arc<Connector>,
        settings: &config::Upstream,
        spread: usize,
        metrics: LaneMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            connector,
            metrics,
            spread: spread.max(1),
            max_streams: settings.max_streams_per_connection.max(1),
            idle_timeout: settings.idle_timeout,
            in_flight: AtomicUsize::new(0),
            state: Mutex::default(),
        })
    }

    /// A place on a connection; opens connections as needed and waits for them.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<(Sender, Lease), Arc<ConnectError>> {
        loop {
            let waiting = {
                let mut state = self.lock();
                if let Some((sender, held)) = self.pick(&mut state) {
                    let stream = self.metrics.stream();
                    self.in_flight.fetch_add(1, Ordering::Relaxed);
                    return Ok((sender, Lease { lane: Arc::clone(self), held, _stream: stream, _open: None }));
                }
                self.wait_in(&mut state)
            };
            waiting.await?;
        }
    }

    /// Returns when there is a connection, making one if need be.
    pub(super) async fn connected(self: &Arc<Self>) -> Result<(), Arc<ConnectError>> {
        let waiting = {
            let mut state = self.lock();
            if state.http2.iter().any(Shared::usable) || state.http1.iter().any(|(sender, _)| !sender.is_closed()) {
                return Ok(());
            }
            self.wait_in(&mut state)
        };
        waiting.await
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

    /// Lets go of every connection: what is in flight on it goes on, what comes next gets another one.
    pub(super) fn leave_connections(&self) {
        let mut state = self.lock();
        state.http1.clear();
        state.http2.clear();
    }

    /// Waits for a connection or a place on one; opens connections as needed.
    fn wait_in(self: &Arc<Self>, state: &mut State) -> impl Future<Output = Result<(), Arc<ConnectError>>> + use<> {
        let (wake, waiting) = oneshot::channel();
        // Those whose clients have left need no connection.
        state.waiters.retain(|waiter| !waiter.is_closed());
        state.waiters.push_back(wake);
        self.dial_for_waiters(state);
        // A sender is dropped unsent only with the lane's whole runtime; looking again is right then too.
        async { waiting.await.unwrap_or(Ok(())) }
    }

    /// Drops connections that nobody used for `idle_timeout`, and those that have closed.
    pub(super) fn close_idle(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        state.http1.retain(|(sender, since)| !sender.is_closed() && now - *since < self.idle_timeout);
        state.http2.retain(|shared| shared.usable() && (shared.load.streams() > 0 || now - shared.load.last_used() < self.idle_timeout));
    }

    fn pick(self: &Arc<Self>, state: &mut State) -> Option<(Sender, Held)> {
        while let Some((sender, _)) = state.http1.pop_back() {
            if sender.is_ready() {
                return Some((Sender::Http1(sender), Held::Exclusive(None)));
            }
        }
        state.http2.retain(Shared::usable);
        let room = |shared: &Shared| self.capacity(shared).saturating_sub(shared.load.streams());
        let picked = if self.spread == 1 {
            state.http2.iter().find(|shared| room(shared) > 0)?
        } else {
            state.http2.iter().filter(|shared| room(shared) > 0).min_by_key(|shared| shared.load.streams())?
        };
        let idle = picked.load.streams() == 0;
        picked.load.streams.fetch_add(1, Ordering::Relaxed);
        let place = (Sender::Http2(picked.sender.clone()), Held::Stream(Arc::clone(&picked.load)));
        let few = !idle && state.http2.len() + state.dialing < self.spread;
        // A quarter of a connection's streams last while the next one is made.
        let scarce = state.dialing == 0 && state.http2.iter().map(room).sum::<usize>() < self.capacity(&state.http2[0]) / 4;
        if few || scarce {
            self.dial(state);
        }
        Some(place)
    }

    fn capacity(&self, shared: &Shared) -> usize {
        // A server that allows none for now makes its requests wait, not this lane dial for ever.
        self.max_streams.min(shared.allowed.load(Ordering::Relaxed)).max(1)
    }

    /// As many connections as the waiters need: one each over HTTP/1.1, one for every `max_streams` over HTTP/2, where a burst that meets
    /// no connection at all starts the lane's whole spread.
    fn dial_for_waiters(self: &Arc<Self>, state: &mut State) {
        let waiting = state.waiters.len();
        let wanted = if state.exclusive {
            waiting
        } else {
            waiting.div_ceil(self.max_streams).max(waiting.min(self.spread.saturating_sub(state.http2.len())))
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
            let connected = lane.connector.connect(lane.metrics.connection()).await;
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
                state.http2.push(Shared { sender, allowed, load: Arc::new(Load::new()) });
                state.wake_all();
            }
            Ok(Connection::Http1(sender)) => {
                state.exclusive = true;
                state.http1.push_back((sender, Instant::now()));
                state.wake_one();
                self.dial_for_waiters(&mut state);
            }
            Err(error) => {
                tracing::debug!(lane = self.name, error = %crate::telemetry::chain(&error), "Cannot connect to the upstream");
                // Another attempt under way may still succeed for those who wait.
                if state.dialing == 0 {
                    state.fail_all(&Arc::new(error));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_one(&mut self) {
        while let Some(waiter) = self.waiters.pop_front() {
            if waiter.send(Ok(())).is_ok() {
                return;
            }
        }
    }

    fn wake_all(&mut self) {
        self.waiters.drain(..).for_each(|waiter| drop(waiter.send(Ok(()))));
    }

    fn fail_all(&mut self, error: &Arc<ConnectError>) {
        self.waiters.drain(..).for_each(|waiter| drop(waiter.send(Err(Arc::clone(error)))));
    }
}

impl Shared {
    fn usable(&self) -> bool {
        !self.sender.is_closed() && !self.load.retired.load(Ordering::Relaxed)
    }
}

impl Load {
    fn new() -> Self {
        Self { streams: AtomicUsize::new(0), last_used: Mutex::new(Instant::now()), retired: AtomicBool::new(false) }
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn last_used(&self) -> Instant {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    pub(super) async fn try_send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

impl Lease {
    /// Ends the connection's use: what comes next goes elsewhere, what is in flight on it goes on.
    pub(super) fn retire(mut self) {
        match &mut self.held {
            Held::Stream(load) => load.retired.store(true, Ordering::Relaxed),
            Held::Exclusive(sender) => *sender = None,
        }
    }

    /// The request or its answer was lost. If its connection broke, the others of the lane may be about to: those of a server that dies break
    /// one after the other, and each would take with it what had moved there from the last. A new one shows whether the server is there.
    pub fn lost(self, why: &hyper::Error) {
        if is_reset(why) {
            return;
        }
        // Once for all requests of the connection, lest the later ones let go of the new ones.
        let first = match &self.held {
            Held::Stream(load) => !load.retired.swap(true, Ordering::Relaxed),
            Held::Exclusive(_) => true,
        };
        if first {
            self.lane.leave_connections();
        }
    }

    /// Whether it is a place in `lane`.
    pub(super) fn is_of(&self, lane: &Arc<Lane>) -> bool {
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

    /// Keeps an exclusive connection with its answer. Without this it closes with the sender.
    pub(super) fn of(mut self, sender: Sender) -> Self {
        if let (Held::Exclusive(held), Sender::Http1(sender)) = (&mut self.held, sender) {
            *held = Some(sender);
        }
        self
    }
}

/// Whether the peer ended a stream only, not its connection.
fn is_reset(error: &hyper::Error) -> bool {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|h2| h2.is_reset())
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lane.in_flight.fetch_sub(1, Ordering::Relaxed);
        match &mut self.held {
            Held::Stream(load) => {
                *load.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                load.streams.fetch_sub(1, Ordering::Relaxed);
                let mut state = self.lane.lock();
                if !state.waiters.is_empty() {
                    state.wake_one();
                }
            }
            Held::Exclusive(sender) => {
                if let Some(mut sender) = sender.take() {
                    let lane = Arc::clone(&self.lane);
                    tokio::spawn(async move {
                        // Ready again once the answer was read to its end; an error means that it was not, and the connection closes.
                        if sender.ready().await.is_ok() {
                            let mut state = lane.lock();
                            state.http1.push_back((sender, Instant::now()));
                            state.wake_one();
                        }
                    });
                }
            }
        }
    }
}
