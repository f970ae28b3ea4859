//! Whether a server is to be used: what requests and probes have seen of it, and when it is asked
//! again. Pure but for its lock.
//!
//! A server is left at the first failure, because a request that fails to connect costs nothing
//! elsewhere, and returned to only after a probe. One that fails again soon after its return waits
//! longer each time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

/// How often a server that is up is probed. Requests see most failures earlier; this sees a
/// shutdown that has been announced, and a server that nobody uses.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// The first pause before a server that failed is probed; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A server that stays up for so long has forgotten its failures.
const STEADY: Duration = Duration::from_secs(60);
/// How many times a server that was ready once may forbid the question, and still be starting up:
/// for more than 20 s, with the pauses between.
const FORBIDDEN_AT_START: u32 = 8;

/// What a server that answers a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is ready.
    Ready,
    /// It is alive, and does not tell strangers more than that.
    Alive,
    /// It forbids the question. So does an apiserver that starts, to everybody, until it has read
    /// RBAC's roles.
    Forbidden,
}

/// The health of one server.
#[derive(Debug)]
pub(super) struct Health {
    name: Box<str>,
    /// What requests look at.
    usable: AtomicBool,
    state: Mutex<State>,
    /// Told whenever the server goes up or down, or is down for another reason, for whoever tells
    /// operators.
    changed: Arc<Notify>,
    /// Told when it goes down, for the probing.
    failed: Notify,
}

/// A server's health as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) standing: Standing,
    /// Since when.
    pub(super) since: Instant,
    /// Failures in a row; a return that did not last does not end the row.
    failures: u32,
    /// The last failure.
    pub(super) error: Option<Arc<str>>,
    /// How many more answers that forbid the question are those of a start; none where it was
    /// never allowed.
    forbidden_left: u32,
}

