//! Decides which callers the rate limit counts.
//!
//! A create that the apiserver refuses must not use up the limit of others. So creates count only
//! if the caller may create that resource in that namespace, which the first response shows. Until then one
//! create of the caller goes first, and the others wait for its response. If it was refused, the
//! next ones pass without being counted, because the apiserver will refuse them too. If it was not
//! refused, it is counted afterwards. So invalid tokens and invented namespaces do not use up a
//! limit or take room in the map of namespaces.
//!
//! A caller that may create in another namespace already takes a turn of the limit over all
//! namespaces when its create goes first. It gets the turn back if the create is refused.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::route::CreateTarget;

/// How many callers are remembered. Refused callers make room first, then those not seen for the
/// longest time.
const MAX_CALLERS: usize = 10_000;
/// The headers that say who asks, each with all its lines. With a client certificate, these are the
/// proxy's own `X-Remote-*`.
const CREDENTIALS: [&str; 5] = [
    "authorization",
    "impersonate-user",
    "x-remote-user",
    "x-remote-uid",
    "x-remote-group",
];
/// How long a refusal is remembered.
const REFUSED_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Callers {
    hasher: RandomState,
    /// By [`Caller::anywhere`] and by [`Caller::in_namespace`].
    known: Mutex<HashMap<u64, CallerRecord>>,
    max: usize,
}

#[derive(Debug)]
struct CallerRecord {
    permission: Permission,
    seen: Instant,
    /// Notified when the permission changes.
    changed: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permission {
    /// The first create was sent, and there is no response yet.
    Pending,
    /// May create.
    Allowed,
    /// Was refused at that time.
    Refused(Instant),
}

/// The credentials of a create and what it creates where, as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The hash of the credentials.
    anywhere: u64,
    /// The hash of the credentials, the namespace and the resource. The permissions to create and
    /// to apply differ too.
    in_namespace: u64,
}

