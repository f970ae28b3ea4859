//! The health of a server: decides whether requests should go to it, and when to probe it next.
//! Pure, except for its lock.
//!
//! One failure marks a server down, because a request that cannot connect can go to another server
//! at no cost. Only a probe marks it up again. If it fails soon after that, the pause before the
//! next probe is longer each time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

/// How often a server that is up is probed. Requests notice most failures earlier. A probe notices
/// an announced shutdown, and the failure of a server that gets no requests.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// The pause before the first probe of a server that failed. It doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A server that stays up for this long starts again at the first pause.
const STEADY: Duration = Duration::from_secs(60);
/// How many probes in a row a server that was ready before may answer with 403 and still count as
/// starting up. With the pauses between them this is more than 20 s.
const MAX_FORBIDDEN_AT_START: u32 = 8;

/// How a server answered a probe, if that showed no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeAnswer {
    Ready,
    /// The server answers, but does not tell anonymous clients whether it is ready.
    Alive,
    /// The server answers 403. An apiserver that starts does so for every client, until it has read
    /// RBAC's roles.
    Forbidden,
}

/// The health of one server.
#[derive(Debug)]
pub(super) struct Health {
    name: Box<str>,
    /// A copy of the condition that requests read without the lock.
    usable: AtomicBool,
    record: Mutex<HealthRecord>,
    /// Notified when the server goes up or down, or is down for another reason. Readiness waits
    /// for it.
    changed: Arc<Notify>,
    /// Notified when the server goes down. The probing task waits for it.
    went_down: Notify,
}

/// The state of a server as requests and probes have shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HealthRecord {
    pub(super) condition: Condition,
    /// When the condition last changed.
    pub(super) since: Instant,
    /// Failures in a row. A short time of being up does not end the row.
    failures: u32,
    /// The last failure.
    pub(super) error: Option<Arc<str>>,
    /// How many more 403 count as a server that starts up. 0 if the server never allowed the
    /// probe.
    forbidden_remaining: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Not probed yet. Requests go there, but readiness does not count it.
    Unknown,
    Up,
    Down,
    /// No longer in the list of servers.
    Removed,
}

impl HealthRecord {
    fn new(now: Instant) -> Self {
        Self {
            condition: Condition::Unknown,
            since: now,
            failures: 0,
            error: None,
            forbidden_remaining: 0,
        }
    }

    /// Records a failure of a request or a probe. Returns whether the server goes down with it.
    fn failed(&mut self, now: Instant, error: Arc<str>, probe: bool) -> bool {
        match self.condition {
            Condition::Unknown | Condition::Up => {
                let steady = self.condition == Condition::Up
                    && now.saturating_duration_since(self.since) >= STEADY;
                let failures = if steady {
                    1
                } else {
                    self.failures.saturating_add(1)
                };
                *self = Self {
                    condition: Condition::Down,
                    since: now,
                    failures,
                    error: Some(error),
                    ..*self
                };
                true
            }
            // Requests that fail together are one failure. Only probes make the pause longer.
            Condition::Down => {
                self.failures = self.failures.saturating_add(probe.into());
                self.error = Some(error);
                false
            }
            Condition::Removed => false,
        }
    }

    /// Whether the answer comes from a server that starts up. Such a server refuses every request.
    fn is_starting(&mut self, answer: ProbeAnswer) -> bool {
        match answer {
            ProbeAnswer::Ready => self.forbidden_remaining = MAX_FORBIDDEN_AT_START,
            ProbeAnswer::Forbidden
                if self.condition == Condition::Down && self.forbidden_remaining > 0 =>
            {
                self.forbidden_remaining -= 1;
                return true;
            }
            ProbeAnswer::Forbidden | ProbeAnswer::Alive => {}
        }
        false
    }

    /// Records a probe's success. Returns whether the server goes up with it.
    fn succeeded(&mut self, now: Instant) -> bool {
        let up = matches!(self.condition, Condition::Unknown | Condition::Down);
        if up {
            (self.condition, self.since) = (Condition::Up, now);
        }
        up
    }

