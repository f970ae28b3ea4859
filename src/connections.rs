//! Which connections of a port are open, how long each has been without a request, and which of
//! them makes room for a new one.
//!
//! A port has so many places, and an address has a share of them. When they are taken, whoever has
//! been without a request for longest is told to leave; one with a request under way never is,
//! unless the port says so. How a connection leaves is its own business: this only
//! counts. `listener` and `admin` use it, each with one of its own.

mod line;
pub mod socket;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::metrics::{Closed, Metrics, Port};
use line::{Line, Rank};

/// Connections that were told to leave and have not left yet, of all addresses and of one. They are
/// over and above the places, so that a new connection does not wait for the farewell of an old
/// one.
const MAX_LEAVING: usize = 512;
const MAX_LEAVING_OF_ADDRESS: usize = 64;

/// How often to look whether a connection has become idle, while all are busy and a new one waits.
const RECHECK: Duration = Duration::from_millis(50);

/// How many connections a port takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Places altogether.
    pub max: usize,
    /// Places of one address.
    pub per_address: usize,
    /// Whether one that is being answered makes room too, where none waits for a request. The
    /// longest goes first.
    pub answered_too: bool,
    /// Requests under way altogether. An address may have four fifths of them.
    pub requests: usize,
}

/// The open connections of one port.
#[derive(Debug)]
pub struct Connections {
    port: Port,
    limits: Limits,
    metrics: Arc<Metrics>,
    began: Instant,
    /// Requests under way.
    under_way: AtomicUsize,
    state: Mutex<State>,
    /// Somebody left.
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: HashMap<u64, Arc<Entry>>,
    addresses: HashMap<IpAddr, Address>,
    all: Address,
}

/// What one address has, or all of them together.
#[derive(Debug, Default)]
struct Address {
    /// Without those that leave.
    open: usize,
    leaving: usize,
    line: Line,
    /// Requests under way.
    under_way: Arc<AtomicUsize>,
}

/// What is known of one connection.
#[derive(Debug)]
struct Entry {
    id: u64,
    ip: IpAddr,
    began: Instant,
    requests: AtomicUsize,
    /// Those of its address.
    of_address: Arc<AtomicUsize>,
    /// Whether there ever was a request.
    served: AtomicBool,
    /// Whether what was written does not go out.
    stalled: AtomicBool,
    /// Milliseconds from `began` to its last beginning or end of a request.
    since: AtomicU64,
    /// Never told to leave.
    kept: AtomicBool,
    /// Told to leave, and not back. Written under the lock of the state.
    leaving: AtomicBool,
    leave: Notify,
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
#[must_use = "the place is free again when this is dropped"]
pub struct Place {
    entry: Arc<Entry>,
    connections: Arc<Connections>,
}

/// A request under way on a connection, until it is dropped.
#[derive(Debug)]
#[must_use = "the request is over when this is dropped"]
pub struct UnderWay {
    entry: Arc<Entry>,
    connections: Arc<Connections>,
    others: usize,
    exceeds: bool,
}

enum Admission {
    Admitted(Place),
    /// The address has its share, and all of it is busy.
    Refused,
    /// Everybody is busy.
    Full,
}

impl Connections {
    /// None open yet.
    pub fn new(port: Port, limits: Limits, metrics: &Arc<Metrics>) -> Arc<Self> {
        let (metrics, began) = (Arc::clone(metrics), Instant::now());
        Arc::new(Self {
            port,
            limits,
            metrics,
            began,
            under_way: AtomicUsize::new(0),
            state: Mutex::default(),
            left: Notify::new(),
        })
    }

    /// A place for a connection from `ip`. Where there is none, the one idle longest is told to
    /// leave; where all are busy, this waits. None: the address has its share already, and all
    /// of it is busy.
    pub async fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        loop {
            match self.try_admit(ip) {
                Admission::Admitted(place) => return Some(place),
                Admission::Refused => {
                    self.metrics.connection_closed(self.port, Closed::Share);
                    return None;
                }
                Admission::Full => tokio::select! {
                    () = self.left.notified() => {}
                    () = sleep(RECHECK) => {}
                },
            }
        }
    }

    fn try_admit(self: &Arc<Self>, ip: IpAddr) -> Admission {
        let mut state = self.lock();
        if state
            .addresses
            .get(&ip)
            .is_some_and(|address| address.open >= self.limits.per_address)
        {
            if !self.make_room(&mut state, Some(ip)) {
                return Admission::Refused;
            }
        } else if state.all.open >= self.limits.max && !self.make_room(&mut state, None) {
            return Admission::Full;
        }
        let id = state.next;
        state.next += 1;
        state.all.open += 1;
        let address = state.addresses.entry(ip).or_default();
        address.open += 1;
        let of_address = Arc::clone(&address.under_way);
        let entry = Arc::new(Entry {
            id,
            ip,
            began: self.began,
            requests: AtomicUsize::new(0),
            of_address,
            served: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            since: AtomicU64::new(milliseconds(self.began.elapsed())),
            kept: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            leave: Notify::new(),
        });
        state.entries.insert(id, Arc::clone(&entry));
        Admission::Admitted(Place {
            entry,
            connections: Arc::clone(self),
        })
    }

