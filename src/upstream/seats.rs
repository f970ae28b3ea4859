//! At which server the creates of each namespace are, so that they never are at two at once without
//! need.
//!
//! Creates of one namespace at two apiservers are what conflicts come from. So when a namespace's
//! own server comes back, its creates wait until those in flight at the other one have been
//! answered, and for as long after as the news take to the server's cache; then all of
//! them go over. A server that failed is left at once, and a namespace without creates in flight
//! moves unnoticed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::health::Health;
use crate::keyed::Keyed;
use crate::metrics::{Metrics, PinMove};

/// Namespaces that are remembered; further ones move unnoticed.
const MAX_NAMESPACES: usize = 10_000;
/// A namespace without creates for so long has nothing to wait for.
const IDLE: Duration = Duration::from_secs(60);
/// The longest that a create waits for its namespace to move. Then it moves with creates in flight
/// elsewhere: a conflict is replayed, a client that gave up is not.
const MOVE_WITHIN: Duration = Duration::from_secs(1);

/// The seats of all namespaces.
pub(super) struct Seats {
    namespaces: Keyed<Seat>,
    metrics: Arc<Metrics>,
}

/// Where one namespace is.
#[derive(Debug, Default)]
struct Seat {
    state: Mutex<State>,
    /// Told when the creates in flight have been answered, and when the namespace moves.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    at: Option<Arc<Health>>,
    /// Creates in flight there.
    in_flight: usize,
    /// When the last of them was answered.
    answered: Option<Instant>,
    /// Counts the moves: what was in flight before one does not count after it.
    moves: u64,
}

/// One create in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Seated {
    seat: Arc<Seat>,
    moves: u64,
}

enum Entry {
    In(Option<PinMove>),
    /// Look again then, or when the seat has changed.
    Wait(Instant),
}

impl Seats {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            namespaces: Keyed::new(MAX_NAMESPACES, IDLE),
            metrics: Arc::clone(metrics),
        }
    }

    /// What `prefer` chooses, once the namespace may be there; `settle` is how long news take from
    /// one server to another. None if `prefer` has nothing to choose from.
    pub(super) async fn take<'a, T>(
        &self,
        namespace: &str,
        settle: Duration,
        prefer: impl Fn() -> Option<(T, &'a Arc<Health>)>,
    ) -> Option<(T, Option<Seated>)> {
        let Some(seat) = self.namespaces.get(namespace, Seat::default) else {
            return prefer().map(|(chosen, _)| (chosen, None));
        };
        let deadline = Instant::now() + MOVE_WITHIN;
        loop {
            let changed = seat.changed.notified();
            let (chosen, preferred) = prefer()?;
            let (entry, moves) = {
                let mut state = seat.lock();
                (
                    state.enter(preferred, settle, Instant::now(), deadline),
                    state.moves,
                )
            };
            match entry {
                Entry::In(moved) => {
                    if let Some(moved) = moved {
                        self.metrics.pin_moved(moved);
                        seat.changed.notify_waiters();
                    }
                    return Some((
                        chosen,
                        Some(Seated {
                            seat: Arc::clone(&seat),
                            moves,
                        }),
                    ));
                }
                Entry::Wait(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = changed => {}
                },
            }
        }
    }

    /// Every namespace that is remembered, and where it is; in no order.
    pub(super) fn all(&self) -> Vec<(Box<str>, Arc<Health>)> {
        let all = self.namespaces.all().into_iter();
        all.filter_map(|(namespace, seat)| seat.lock().at.clone().map(|at| (namespace, at)))
            .collect()
    }
}

