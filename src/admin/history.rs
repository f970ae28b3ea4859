//! How many conflicts were absorbed in each minute of the last half hour. The counters of the
//! metrics are sampled every few seconds, so requests pay nothing for the history.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::metrics::Metrics;
use crate::verdict::Class;

/// The time between two samples.
pub(super) const STEP: Duration = Duration::from_secs(5);
const SAMPLES_PER_MINUTE: usize = 12;
/// Values in the history: half an hour.
const SHOWN: usize = 30 * SAMPLES_PER_MINUTE;

/// Samples of the counter of absorbed conflicts, oldest first. The first one is the 0 of the start.
#[derive(Debug)]
pub(super) struct History(Mutex<VecDeque<u64>>);

impl History {
    pub(super) fn new() -> Self {
        Self(Mutex::new(VecDeque::from([0])))
    }

    /// Takes samples until it is dropped.
    pub(super) async fn run(&self, metrics: &Metrics) {
        let mut every = tokio::time::interval_at(tokio::time::Instant::now() + STEP, STEP);
        // After a time without CPU there is one sample, not one for each step that was missed.
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            self.sample(absorbed(metrics));
        }
    }

    fn sample(&self, total: u64) {
        let mut totals = self.lock();
        if totals.len() >= SHOWN + SAMPLES_PER_MINUTE {
            totals.pop_front();
        }
        totals.push_back(total);
    }

    /// The increase of the counter within the minute before each sample, oldest first. The last
    /// value is for the minute that ends now, with the counter at `total`.
    pub(super) fn per_minute(&self, total: u64) -> Vec<u64> {
        let mut totals: Vec<u64> = self.lock().iter().copied().collect();
        totals.push(total);
        let increase = |index: usize| {
            totals[index].saturating_sub(totals[index.saturating_sub(SAMPLES_PER_MINUTE)])
        };
        (totals.len().saturating_sub(SHOWN)..totals.len())
            .map(increase)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many quota conflicts were followed by another attempt since the start.
pub(super) fn absorbed(metrics: &Metrics) -> u64 {
    Class::ALL
        .iter()
        .filter(|class| class.is_quota_conflict())
        .map(|class| metrics.replays_after(class.as_str()))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_counts_the_minute_before_it() {
        let history = History::new();
        assert_eq!(
            history.per_minute(3),
            [0, 3],
            "the counter was 0 at the start"
        );
        (1..=13).for_each(|step| history.sample(step * 10));
        let points = history.per_minute(130);
        assert_eq!(points[..5], [0, 10, 20, 30, 40]);
        assert_eq!(
            points[12..],
            [120, 120, 110],
            "the last minute goes from the second sample to now, and nothing came since the last"
        );
    }

    #[test]
    fn the_history_is_bounded_and_starts_at_zero() {
        let history = History::new();
        (1..=2000).for_each(|step| history.sample(step));
        assert_eq!(history.per_minute(2001), vec![12; SHOWN]);
        assert_eq!(history.lock().len(), SHOWN + SAMPLES_PER_MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn it_samples_the_counter_of_replays_after_quota_conflicts() {
        let (history, metrics) = (History::new(), Metrics::new(1, &[]));
        metrics.replay("quota_conflict");
        metrics.replay("throttled");
        let sampled = tokio::time::timeout(STEP * 2 + STEP / 2, history.run(&metrics)).await;
        assert!(sampled.is_err(), "it runs for ever");
        assert_eq!(history.per_minute(1), [0, 1, 1, 1]);
    }
}
