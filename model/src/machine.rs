//! What things cost in time: one machine's processors, shared by everything the model runs on it,
//! and etcd's latency.
//!
//! Conflicts emerge from these times and from the watch latency; nothing here knows about quotas.
//! Works under paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::dice::Dice;

/// The times of the modelled machine.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Processor time of one request to an apiserver, if it had the processors to itself.
    pub request: Duration,
    /// The same of one status update of a quota, which an apiserver sends to itself or gets from
    /// the quota controller.
    pub update: Duration,
    /// Latency of one consistent read from etcd.
    pub read: Duration,
    /// Mean latency of one write to etcd, jittered by half; writes overlap.
    pub write: Duration,
}

/// The processors and the disk that all apiservers share.
#[derive(Debug)]
pub struct Machine {
    costs: Costs,
    /// How many are working now.
    working: Arc<AtomicU32>,
    dice: Dice,
}

impl Machine {
    /// An idle machine.
    pub fn new(costs: Costs, seed: u64) -> Machine {
        Machine {
            costs,
            working: Arc::default(),
            dice: Dice::seeded(seed),
        }
    }

    /// How many are working, as it changes.
    pub fn working(&self) -> Arc<AtomicU32> {
        self.working.clone()
    }

    /// Takes a request in, up to where it goes to the store: half of its work.
    pub async fn receive(&self) {
        self.work(self.costs.request / 2).await;
    }

    /// Answers a request: the other half.
    pub async fn respond(&self) {
        self.work(self.costs.request / 2).await;
    }

    /// Takes a status update in, up to where it goes to the store: seven tenths of its work.
    pub async fn receive_update(&self) {
        self.work(self.costs.update / 10 * 7).await;
    }

    /// Answers a status update, and gets its sender going again.
    pub async fn respond_update(&self) {
        self.work(self.costs.update / 10 * 3).await;
    }

    /// Reads from etcd.
    pub async fn read(&self) {
        if !self.costs.read.is_zero() {
            sleep(self.costs.read).await;
        }
    }

    /// Writes to etcd: `commit` takes effect on the way, after a third of the time.
    pub async fn write<T>(&self, commit: impl FnOnce() -> T) -> T {
        let latency = self.dice.around(self.costs.write);
        if !latency.is_zero() {
            sleep(latency / 3).await;
        }
        let result = commit();
        if !latency.is_zero() {
            sleep(latency / 3 * 2).await;
        }
        result
    }

    /// Shares the processors evenly with everybody who is working when it starts: short work
    /// overtakes long, and a crowd slows all.
    async fn work(&self, alone: Duration) {
        if alone.is_zero() {
            return;
        }
        let sharing = Working::start(&self.working);
        sleep(self.dice.around(alone * sharing.workers)).await;
    }
}

/// One who is working, counted until dropped.
struct Working<'a> {
    working: &'a AtomicU32,
    /// How many were working when this one started, itself included.
    workers: u32,
}

impl Working<'_> {
    fn start(working: &AtomicU32) -> Working<'_> {
        Working {
            working,
            workers: working.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.working.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn requests_slow_each_other_down() {
        let machine = Machine::new(
            Costs {
                request: MS * 20,
                update: Duration::ZERO,
                read: Duration::ZERO,
                write: Duration::ZERO,
            },
            1,
        );
        let start = Instant::now();
        machine.respond().await;
        let alone = start.elapsed();
        tokio::join!(
            machine.receive(),
            machine.receive(),
            machine.receive(),
            machine.respond()
        );
        assert!(
            start.elapsed() - alone > MS * 20,
            "{:?} and {alone:?}",
            start.elapsed()
        );
        assert_eq!(machine.working.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn writes_overlap() {
        let machine = Machine::new(
            Costs {
                request: Duration::ZERO,
                update: Duration::ZERO,
                read: Duration::ZERO,
                write: MS * 10,
            },
            1,
        );
        let start = Instant::now();
        tokio::join!(
            machine.write(|| ()),
            machine.write(|| ()),
            machine.write(|| ())
        );
        assert!(start.elapsed() <= MS * 17, "{:?}", start.elapsed());
    }
}
