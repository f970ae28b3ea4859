//! Whom the rate limit knows. What the apiserver refuses must not count against others, so a create
//! counts only if its caller may create there: that is known from the first answer on that is no
//! refusal.
//!
//! Whoever may create elsewhere already takes a turn of the limit over all namespaces, which is
//! given back if he is refused.
//!
//! Until then one create of the caller goes ahead, and the others wait for its answer. If it was
//! refused, those that come next pass uncounted, for they will be refused too; if not, it is
//! counted afterwards. So neither invalid tokens nor invented namespaces take anything from a line,
//! or a place in the map of namespaces.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Callers that are remembered; those that were refused make room first, then those not seen for
/// longest.
const MAX_CALLERS: usize = 10_000;
/// How long a refusal holds.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Everybody of whom there is something to remember.
#[derive(Debug)]
pub(super) struct Callers {
    hasher: RandomState,
    known: Mutex<HashMap<u64, Entry>>,
    max: usize,
}

#[derive(Debug)]
struct Entry {
    standing: Standing,
    seen: Instant,
    /// Told when the standing changes.
    changed: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// One create has gone ahead.
    Asking,
    /// May create.
    Known,
    /// May not, as it was at the time.
    Refused(Instant),
}

/// Who creates where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    who: u64,
    there: u64,
}

/// How a create goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It counts.
    Counted,
    /// It goes ahead of the others of its caller, who may create elsewhere already, or not that
    /// anybody knows.
    Ahead { known: bool },
    /// It will be refused.
    Uncounted,
    /// There was no answer to the one that went ahead in time.
    TooLate,
}

