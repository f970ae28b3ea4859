//! Tracks the open connections of a port and how long each has been idle, and chooses the one that
//! closes to make room for a new one.
//!
//! A port has a number of places, and one address may have a share of them. When all are taken, the
//! connection that has been idle longest is told to close. A connection with a request in flight is
//! never told to close, unless the port allows it. This module only counts: each connection closes
//! itself. `listener` and `admin` each have their own [`Connections`].

mod close_queue;
pub mod dial;
pub mod socket;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::metrics::{Closed, Metrics, Port};
use close_queue::{CloseQueue, Rank};

/// The most connections that have been told to close and are still open, of all addresses and of
/// one address. They do not count as places, so a new connection need not wait until an old one has
/// closed.
const MAX_CLOSING: usize = 512;
const MAX_CLOSING_OF_ADDRESS: usize = 64;

/// While all connections are busy and a new one waits, how often to check for an idle one.
const RECHECK: Duration = Duration::from_millis(50);

/// How many connections a port takes.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections of all addresses together.
    pub max: usize,
    /// Connections of one address.
    pub per_address: usize,
    /// Whether a connection with a request in flight may be told to close if none is idle. The one
    /// whose request began first goes first.
    pub close_busy: bool,
    /// Requests in flight on all connections. One address may have four fifths of them.
    pub requests: usize,
}

/// The open connections of one port.
#[derive(Debug)]
pub struct Connections {
    port: Port,
    limits: ConnectionLimits,
    metrics: Arc<Metrics>,
    began: Instant,
    in_flight: AtomicUsize,
    table: Mutex<ConnectionTable>,
    /// Notified when a connection has closed.
    closed: Notify,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    next_id: u64,
    by_id: HashMap<u64, Arc<OpenConnection>>,
    addresses: HashMap<IpAddr, ConnectionCounts>,
    all: ConnectionCounts,
}

/// The counts of one address, or of all addresses together.
#[derive(Debug, Default)]
struct ConnectionCounts {
    /// Without the closing ones.
    open: usize,
    /// Told to close and not closed yet.
    closing: usize,
    queue: CloseQueue,
    /// Requests of one address.
    in_flight: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct OpenConnection {
    id: u64,
    ip: IpAddr,
    /// The start of the clock, which all connections of a port share.
    began: Instant,
    /// Requests in flight on this connection.
    requests: AtomicUsize,
    /// Requests in flight of its address.
    of_address: Arc<AtomicUsize>,
    /// Whether the connection has had a request.
    served: AtomicBool,
    /// Whether the peer has stopped reading.
    stalled: AtomicBool,
    /// When a request last began or ended, in milliseconds since `began`.
    since: AtomicU64,
    /// Whether it must never be told to close.
    kept: AtomicBool,
    /// Whether it was told to close. Written under the lock of the table.
    closing: AtomicBool,
    close_now: Notify,
}

/// The place of one connection. Dropping it makes the place free.
#[derive(Debug)]
#[must_use = "the place is free again when this is dropped"]
pub struct Place {
    connection: Arc<OpenConnection>,
    connections: Arc<Connections>,
}

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
#[must_use = "the request is over when this is dropped"]
pub struct RequestInFlight {
    connection: Arc<OpenConnection>,
    connections: Arc<Connections>,
    others: usize,
    exceeds: bool,
}

enum Admission {
    Admitted(Place),
    /// The address has its share of the connections, and all of them are busy.
    Refused,
    /// All connections are busy.
    Full,
}

impl Connections {
    /// A port without connections.
    pub fn new(port: Port, limits: ConnectionLimits, metrics: &Arc<Metrics>) -> Arc<Self> {
        let (metrics, began) = (Arc::clone(metrics), Instant::now());
        Arc::new(Self {
            port,
            limits,
            metrics,
            began,
            in_flight: AtomicUsize::new(0),
            table: Mutex::default(),
            closed: Notify::new(),
        })
    }

    /// A place for a connection from `ip`. If there is none, the connection that has been idle
    /// longest is told to close. If all are busy, this waits. None if the address already has its
    /// share and all of it is busy.
    pub async fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        loop {
            match self.try_admit(ip) {
                Admission::Admitted(place) => return Some(place),
                Admission::Refused => {
                    self.metrics.connection_closed(self.port, Closed::Share);
                    return None;
                }
                Admission::Full => tokio::select! {
                    () = self.closed.notified() => {}
                    () = sleep(RECHECK) => {}
                },
            }
        }
    }

    fn try_admit(self: &Arc<Self>, ip: IpAddr) -> Admission {
        let mut table = self.lock();
        if table
            .addresses
            .get(&ip)
            .is_some_and(|address| address.open >= self.limits.per_address)
        {
            if !self.make_room(&mut table, Some(ip)) {
                return Admission::Refused;
            }
        } else if table.all.open >= self.limits.max && !self.make_room(&mut table, None) {
            return Admission::Full;
        }
        let id = table.next_id;
        table.next_id += 1;
        table.all.open += 1;
        let address = table.addresses.entry(ip).or_default();
        address.open += 1;
        let of_address = Arc::clone(&address.in_flight);
        let connection = Arc::new(OpenConnection {
            id,
            ip,
            began: self.began,
            requests: AtomicUsize::new(0),
            of_address,
            served: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            since: AtomicU64::new(milliseconds(self.began.elapsed())),
            kept: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            close_now: Notify::new(),
        });
        table.by_id.insert(id, Arc::clone(&connection));
        Admission::Admitted(Place {
            connection,
            connections: Arc::clone(self),
        })
    }

