//! The cost of work in time: the CPUs of one machine, which all parts of the model share, and the
//! latency of etcd.
//!
//! Conflicts emerge from these times and from the watch latency. This module knows nothing about
//! quotas. It works under paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::dice::Dice;

/// The times of the modelled machine.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// CPU time of one request to an apiserver when nothing else runs.
    pub request: Duration,
    /// CPU time of one status update of a quota. An apiserver sends it to itself, or the quota
    /// controller sends it.
    pub update: Duration,
    /// Latency of one consistent read from etcd.
    pub read: Duration,
    /// Mean latency of one write to etcd, with a jitter of half. Writes overlap.
    pub write: Duration,
}

/// The CPUs and the disk that all apiservers share.
#[derive(Debug)]
pub struct Machine {
    costs: Costs,
    /// The number of tasks that use the CPUs now.
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

    /// The number of tasks that use the CPUs, updated as it changes.
    pub fn working(&self) -> Arc<AtomicU32> {
        self.working.clone()
    }

    /// The work on a request until it goes to the store: half of its CPU time.
    pub async fn receive(&self) {
        self.work(self.costs.request / 2).await;
    }

    /// The work on the answer: the other half.
    pub async fn respond(&self) {
        self.work(self.costs.request / 2).await;
    }

    /// The work on a status update until it goes to the store: seven tenths of its CPU time.
    pub async fn receive_update(&self) {
        self.work(self.costs.update / 10 * 7).await;
    }

    /// The rest of the work on a status update, including the wake-up of its sender.
    pub async fn respond_update(&self) {
        self.work(self.costs.update / 10 * 3).await;
    }

    /// A read from etcd.
    pub async fn read(&self) {
        if !self.costs.read.is_zero() {
            sleep(self.costs.read).await;
        }
    }

    /// A write to etcd. `commit` takes effect after a third of the latency.
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

    /// Uses the CPUs, shared evenly with the tasks that are working when this one starts. Short
    /// work finishes before long work, and many tasks slow each other down.
    async fn work(&self, alone: Duration) {
        if alone.is_zero() {
            return;
        }
        let sharing = Working::start(&self.working);
        sleep(self.dice.around(alone * sharing.workers)).await;
    }
}

/// A task that uses the CPUs. It is counted until it is dropped.
struct Working<'a> {
    working: &'a AtomicU32,
    /// The number of working tasks when this one started, including itself.
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
