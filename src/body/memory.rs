//! The memory that all buffered creates share, including their heads. A create reserves what has
//! arrived, never what it declares.
//!
//! One address may use half of the memory and one connection a quarter, so no client can turn off
//! replay for the others. Addresses are hashed to a fixed number of counters. Two addresses with
//! the same counter share it, and a create takes no lock.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::metrics::Level;

/// How many counters the addresses are hashed to.
const ADDRESS_COUNTERS: usize = 1024;
/// One address may use the whole divided by this.
const ADDRESS_DIVISOR: u64 = 2;
/// One connection may use the whole divided by this.
const CONNECTION_DIVISOR: u64 = 4;
/// How long a create waits for room before it is streamed without replay.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The memory for buffered creates.
#[derive(Debug)]
pub struct Buffers {
    limit: u64,
    /// The limits of one connection and of one address.
    shares: (u64, u64),
    all: Usage,
    addresses: Box<[Usage]>,
    hasher: RandomState,
    /// How many creates wait for room.
    waiting: AtomicUsize,
    /// Notified when a create begins to wait.
    wanted: Notify,
    level: Level,
}

/// The bytes that the creates of one connection have reserved.
pub type ConnectionShare = Arc<Usage>;

/// Bytes that are reserved, and the creates that wait for some of them.
#[derive(Debug, Default)]
pub struct Usage {
    bytes: AtomicU64,
    /// Each release wakes one of those that wait, and each that then finds room wakes the next. To
    /// wake all of them for each release would let one client's thousand take the time of others.
    freed: Notify,
}

impl Buffers {
    /// Room for `limit` bytes of all creates. No share is smaller than `largest`, the size of the
    /// largest create. `level` is the metric.
    pub fn new(limit: u64, largest: u64, level: Level) -> Arc<Self> {
        Arc::new(Self {
            limit,
            shares: (
                (limit / CONNECTION_DIVISOR).max(largest),
                (limit / ADDRESS_DIVISOR).max(largest),
            ),
            all: Usage::default(),
            addresses: (0..ADDRESS_COUNTERS).map(|_| Usage::default()).collect(),
            hasher: RandomState::new(),
            waiting: AtomicUsize::new(0),
            wanted: Notify::new(),
            level,
        })
    }

    /// Bytes reserved now.
    pub fn used(&self) -> u64 {
        self.all.bytes.load(Ordering::Relaxed)
    }

    /// An empty reservation for a create of this client. It grows while the create is read.
    pub fn reserve(self: &Arc<Self>, address: IpAddr, connection: &ConnectionShare) -> Reservation {
        let hash = self.hasher.hash_one(address) as usize;
        Reservation {
            buffers: Arc::clone(self),
            address: hash % ADDRESS_COUNTERS,
            connection: Arc::clone(connection),
            bytes: 0,
        }
    }
}

/// Memory that one create has reserved, released on drop.
#[derive(Debug)]
pub struct Reservation {
    buffers: Arc<Buffers>,
    address: usize,
    connection: ConnectionShare,
    bytes: u64,
}

impl Reservation {
    /// An empty reservation for the same client.
    pub fn another(&self) -> Self {
        Self {
            buffers: Arc::clone(&self.buffers),
            address: self.address,
            connection: Arc::clone(&self.connection),
            bytes: 0,
        }
    }

    /// Reserves `more` bytes. Waits a moment if there is no room. Returns whether they are
    /// reserved.
    pub async fn grow(&mut self, more: u64) -> bool {
        let Err(mut full) = self.try_grow(more) else {
            return true;
        };
        let (buffers, connection) = (Arc::clone(&self.buffers), Arc::clone(&self.connection));
        let usages = [&*connection, &buffers.addresses[self.address], &buffers.all];
        let _waiting = Waiting::new(&buffers.waiting);
        buffers.wanted.notify_waiters();
        let until = Instant::now() + MAX_WAIT;
        loop {
            let mut freed = std::pin::pin!(usages[full].freed.notified());
            freed.as_mut().enable();
            match self.try_grow(more) {
                Err(still) if still == full => {
                    if timeout_at(until, freed).await.is_err() {
                        return false;
                    }
                }
                // There is room in what was full, perhaps for another create too.
                grown => {
                    usages[full].freed.notify_one();
                    match grown {
                        Ok(()) => return true,
                        Err(other) => full = other,
                    }
                }
            }
        }
    }