    /// How long to wait before the next probe. `random` is in [0, 1). Half of the pause is jitter,
    /// so that replicas do not probe at the same moment.
    fn pause(&self, random: f64) -> Duration {
        let whole = match self.condition {
            Condition::Unknown => return Duration::ZERO,
            Condition::Up | Condition::Removed => PROBE_EVERY,
            Condition::Down => {
                let doubled = 1u32
                    .checked_shl(self.failures.saturating_sub(1))
                    .unwrap_or(u32::MAX);
                FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
            }
        };
        whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

impl Health {
    pub(super) fn new(name: &str, changed: Arc<Notify>) -> Self {
        let record = Mutex::new(HealthRecord::new(Instant::now()));
        Self {
            name: name.into(),
            usable: AtomicBool::new(true),
            record,
            changed,
            went_down: Notify::new(),
        }
    }

    /// Whether requests should go there.
    pub(super) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    pub(super) fn record(&self) -> HealthRecord {
        self.lock().clone()
    }

    /// A request could not use the server. Returns whether the server goes down with it.
    pub(super) fn request_failed(&self, error: &dyn std::fmt::Display) -> bool {
        self.fail(error, false)
    }

    /// A probe has ended. Returns whether the server goes down with it.
    pub(super) fn probed(&self, result: Result<ProbeAnswer, String>) -> bool {
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return self.fail(&error, true),
        };
        let mut record = self.lock();
        if record.is_starting(answer) {
            drop(record);
            return self.fail(
                &"it is starting up: /readyz is forbidden, and was not before",
                true,
            );
        }
        if record.succeeded(Instant::now()) {
            self.usable.store(true, Ordering::Relaxed);
            drop(record);
            info!(server = &*self.name, "An apiserver is up");
            self.changed.notify_one();
        }
        false
    }

    /// The server is no longer in the list.
    pub(super) fn remove(&self) {
        self.lock().condition = Condition::Removed;
        self.usable.store(false, Ordering::Relaxed);
    }

    /// Returns when it is time for the next probe.
    pub(super) async fn next_probe_due(&self) {
        loop {
            let pause = self.lock().pause(fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(pause) => return,
                // The server went down: start again with its new pause.
                () = self.went_down.notified() => {}
            }
        }
    }

    fn fail(&self, error: &dyn std::fmt::Display, probe: bool) -> bool {
        let error: Arc<str> = error.to_string().into();
        let mut record = self.lock();
        let other_reason = record.error.as_ref() != Some(&error);
        let went_down = record.failed(Instant::now(), Arc::clone(&error), probe);
        if went_down {
            self.usable.store(false, Ordering::Relaxed);
        }
        drop(record);
        if went_down {
            warn!(server = &*self.name, %error, "An apiserver is down");
            self.went_down.notify_one();
        }
        if went_down || other_reason {
            self.changed.notify_one();
        }
        went_down
    }

    fn lock(&self) -> MutexGuard<'_, HealthRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(record: &mut HealthRecord, now: Instant) -> bool {
        record.failed(now, "refused".into(), true)
    }

    /// The longest pause as it is now.
    fn longest(record: &HealthRecord) -> Duration {
        record.pause(1.0)
    }

    #[test]
    fn one_failure_marks_a_server_down_and_one_probe_marks_it_up() {
        let now = Instant::now();
        let mut record = HealthRecord::new(now);
        assert_eq!(
            (record.condition, longest(&record)),
            (Condition::Unknown, Duration::ZERO),
            "asked at once"
        );
        assert!(record.succeeded(now));
        assert_eq!(longest(&record), PROBE_EVERY);
        assert!(down(&mut record, now + STEADY));
        assert_eq!(
            (record.condition, record.since, record.error.as_deref()),
            (Condition::Down, now + STEADY, Some("refused"))
        );
        assert!(!down(&mut record, now), "it is down already");
        assert!(record.succeeded(now));
        assert_eq!(record.condition, Condition::Up);
        assert!(!record.succeeded(now), "it is up already");
    }

    #[test]
    fn pauses_double_with_each_failed_probe_up_to_a_bound() {
        let now = Instant::now();
        let mut record = HealthRecord::new(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            down(&mut record, now);
            pauses.push(longest(&record).as_millis());
        }
        assert_eq!(
            pauses,
            [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]
        );
        assert_eq!(record.pause(0.0), LONGEST_PAUSE / 2, "half of it is jitter");
    }

    #[test]
    fn requests_that_fail_together_are_one_failure() {
        let now = Instant::now();
        let mut record = HealthRecord::new(now);
        for _ in 0..100 {
            record.failed(now, "refused".into(), false);
        }
        assert_eq!(longest(&record), FIRST_PAUSE);
    }

    #[test]
    fn a_server_that_fails_again_soon_is_probed_later_each_time() {
        let now = Instant::now();
        let mut record = HealthRecord::new(now);
        for expected in [250, 500, 1_000] {
            down(&mut record, now);
            assert_eq!(longest(&record).as_millis(), expected);
            record.succeeded(now);
        }
        down(&mut record, now + STEADY);
        assert_eq!(
            longest(&record),
            FIRST_PAUSE,
            "a server that stayed up starts again"
        );
    }

    #[test]
    fn a_server_that_forbids_a_probe_that_it_allowed_counts_as_starting_up() {
        let now = Instant::now();
        let mut record = HealthRecord::new(now);
        assert!(
            !record.is_starting(ProbeAnswer::Forbidden),
            "it may forbid the probe to everybody"
        );
        down(&mut record, now);
        assert!(!record.is_starting(ProbeAnswer::Forbidden));
        for _ in 0..2 {
            assert!(!record.is_starting(ProbeAnswer::Ready));
            record.succeeded(now);
            assert!(
                !record.is_starting(ProbeAnswer::Forbidden),
                "a server that is up has not restarted"
            );
            down(&mut record, now);
            for _ in 0..MAX_FORBIDDEN_AT_START {
                assert!(record.is_starting(ProbeAnswer::Forbidden));
            }
            assert!(
                !record.is_starting(ProbeAnswer::Forbidden),
                "no start takes that long: the rules have changed"
            );
        }
    }

    #[tokio::test]
    async fn a_removed_server_is_not_used_again() {
        let health = Health::new("a:1", Arc::default());
        assert!(health.is_usable(), "until something is known");
        health.remove();
        assert!(!health.probed(Ok(ProbeAnswer::Ready)) && !health.request_failed(&"refused"));
        assert!(!health.is_usable());
    }
}
