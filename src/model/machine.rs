//! What things cost in time: one machine's processors, shared by everything the model runs on it, and etcd's write latency.
//!
//! Conflicts emerge from these times and from the watch latency; nothing here knows about quotas. Works under paused time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::dice::Dice;

/// The times of the modelled machine.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Processor time of one request to an apiserver; all requests queue for the same processors.
    pub request: Duration,
    /// Latency of one consistent read from etcd.
    pub read: Duration,
    /// Mean latency of one write to etcd; writes overlap.
    pub write: Duration,
}

/// The processors and the disk that all apiservers share.
#[derive(Debug)]
pub struct Machine {
    costs: Costs,
    /// When the processors will have done all work accepted so far.
    busy_until: Mutex<Instant>,
    dice: Dice,
}

impl Machine {
    /// An idle machine.
    pub fn new(costs: Costs, seed: u64) -> Machine {
        Machine { costs, busy_until: Mutex::new(Instant::now()), dice: Dice::seeded(seed) }
    }

    /// Waits for the processors, first come first served, and does the work of one request.
    ///
    /// A queue by time stamps, because tokio's timers tick in milliseconds and one request takes less.
    pub async fn request(&self) {
        if self.costs.request.is_zero() {
            return;
        }
        let done = {
            let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
            *busy_until = (*busy_until).max(Instant::now()) + self.costs.request;
            *busy_until
        };
        sleep_until(done).await;
    }

    /// Reads from etcd.
    pub async fn read(&self) {
        if !self.costs.read.is_zero() {
            sleep(self.costs.read).await;
        }
    }

    /// Writes to etcd: `commit` takes effect in the middle, for the way there and the way back take time too.
    pub async fn write<T>(&self, commit: impl FnOnce() -> T) -> T {
        let latency = self.dice.around(self.costs.write);
        if !latency.is_zero() {
            sleep(latency / 2).await;
        }
        let result = commit();
        if !latency.is_zero() {
            sleep(latency / 2).await;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_queue_for_the_processors() {
        let costs = Costs { request: Duration::from_millis(10), read: Duration::ZERO, write: Duration::ZERO };
        let machine = Machine::new(costs, 1);
        let start = Instant::now();
        tokio::join!(machine.request(), machine.request(), machine.request());
        assert_eq!(start.elapsed(), Duration::from_millis(30));
    }

    #[tokio::test(start_paused = true)]
    async fn writes_overlap() {
        let costs = Costs { request: Duration::ZERO, read: Duration::ZERO, write: Duration::from_millis(10) };
        let machine = Machine::new(costs, 1);
        let start = Instant::now();
        tokio::join!(machine.write(|| ()), machine.write(|| ()), machine.write(|| ()));
        assert!(start.elapsed() <= Duration::from_millis(16), "{:?}", start.elapsed());
    }
}
