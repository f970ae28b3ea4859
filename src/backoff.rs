//! How long a create pauses before it is sent again, and when to give up. Pure: random numbers and
//! elapsed times are arguments. `create` keeps the count and the clock. `route::timeout` reads and
//! rewrites the client's own `?timeout=`.

use std::fmt;
use std::time::Duration;

/// Exponential pauses with full jitter: the n-th pause is drawn evenly from 0 to `base × 2ⁿ⁻¹`, at
/// most `cap`.
///
/// Conflicts come in bursts. Without full jitter, ninety creates that failed together would come
/// back together. <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first pause. It should be longer than the lag of the apiservers' watches,
    /// because until then a replay meets the same stale quota.
    pub base: Duration,
    /// The longest pause, without what the server asks for.
    pub cap: Duration,
}

/// How much one create may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayLimits {
    /// All attempts, including the first.
    pub max_attempts: u32,
    /// The longest time from the arrival of a create to the start of its last attempt.
    pub max_hold: Duration,
}

/// The cost of one create so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Attempts made.
    pub attempts: u32,
    /// The time since it arrived. This includes reading the body, the rate limit, attempts and
    /// pauses.
    pub elapsed: Duration,
    /// The duration of its longest attempt. The next one may take as long.
    pub longest: Duration,
}

/// The limit that ends the replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exhausted {
    /// The create has had all its attempts.
    Attempts,
    /// The next attempt would start after the longest hold.
    Hold,
    /// The next attempt would end after the client has given up, if it takes as long as the longest
    /// one so far.
    ClientTimeout,
}

impl Backoff {
    /// The longest pause before `replay` (1 is the first), without what the server asks for.
    pub fn ceiling(&self, replay: u32) -> Duration {
        let factor = 1u32
            .checked_shl(replay.saturating_sub(1))
            .unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The pause before `replay`. `random` is in [0, 1).
    ///
    /// `at_least` is what the server asked for. The jitter is added to it. If the pause were the
    /// longer of the two, all creates that were told "one second" would come back together.
    pub fn delay(&self, replay: u32, random: f64, at_least: Duration) -> Duration {
        // `clamp` does not change NaN, so treat it as 0.
        let random = if random.is_nan() {
            0.0
        } else {
            random.clamp(0.0, 1.0)
        };
        let nanos = self.ceiling(replay).as_nanos() as f64 * random;
        at_least.saturating_add(Duration::from_nanos(nanos as u64))
    }
}

impl ReplayLimits {
    /// The pause before the next attempt, which is `delay`, or the limit that forbids the attempt.
    ///
    /// `client_remaining` is the rest of the client's own timeout, if the client sent one. After it
    /// the client is gone and would not learn of an object that the attempt stores. So the attempt
    /// must be able to *end* before. Without a timeout only the start is limited: no attempt so far
    /// took longer than the hold, so one like them ends within twice the hold. A pause is never
    /// shortened to fit, because an attempt earlier than the server asked for, or than the backoff
    /// drew, would only add load.
    ///
    /// # Errors
    /// [`Exhausted`]. The client then gets the last response.
    pub fn next(
        &self,
        spent: Spent,
        client_remaining: Option<Duration>,
        delay: Duration,
    ) -> Result<Duration, Exhausted> {
        if spent.attempts >= self.max_attempts {
            Err(Exhausted::Attempts)
        } else if spent.elapsed.saturating_add(delay) > self.max_hold {
            Err(Exhausted::Hold)
        } else if client_remaining
            .is_some_and(|remaining| delay.saturating_add(spent.longest) >= remaining)
        {
            Err(Exhausted::ClientTimeout)
        } else {
            Ok(delay)
        }
    }
}

impl Exhausted {
    /// The label, in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Exhausted::Attempts => "attempts",
            Exhausted::Hold => "hold",
            Exhausted::ClientTimeout => "client_timeout",
        }
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Exhausted::Attempts => "all attempts are made",
            Exhausted::Hold => "the longest hold would be exceeded",
            Exhausted::ClientTimeout => {
                "the client's own timeout could have passed before the answer"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;
    use proptest::prelude::*;

    const DEFAULT: Backoff = Backoff {
        base: Duration::from_millis(100),
        cap: Duration::from_secs(2),
    };
    const LIMITS: ReplayLimits = ReplayLimits {
        max_attempts: 8,
        max_hold: Duration::from_secs(8),
    };

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let ceilings: Vec<_> = [0, 1, 2, 3, 4, 5, 6, 7, 33, u32::MAX]
            .iter()
            .map(|replay| DEFAULT.ceiling(*replay).as_millis())
            .collect();
        assert_eq!(
            ceilings,
            [100, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000, 2_000]
        );
        let small = Backoff {
            base: millis(5),
            cap: millis(3),
        };
        assert_eq!(small.ceiling(1), millis(3));
        let huge = Backoff {
            base: Duration::MAX,
            cap: Duration::MAX,
        };
        assert_eq!(huge.ceiling(u32::MAX), Duration::MAX);
    }