/// What is known of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not asked yet: used like one that is up, but nobody may rely on it.
    Unknown,
    Up,
    Down,
    /// No longer among the servers.
    Gone,
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            standing: Standing::Unknown,
            since: now,
            failures: 0,
            error: None,
            forbidden_left: 0,
        }
    }

    /// A failure of a request or a probe. Whether the server goes down by it.
    fn failed(&mut self, now: Instant, error: Arc<str>, probe: bool) -> bool {
        match self.standing {
            Standing::Unknown | Standing::Up => {
                let steady = self.standing == Standing::Up
                    && now.saturating_duration_since(self.since) >= STEADY;
                let failures = if steady {
                    1
                } else {
                    self.failures.saturating_add(1)
                };
                *self = Self {
                    standing: Standing::Down,
                    since: now,
                    failures,
                    error: Some(error),
                    ..*self
                };
                true
            }
            // A crowd of requests that fail together is no reason to wait longer.
            Standing::Down => {
                self.failures = self.failures.saturating_add(probe.into());
                self.error = Some(error);
                false
            }
            Standing::Gone => false,
        }
    }

    /// Whether an answer is that of a server that starts up: it would refuse whatever it is sent.
    fn is_starting(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::Ready => self.forbidden_left = FORBIDDEN_AT_START,
            Answer::Forbidden if self.standing == Standing::Down && self.forbidden_left > 0 => {
                self.forbidden_left -= 1;
                return true;
            }
            Answer::Forbidden | Answer::Alive => {}
        }
        false
    }

    /// A probe's success. Whether the server goes up by it.
    fn succeeded(&mut self, now: Instant) -> bool {
        let up = matches!(self.standing, Standing::Unknown | Standing::Down);
        if up {
            (self.standing, self.since) = (Standing::Up, now);
        }
        up
    }

    /// How long to wait before the next probe, for a `random` number in [0, 1): half of it is
    /// jitter, so that replicas do not ask together.
    fn pause(&self, random: f64) -> Duration {
        let whole = match self.standing {
            Standing::Unknown => return Duration::ZERO,
            Standing::Up | Standing::Gone => PROBE_EVERY,
            Standing::Down => {
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
        let state = Mutex::new(State::new(Instant::now()));
        Self {
            name: name.into(),
            usable: AtomicBool::new(true),
            state,
            changed,
            failed: Notify::new(),
        }
    }

    /// Whether requests should go there.
    pub(super) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    pub(super) fn state(&self) -> State {
        self.lock().clone()
    }

    /// A request found that the server cannot be used. Whether it goes down by that.
    pub(super) fn failed(&self, error: &dyn std::fmt::Display) -> bool {
        self.fail(error, false)
    }

    /// A probe has ended. Whether the server goes down by it.
    pub(super) fn probed(&self, result: Result<Answer, String>) -> bool {
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return self.fail(&error, true),
        };
        let mut state = self.lock();
        if state.is_starting(answer) {
            drop(state);
            return self.fail(
                &"it is starting up: /readyz is forbidden, and was not before",
                true,
            );
        }
        if state.succeeded(Instant::now()) {
            self.usable.store(true, Ordering::Relaxed);
            drop(state);
            info!(server = &*self.name, "An apiserver is up");
            self.changed.notify_one();
        }
        false
    }

    /// The server is no longer among those to use.
    pub(super) fn remove(&self) {
        self.lock().standing = Standing::Gone;
        self.usable.store(false, Ordering::Relaxed);
    }

    /// Returns when it is time for the next probe.
    pub(super) async fn time_to_probe(&self) {
        loop {
            let pause = self.lock().pause(fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(pause) => return,
                // It went down: its own pause begins now.
                () = self.failed.notified() => {}
            }
        }
    }

    fn fail(&self, error: &dyn std::fmt::Display, probe: bool) -> bool {
        let error: Arc<str> = error.to_string().into();
        let mut state = self.lock();
        let news = state.error.as_ref() != Some(&error);
        let left = state.failed(Instant::now(), Arc::clone(&error), probe);
        if left {
            self.usable.store(false, Ordering::Relaxed);
        }
        drop(state);
        if left {
            warn!(server = &*self.name, %error, "An apiserver is down");
            self.failed.notify_one();
        }
        if left || news {
            self.changed.notify_one();
        }
        left
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(state: &mut State, now: Instant) -> bool {
        state.failed(now, "refused".into(), true)
    }

    /// The longest pause as it is now.
    fn longest(state: &State) -> Duration {
        state.pause(1.0)
    }

    #[test]
    fn a_server_is_left_at_its_first_failure_and_returned_to_after_a_probe() {
        let now = Instant::now();
        let mut state = State::new(now);
        assert_eq!(
            (state.standing, longest(&state)),
            (Standing::Unknown, Duration::ZERO),
            "asked at once"
        );
        assert!(state.succeeded(now));
        assert_eq!(longest(&state), PROBE_EVERY);
        assert!(down(&mut state, now + STEADY));
        assert_eq!(
            (state.standing, state.since, state.error.as_deref()),
            (Standing::Down, now + STEADY, Some("refused"))
        );
        assert!(!down(&mut state, now), "it is down already");
        assert!(state.succeeded(now));
        assert_eq!(state.standing, Standing::Up);
        assert!(!state.succeeded(now), "it is up already");
    }

    #[test]
    fn pauses_double_with_each_failed_probe_up_to_a_bound() {
        let now = Instant::now();
        let mut state = State::new(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            down(&mut state, now);
            pauses.push(longest(&state).as_millis());
        }
        assert_eq!(
            pauses,
            [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]
        );
        assert_eq!(state.pause(0.0), LONGEST_PAUSE / 2, "half of it is jitter");
    }

    #[test]
    fn requests_that_fail_together_are_one_failure() {
        let now = Instant::now();
        let mut state = State::new(now);
        for _ in 0..100 {
            state.failed(now, "refused".into(), false);
        }
        assert_eq!(longest(&state), FIRST_PAUSE);
    }

    #[test]
    fn a_return_that_does_not_last_makes_the_next_one_later() {
        let now = Instant::now();
        let mut state = State::new(now);
        for expected in [250, 500, 1_000] {
            down(&mut state, now);
            assert_eq!(longest(&state).as_millis(), expected);
            state.succeeded(now);
        }
        down(&mut state, now + STEADY);
        assert_eq!(longest(&state), FIRST_PAUSE, "a lasting one does not");
    }

    #[test]
    fn a_server_that_forbids_what_it_allowed_is_starting_up_for_a_while() {
        let now = Instant::now();
        let mut state = State::new(now);
        assert!(
            !state.is_starting(Answer::Forbidden),
            "as far as anybody knows it always does"
        );
        down(&mut state, now);
        assert!(!state.is_starting(Answer::Forbidden));
        for _ in 0..2 {
            assert!(!state.is_starting(Answer::Ready));
            state.succeeded(now);
            assert!(
                !state.is_starting(Answer::Forbidden),
                "one that is up has not been started again"
            );
            down(&mut state, now);
            for _ in 0..FORBIDDEN_AT_START {
                assert!(state.is_starting(Answer::Forbidden));
            }
            assert!(
                !state.is_starting(Answer::Forbidden),
                "no start takes that long: the rules have changed"
            );
        }
    }

    #[tokio::test]
    async fn what_has_gone_is_not_used_again() {
        let health = Health::new("a:1", Arc::default());
        assert!(health.is_usable(), "until something is known");
        health.remove();
        assert!(!health.probed(Ok(Answer::Ready)) && !health.failed(&"refused"));
        assert!(!health.is_usable());
    }
}