    /// Tells the connection to leave that has been idle longest: of one address, or of all. Returns
    /// whether there was one.
    fn make_room(&self, table: &mut ConnectionTable, ip: Option<IpAddr>) -> bool {
        if table.all.closing >= MAX_CLOSING {
            return false;
        }
        let now = milliseconds(self.began.elapsed());
        let ConnectionTable {
            by_id,
            addresses,
            all,
            ..
        } = table;
        let queue = match ip {
            Some(ip) => match addresses.get_mut(&ip) {
                Some(address) if address.closing < MAX_CLOSING_OF_ADDRESS => &mut address.queue,
                _ => return false,
            },
            None => &mut all.queue,
        };
        let first = queue.next(now, by_id, |connection| {
            let rank = connection
                .rank()
                .filter(|rank| self.limits.close_busy || !rank.busy);
            rank.filter(|_| ip.is_none_or(|ip| connection.ip == ip))
        });
        let Some(connection) = first else {
            return false;
        };
        connection.closing.store(true, Ordering::Relaxed);
        table.shift(connection.ip, -1, 1);
        connection.close_now.notify_one();
        self.metrics.connection_closed(self.port, Closed::Room);
        true
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionTable {
    /// Adds to the counts of open and of closing connections.
    fn shift(&mut self, ip: IpAddr, open: isize, closing: isize) {
        let address = self.addresses.entry(ip).or_default();
        for counts in [&mut self.all, &mut *address] {
            counts.open = counts.open.saturating_add_signed(open);
            counts.closing = counts.closing.saturating_add_signed(closing);
        }
        if address.open == 0 && address.closing == 0 {
            self.addresses.remove(&ip);
        }
    }
}

impl OpenConnection {
    /// Its rank among those that may be told to close. None if it may not.
    fn rank(&self) -> Option<Rank> {
        let stays = self.kept.load(Ordering::Relaxed) || self.closing.load(Ordering::Relaxed);
        (!stays).then(|| Rank {
            busy: self.is_busy(),
            since: self.since.load(Ordering::Relaxed),
        })
    }

    fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Acquire) > 0 || self.stalled.load(Ordering::Relaxed)
    }

    fn touch(&self) {
        self.since
            .store(milliseconds(self.began.elapsed()), Ordering::Relaxed);
    }
}

impl Place {
    /// Counts a request.
    pub fn request(&self) -> RequestInFlight {
        self.connection.touch();
        self.connection.served.store(true, Ordering::Relaxed);
        let others = self.connection.requests.fetch_add(1, Ordering::Release);
        let most = self.connections.limits.requests;
        let of_address = self.connection.of_address.fetch_add(1, Ordering::Relaxed);
        let of_all = self.connections.in_flight.fetch_add(1, Ordering::Relaxed);
        let exceeds = of_all >= most || of_address >= most - most / 5;
        RequestInFlight {
            connection: Arc::clone(&self.connection),
            connections: Arc::clone(&self.connections),
            others,
            exceeds,
        }
    }

    /// Whether the connection has had a request.
    pub fn has_served(&self) -> bool {
        self.connection.served.load(Ordering::Relaxed)
    }

    /// Whether a request is in flight, or part of a response still waits to be sent.
    pub fn is_busy(&self) -> bool {
        self.connection.is_busy()
    }

    /// Returns when the connection has been idle for `bound`. If the peer does not read the last
    /// response, the time counts from when it last read a part.
    pub async fn idle_for(&self, bound: Duration) {
        let mut pause = bound;
        loop {
            sleep(pause).await;
            pause = bound;
            if self.connection.requests.load(Ordering::Acquire) == 0 {
                let since = Duration::from_millis(self.connection.since.load(Ordering::Relaxed));
                let idle = self.connection.began.elapsed().saturating_sub(since);
                if idle >= bound {
                    self.connections
                        .metrics
                        .connection_closed(self.connections.port, Closed::Idle);
                    return;
                }
                // `since` is accurate only to a millisecond.
                pause = bound - idle + Duration::from_millis(1);
            }
        }
    }

    /// Returns when the place is needed for another connection.
    pub async fn told_to_close(&self) {
        self.connection.close_now.notified().await;
    }

    /// Keeps the connection open although it was told to close, because a request has come
    /// meanwhile.
    pub fn stay(&self) {
        let mut table = self.connections.lock();
        if self.connection.closing.swap(false, Ordering::Relaxed) {
            table.shift(self.connection.ip, 1, -1);
        }
    }

    /// Makes sure that the connection is never told to close: it is a tunnel, which has no requests
    /// but is in use for as long as it is open.
    pub fn keep(&self) {
        self.connection.kept.store(true, Ordering::Relaxed);
        self.stay();
    }

    /// Whether [`Place::keep`] was called.
    pub fn is_kept(&self) -> bool {
        self.connection.kept.load(Ordering::Relaxed)
    }

    /// Records whether the peer has stopped reading.
    pub fn stalled(&self, stalled: bool) {
        self.connection.touch();
        self.connection.stalled.store(stalled, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        let closing = self.connection.closing.load(Ordering::Relaxed);
        table.by_id.remove(&self.connection.id);
        table.shift(
            self.connection.ip,
            if closing { 0 } else { -1 },
            if closing { -1 } else { 0 },
        );
        drop(table);
        self.connections.closed.notify_one();
    }
}

impl RequestInFlight {
    /// How many other requests the connection had when this one came.
    pub fn others(&self) -> usize {
        self.others
    }

    /// Whether the port already has as many requests as it takes, so that this one must be refused.
    pub fn exceeds(&self) -> bool {
        self.exceeds
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.connections.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.connection.of_address.fetch_sub(1, Ordering::Relaxed);
        self.connection.touch();
        self.connection.requests.fetch_sub(1, Ordering::Release);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
