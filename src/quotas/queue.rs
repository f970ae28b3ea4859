//! The creates of one namespace that wait for full quotas: which of them to send, and when. Pure:
//! the time is an argument.
//!
//! **Order.** The oldest create goes first. One that does not fit keeps what it waits for: a younger
//! create that asks for a resource of which an older one is short waits behind it, even if it would
//! fit. Otherwise small creates would take every bit of room, and a large one would never go. A
//! create that asks only for other resources or other quotas passes.
//!
//! **Reservations.** What a woken create asks for is reserved until it has its answer, and then
//! until the next status of the quota, or [`SETTLE`]. The status that counts the create may come
//! before or after its answer. A reservation that ends too early costs one refused attempt; one that
//! ends too late costs time. Without reservations every event would wake everybody.

mod room;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Limits;
use crate::metrics::QuotaWake as Why;
use crate::verdict::Exceeded;
use room::{Ask, Room};

/// How long a reservation outlasts the answer if no status of the quota comes.
const SETTLE: Duration = Duration::from_millis(500);
/// The pause of a quota after it refused a create that fits by its status. Its status is ahead of
/// the cache that quota admission reads, or somebody else was faster. The pause doubles with each
/// further refusal.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The most woken creates of a namespace at a time. If a quota is deleted, all of them fit.
const MAX_WOKEN: usize = 50;
/// How often the oldest create is sent although nothing says that it fits.
const ANYWAY_AFTER: Duration = Duration::from_secs(15);
/// The most resources that one create is short of, over all quotas.
const MAX_ASKS: usize = 64;

/// The place of a create in the queue: by arrival, then by the order of the first refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    pub(super) arrived: Instant,
    pub(super) id: u64,
}

/// What a create that waits does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It polls: no watch tells when it fits.
    Polls,
    /// The queue wakes it.
    Waits,
    /// It is to be sent now.
    Woken(Why),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    creates: BTreeMap<Ticket, Waiting>,
    quotas: HashMap<Box<str>, Limits>,
    /// The pauses of quotas, by name. A quota that is gone by the watch may still refuse.
    pauses: HashMap<Box<str>, Pause>,
    watch: Watch,
    /// Reservations of creates that have their answer.
    settling: Vec<Settling>,
    /// When the last create was sent.
    last_sent: Option<Instant>,
}

/// Whether `quotas` follows the apiserver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Watch {
    /// No: creates poll.
    #[default]
    None,
    /// Not yet. The first list comes soon, or a failure.
    Starts,
    /// Yes.
    Follows,
}

#[derive(Debug)]
struct Waiting {
    asks: Vec<Ask>,
    /// Whether `asks` is all that the refusals said. Otherwise the create polls.
    is_known: bool,
    /// None: an attempt is in flight.
    standing: Option<Standing>,
    /// Why it was woken, until it waits again. What one asks for that fits is reserved meanwhile.
    woken: Option<Why>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    /// How often in a row the quota refused a create that fits.
    refusals: u32,
}

/// A create was sent although it asks for more than a limit, and was refused once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeverFits;