/// How the rate limit treats a create.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CallerDecision {
    /// It counts.
    Counted,
    /// It is the caller's first, and the others wait for its response.
    First {
        /// Whether the caller may create in another namespace.
        known_elsewhere: bool,
    },
    /// It does not count, because the apiserver will refuse it.
    Uncounted,
    /// The first create got no response in time.
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

    /// Identifies a caller by a keyed hash, so that no credentials are kept.
    pub(super) fn of(&self, headers: &HeaderMap, target: &CreateTarget) -> Caller {
        let mut hasher = self.hasher.build_hasher();
        for name in CREDENTIALS {
            headers.get_all(name).iter().for_each(|value| {
                hasher.write(value.as_bytes());
                hasher.write_u8(0xfe);
            });
            hasher.write_u8(0xff);
        }
        let anywhere = hasher.finish();
        for name in [&target.namespace, &target.resource] {
            hasher.write(name.as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.write_u8(target.applied.is_some().into());
        Caller {
            anywhere,
            in_namespace: hasher.finish(),
        }
    }

    /// Decides how to treat a create. Waits for the response to the caller's first one, until
    /// `deadline`.
    pub(super) async fn decide(&self, caller: Caller, deadline: Instant) -> CallerDecision {
        loop {
            let changed = {
                let now = Instant::now();
                let mut known = self.lock();
                let first = CallerDecision::First {
                    known_elsewhere: known.contains_key(&caller.anywhere),
                };
                let Some(record) = known.get_mut(&caller.in_namespace) else {
                    if known.len() >= self.max && !make_room(&mut known) {
                        return CallerDecision::Counted;
                    }
                    known.insert(
                        caller.in_namespace,
                        CallerRecord {
                            permission: Permission::Pending,
                            seen: now,
                            changed: Arc::default(),
                        },
                    );
                    return first;
                };
                record.seen = now;
                match record.permission {
                    Permission::Allowed => return CallerDecision::Counted,
                    Permission::Refused(at) if now - at < REFUSED_FOR => {
                        return CallerDecision::Uncounted;
                    }
                    Permission::Refused(_) => {
                        record.permission = Permission::Pending;
                        return first;
                    }
                    Permission::Pending => Arc::clone(&record.changed).notified_owned(),
                }
            };
            if timeout_at(deadline, changed).await.is_err() {
                return CallerDecision::TooLate;
            }
        }
    }

    /// Notes that there was a response, and whether it was a refusal.
    pub(super) fn answered(&self, caller: Caller, refused: bool) {
        let now = Instant::now();
        let mut known = self.lock();
        if let Some(record) = known.get_mut(&caller.in_namespace) {
            record.permission = if refused {
                Permission::Refused(now)
            } else {
                Permission::Allowed
            };
            record.changed.notify_waiters();
        }
        if !refused {
            known
                .entry(caller.anywhere)
                .or_insert_with(|| CallerRecord {
                    permission: Permission::Allowed,
                    seen: now,
                    changed: Arc::default(),
                })
                .seen = now;
        }
    }

    /// Notes that the first create got no response. The next one goes first.
    pub(super) fn unanswered(&self, caller: Caller) {
        if let Some(record) = self.lock().remove(&caller.in_namespace) {
            record.changed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, CallerRecord>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the tenth of the callers that is worth the least. Returns whether there was any. A
/// caller is not forgotten while others wait for its response.
fn make_room(known: &mut HashMap<u64, CallerRecord>) -> bool {
    let worth = |record: &CallerRecord| (record.permission == Permission::Allowed, record.seen);
    let mut worths: Vec<_> = known
        .values()
        .filter(|record| record.permission != Permission::Pending)
        .map(worth)
        .collect();
    if worths.is_empty() {
        return false;
    }
    let last = worths.len() / 10;
    let (_, bound, _) = worths.select_nth_unstable(last);
    let bound = *bound;
    known.retain(|_, record| record.permission == Permission::Pending || worth(record) > bound);
    true
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::AUTHORIZATION;

    use super::*;

    const FIRST: CallerDecision = CallerDecision::First {
        known_elsewhere: false,
    };

    fn caller(callers: &Callers, token: &'static str, namespace: &str) -> Caller {
        creating(callers, token, &CreateTarget::of(namespace, "pods"))
    }

    fn creating(callers: &Callers, token: &'static str, target: &CreateTarget) -> Caller {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(token))]);
        callers.of(&headers, target)
    }

    #[test]
    fn users_with_certificates_are_different_callers() {
        let callers = Callers::new();
        let pods = CreateTarget::of("ns", "pods");
        let of = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            callers.of(&headers, &pods)
        };
        let all = [
            of(&[]),
            of(&[("x-remote-user", "a")]),
            of(&[("x-remote-user", "b")]),
            of(&[("x-remote-user", "a"), ("x-remote-uid", "1")]),
            of(&[("x-remote-user", "a"), ("x-remote-group", "bc")]),
            of(&[
                ("x-remote-user", "a"),
                ("x-remote-group", "b"),
                ("x-remote-group", "c"),
            ]),
            of(&[("x-remote-user", "a"), ("impersonate-user", "b")]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(index));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_one_resource_says_nothing_about_another() {
        let callers = Callers::new();
        let pods = CreateTarget::of("ns", "pods");
        let mine = creating(&callers, "Bearer a", &pods);
        assert_eq!(callers.decide(mine, soon()).await, FIRST);
        callers.answered(mine, false);
        let applied = CreateTarget {
            applied: Some("a".into()),
            ..pods
        };
        for other in [applied, CreateTarget::of("ns", "secrets")] {
            let denied = creating(&callers, "Bearer a", &other);
            assert!(matches!(
                callers.decide(denied, soon()).await,
                CallerDecision::First { .. }
            ));
            callers.answered(denied, true);
            assert_eq!(
                callers.decide(denied, soon()).await,
                CallerDecision::Uncounted
            );
        }
        assert_eq!(callers.decide(mine, soon()).await, CallerDecision::Counted);
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn one_create_goes_first_and_the_others_wait_for_its_response() {
        let callers = Arc::new(Callers::new());
        let mine = caller(&callers, "Bearer a", "ns");
        assert_eq!(callers.decide(mine, soon()).await, FIRST);
        let waiting = tokio::spawn({
            let callers = Arc::clone(&callers);
            async move { callers.decide(mine, soon()).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(
            callers
                .decide(caller(&callers, "Bearer b", "ns"), soon())
                .await,
            FIRST,
            "another caller does not wait"
        );
        assert_eq!(
            callers
                .decide(caller(&callers, "Bearer a", "other"), soon())
                .await,
            FIRST,
            "the same caller does not wait in another namespace"
        );
        callers.answered(mine, false);
        let third = caller(&callers, "Bearer a", "third");
        assert_eq!(
            callers.decide(third, soon()).await,
            CallerDecision::First {
                known_elsewhere: true
            }
        );
        assert_eq!(waiting.await.unwrap(), CallerDecision::Counted);
        assert_eq!(callers.decide(mine, soon()).await, CallerDecision::Counted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_caller_passes_uncounted_for_a_while() {
        let callers = Callers::new();
        let mine = caller(&callers, "Bearer a", "ns");
        assert_eq!(callers.decide(mine, soon()).await, FIRST);
        callers.answered(mine, true);
        assert_eq!(
            callers.decide(mine, soon()).await,
            CallerDecision::Uncounted
        );
        tokio::time::advance(REFUSED_FOR).await;
        assert_eq!(
            callers.decide(mine, soon()).await,
            FIRST,
            "it may be allowed by now"
        );
        assert_eq!(callers.decide(mine, soon()).await, CallerDecision::TooLate);
        callers.unanswered(mine);
        assert_eq!(callers.decide(mine, soon()).await, FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_callers_make_room_before_allowed_ones() {
        let callers = Callers {
            max: 21,
            ..Callers::new()
        };
        let all: Vec<_> = (0..20)
            .map(|n| caller(&callers, "Bearer a", &format!("ns-{n}")))
            .collect();
        for (n, one) in all.iter().enumerate() {
            assert!(matches!(
                callers.decide(*one, soon()).await,
                CallerDecision::First { .. }
            ));
            tokio::time::advance(Duration::from_millis(1)).await;
            callers.answered(*one, n >= 10);
        }
        assert_eq!(
            callers
                .decide(caller(&callers, "Bearer b", "ns"), soon())
                .await,
            FIRST
        );
        // The entries for callers in any namespace are among those that are remembered.
        for one in &all[..10] {
            assert_eq!(callers.decide(*one, soon()).await, CallerDecision::Counted);
        }
        assert!(
            matches!(
                callers.decide(all[10], soon()).await,
                CallerDecision::First { .. }
            ),
            "the longest refused is forgotten"
        );
    }
}