impl Seat {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(
        &mut self,
        preferred: &Arc<Health>,
        settle: Duration,
        now: Instant,
        deadline: Instant,
    ) -> Entry {
        let moved = match &self.at {
            None => None,
            Some(at) if Arc::ptr_eq(at, preferred) => {
                self.in_flight += 1;
                return Entry::In(None);
            }
            Some(at) if !at.is_usable() => Some(PinMove::Failed),
            Some(_) => {
                let settled = self.answered.map_or(now, |answered| answered + settle);
                let free = if self.in_flight > 0 {
                    deadline
                } else {
                    settled.min(deadline)
                };
                if now < free {
                    return Entry::Wait(free);
                }
                Some(PinMove::Returned)
            }
        };
        *self = Self {
            at: Some(Arc::clone(preferred)),
            in_flight: 1,
            answered: None,
            moves: self.moves + 1,
        };
        Entry::In(moved)
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let mut state = self.seat.lock();
        if state.moves != self.moves {
            return;
        }
        state.in_flight -= 1;
        state.answered = Some(Instant::now());
        if state.in_flight == 0 {
            drop(state);
            self.seat.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::health::Answer;
    use super::*;

    const SETTLE: Duration = Duration::from_millis(100);
    const MS: Duration = Duration::from_millis(1);

    /// Two servers, of which the first is the namespace's own; it starts down.
    struct Rig {
        seats: Seats,
        own: Arc<Health>,
        other: Arc<Health>,
    }

    impl Rig {
        fn new() -> Self {
            let health = |name| Arc::new(Health::new(name, Arc::default()));
            let rig = Self {
                seats: Seats::new(&Arc::new(Metrics::new(1, &[]))),
                own: health("own:1"),
                other: health("other:1"),
            };
            rig.own.failed(&"refused");
            rig
        }

        /// Which server a create goes to, how long it waited, and the create.
        async fn create(&self) -> (&'static str, Duration, Seated) {
            let started = Instant::now();
            let prefer = || {
                Some(if self.own.is_usable() {
                    ("own", &self.own)
                } else {
                    ("other", &self.other)
                })
            };
            let (server, seated) = self.seats.take("team", SETTLE, prefer).await.unwrap();
            (server, started.elapsed(), seated.unwrap())
        }

        fn own_returns(&self) {
            self.own.probed(Ok(Answer::Ready));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_returns_when_its_creates_elsewhere_are_answered_and_the_news_have_spread()
    {
        let rig = Rig::new();
        let (_, _, first) = rig.create().await;
        let (at, waited, second) = rig.create().await;
        assert_eq!((at, waited), ("other", Duration::ZERO));
        rig.own_returns();
        let answering = async {
            tokio::time::sleep(300 * MS).await;
            drop(first);
            tokio::time::sleep(100 * MS).await;
            drop(second);
        };
        let ((at, waited, _), (also_at, _, _), ()) =
            tokio::join!(rig.create(), rig.create(), answering);
        assert_eq!((at, also_at), ("own", "own"));
        assert!(
            waited >= 400 * MS + SETTLE && waited < MOVE_WITHIN,
            "{waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_does_not_wait_for_ever() {
        let rig = Rig::new();
        let (_, _, slow) = rig.create().await;
        rig.own_returns();
        let (at, waited, _new) = rig.create().await;
        assert!(
            at == "own" && (MOVE_WITHIN..MOVE_WITHIN * 2).contains(&waited),
            "{at} after {waited:?}"
        );
        drop(slow);
        assert_eq!(
            rig.seats
                .namespaces
                .get("team", Seat::default)
                .unwrap()
                .lock()
                .in_flight,
            1,
            "what was left behind does not count"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_failed_is_left_at_once() {
        let rig = Rig::new();
        rig.own_returns();
        let (at, _, _in_flight) = rig.create().await;
        assert_eq!(at, "own");
        rig.own.failed(&"refused");
        let (at, waited, _) = rig.create().await;
        assert_eq!((at, waited), ("other", Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_namespace_returns_unnoticed() {
        let rig = Rig::new();
        drop(rig.create().await);
        tokio::time::advance(SETTLE).await;
        rig.own_returns();
        let (at, waited, _) = rig.create().await;
        assert_eq!((at, waited), ("own", Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn creates_that_wait_go_back_when_the_server_fails_again() {
        let rig = Rig::new();
        let (_, _, _in_flight) = rig.create().await;
        rig.own_returns();
        let failing = async {
            tokio::time::sleep(10 * MS).await;
            rig.own.failed(&"refused");
        };
        let ((at, _, _), ()) = tokio::join!(rig.create(), failing);
        assert_eq!(at, "other");
    }
}