    /// Tells the one that has been idle longest to leave, of one address or of all.
    fn make_room(&self, state: &mut State, ip: Option<IpAddr>) -> bool {
        if state.all.leaving >= MAX_LEAVING {
            return false;
        }
        let now = milliseconds(self.began.elapsed());
        let State {
            entries,
            addresses,
            all,
            ..
        } = state;
        let line = match ip {
            Some(ip) => match addresses.get_mut(&ip) {
                Some(address) if address.leaving < MAX_LEAVING_OF_ADDRESS => &mut address.line,
                _ => return false,
            },
            None => &mut all.line,
        };
        let first = line.next(now, entries, |entry| {
            let rank = entry
                .rank()
                .filter(|rank| self.limits.answered_too || !rank.busy);
            rank.filter(|_| ip.is_none_or(|ip| entry.ip == ip))
        });
        let Some(entry) = first else { return false };
        entry.leaving.store(true, Ordering::Relaxed);
        state.shift(entry.ip, -1, 1);
        entry.leave.notify_one();
        self.metrics.connection_closed(self.port, Closed::Room);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts more or fewer that are open, and that leave.
    fn shift(&mut self, ip: IpAddr, open: isize, leaving: isize) {
        let address = self.addresses.entry(ip).or_default();
        for counts in [&mut self.all, &mut *address] {
            counts.open = counts.open.saturating_add_signed(open);
            counts.leaving = counts.leaving.saturating_add_signed(leaving);
        }
        if address.open == 0 && address.leaving == 0 {
            self.addresses.remove(&ip);
        }
    }
}

impl Entry {
    /// Its place in the order of those that may be told to leave; None if it may not.
    fn rank(&self) -> Option<Rank> {
        let stays = self.kept.load(Ordering::Relaxed) || self.leaving.load(Ordering::Relaxed);
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
    /// A request has come.
    pub fn request(&self) -> UnderWay {
        self.entry.touch();
        self.entry.served.store(true, Ordering::Relaxed);
        let others = self.entry.requests.fetch_add(1, Ordering::Release);
        let most = self.connections.limits.requests;
        let of_address = self.entry.of_address.fetch_add(1, Ordering::Relaxed);
        let of_all = self.connections.under_way.fetch_add(1, Ordering::Relaxed);
        let exceeds = of_all >= most || of_address >= most - most / 5;
        UnderWay {
            entry: Arc::clone(&self.entry),
            connections: Arc::clone(&self.connections),
            others,
            exceeds,
        }
    }

    /// Whether a whole request ever came.
    pub fn was_asked(&self) -> bool {
        self.entry.served.load(Ordering::Relaxed)
    }

    /// Whether there is a request, or an answer that has not wholly gone out.
    pub fn is_busy(&self) -> bool {
        self.entry.is_busy()
    }

    /// Returns when the connection has been without a request for so long. One whose last answer
    /// does not go out counts from when it last did.
    pub async fn idle_for(&self, bound: Duration) {
        let mut pause = bound;
        loop {
            sleep(pause).await;
            pause = bound;
            if self.entry.requests.load(Ordering::Acquire) == 0 {
                let since = Duration::from_millis(self.entry.since.load(Ordering::Relaxed));
                let idle = self.entry.began.elapsed().saturating_sub(since);
                if idle >= bound {
                    self.connections
                        .metrics
                        .connection_closed(self.connections.port, Closed::Idle);
                    return;
                }
                // The clock of `since` is a millisecond coarse.
                pause = bound - idle + Duration::from_millis(1);
            }
        }
    }

    /// Returns when the place is needed for another connection.
    pub async fn told_to_leave(&self) {
        self.entry.leave.notified().await;
    }

    /// It does not leave, for a request has come meanwhile.
    pub fn stay(&self) {
        let mut state = self.connections.lock();
        if self.entry.leaving.swap(false, Ordering::Relaxed) {
            state.shift(self.entry.ip, 1, -1);
        }
    }

    /// It is not told to leave from now on: it is no longer asked anything, but in use for as long
    /// as it is open.
    pub fn keep(&self) {
        self.entry.kept.store(true, Ordering::Relaxed);
        self.stay();
    }

    /// Whether it is in use for as long as it is open.
    pub fn is_kept(&self) -> bool {
        self.entry.kept.load(Ordering::Relaxed)
    }

    /// Whether what was written goes out, when that changes.
    pub fn stalled(&self, stalled: bool) {
        self.entry.touch();
        self.entry.stalled.store(stalled, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.connections.lock();
        let leaving = self.entry.leaving.load(Ordering::Relaxed);
        state.entries.remove(&self.entry.id);
        state.shift(
            self.entry.ip,
            if leaving { 0 } else { -1 },
            if leaving { -1 } else { 0 },
        );
        drop(state);
        self.connections.left.notify_one();
    }
}

impl UnderWay {
    /// How many others the connection had when it came.
    pub fn others(&self) -> usize {
        self.others
    }

    /// Whether there are more requests than the port takes: this one is to be refused.
    pub fn exceeds(&self) -> bool {
        self.exceeds
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.connections.under_way.fetch_sub(1, Ordering::Relaxed);
        self.entry.of_address.fetch_sub(1, Ordering::Relaxed);
        self.entry.touch();
        self.entry.requests.fetch_sub(1, Ordering::Release);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
