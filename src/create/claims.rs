//! Which creates can have stored an object that nobody was told of, so that two creates are never
//! told that the same object is theirs. Used only with `replay.ambiguous: Resolve`.
//!
//! A create is *in doubt* from the moment when an attempt is sent until an answer shows what became
//! of it. The doubt is about the objects of one name. If its name is not known, it is about all of
//! one resource in one namespace, and if nothing is known, about all objects. A create that is
//! refused leaves nothing behind. Any other end is kept for a while: the uid that the create was
//! told, or that nobody knows. The memory has names only as hashes, and is bounded. An end that
//! does not fit leaves all objects in doubt.

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
const KEPT: Duration = OLDEST.saturating_add(LATE);
/// The most names that are remembered, and the most ends. Each takes some ten bytes.
const MAX_ENTRIES: usize = 100_000;
/// How many uids of one name are remembered. Only the last can be that of the object that exists.
const MAX_UIDS: usize = 4;

/// The creates that are in doubt or ended a short while ago.
#[derive(Debug, Default)]
pub struct Claims {
    state: Mutex<State>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct State {
    /// By name, and by namespace and resource for the creates whose names are not known.
    entries: HashMap<u64, Entry>,
    /// The ends that are remembered, oldest first.
    ends: VecDeque<(Instant, u64)>,
    /// The doubt about all objects.
    all: Doubt,
}

#[derive(Debug, Default)]
struct Entry {
    doubt: Doubt,
    /// How many of the ends are about this entry.
    ends: u32,
    /// Hashes of the uids that creates were told, oldest first.
    told: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Doubt {
    /// The creates that are in doubt now.
    in_flight: u32,
    /// When the last create ended in doubt.
    ended: Option<Instant>,
}

/// How the doubt about a create ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NothingStored,
    /// It was told this uid, here as a hash.
    Told(u64),
    Unknown,
}

/// Why an object cannot be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Another create was told that it is its own.
    Told,
    /// Another create of this name is in doubt, and may be told so.
    InFlight,
    /// Another create may have stored it, and it is not known.
    Unknown,
}

/// The doubt about one create. Dropping it ends the create.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    /// None: about all objects.
    key: Option<u64>,
    /// The key of all creates in this namespace of this resource whose names are not known.
    nameless: Option<u64>,
    /// Whether an attempt may have stored an object that nobody was told of.
    in_doubt: bool,
}

impl Claims {
    /// The claim of a create of a named object. It is in doubt from its first attempt on.
    pub(super) fn named(self: &Arc<Self>, target: &CreateTarget, name: &str) -> Claim {
        let nameless = Some(self.key(target, ""));
        self.claim(Some(self.key(target, name)), nameless)
    }

    /// The claim of a create whose name is not known.
    pub(super) fn nameless(self: &Arc<Self>, target: &CreateTarget) -> Claim {
        let nameless = Some(self.key(target, ""));
        self.claim(nameless, nameless)
    }

    /// The claim of creates of which nothing is known. They are in doubt until it is dropped.
    pub(super) fn anything(self: &Arc<Self>) -> Claim {
        let mut claim = self.claim(None, None);
        claim.sending();
        claim
    }

    fn claim(self: &Arc<Self>, key: Option<u64>, nameless: Option<u64>) -> Claim {
        Claim {
            claims: Arc::clone(self),
            key,
            nameless,
            in_doubt: false,
        }
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
    fn begin(&mut self, key: Option<u64>) {
        let doubt = match key {
            Some(key) => &mut self.entries.entry(key).or_default().doubt,
            None => &mut self.all,
        };
        doubt.in_flight += 1;
    }

    fn end(&mut self, key: Option<u64>, end: End, now: Instant) {
        let entry = key.and_then(|key| Some((key, self.entries.get_mut(&key)?)));
        let Some((key, entry)) = entry else {
            self.all.in_flight -= 1;
            if end != End::NothingStored {
                self.all.ended = Some(now);
            }
            return;
        };
        entry.doubt.in_flight -= 1;
        match end {
            End::NothingStored => return self.remove_if_unused(key),
            _ if self.ends.len() >= MAX_ENTRIES => {
                self.all.ended = Some(now);
                return self.remove_if_unused(key);
            }
            End::Told(uid) => {
                if entry.told.len() >= MAX_UIDS {
                    entry.told.pop_front();
                }
                entry.told.push_back(uid);
            }
            End::Unknown => entry.doubt.ended = Some(now),
        }
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
        if entry.is_some_and(|entry| entry.doubt.in_flight == 0 && entry.ends == 0) {
            self.entries.remove(&key);
        }
    }

    fn has_room_for(&self, key: u64) -> bool {
        self.entries.len() < MAX_ENTRIES || self.entries.contains_key(&key)
    }
}

impl Doubt {
    /// Whether one of these creates may have stored an object at `sent` or later.
    fn reaches(&self, sent: Instant) -> bool {
        self.in_flight > 0 || self.ended_after(sent)
    }

