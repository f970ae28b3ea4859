//! One line of creates before one rate limit: a governor limiter, and a queue in front of it.
//!
//! Without the queue all waiters would wake for the same slot, one would get it and a newcomer
//! might overtake the rest.

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

/// A rate, and those who wait for it.
#[derive(Debug)]
pub(super) struct Line {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>,
    quota: Quota,
    /// Held by the head of the line alone, while it waits for its slot: this is the queue, and
    /// fair.
    turn: Mutex<()>,
    waiting: AtomicU32,
    /// Turns that were taken and not needed.
    given_back: AtomicU32,
    /// Whether the head sleeps, so that everybody behind it must wait for a slot too.
    dry: AtomicBool,
}

impl Line {
    pub(super) fn new(rate: Rate) -> Self {
        let quota = quota(rate);
        Self {
            limiter: RateLimiter::direct_with_clock(quota, TokioClock),
            quota,
            turn: Mutex::new(()),
            waiting: AtomicU32::new(0),
            given_back: AtomicU32::new(0),
            dry: AtomicBool::new(false),
        }
    }

    /// After how long without creates the whole burst is there again.
    pub(super) fn refill(&self) -> Duration {
        self.quota.burst_size_replenished_in()
    }

    /// A turn that was taken was not needed.
    pub(super) fn give_back(&self) {
        let fits = |given: u32| (given < self.quota.burst_size().get()).then_some(given + 1);
        // More than a burst is never due.
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

    /// Takes a turn, if there is one, of a create that has gone already.
    pub(super) fn take(&self) {
        // Where there is none, the next ones have waited for theirs.
        let _taken = self.take_given_back() || self.limiter.check().is_ok();
    }

    /// Waits for a slot, in order of arrival; says whether that took more than asking.
    ///
    /// The error says how long it would take, if that is beyond the deadline.
    pub(super) async fn pass(&self, deadline: Instant) -> Result<bool, Duration> {
        let place = Place::behind_all(&self.waiting);
        // Each of those ahead takes a slot, at the earliest one a period. Waiting in vain would
        // only fill the memory and tell late.
        let period = self.quota.replenish_interval();
        let ahead = period.saturating_mul(place.ahead);
        let mut waited = self.dry.load(Ordering::Relaxed);
        if waited && ahead > deadline.saturating_duration_since(Instant::now()) {
            return Err(ahead);
        }
        let _turn = timeout_at(deadline, self.turn.lock())
            .await
            .map_err(|_| ahead.max(period))?;
        if self.take_given_back() {
            return Ok(waited);
        }
        // Only the head asks, so a slot that governor promised is still there after the sleep: the
        // loop is for the clock's rounding.
        while let Err(not_until) = self.limiter.check() {
            let now = Instant::now();
            let wait = not_until.wait_time_from(Moment(now));
            if wait > deadline.saturating_duration_since(now) {
                return Err(wait);
            }
            let _dry = Dry::mark(&self.dry);
            sleep(wait).await;
            waited = true;
        }
        Ok(waited)
    }
}

/// A place in the line, given up on drop.
struct Place<'a> {
    waiting: &'a AtomicU32,
    ahead: u32,
}

impl<'a> Place<'a> {
    fn behind_all(waiting: &'a AtomicU32) -> Self {
        Self {
            waiting,
            ahead: waiting.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The head sleeps, until it is dropped.
struct Dry<'a>(&'a AtomicBool);

impl<'a> Dry<'a> {
    fn mark(dry: &'a AtomicBool) -> Self {
        dry.store(true, Ordering::Relaxed);
        Self(dry)
    }
}

impl Drop for Dry<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// governor counts in 64-bit nanoseconds and does not check. The types of a rate allow a burst that
/// takes 32 years to refill, where it could count 584.
#[expect(clippy::expect_used, reason = "a period is 1 µs or longer")]
fn quota(rate: Rate) -> Quota {
    Quota::with_period(Duration::from_secs_f64(1.0 / rate.qps.get()))
        .expect("a rate is finite")
        .allow_burst(rate.burst.non_zero())
}

/// Tokio's clock for governor, so that tests with paused time need not wait.
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
