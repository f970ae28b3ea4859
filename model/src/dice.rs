//! Small random numbers for jitter, uids and name suffixes (splitmix64).
//!
//! A seed makes a run under paused time repeatable. The numbers are good enough for a model, not
//! for secrets.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The characters of generated name suffixes: no vowels and no look-alikes.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.32.0/staging/src/k8s.io/apimachinery/pkg/util/rand/rand.go#L84-L94>
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A source of random numbers that can be shared between tasks.
#[derive(Debug)]
pub struct Dice(AtomicU64);

impl Dice {
    /// Creates a source; the same seed gives the same numbers.
    pub fn seeded(seed: u64) -> Dice {
        Dice(AtomicU64::new(seed))
    }

    /// A seed that differs from run to run.
    pub fn any_seed() -> u64 {
        RandomState::new().hash_one(0)
    }

    /// The next random number.
    pub fn next(&self) -> u64 {
        mix(self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }

    /// A random duration within half of `mean` on either side of it, evenly distributed.
    pub fn around(&self, mean: Duration) -> Duration {
        spread(self.next(), mean)
    }

    /// A random UUID in its usual notation.
    pub fn uid(&self) -> String {
        let (a, b) = (self.next(), self.next());
        let (a, b) = (a & !0xf000 | 0x4000, b & (u64::MAX >> 2) | 1 << 63);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xffff,
            b >> 48,
            b & 0xffff_ffff_ffff
        )
    }

    /// The five characters that the apiserver appends to a `generateName`.
    pub fn suffix(&self) -> String {
        let mut number = self.next();
        let letter = |number: &mut u64| {
            let index = usize::try_from(*number % 27).unwrap_or(0);
            *number /= 27;
            char::from(LETTERS[index])
        };
        (0..5).map(|_| letter(&mut number)).collect()
    }
}

/// A duration within half of `mean` on either side of it, chosen by `number`.
pub fn spread(number: u64, mean: Duration) -> Duration {
    // 1024 steps are enough for jitter and avoid floats.
    mean / 2 + mean * u32::try_from(number % 1025).unwrap_or(0) / 1024
}

/// A duration with this `mean`, exponentially distributed, chosen by `number`: mostly shorter,
/// rarely several times as long.
pub fn exponential(number: u64, mean: Duration) -> Duration {
    // With 2^16 steps the longest duration is eleven times the mean.
    let part = f64::from(u16::try_from(number % (1 << 16)).unwrap_or(0)) / f64::from(1 << 16);
    mean.mul_f64(-(1.0 - part).ln())
}

/// Scrambles a number, so that consecutive numbers give unrelated results.
pub fn mix(number: u64) -> u64 {
    let a = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_half_of_the_mean() {
        let dice = Dice::seeded(1);
        let mean = Duration::from_millis(100);
        for _ in 0..1000 {
            let value = dice.around(mean);
            assert!(value >= mean / 2 && value <= mean * 3 / 2, "{value:?}");
        }
    }

    #[test]
    fn exponential_times_have_their_mean_and_a_tail() {
        let mean = Duration::from_millis(100);
        let times: Vec<_> = (0..10_000)
            .map(|number| exponential(mix(number), mean))
            .collect();
        let average = times.iter().sum::<Duration>() / 10_000;
        assert!(
            average > mean * 9 / 10 && average < mean * 11 / 10,
            "{average:?}"
        );
        let beyond = |factor: u32| times.iter().filter(|time| **time > mean * factor).count();
        assert!(
            beyond(1) < 4000 && beyond(3) > 300 && beyond(12) == 0,
            "{} {}",
            beyond(1),
            beyond(3)
        );
    }

    #[test]
    fn uids_look_like_uuids_and_differ() {
        let dice = Dice::seeded(1);
        let (a, b) = (dice.uid(), dice.uid());
        assert_ne!(a, b);
        assert_eq!(
            a.split('-').map(str::len).collect::<Vec<_>>(),
            [8, 4, 4, 4, 12]
        );
        assert_eq!(a.as_bytes()[14], b'4');
    }
}