    /// Returns when other creates wait for room, but not before `at`.
    pub async fn wanted(&self, at: Instant) {
        loop {
            let mut wanted = std::pin::pin!(self.buffers.wanted.notified());
            wanted.as_mut().enable();
            let waiting = self.buffers.waiting.load(Ordering::Relaxed) > 0;
            if waiting && Instant::now() >= at {
                return;
            }
            if waiting {
                tokio::time::sleep_until(at).await
            } else {
                wanted.await
            }
        }
    }

    /// Bytes that are reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Releases `less` bytes.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        if less == 0 {
            return;
        }
        self.bytes -= less;
        for (usage, _) in self.usages() {
            usage.bytes.fetch_sub(less, Ordering::SeqCst);
        }
        self.buffers.level.fall(less);
        // Only now, and in the order of all threads: a create that does not see the room yet has
        // counted itself before it looked, so it is woken.
        if self.buffers.waiting.load(Ordering::SeqCst) > 0 {
            for (usage, _) in self.usages() {
                usage.freed.notify_one();
            }
        }
    }

    /// An error is which of the usages is full.
    fn try_grow(&mut self, more: u64) -> Result<(), usize> {
        for (index, (usage, limit)) in self.usages().into_iter().enumerate() {
            let fits = |used: u64| used.checked_add(more).filter(|sum| *sum <= limit);
            if usage
                .bytes
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits)
                .is_err()
            {
                for (usage, _) in self.usages().into_iter().take(index) {
                    usage.bytes.fetch_sub(more, Ordering::Relaxed);
                }
                return Err(index);
            }
        }
        self.bytes += more;
        self.buffers.level.rise(more);
        Ok(())
    }

    /// What a reservation counts in, with the limits.
    fn usages(&self) -> [(&Usage, u64); 3] {
        let Buffers {
            limit,
            shares,
            all,
            addresses,
            ..
        } = &*self.buffers;
        [
            (&*self.connection, shares.0),
            (&addresses[self.address], shares.1),
            (all, *limit),
        ]
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// Counts one waiting create until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn buffers(limit: u64) -> Arc<Buffers> {
        Buffers::new(limit, 1, Metrics::new(1, &[]).buffered())
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Four addresses that do not share a counter.
    fn apart(buffers: &Buffers) -> Vec<IpAddr> {
        let mut seen = Vec::new();
        let place =
            |address: &IpAddr| buffers.hasher.hash_one(*address) as usize % ADDRESS_COUNTERS;
        let mut addresses: Vec<_> = (0..=255).map(address).collect();
        addresses.retain(|address| {
            !seen.contains(&place(address)) && (seen.push(place(address)), true).1
        });
        addresses.truncate(4);
        addresses
    }

    #[tokio::test(start_paused = true)]
    async fn a_reservation_grows_within_the_limit_and_is_released() {
        let buffers = buffers(100);
        let mut held: Vec<_> = apart(&buffers)
            .into_iter()
            .map(|address| buffers.reserve(address, &ConnectionShare::default()))
            .collect();
        for reservation in &mut held {
            assert!(reservation.grow(25).await);
        }
        assert_eq!(buffers.used(), 100);
        let mut late = buffers.reserve(address(1), &ConnectionShare::default());
        assert!(!late.grow(1).await, "nothing becomes free");
        assert_eq!(buffers.used(), 100, "a refusal takes nothing");
        held[0].shrink(10);
        held.pop();
        assert!(late.grow(20).await);
        drop((held, late));
        assert_eq!(buffers.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_a_quarter_and_an_address_half() {
        let buffers = buffers(100);
        let (mine, others) = (apart(&buffers)[0], apart(&buffers)[1]);
        let one = ConnectionShare::default();
        let mut first = buffers.reserve(mine, &one);
        assert!(first.grow(25).await);
        assert!(
            !buffers.reserve(mine, &one).grow(1).await,
            "the connection has its share"
        );
        let mut second = buffers.reserve(mine, &ConnectionShare::default());
        assert!(second.grow(25).await);
        assert!(
            !buffers
                .reserve(mine, &ConnectionShare::default())
                .grow(1)
                .await,
            "the address has its share"
        );
        assert!(
            buffers
                .reserve(others, &ConnectionShare::default())
                .grow(25)
                .await,
            "another address has its own"
        );
        assert_eq!(
            (one.bytes.load(Ordering::Relaxed), buffers.used()),
            (25, 50)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_that_waits_for_room_gets_it_when_it_is_free() {
        let buffers = buffers(8);
        let all: Vec<_> = apart(&buffers);
        let mut held = Vec::new();
        for address in &all {
            let mut reservation = buffers.reserve(*address, &ConnectionShare::default());
            assert!(reservation.grow(2).await);
            held.push(reservation);
        }
        let mut late = buffers.reserve(all[0], &ConnectionShare::default());
        let waiting = tokio::spawn(async move { late.grow(2).await });
        tokio::task::yield_now().await;
        held.clear();
        assert!(waiting.await.unwrap());
    }

    /// A quarter of `buffers` each, so that nothing is left.
    async fn fill(buffers: &Arc<Buffers>) -> Vec<Reservation> {
        let mut held = Vec::new();
        for address in apart(buffers) {
            let mut reservation = buffers.reserve(address, &ConnectionShare::default());
            assert!(reservation.grow(buffers.limit / 4).await);
            held.push(reservation);
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn room_wakes_only_as_many_as_find_some() {
        let buffers = buffers(100);
        let mut held = fill(&buffers).await;
        let addresses = apart(&buffers);
        let polls = Arc::new(AtomicUsize::new(0));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..200 {
            let address = addresses[number % addresses.len()];
            let mut late = buffers.reserve(address, &ConnectionShare::default());
            let polls = Arc::clone(&polls);
            waiting.spawn(async move {
                let mut growing = Box::pin(async {
                    let grown = late.grow(5).await;
                    (grown, late)
                });
                std::future::poll_fn(|cx| {
                    polls.fetch_add(1, Ordering::Relaxed);
                    growing.as_mut().poll(cx)
                })
                .await
            });
        }
        let settle = || async {
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
        };
        settle().await;
        assert_eq!(polls.load(Ordering::Relaxed), 200, "all of them wait");
        held[0].shrink(15);
        settle().await;
        let mut served = Vec::new();
        while let Some(done) = waiting.try_join_next() {
            let (grown, late) = done.unwrap();
            assert!(grown);
            served.push(late);
        }
        assert_eq!(served.len(), 3);
        let woken = polls.load(Ordering::Relaxed) - 200;
        assert!(woken < 10, "{woken} were woken");
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_have_their_share_do_not_take_the_turn_of_others() {
        let buffers = buffers(100);
        let mut held = fill(&buffers).await;
        let addresses = apart(&buffers);
        let greedy = ConnectionShare::default();
        let mut more = buffers.reserve(addresses[0], &greedy);
        held[1].shrink(25);
        assert!(more.grow(25).await, "now the address has its half");
        let grow = |address: IpAddr| {
            let mut late = buffers.reserve(address, &ConnectionShare::default());
            tokio::spawn(async move { (late.grow(5).await, late) })
        };
        let greedy: Vec<_> = (0..10).map(|_| grow(addresses[0])).collect();
        tokio::task::yield_now().await;
        let other = grow(addresses[1]);
        tokio::task::yield_now().await;
        held[2].shrink(5);
        assert!(other.await.unwrap().0);
        for late in greedy {
            assert!(!late.await.unwrap().0);
        }
    }
}