    #[test]
    fn jitter_is_added_to_what_the_server_asked_for() {
        assert_eq!(DEFAULT.delay(1, 0.0, Duration::ZERO), Duration::ZERO);
        assert_eq!(DEFAULT.delay(1, 0.5, Duration::ZERO), millis(50));
        assert_eq!(DEFAULT.delay(3, 0.5, millis(1_000)), millis(1_200));
        assert_eq!(DEFAULT.delay(9, 1.0, Duration::MAX), Duration::MAX);
        for nonsense in [f64::NAN, f64::NEG_INFINITY, -1.0] {
            assert_eq!(DEFAULT.delay(1, nonsense, millis(7)), millis(7));
        }
        assert_eq!(DEFAULT.delay(1, f64::INFINITY, Duration::ZERO), millis(100));
    }

    #[test]
    fn stops_at_the_first_limit_reached() {
        let table = [
            // attempts made, elapsed, the longest attempt, the rest of the client's timeout, pause
            (1, 0, 0, None, 100, Ok(millis(100))),
            (7, 7_900, 0, None, 100, Ok(millis(100))),
            (8, 0, 0, None, 0, Err(Exhausted::Attempts)),
            (1, 7_901, 0, None, 100, Err(Exhausted::Hold)),
            (1, 0, 0, None, 9_000, Err(Exhausted::Hold)),
            (1, 7_900, 7_900, None, 100, Ok(millis(100))),
            (1, 0, 0, Some(101), 100, Ok(millis(100))),
            (1, 0, 0, Some(100), 100, Err(Exhausted::ClientTimeout)),
            (1, 0, 0, Some(0), 0, Err(Exhausted::ClientTimeout)),
            (1, 2_000, 2_000, Some(2_101), 100, Ok(millis(100))),
            (
                1,
                2_000,
                2_000,
                Some(2_100),
                100,
                Err(Exhausted::ClientTimeout),
            ),
            (
                2,
                2_100,
                2_000,
                Some(2_100),
                100,
                Err(Exhausted::ClientTimeout),
            ),
        ];
        every(
            table,
            |(attempts, elapsed, longest, client, delay, expected)| {
                let spent = Spent {
                    attempts,
                    elapsed: millis(elapsed),
                    longest: millis(longest),
                };
                assert_eq!(
                    LIMITS.next(spent, client.map(millis), millis(delay)),
                    expected,
                    "{spent:?}, {client:?}, {delay}"
                );
            },
        );
        let spent = Spent {
            attempts: 1,
            elapsed: Duration::MAX,
            longest: Duration::MAX,
        };
        assert_eq!(
            LIMITS.next(spent, None, Duration::MAX),
            Err(Exhausted::Hold)
        );
        let nothing = Spent {
            attempts: 0,
            elapsed: Duration::ZERO,
            longest: Duration::ZERO,
        };
        assert_eq!(
            ReplayLimits {
                max_attempts: 0,
                ..LIMITS
            }
            .next(nothing, None, Duration::ZERO),
            Err(Exhausted::Attempts)
        );
        let patient = ReplayLimits {
            max_hold: Duration::MAX,
            ..LIMITS
        };
        assert_eq!(
            patient.next(spent, Some(Duration::MAX), Duration::MAX),
            Err(Exhausted::ClientTimeout)
        );
    }

    proptest! {
        #[test]
        fn a_delay_lies_between_the_floor_and_the_ceiling_above_it(
            base in 0u64..1_000_000, cap in 0u64..1_000_000, replay: u32, random: f64, floor in 0u64..1_000_000,
        ) {
            let backoff = Backoff { base: millis(base), cap: millis(cap) };
            let delay = backoff.delay(replay, random, millis(floor));
            prop_assert!(delay >= millis(floor) && delay <= millis(floor) + backoff.ceiling(replay));
            prop_assert!(backoff.ceiling(replay) <= backoff.ceiling(replay.saturating_add(1)));
        }

        #[test]
        fn no_attempt_starts_after_the_hold_nor_ends_after_the_clients_timeout(
            random in prop::collection::vec(0.0..1.0, 20), floors in prop::collection::vec(0u64..3_000, 20), client in prop::option::of(0u64..20_000),
            upload in 0u64..2_000, slowest in 0u64..5_000, quicker in prop::collection::vec(0.0..1.0, 20),
        ) {
            // The first attempt is the slowest.
            let mut spent = Spent { attempts: 1, elapsed: millis(upload + slowest), longest: millis(slowest) };
            for ((random, floor), quicker) in random.iter().zip(floors).zip(quicker) {
                let delay = DEFAULT.delay(spent.attempts, *random, millis(floor));
                let remaining = client.map(|client| millis(client).saturating_sub(spent.elapsed));
                let Ok(pause) = LIMITS.next(spent, remaining, delay) else { return Ok(()) };
                spent.elapsed += pause;
                spent.attempts += 1;
                prop_assert!(spent.attempts <= 8 && spent.elapsed <= LIMITS.max_hold);
                spent.elapsed += millis(slowest).mul_f64(quicker);
                prop_assert!(client.is_none_or(|client| spent.elapsed < millis(client)));
                prop_assert!(spent.elapsed <= LIMITS.max_hold * 2);
            }
            prop_assert!(false, "never exhausted");
        }
    }
}
