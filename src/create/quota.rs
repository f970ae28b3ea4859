//! A create that a full quota refused: its place in the queue of its namespace, and the wait.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::replay::own;
use super::{Create, Ending, HeldPlace};
use crate::drain::Stage;
use crate::metrics::{BudgetKind, NotReplayed, QuotaWake};
use crate::quotas::{NeverFits, Place, QueueFull};
use crate::status::Status;
use crate::verdict::{Class, Exceeded};

/// Why a create is not held.
const NEVER_FITS: &str =
    "it asks for more than the limit of the quota, so that waiting could not help";

/// What a create that waits for a full quota keeps until it ends.
pub(super) struct Queued<'a> {
    place: Place,
    /// How many times it has polled.
    polls: u32,
    /// Its place among the held creates, if it is woken: one that is refused again must not lose its
    /// turn.
    pub(super) held: Option<HeldPlace<'a>>,
}

impl Create<'_> {
    /// Enters the queue of the namespace. With a watch, also waits until the create is to be sent
    /// again, and returns true. Without one, the caller pauses as after any other answer.
    ///
    /// # Errors
    /// It must not be sent again: the client gets the refusal.
    pub(super) async fn wait_for_quota(
        &mut self,
        refusal: Option<&[u8]>,
        wait_at_least: Duration,
    ) -> Result<bool, Ending> {
        let refused_by = refusal
            .and_then(Status::decode)
            .and_then(|status| Exceeded::of(&status));
        let refused_by = refused_by.as_ref();
        if refused_by.is_some_and(Exceeded::can_never_fit) {
            return Err(self.never_fits());
        }
        let settings = &self.settings.full_quotas;
        if self.queued.is_none() {
            let namespace = &self.target.namespace;
            let place = self.shared.quotas.enter(settings, namespace, self.started);
            let place = place.map_err(|QueueFull| self.give_up(NotReplayed::QuotaQueueFull))?;
            self.queued = Some(Queued {
                place,
                polls: 0,
                held: None,
            });
        }
        if let Some(refused_by) = refused_by {
            self.record
                .waits_for(refused_by, &self.target.api_version());
        }
        if !settings.watch {
            return Ok(false);
        }
        let waited = Instant::now();
        self.wait_in_queue(refused_by, wait_at_least).await?;
        self.may_still_ask()?;
        self.since_quota = (self.tries(), Instant::now());
        self.sending_again(Class::ExceededQuota, waited.elapsed());
        Ok(true)
    }

    /// Waits for the turn of this create.
    ///
    /// The attempts are not limited: the watch paces them, and how many a create makes depends on
    /// who else uses the quota. For the same reason only polls cost budget.
    async fn wait_in_queue(
        &mut self,
        refused_by: Option<&Exceeded>,
        wait_at_least: Duration,
    ) -> Result<(), Ending> {
        let (until, limit) = self.wait_until();
        if until <= Instant::now() {
            return Err(self.give_up(limit));
        }
        let Some(queued) = &mut self.queued else {
            return Ok(());
        };
        if queued.held.is_none() {
            queued.held = self
                .shared
                .held
                .take(Class::ExceededQuota, self.room.bytes());
        }
        if queued.held.is_none() {
            return Err(self.give_up(NotReplayed::HeldFull));
        }
        if let Err(NeverFits) = queued.place.refused(refused_by) {
            return Err(self.never_fits());
        }
        if self.attempts == 1 {
            own(&mut self.body.data);
        }
        let _held = self.shared.metrics.held();
        let waiting = self.record.hold_until(until);
        let (backoff, polls) = (self.settings.backoff, &mut queued.polls);
        let mut pause = || {
            *polls += 1;
            backoff.delay(*polls, fastrand::f64(), wait_at_least)
        };
        let ended = loop {
            let why = tokio::select! {
                why = queued.place.wait(&mut pause) => why,
                () = sleep_until(until) => break Some(limit),
                () = self.shared.drain.reached(Stage::Releasing) => break Some(NotReplayed::Draining),
            };
            let budget = self
                .budget
                .get_or_insert_with(|| self.settings.budget.create(&self.target.namespace));
            match why {
                QuotaWake::Poll => match budget.withdraw(BudgetKind::Other) {
                    Ok(()) => break None,
                    // The watch may come back, so this does not end the wait.
                    Err(scope) => self
                        .shared
                        .metrics
                        .budget_exhausted(scope, BudgetKind::Other),
                },
                QuotaWake::Fits | QuotaWake::NeverFits | QuotaWake::Anyway => break None,
            }
        };
        drop(waiting);
        ended.map_or(Ok(()), |limit| Err(self.give_up(limit)))
    }

    fn never_fits(&self) -> Ending {
        Ending {
            why: NEVER_FITS,
            ..self.final_answer(Class::ExceededQuota)
        }
    }

    /// When the wait ends, and the limit that ends it.
    fn wait_until(&self) -> (Instant, NotReplayed) {
        let hold = self.started + self.settings.limits(Class::ExceededQuota).max_hold;
        let client = self.deadline.map(|deadline| {
            deadline
                .checked_sub(self.longest_attempt)
                .unwrap_or(deadline)
        });
        match client {
            Some(client) if client < hold => (client, NotReplayed::ClientTimeout),
            _ => (hold, NotReplayed::Hold),
        }
    }
}
