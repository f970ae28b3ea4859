//! Which creates of one name can have stored an object, so that two creates are never told that
//! the same object is theirs. Used only with `replay.ambiguous: Resolve`.
//!
//! Each create of a named object is entered while it is in flight. What it leaves behind is kept
//! for a while: the uid that it was told, or that it ended without knowing. The memory has names
//! only as hashes, and is bounded. Where it has forgotten something, it says so, and then nothing
//! is proved.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::route::CreateTarget;

/// How long after its end a create may still be stored: the longest time that an apiserver works
/// on a request.
const LATE: Duration = Duration::from_secs(60);
/// The oldest create that can be proved to be ours.
const OLDEST: Duration = Duration::from_secs(120);
/// How long an end is remembered: long enough for every create that it may matter to.
const KEPT: Duration = Duration::from_secs(180);
/// The most names that are remembered, and the most ends. Each takes some ten bytes.
const MAX_ENTRIES: usize = 100_000;
/// How many uids of one name are remembered. Only the last can be that of the object that exists.
const MAX_UIDS: usize = 4;

/// The creates of named objects that are in flight or ended a short while ago.
#[derive(Debug, Default)]
pub struct Claims {
    state: Mutex<State>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<u64, Entry>,
    /// The ends that are remembered, oldest first.
    ends: VecDeque<(Instant, u64)>,
    /// Creates that were not entered may have begun before this.
    blind_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Entry {
    in_flight: u32,
    /// How many of the ends are about this entry.
    ends: u32,
    /// When the last create ended without knowing whether its object was stored.
    unknown: Option<Instant>,
    /// Hashes of the uids that creates were told, oldest first.
    told: VecDeque<u64>,
}

/// Why an object cannot be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Another create was told that it is its own.
    Told,
    /// Another create of this name is in flight, and may be told so.
    InFlight,
    /// Another create may have stored it, and it is not known.
    Unknown,
}

/// The entry of one create, until it ends.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    key: u64,
    /// The key of all creates in this namespace of this resource whose names are not known.
    nameless: u64,
    /// Whether an attempt may have stored an object that nobody was told.
    may_be_stored: bool,
}

impl Claims {
    /// Notes that creates which were not entered may be in flight.
    pub fn blind(&self) {
        self.state().blind(Instant::now());
    }

    /// Enters a create. None: there is no room.
    pub(super) fn enter(self: &Arc<Self>, target: &CreateTarget, name: &str) -> Option<Claim> {
        let (key, nameless) = (self.key(target, name), self.key(target, ""));
        let now = Instant::now();
        let mut state = self.state();
        state.forget(now);
        if state.entries.len() >= MAX_ENTRIES && !state.entries.contains_key(&key) {
            state.blind(now);
            return None;
        }
        state.entries.entry(key).or_default().in_flight += 1;
        drop(state);
        Some(Claim {
            claims: Arc::clone(self),
            key,
            nameless,
            may_be_stored: false,
        })
    }

    /// Notes a create that cannot be entered, because its name is not known.
    pub(super) fn nameless(&self, target: &CreateTarget) {
        let key = self.key(target, "");
        let now = Instant::now();
        let mut state = self.state();
        state.forget(now);
        // It may be in flight for long.
        state.ended(key, now, |entry| entry.unknown = Some(now + KEPT));
    }

    fn key(&self, target: &CreateTarget, name: &str) -> u64 {
        self.hasher
            .hash_one((&target.resource, &target.namespace, name))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn blind(&mut self, now: Instant) {
        self.blind_until = Some(now + KEPT);
    }

    /// Remembers an end.
    fn ended(&mut self, key: u64, now: Instant, note: impl FnOnce(&mut Entry)) {
        if self.ends.len() >= MAX_ENTRIES {
            self.blind(now);
            return;
        }
        let entry = self.entries.entry(key).or_default();
        note(entry);
        entry.ends += 1;
        self.ends.push_back((now, key));
    }

    /// Forgets what is too old to matter.
    fn forget(&mut self, now: Instant) {
        while let Some((at, key)) = self.ends.front().copied()
            && at + KEPT <= now
        {
            self.ends.pop_front();
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.ends -= 1;
                self.remove_if_unused(key);
            }
        }
    }

    fn remove_if_unused(&mut self, key: u64) {
        let entry = self.entries.get(&key);
        if entry.is_some_and(|entry| entry.in_flight == 0 && entry.ends == 0) {
            self.entries.remove(&key);
        }
    }
}

impl Claim {
    /// An attempt is sent. If the create is dropped now, nobody knows whether it is stored.
    pub(super) fn sending(&mut self) {
        self.may_be_stored = true;
    }

    /// No attempt has stored anything.
    pub(super) fn nothing_stored(&mut self) {
        self.may_be_stored = false;
    }

    /// The apiserver told the create that the object with this uid is its own.
    pub(super) fn told(&mut self, uid: &str) {
        let uid = self.claims.hasher.hash_one(uid);
        self.tell(&mut self.claims.state(), uid);
        self.may_be_stored = false;
    }

