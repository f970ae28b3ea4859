//! One rate limit: a governor limiter with a queue of creates in front of it.
//!
//! Without the queue all waiting creates would wake for the same slot. One would get it, and a new
//! create could overtake the others.

use std::ops::Add;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Rate;

#[derive(Debug)]
pub(super) struct RateQueue {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>,
    quota: Quota,
    /// The head of the queue holds this while it waits for its slot. The mutex is the queue: it is
    /// fair.
    turn: Mutex<()>,
    waiting: AtomicU32,
    /// Turns that were taken but not needed.
    given_back: AtomicU32,
    /// Whether the head sleeps. Then every create behind it must wait for a slot too.
    head_sleeps: AtomicBool,
}

impl RateQueue {
    pub(super) fn new(rate: Rate) -> Self {
        let quota = quota(rate);
        Self {
            limiter: RateLimiter::direct_with_clock(quota, TokioClock),
            quota,
            turn: Mutex::new(()),
            waiting: AtomicU32::new(0),
            given_back: AtomicU32::new(0),
            head_sleeps: AtomicBool::new(false),
        }
    }

    /// How long the whole burst takes to refill.
    pub(super) fn refill(&self) -> Duration {
        self.quota.burst_size_replenished_in()
    }

    /// Returns a turn that was taken but not needed.
    pub(super) fn give_back(&self) {
        let fits = |given: u32| (given < self.quota.burst_size().get()).then_some(given + 1);
        // An error means that a whole burst was given back already.
        let _full = self
            .given_back
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
    }

    fn take_given_back(&self) -> bool {
        self.given_back
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |given| {
                given.checked_sub(1)
            })
            .is_ok()
    }

    /// Takes a turn, if there is one, for a create that was sent already.
    pub(super) fn take(&self) {
        // If there is none, the creates behind are waiting already.
        let _taken = self.take_given_back() || self.limiter.check().is_ok();
    }

    /// Waits for a slot, in order of arrival. Returns whether the create had to wait. The error is
    /// how long it would have to wait, if that is beyond the deadline.
    pub(super) async fn wait_for_turn(&self, deadline: Instant) -> Result<bool, Duration> {
        let position = Position::last(&self.waiting);
        // Each create ahead takes a slot, at most one a period. A create that would wait in vain
        // is refused now: waiting would only occupy memory and delay the error.
        let period = self.quota.replenish_interval();
        let ahead = period.saturating_mul(position.ahead);
        let mut waited = self.head_sleeps.load(Ordering::Relaxed);
        if waited && ahead > deadline.saturating_duration_since(Instant::now()) {
            return Err(ahead);
        }
        let _turn = timeout_at(deadline, self.turn.lock())
            .await
            .map_err(|_| ahead.max(period))?;
        if self.take_given_back() {
            return Ok(waited);
        }
        // Only the head takes slots, so a slot that governor promised is still there after the
        // sleep. The loop is for the rounding of the clock.
        while let Err(not_until) = self.limiter.check() {
            let now = Instant::now();
            let wait = not_until.wait_time_from(Moment(now));
            if wait > deadline.saturating_duration_since(now) {
                return Err(wait);
            }
            let _head_sleeps = HeadSleeps::mark(&self.head_sleeps);
            sleep(wait).await;
            waited = true;
        }
        Ok(waited)
    }
}

/// A position in the queue, given up on drop.
struct Position<'a> {
    waiting: &'a AtomicU32,
    ahead: u32,
}

impl<'a> Position<'a> {
    fn last(waiting: &'a AtomicU32) -> Self {
        Self {
            waiting,
            ahead: waiting.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Position<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Marks that the head sleeps, until it is dropped.
struct HeadSleeps<'a>(&'a AtomicBool);

impl<'a> HeadSleeps<'a> {
    fn mark(head_sleeps: &'a AtomicBool) -> Self {
        head_sleeps.store(true, Ordering::Relaxed);
        Self(head_sleeps)
    }
}

impl Drop for HeadSleeps<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// governor counts 64-bit nanoseconds and does not check for overflow. It can count 584 years. The
/// types of a rate allow a burst that takes 32 years to refill.
#[expect(clippy::expect_used, reason = "a period is 1 µs or longer")]
fn quota(rate: Rate) -> Quota {
    Quota::with_period(Duration::from_secs_f64(1.0 / rate.qps.get()))
        .expect("a rate is finite")
        .allow_burst(rate.burst.non_zero())
}

/// Tokio's clock for governor, so that tests can pause time.
#[derive(Debug, Clone, Copy)]
struct TokioClock;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Instant);

impl Clock for TokioClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(Instant::now())
    }
}

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0 + Duration::from(nanos))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, nanos: Nanos) -> Self {
        self.0.checked_sub(nanos.into()).map_or(*self, Self)
    }
}
