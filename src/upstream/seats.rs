//! Records which server the creates of each namespace use now: the seat of the namespace.
//!
//! Quota conflicts come from creates of one namespace at two apiservers. So a namespace moves as a
//! whole. When its own server comes back, new creates wait until those in flight at the other
//! server have been answered, and then until that server's writes have reached the cache of its own
//! server. A namespace leaves a failed server at once. A namespace without creates in flight moves
//! without a wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::health::Health;
use crate::keyed::Keyed;
use crate::metrics::{Metrics, PinMove};

/// How many namespaces are remembered. Further ones move without a wait. Clients can fill the map
/// with invented namespaces: a create takes a seat before the apiserver has answered.
const MAX_NAMESPACES: usize = 10_000;
/// A namespace without creates for this long is forgotten. It has nothing to wait for.
const IDLE: Duration = Duration::from_secs(60);
/// How long a create waits for its namespace to move. After that the namespace moves although
/// creates are in flight at the other server: the proxy can replay a conflict, but it cannot bring
/// back a client that gave up.
const MOVE_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Seats {
    namespaces: Keyed<Seat>,
    metrics: Arc<Metrics>,
}

/// The seat of one namespace.
#[derive(Debug, Default)]
struct Seat {
    occupancy: Mutex<Occupancy>,
    /// Notified when the last create in flight was answered, and when the namespace moves.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Occupancy {
    /// The server, by its health. None before the first create.
    server: Option<Arc<Health>>,
    /// Creates in flight at that server since the last move.
    in_flight: usize,
    /// When one of them was last answered.
    last_answered: Option<Instant>,
    /// Counts the moves. A create from before a move does not count after it.
    moves: u64,
}

/// Counts one create as in flight until it is dropped.
#[derive(Debug)]
pub(super) struct Seated {
    seat: Arc<Seat>,
    moves: u64,
}

enum SeatDecision {
    /// The create may go. The namespace moved, if a move is named.
    Go(Option<PinMove>),
    /// Decide again at this time, or when the seat has changed.
    Wait(Instant),
}

impl Seats {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            namespaces: Keyed::new(MAX_NAMESPACES, IDLE),
            metrics: Arc::clone(metrics),
        }
    }

    /// Waits until the namespace may use the server that `prefer` chooses, and returns that choice.
    /// `settle` is how long a write takes to reach the caches of the other servers. None if
    /// `prefer` finds no server.
    ///
    /// **Invariant:** creates that hold a [`Seated`] of one namespace are in flight at one server
    /// only. There are two exceptions, and each is counted as a move: the server is not usable
    /// any more, or a create has waited for [`MOVE_WITHIN`]. Without this, two apiservers charge
    /// one quota at the same time and conflict, which is the fault that pinning avoids.
    ///
    /// - The seat is read, compared and changed under one lock. `prefer` runs again after each
    ///   wait, so a decision never uses an old choice.
    /// - `changed` is registered before the decision, so no notification is missed between the two.
    ///   A create that misses one waits for the whole of `MOVE_WITHIN`.
    /// - A [`Seated`] from before a move does not change the count after it (`moves`). Otherwise
    ///   the count would reach zero, or wrap, while creates are in flight.
    ///
    /// A server change without these waits fails
    /// `a_namespace_moves_back_when_the_other_server_has_answered_and_caches_have_settled`,
    /// and a count that outlives a move fails
    /// `a_namespace_moves_back_in_time_although_a_create_is_in_flight`.
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
            let (decision, moves) = {
                let mut occupancy = seat.lock();
                (
                    occupancy.decide(preferred, settle, Instant::now(), deadline),
                    occupancy.moves,
                )
            };
            match decision {
                SeatDecision::Go(moved) => {
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
                SeatDecision::Wait(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = changed => {}
                },
            }
        }
    }

    /// Every remembered namespace and its server, in any order.
    pub(super) fn all(&self) -> Vec<(Box<str>, Arc<Health>)> {
        let all = self.namespaces.all().into_iter();
        all.filter_map(|(namespace, seat)| {
            let server = seat.lock().server.clone()?;
            Some((namespace, server))
        })
        .collect()
    }
}

impl Seat {
    fn lock(&self) -> MutexGuard<'_, Occupancy> {
        self.occupancy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Occupancy {
    fn decide(
        &mut self,
        preferred: &Arc<Health>,
        settle: Duration,
        now: Instant,
        deadline: Instant,
    ) -> SeatDecision {
        let moved = match &self.server {
            None => None,
            Some(server) if Arc::ptr_eq(server, preferred) => {
                self.in_flight += 1;
                return SeatDecision::Go(None);
            }
            Some(server) if !server.is_usable() => Some(PinMove::Failed),
            Some(_) => {
                let settled = self.last_answered.map_or(now, |last| last + settle);
                let may_move = if self.in_flight > 0 {
                    deadline
                } else {
                    settled.min(deadline)
                };
                if now < may_move {
                    return SeatDecision::Wait(may_move);
                }
                Some(PinMove::Returned)
            }
        };
        *self = Self {
            server: Some(Arc::clone(preferred)),
            in_flight: 1,
            last_answered: None,
            moves: self.moves + 1,
        };
        SeatDecision::Go(moved)
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let mut occupancy = self.seat.lock();
        if occupancy.moves != self.moves {
            return;
        }
        occupancy.in_flight -= 1;
        occupancy.last_answered = Some(Instant::now());
        if occupancy.in_flight == 0 {
            drop(occupancy);
            self.seat.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::health::ProbeAnswer;
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
            rig.own.request_failed(&"refused");
            rig
        }

        /// Sends one create. Returns its server, its wait, and its guard.
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
            self.own.probed(Ok(ProbeAnswer::Ready));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_moves_back_when_the_other_server_has_answered_and_caches_have_settled() {
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
    async fn a_namespace_moves_back_in_time_although_a_create_is_in_flight() {
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
            "a create from before the move does not count"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_leaves_a_failed_server_at_once() {
        let rig = Rig::new();
        rig.own_returns();
        let (at, _, _in_flight) = rig.create().await;
        assert_eq!(at, "own");
        rig.own.request_failed(&"refused");
        let (at, waited, _) = rig.create().await;
        assert_eq!((at, waited), ("other", Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_namespace_moves_back_without_a_wait() {
        let rig = Rig::new();
        drop(rig.create().await);
        tokio::time::advance(SETTLE).await;
        rig.own_returns();
        let (at, waited, _) = rig.create().await;
        assert_eq!((at, waited), ("own", Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn creates_that_wait_use_the_other_server_when_their_own_fails_again() {
        let rig = Rig::new();
        let (_, _, _in_flight) = rig.create().await;
        rig.own_returns();
        let failing = async {
            tokio::time::sleep(10 * MS).await;
            rig.own.request_failed(&"refused");
        };
        let ((at, _, _), ()) = tokio::join!(rig.create(), failing);
        assert_eq!(at, "other");
    }
}