    fn tell(&self, state: &mut State, uid: u64) {
        state.ended(self.key, Instant::now(), |entry| {
            if entry.told.len() >= MAX_UIDS {
                entry.told.pop_front();
            }
            entry.told.push_back(uid);
        });
    }

    /// Claims the object with this uid for this create, whose first attempt was sent at `sent`.
    ///
    /// # Errors
    /// Another create may have stored it, or was told so.
    pub(super) fn take(&mut self, uid: &str, sent: Instant) -> Result<(), Taken> {
        let uid = self.claims.hasher.hash_one(uid);
        let now = Instant::now();
        let mut state = self.claims.state();
        let unknown = |key: u64| {
            let entry = state.entries.get(&key);
            let ended = entry.and_then(|entry| entry.unknown);
            ended.is_some_and(|ended| ended + LATE > sent)
        };
        let entry = state.entries.get(&self.key);
        if entry.is_some_and(|entry| entry.told.contains(&uid)) {
            return Err(Taken::Told);
        }
        if state.blind_until.is_some_and(|until| sent < until)
            || sent + OLDEST < now
            || unknown(self.key)
            || unknown(self.nameless)
        {
            return Err(Taken::Unknown);
        }
        if entry.is_none_or(|entry| entry.in_flight > 1) {
            return Err(Taken::InFlight);
        }
        let had = state.ends.len();
        self.tell(&mut state, uid);
        // What cannot be remembered cannot be kept from others.
        if state.ends.len() == had {
            return Err(Taken::Unknown);
        }
        drop(state);
        self.may_be_stored = false;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.claims.state();
        if let Some(entry) = state.entries.get_mut(&self.key) {
            entry.in_flight -= 1;
        }
        if self.may_be_stored {
            state.ended(self.key, now, |entry| entry.unknown = Some(now));
        }
        state.forget(now);
        state.remove_if_unused(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Arc<Claims> {
        Arc::default()
    }

    fn pods() -> CreateTarget {
        CreateTarget::of("ns", "pods")
    }

    fn entered(claims: &Arc<Claims>) -> Claim {
        claims.enter(&pods(), "a").unwrap()
    }

    fn later(seconds: u64) -> impl Future<Output = ()> {
        tokio::time::advance(Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_claimed_once() {
        let claims = claims();
        let sent = Instant::now();
        let mut first = entered(&claims);
        assert_eq!(first.take("u", sent), Ok(()));
        drop(first);
        let mut second = entered(&claims);
        assert_eq!(second.take("u", sent), Err(Taken::Told));
        assert_eq!(second.take("v", sent), Ok(()), "another object");
        let mut other = claims.enter(&pods(), "b").unwrap();
        assert_eq!(other.take("u", sent), Ok(()), "another name");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_apiserver_told_one_create_is_no_other_ones() {
        let claims = claims();
        let sent = Instant::now();
        let mut first = entered(&claims);
        first.sending();
        let mut second = entered(&claims);
        assert_eq!(second.take("u", sent), Err(Taken::InFlight));
        first.told("u");
        drop(first);
        assert_eq!(second.take("u", sent), Err(Taken::Told));
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_that_ended_without_an_answer_is_in_doubt_for_a_while() {
        let claims = claims();
        let mut gone = entered(&claims);
        gone.sending();
        drop(gone);
        let mut next = entered(&claims);
        assert_eq!(next.take("u", Instant::now()), Err(Taken::Unknown));
        later(61).await;
        assert_eq!(next.take("u", Instant::now()), Ok(()));
        let mut refused = entered(&claims);
        refused.sending();
        refused.nothing_stored();
        drop((refused, next));
        assert_eq!(entered(&claims).take("v", Instant::now()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_entered_leaves_every_create_in_doubt() {
        let claims = claims();
        let mut create = entered(&claims);
        claims.nameless(&CreateTarget::of("other", "pods"));
        assert_eq!(create.take("u", Instant::now()), Ok(()));
        claims.nameless(&pods());
        assert_eq!(create.take("v", Instant::now()), Err(Taken::Unknown));
        later(300).await;
        let mut create = entered(&claims);
        assert_eq!(create.take("v", Instant::now()), Err(Taken::InFlight));
        claims.blind();
        assert_eq!(create.take("v", Instant::now()), Err(Taken::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_create_proves_nothing_because_others_are_forgotten() {
        let claims = claims();
        let sent = Instant::now();
        let mut old = entered(&claims);
        later(121).await;
        assert_eq!(old.take("u", sent), Err(Taken::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_becomes_free() {
        let claims = claims();
        for n in 0..MAX_ENTRIES + 10 {
            let claim = claims.enter(&pods(), &n.to_string());
            claim.into_iter().for_each(|mut claim| claim.told("u"));
        }
        assert_eq!(claims.state().entries.len(), MAX_ENTRIES);
        assert!(claims.enter(&pods(), "more").is_none());
        later(181).await;
        let mut more = claims.enter(&pods(), "more").unwrap();
        assert_eq!(claims.state().entries.len(), 1);
        assert_eq!(more.take("u", Instant::now()), Ok(()));
    }
}