#[derive(Debug)]
struct Settling {
    until: Instant,
    asks: Vec<Ask>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.creates.len()
    }

    /// Adds a create whose attempt is in flight. It polls unless it `may_be_woken`.
    pub(super) fn enter(&mut self, ticket: Ticket, may_be_woken: bool) {
        let waiting = Waiting {
            asks: Vec::new(),
            is_known: may_be_woken,
            standing: None,
            woken: None,
        };
        self.creates.insert(ticket, waiting);
    }

    /// A quota refused the create. None: nobody knows what it asks for.
    ///
    /// # Errors
    /// It can never fit, so it must not wait again. Whatever has refused it this time: as long as the
    /// statuses say the same, it would be sent again at once.
    pub(super) fn refused(
        &mut self,
        ticket: Ticket,
        by: Option<&Exceeded>,
        now: Instant,
    ) -> Result<(), NeverFits> {
        self.last_sent.get_or_insert(now);
        let Some(waiting) = self.creates.get_mut(&ticket) else {
            return Ok(());
        };
        let woken = waiting.woken.take();
        let was_known = waiting.add(by, &self.quotas);
        if let (Some(Why::Fits), true, Some(by)) = (woken, was_known, by) {
            let before = self.pauses.get(&by.quota);
            let refusals = before.map_or(0, |pause| pause.refusals);
            let pause = FIRST_PAUSE.saturating_mul(1 << refusals.min(10));
            let pause = Pause {
                until: now + pause.min(LONGEST_PAUSE),
                refusals: refusals.saturating_add(1),
            };
            self.pauses.insert(by.quota.clone(), pause);
        }
        if woken == Some(Why::NeverFits) {
            return Err(NeverFits);
        }
        Ok(())
    }

    /// The create waits from now on, in its old place if it has waited before.
    pub(super) fn waits(&mut self, ticket: Ticket) {
        if let Some(waiting) = self.creates.get_mut(&ticket) {
            waiting.woken = None;
            waiting.standing = Some(waiting.unwoken(self.watch));
        }
    }

    /// What the create does. A woken one is in flight from now on.
    pub(super) fn take(&mut self, ticket: Ticket, now: Instant) -> Standing {
        let Some(waiting) = self.creates.get_mut(&ticket) else {
            return Standing::Polls;
        };
        let standing = waiting.standing.unwrap_or(Standing::Polls);
        if matches!(standing, Standing::Woken(_)) {
            waiting.standing = None;
            self.last_sent = Some(now);
        }
        standing
    }

    /// The create polls now: its attempt is in flight.
    pub(super) fn polls(&mut self, ticket: Ticket) {
        if let Some(waiting) = self.creates.get_mut(&ticket) {
            waiting.standing = None;
        }
    }

    /// The create has ended.
    pub(super) fn leave(&mut self, ticket: Ticket, now: Instant) {
        let Some(waiting) = self.creates.remove(&ticket) else {
            return;
        };
        let was_sent = waiting.standing.is_none();
        if !(waiting.is_reserved() && was_sent) {
            return;
        }
        for ask in &waiting.asks {
            self.pauses.remove(&*ask.quota);
        }
        self.settling.push(Settling {
            until: now + SETTLE,
            asks: waiting.asks,
        });
    }

    /// The first list was asked for.
    pub(super) fn starts(&mut self) {
        self.watch = Watch::Starts;
    }

    /// These are all quotas of the namespace, and the watch follows them from now on.
    pub(super) fn list(&mut self, quotas: Vec<(Box<str>, Limits)>) {
        self.watch = Watch::Follows;
        self.settling.clear();
        self.quotas = quotas.into_iter().collect();
        for waiting in self.creates.values_mut() {
            waiting.see(&self.quotas);
        }
    }

    /// A quota is new or has changed.
    pub(super) fn changed(&mut self, name: Box<str>, limits: Limits) {
        self.settled(&name);
        let is_new = self.quotas.insert(name, limits).is_none();
        if is_new {
            for waiting in self.creates.values_mut() {
                waiting.see(&self.quotas);
            }
        }
    }

    /// A quota is gone.
    pub(super) fn gone(&mut self, name: &str) {
        self.settled(name);
        self.quotas.remove(name);
    }

    /// Nobody tells of changes any more. Everybody polls until the next list.
    pub(super) fn lost(&mut self) {
        self.watch = Watch::None;
    }

    /// A status of this quota has come, which counts all creates that have their answer.
    fn settled(&mut self, name: &str) {
        for each in &mut self.settling {
            each.asks.retain(|ask| *ask.quota != *name);
        }
        self.settling.retain(|each| !each.asks.is_empty());
    }

    /// Wakes whom to wake. Returns the creates whose standing has changed, and when to call again
    /// if nothing happens before.
    pub(super) fn advance(&mut self, now: Instant) -> (Vec<Ticket>, Option<Instant>) {
        self.settling.retain(|each| each.until > now);
        // Refusals are in a row if one comes soon after the pause for the last one.
        self.pauses
            .retain(|_, pause| pause.until + LONGEST_PAUSE > now);
        let mut changed = Vec::new();
        for (ticket, waiting) in &mut self.creates {
            let rests = matches!(waiting.standing, Some(Standing::Polls | Standing::Waits));
            let standing = waiting.unwoken(self.watch);
            if rests && waiting.standing != Some(standing) {
                waiting.standing = Some(standing);
                changed.push(*ticket);
            }
        }
        if self.watch != Watch::Follows {
            return (changed, None);
        }
        let is_counted = self.quotas.values().all(|limits| limits.is_counted);
        if is_counted {
            changed.extend(self.wake(now));
        }
        let mut waiting = self.creates.values();
        let waits = waiting.any(|each| each.standing == Some(Standing::Waits));
        let anyway = self.last_sent.filter(|_| waits && is_counted);
        let anyway = anyway.map(|sent| sent + ANYWAY_AFTER);
        let settled = self.settling.iter().map(|each| each.until);
        let resumed = self.pauses.values().map(|pause| pause.until);
        let next = settled.chain(resumed).chain(anyway);
        (changed, next.filter(|then| *then > now).min())
    }

    fn wake(&mut self, now: Instant) -> Vec<Ticket> {
        let mut room = Room::of(&self.quotas, &self.pauses, now);
        let mut woken = 0;
        for waiting in self.creates.values() {
            woken += usize::from(waiting.woken.is_some());
            if waiting.is_reserved() {
                room.keep(&waiting.asks);
            }
        }
        for settling in &self.settling {
            room.keep(&settling.asks);
        }
        let mut tickets = Vec::new();
        let is_overdue = self
            .last_sent
            .is_some_and(|sent| now >= sent + ANYWAY_AFTER);
        let mut send_anyway = is_overdue && woken == 0;
        for (ticket, waiting) in &mut self.creates {
            if woken >= MAX_WOKEN {
                break;
            }
            if waiting.standing != Some(Standing::Waits) {
                continue;
            }
            let why = if waiting.asks.iter().any(|ask| room.never_holds(ask)) {
                Why::NeverFits
            } else if room.holds(&waiting.asks) {
                Why::Fits
            } else if send_anyway {
                Why::Anyway
            } else {
                room.keep_for_the_oldest(&waiting.asks);
                continue;
            };
            if why != Why::NeverFits {
                room.keep(&waiting.asks);
            }
            send_anyway = false;
            waiting.standing = Some(Standing::Woken(why));
            waiting.woken = Some(why);
            woken += 1;
            tickets.push(*ticket);
        }
        if !tickets.is_empty() {
            self.last_sent = Some(now);
        }
        tickets
    }
}