impl Callers {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            known: Mutex::default(),
            max: MAX_CALLERS,
        }
    }

    /// Whoever asks with these headers, in this namespace. By a keyed hash: no credentials are
    /// kept.
    pub(super) fn of(&self, headers: &HeaderMap, namespace: &str) -> Caller {
        let mut hasher = self.hasher.build_hasher();
        for name in [AUTHORIZATION.as_str(), "impersonate-user"] {
            headers
                .get_all(name)
                .iter()
                .for_each(|value| hasher.write(value.as_bytes()));
            hasher.write_u8(0xff);
        }
        let who = hasher.finish();
        hasher.write(namespace.as_bytes());
        Caller {
            who,
            there: hasher.finish(),
        }
    }

    /// Decides how a create goes on; waits for the one that went ahead, until `deadline`.
    pub(super) async fn way(&self, caller: Caller, deadline: Instant) -> Way {
        loop {
            let changed = {
                let now = Instant::now();
                let mut known = self.lock();
                let ahead = Way::Ahead {
                    known: known.contains_key(&caller.who),
                };
                let Some(entry) = known.get_mut(&caller.there) else {
                    if known.len() >= self.max && !make_room(&mut known) {
                        return Way::Counted;
                    }
                    known.insert(
                        caller.there,
                        Entry {
                            standing: Standing::Asking,
                            seen: now,
                            changed: Arc::default(),
                        },
                    );
                    return ahead;
                };
                entry.seen = now;
                match entry.standing {
                    Standing::Known => return Way::Counted,
                    Standing::Refused(at) if now - at < REFUSED_FOR => return Way::Uncounted,
                    Standing::Refused(_) => {
                        entry.standing = Standing::Asking;
                        return ahead;
                    }
                    Standing::Asking => Arc::clone(&entry.changed).notified_owned(),
                }
            };
            if timeout_at(deadline, changed).await.is_err() {
                return Way::TooLate;
            }
        }
    }

    /// There was an answer, which was a refusal or not.
    pub(super) fn answered(&self, caller: Caller, refused: bool) {
        let now = Instant::now();
        let mut known = self.lock();
        if let Some(entry) = known.get_mut(&caller.there) {
            entry.standing = if refused {
                Standing::Refused(now)
            } else {
                Standing::Known
            };
            entry.changed.notify_waiters();
        }
        if !refused {
            known
                .entry(caller.who)
                .or_insert_with(|| Entry {
                    standing: Standing::Known,
                    seen: now,
                    changed: Arc::default(),
                })
                .seen = now;
        }
    }

    /// The one that went ahead got no answer: the next may try.
    pub(super) fn unanswered(&self, caller: Caller) {
        if let Some(entry) = self.lock().remove(&caller.there) {
            entry.changed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the tenth that is worth least. Whether there was any: nobody is forgotten while others
/// wait for its answer.
fn make_room(known: &mut HashMap<u64, Entry>) -> bool {
    let worth = |entry: &Entry| (entry.standing == Standing::Known, entry.seen);
    let mut worths: Vec<_> = known
        .values()
        .filter(|entry| entry.standing != Standing::Asking)
        .map(worth)
        .collect();
    if worths.is_empty() {
        return false;
    }
    let last = worths.len() / 10;
    let (_, bound, _) = worths.select_nth_unstable(last);
    let bound = *bound;
    known.retain(|_, entry| entry.standing == Standing::Asking || worth(entry) > bound);
    true
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const AHEAD: Way = Way::Ahead { known: false };

    fn caller(callers: &Callers, token: &'static str, namespace: &str) -> Caller {
        callers.of(
            &HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(token))]),
            namespace,
        )
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn one_goes_ahead_and_the_others_wait_for_its_answer() {
        let callers = Arc::new(Callers::new());
        let mine = caller(&callers, "Bearer a", "ns");
        assert_eq!(callers.way(mine, soon()).await, AHEAD);
        let waiting = tokio::spawn({
            let callers = Arc::clone(&callers);
            async move { callers.way(mine, soon()).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(
            callers
                .way(caller(&callers, "Bearer b", "ns"), soon())
                .await,
            AHEAD,
            "another caller does not wait"
        );
        assert_eq!(
            callers
                .way(caller(&callers, "Bearer a", "other"), soon())
                .await,
            AHEAD,
            "nor does this one elsewhere"
        );
        callers.answered(mine, false);
        let elsewhere = caller(&callers, "Bearer a", "third");
        assert_eq!(
            callers.way(elsewhere, soon()).await,
            Way::Ahead { known: true }
        );
        assert_eq!(waiting.await.unwrap(), Way::Counted);
        assert_eq!(callers.way(mine, soon()).await, Way::Counted);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_refused_passes_uncounted_for_a_while() {
        let callers = Callers::new();
        let mine = caller(&callers, "Bearer a", "ns");
        assert_eq!(callers.way(mine, soon()).await, AHEAD);
        callers.answered(mine, true);
        assert_eq!(callers.way(mine, soon()).await, Way::Uncounted);
        tokio::time::advance(REFUSED_FOR).await;
        assert_eq!(
            callers.way(mine, soon()).await,
            AHEAD,
            "it may be allowed by now"
        );
        assert_eq!(callers.way(mine, soon()).await, Way::TooLate);
        callers.unanswered(mine);
        assert_eq!(callers.way(mine, soon()).await, AHEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn the_refused_make_room_before_the_known() {
        let callers = Callers {
            max: 21,
            ..Callers::new()
        };
        let all: Vec<_> = (0..20)
            .map(|n| caller(&callers, "Bearer a", &format!("ns-{n}")))
            .collect();
        for (n, one) in all.iter().enumerate() {
            assert!(matches!(callers.way(*one, soon()).await, Way::Ahead { .. }));
            tokio::time::advance(Duration::from_millis(1)).await;
            callers.answered(*one, n >= 10);
        }
        assert_eq!(
            callers
                .way(caller(&callers, "Bearer b", "ns"), soon())
                .await,
            AHEAD
        );
        // Those that are known somewhere are among those that are remembered.
        for one in &all[..10] {
            assert_eq!(callers.way(*one, soon()).await, Way::Counted);
        }
        assert!(
            matches!(callers.way(all[10], soon()).await, Way::Ahead { .. }),
            "the longest refused is forgotten"
        );
    }
}