    fn ended_after(&self, sent: Instant) -> bool {
        self.ended.is_some_and(|ended| ended + LATE > sent)
    }
}

impl Claim {
    /// An attempt is sent. If the create is dropped now, nobody knows whether it is stored.
    pub(super) fn sending(&mut self) {
        if self.in_doubt {
            return;
        }
        let mut state = self.claims.state();
        state.forget(Instant::now());
        self.key = self.key.filter(|key| state.has_room_for(*key));
        state.begin(self.key);
        drop(state);
        self.in_doubt = true;
    }

    /// No attempt has stored anything.
    pub(super) fn nothing_stored(&mut self) {
        self.end(End::NothingStored);
    }

    /// The apiserver told the create that the object with this uid is its own.
    pub(super) fn told(&mut self, uid: &str) {
        self.end(End::Told(self.claims.hasher.hash_one(uid)));
    }

    fn end(&mut self, end: End) {
        if !self.in_doubt {
            return;
        }
        let now = Instant::now();
        let mut state = self.claims.state();
        state.forget(now);
        state.end(self.key, end, now);
        drop(state);
        self.in_doubt = false;
    }

    /// Claims the object with this uid for this create, which is in doubt since `sent`.
    ///
    /// # Errors
    /// Another create may have stored it, or was told so.
    pub(super) fn take(&mut self, uid: &str, sent: Instant) -> Result<(), Taken> {
        let uid = self.claims.hasher.hash_one(uid);
        let now = Instant::now();
        let mut state = self.claims.state();
        state.forget(now);
        let entry = |key: Option<u64>| state.entries.get(&key?);
        let own = entry(self.key);
        if own.is_some_and(|own| own.told.contains(&uid)) {
            return Err(Taken::Told);
        }
        if !self.in_doubt
            || sent + OLDEST < now
            || state.all.reaches(sent)
            || entry(self.nameless).is_some_and(|nameless| nameless.doubt.reaches(sent))
            || own.is_some_and(|own| own.doubt.ended_after(sent))
            // What cannot be remembered cannot be kept from others.
            || state.ends.len() >= MAX_ENTRIES
        {
            return Err(Taken::Unknown);
        }
        if own.is_some_and(|own| own.doubt.in_flight > 1) {
            return Err(Taken::InFlight);
        }
        state.end(self.key, End::Told(uid), now);
        drop(state);
        self.in_doubt = false;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.end(End::Unknown);
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

    fn sent(claims: &Arc<Claims>) -> Claim {
        sending(claims.named(&pods(), "a"))
    }

    fn sending(mut claim: Claim) -> Claim {
        claim.sending();
        claim
    }

    fn refused(mut claim: Claim) {
        claim.nothing_stored();
    }

    fn later(seconds: u64) -> impl Future<Output = ()> {
        tokio::time::advance(Duration::from_secs(seconds))
    }

    /// What becomes of a create that is sent now.
    fn take(claims: &Arc<Claims>) -> Result<(), Taken> {
        let uid = fastrand::u64(..).to_string();
        let mut claim = sent(claims);
        let taken = claim.take(&uid, Instant::now());
        refused(claim);
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_claimed_once() {
        let claims = claims();
        let now = Instant::now();
        let mut first = sent(&claims);
        assert_eq!(first.take("u", now), Ok(()));
        drop(first);
        let mut second = sent(&claims);
        assert_eq!(second.take("u", now), Err(Taken::Told));
        assert_eq!(second.take("v", now), Ok(()), "another object");
        let mut other = sending(claims.named(&pods(), "b"));
        assert_eq!(other.take("u", now), Ok(()), "another name");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_apiserver_told_one_create_is_no_other_ones() {
        let claims = claims();
        let now = Instant::now();
        let mut first = sent(&claims);
        let mut second = sent(&claims);
        assert_eq!(second.take("u", now), Err(Taken::InFlight));
        first.told("u");
        drop(first);
        assert_eq!(second.take("u", now), Err(Taken::Told));
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_that_ended_without_an_answer_is_in_doubt_for_a_while() {
        let claims = claims();
        drop(sent(&claims));
        let mut next = sent(&claims);
        assert_eq!(next.take("u", Instant::now()), Err(Taken::Unknown));
        later(61).await;
        assert_eq!(next.take("u", Instant::now()), Ok(()));
    }

    /// The claims that can be about the object of another create, and what that one is told.
    type Twin = (&'static str, fn(&Arc<Claims>) -> Claim, Taken);
    const TWINS: [Twin; 3] = [
        ("named", |it| it.named(&pods(), "a"), Taken::InFlight),
        ("nameless", |it| it.nameless(&pods()), Taken::Unknown),
        ("anything", Claims::anything, Taken::Unknown),
    ];

    #[tokio::test(start_paused = true)]
    async fn a_create_is_in_doubt_from_its_attempt_to_a_minute_after_its_end() {
        for (which, twin, in_flight) in TWINS {
            let claims = claims();
            let twin = sending(twin(&claims));
            // However long it takes.
            later(3_600).await;
            assert_eq!(take(&claims), Err(in_flight), "{which}");
            drop(twin);
            later(59).await;
            assert_eq!(take(&claims), Err(Taken::Unknown), "{which}");
            later(2).await;
            assert_eq!(take(&claims), Ok(()), "{which}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_create_leaves_nothing_behind() {
        for (which, twin, _) in TWINS {
            let claims = claims();
            refused(sending(twin(&claims)));
            assert_eq!(take(&claims), Ok(()), "{which}");
        }
        let claims = claims();
        for n in 0..MAX_ENTRIES + 10 {
            refused(sending(claims.named(&pods(), &n.to_string())));
            refused(sending(claims.nameless(&pods())));
        }
        assert!(claims.state().entries.is_empty());
        assert_eq!(take(&claims), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_that_waits_after_a_refusal_is_nobodys_twin() {
        let claims = claims();
        let mut waits = [claims.named(&pods(), "a"), claims.nameless(&pods())];
        assert_eq!(take(&claims), Ok(()), "before the first attempt");
        for claim in &mut waits {
            claim.sending();
            claim.nothing_stored();
        }
        assert_eq!(take(&claims), Ok(()));
        for claim in &mut waits {
            claim.sending();
        }
        assert_eq!(take(&claims), Err(Taken::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_without_a_known_name_leaves_other_resources_alone() {
        let claims = claims();
        drop(sending(claims.nameless(&CreateTarget::of("other", "pods"))));
        drop(sending(claims.nameless(&CreateTarget::of("ns", "secrets"))));
        assert_eq!(take(&claims), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_create_proves_nothing_because_others_are_forgotten() {
        let claims = claims();
        let now = Instant::now();
        let mut old = sent(&claims);
        later(121).await;
        assert_eq!(old.take("u", now), Err(Taken::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_becomes_free() {
        let claims = claims();
        for n in 0..MAX_ENTRIES - 1 {
            sending(claims.named(&pods(), &n.to_string())).told("u");
        }
        assert_eq!(take(&claims), Ok(()), "there is room for one more");
        later(1).await;
        assert_eq!(take(&claims), Err(Taken::Unknown));
        sending(claims.named(&pods(), "more")).told("u");
        sending(claims.named(&pods(), "0")).told("v");
        let held: Vec<_> = (0..10)
            .map(|n| sending(claims.named(&pods(), &format!("held-{n}"))))
            .collect();
        assert_eq!(claims.state().entries.len(), MAX_ENTRIES);
        assert_eq!(claims.state().ends.len(), MAX_ENTRIES);
        later(180).await;
        assert_eq!(take(&claims), Err(Taken::Unknown), "they are in flight");
        drop(held);
        later(61).await;
        assert_eq!(take(&claims), Ok(()));
        assert_eq!(claims.state().entries.len(), 1);
        assert_eq!(claims.state().all.in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_does_not_fit_leaves_all_objects_in_doubt() {
        let claims = claims();
        for n in 0..MAX_ENTRIES {
            sending(claims.named(&pods(), &n.to_string())).told("u");
        }
        later(150).await;
        sending(claims.named(&pods(), "more")).told("u");
        later(31).await;
        assert_eq!(take(&claims), Err(Taken::Unknown), "there is room again");
        later(30).await;
        assert_eq!(take(&claims), Ok(()));
    }
}