impl Waiting {
    /// Adds what a refusal says. Returns whether all of it was known before.
    fn add(&mut self, by: Option<&Exceeded>, quotas: &HashMap<Box<str>, Limits>) -> bool {
        let Some(by) = by else {
            self.is_known = false;
            return false;
        };
        let is_seen = quotas.contains_key(&by.quota);
        let mut was_known = true;
        for shortage in &by.shortages {
            let mut known = self.asks.iter_mut();
            let known =
                known.find(|ask| *ask.quota == *by.quota && *ask.resource == *shortage.resource);
            match known {
                Some(ask) => (ask.amount, ask.is_seen) = (shortage.asked, is_seen),
                None => {
                    was_known = false;
                    self.asks.push(Ask {
                        quota: (*by.quota).into(),
                        resource: (*shortage.resource).into(),
                        amount: shortage.asked,
                        is_seen,
                    });
                }
            }
        }
        self.is_known &= self.asks.len() <= MAX_ASKS;
        was_known
    }

    fn see(&mut self, quotas: &HashMap<Box<str>, Limits>) {
        for ask in &mut self.asks {
            ask.is_seen |= quotas.contains_key(&*ask.quota);
        }
    }

    fn is_reserved(&self) -> bool {
        self.woken == Some(Why::Fits)
    }

    fn unwoken(&self, watch: Watch) -> Standing {
        let is_watched = match watch {
            Watch::None => false,
            Watch::Starts => true,
            Watch::Follows => self.asks.iter().all(|ask| ask.is_seen),
        };
        if is_watched && self.is_known {
            Standing::Waits
        } else {
            Standing::Polls
        }
    }
}

#[cfg(test)]
mod tests;
