//! Counts over time, in bounded memory, for any span of time and in any order.

use std::collections::BTreeMap;

/// The most steps that are kept. With more, pairs of them are merged.
const MOST: usize = 4096;

/// Counts per step of time. A step lasts a second at first, and doubles when there are too many.
pub(super) struct Timeline<const N: usize> {
    step: i64,
    counts: BTreeMap<i64, [u64; N]>,
}

impl<const N: usize> Timeline<N> {
    pub(super) fn new() -> Self {
        Self {
            step: 1,
            counts: BTreeMap::new(),
        }
    }

    /// Counts `which` at a time in seconds since 1970, of the years -9999 to 9999.
    pub(super) fn count(&mut self, time: i64, which: usize) {
        let counts = self
            .counts
            .entry(time.div_euclid(self.step))
            .or_insert([0; N]);
        counts[which] += 1;
        while self.counts.len() > MOST {
            self.step *= 2;
            for (step, old) in std::mem::take(&mut self.counts) {
                add(
                    self.counts.entry(step.div_euclid(2)).or_insert([0; N]),
                    &old,
                );
            }
        }
    }

    /// The counts from `from` to `to`, which is not earlier, in at most `most` equal steps of whole
    /// seconds: how long a step is, and the counts of each.
    pub(super) fn points(&self, from: i64, to: i64, most: usize) -> (i64, Vec<[u64; N]>) {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let seconds = to - from + 1;
        let step = ((seconds - 1) / most + 1).max(self.step);
        let points = (seconds - 1) / step + 1;
        let mut points = vec![[0; N]; usize::try_from(points).unwrap_or(1)];
        for (at, counts) in &self.counts {
            let time = (at * self.step).clamp(from, to);
            let point = usize::try_from((time - from) / step).unwrap_or(0);
            add(&mut points[point], counts);
        }
        (step, points)
    }
}

fn add<const N: usize>(sum: &mut [u64; N], more: &[u64; N]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn each_count_is_in_its_step() {
        let mut timeline = Timeline::<2>::new();
        for (time, which) in [(109, 0), (100, 0), (101, 1), (100, 0)] {
            timeline.count(time, which);
        }
        every(
            [
                (100, vec![(0, [2, 0]), (1, [0, 1]), (9, [1, 0])], 1, 10),
                (5, vec![(0, [2, 1]), (4, [1, 0])], 2, 5),
                (1, vec![(0, [3, 1])], 10, 1),
            ],
            |(most, expected, step, length)| {
                let (found_step, points) = timeline.points(100, 109, most);
                assert_eq!((found_step, points.len()), (step, length));
                let found: Vec<_> = points
                    .into_iter()
                    .enumerate()
                    .filter(|(_, counts)| *counts != [0, 0])
                    .collect();
                assert_eq!(found, expected);
            },
        );
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost() {
        let mut timeline = Timeline::<1>::new();
        for second in (0..1_000_000).rev() {
            timeline.count(second, 0);
        }
        assert!(timeline.counts.len() <= MOST);
        let (step, points) = timeline.points(0, 999_999, 60);
        assert_eq!(
            points.len(),
            1_000_000_usize.div_ceil(usize::try_from(step).unwrap())
        );
        assert_eq!(points.iter().map(|[count]| count).sum::<u64>(), 1_000_000);
    }

    #[test]
    fn a_wrong_clock_loses_nothing() {
        let mut timeline = Timeline::<1>::new();
        let (first, last) = (-377_705_116_800, 253_402_300_799); // The years -9999 and 9999.
        every([first, -1, 0, last], |time| timeline.count(time, 0));
        for (from, to) in [(first, last), (0, 0)] {
            let (_, points) = timeline.points(from, to, 60);
            assert!(points.len() <= 60, "{}", points.len());
            assert_eq!(points.iter().map(|[count]| count).sum::<u64>(), 4);
        }
    }
}
