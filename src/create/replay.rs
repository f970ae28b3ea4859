//! Between two attempts of a create: whether it may be sent again, and the pause.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;

use super::resolve::Reply;
use super::{Create, Ending};
use crate::backoff::{Exhausted, Spent};
use crate::config::Mode;
use crate::drain::Stage;
use crate::metrics::{Ambiguity, BudgetKind, NotReplayed};
use crate::verdict::{
    Class, ClassifiedAnswer, IfAbsent, Outcome, Verdict, verdict, verdict_after_ambiguous,
};

/// A body of at most this many bytes may have arrived in one piece.
const MAX_SHARED: usize = 64 << 10;

impl Create<'_> {
    /// Waits until the create may be sent again after this answer.
    ///
    /// # Errors
    /// It must not be sent again: how it ends, and the answer for the client.
    pub(super) async fn next_attempt(
        &mut self,
        answer: ClassifiedAnswer,
        reply: Reply,
    ) -> Result<(), (Ending, Reply)> {
        if let Some(another_name) = self.choose_another_name(&answer, &reply) {
            return another_name;
        }
        let policy = &self.settings.policy;
        let was_ambiguous = self.resolving.as_ref().is_some_and(|it| it.is_ambiguous());
        let verdict = if was_ambiguous {
            verdict_after_ambiguous(&answer, policy)
        } else {
            verdict(&answer, policy)
        };
        let (if_absent, at_hand) = match verdict {
            Verdict::Replay { wait_at_least, .. } => {
                let refusal = reply.as_ref().ok().map(|reply| &*reply.body().data);
                let waited = self.wait_to_replay(answer.class, wait_at_least, refusal);
                match waited.await {
                    Ok(()) => return Ok(()),
                    Err(ending) if was_ambiguous => (IfAbsent::Relay, Some(ending)),
                    Err(ending) => return Err((ending, reply)),
                }
            }
            Verdict::Relay => {
                if answer.class.is_ambiguous() {
                    self.shared.metrics.ambiguous(Ambiguity::Relayed);
                }
                return Err((self.final_answer(answer.class), reply));
            }
            Verdict::Resolve { if_absent } => {
                let is_certain = !answer.class.is_ambiguous();
                (
                    if_absent,
                    is_certain.then(|| self.final_answer(answer.class)),
                )
            }
        };
        // Boxed, so that creates that are not resolved do not pay for its size.
        Box::pin(self.resolve(answer, reply, if_absent, at_hand)).await
    }

    /// Waits until the create may be sent again after an answer of `class`.
    ///
    /// # Errors
    /// It must not be sent again: the client gets the answer at hand.
    pub(super) async fn wait_to_replay(
        &mut self,
        class: Class,
        wait_at_least: Duration,
        refusal: Option<&[u8]>,
    ) -> Result<(), Ending> {
        if self.settings.mode == Mode::Observe {
            self.shared.metrics.not_replayed(NotReplayed::ModeObserve);
            return Err(Ending {
                outcome: Outcome::Observed,
                why: "it would have been replayed, but the mode is Observe",
            });
        }
        let waits_for_quota = class == Class::ExceededQuota;
        if waits_for_quota && self.wait_for_quota(refusal, wait_at_least).await? {
            return Ok(());
        }
        let pause = self.pause(class, wait_at_least).await?;
        if waits_for_quota {
            self.since_quota = (self.tries(), Instant::now());
        }
        self.sending_again(class, pause);
        Ok(())
    }

    /// Tells of a replay.
    pub(super) fn sending_again(&self, class: Class, pause: Duration) {
        debug!(
            namespace = self.target.namespace,
            resource = self.target.resource,
            class = class.as_str(),
            attempt = self.attempts + 1,
            ?pause,
            "Replaying a create"
        );
        self.shared.metrics.replay(class.as_str());
    }

    /// Waits until something may be asked of the apiserver again, within the limits of the create.
    /// Returns the pause.
    ///
    /// # Errors
    /// A limit was reached.
    pub(super) async fn pause(
        &mut self,
        class: Class,
        wait_at_least: Duration,
    ) -> Result<Duration, Ending> {
        let tries = self.spent(class).attempts;
        // Another server takes the replay. The `Retry-After` of this one does not hold for it, and
        // it is not overloaded: there is no pause, and the replay costs no budget.
        let delay = if self.another_server_is_up {
            Duration::ZERO
        } else {
            self.settings
                .backoff
                .delay(tries, fastrand::f64(), wait_at_least)
        };
        let pause = self.next(class, delay).map_err(|limit| {
            self.give_up(match limit {
                Exhausted::Attempts => NotReplayed::Attempts,
                Exhausted::Hold => NotReplayed::Hold,
                Exhausted::ClientTimeout => NotReplayed::ClientTimeout,
            })
        })?;
        if !self.another_server_is_up {
            let kind = if class.is_quota_conflict() {
                BudgetKind::QuotaConflict
            } else {
                BudgetKind::Other
            };
            self.budget().withdraw(kind).map_err(|scope| {
                self.shared.metrics.budget_exhausted(scope, kind);
                self.give_up(NotReplayed::Budget)
            })?;
        }
        self.hold(class, pause).await?;
        self.may_still_ask()?;
        Ok(pause)
    }

    /// Whether the limits of the create allow another attempt without a pause.
    pub(super) fn may_send_at_once(&self, class: Class) -> bool {
        self.next(class, Duration::ZERO).is_ok() && self.is_still_known()
    }

    fn next(&self, class: Class, delay: Duration) -> Result<Duration, Exhausted> {
        let client_remaining = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        self.settings
            .limits(class)
            .next(self.spent(class), client_remaining, delay)
    }

    /// What counts against the limits of `class`. After a wait for a full quota, the limits of the
    /// other classes begin anew.
    fn spent(&self, class: Class) -> Spent {
        let (before, since) = if class == Class::ExceededQuota {
            (0, self.started)
        } else {
            self.since_quota
        };
        Spent {
            attempts: self.tries() - before,
            elapsed: since.elapsed(),
            longest: self.longest_attempt,
        }
    }

    /// Attempts, and lookups that got no answer, which cost as much.
    pub(super) fn tries(&self) -> u32 {
        let lookups = self.resolving.as_ref().map_or(0, |it| it.failed_lookups);
        self.attempts + lookups
    }

    /// Whether the apiserver may still be asked in the name of the caller.
    ///
    /// # Errors
    /// The certificate that names the caller has ended: the client gets the answer at hand.
    pub(super) fn may_still_ask(&self) -> Result<(), Ending> {
        if self.is_still_known() {
            Ok(())
        } else {
            Err(self.give_up(NotReplayed::CertificateEnded))
        }
    }

    /// Whether the certificate that names the caller, if any, still counts.
    pub(super) fn is_still_known(&self) -> bool {
        self.by.is_none_or(|by| by.counts())
    }

    /// Waits for `pause` after an answer of `class`, and holds only the body and a place among the
    /// held creates meanwhile.
    ///
    /// # Errors
    /// Too many creates wait already, or the grace of the drain ended.
    async fn hold(&mut self, class: Class, pause: Duration) -> Result<(), Ending> {
        // A create that was woken keeps the place that it had in the queue.
        let has_place = self.queued.as_ref().is_some_and(|it| it.held.is_some());
        let _place = if has_place {
            None
        } else {
            match self.shared.held.take(class, self.room.bytes()) {
                Some(place) => Some(place),
                None => return Err(self.give_up(NotReplayed::HeldFull)),
            }
        };
        let _held = self.shared.metrics.held();
        let hold = self.record.hold(pause);
        if self.attempts == 1 {
            own(&mut self.body.data);
        }
        let released = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = self.shared.drain.reached(Stage::Releasing) => true,
        };
        drop(hold);
        if released {
            Err(self.give_up(NotReplayed::Draining))
        } else {
            Ok(())
        }
    }
}

/// Copies a body that is to be kept. One that arrived in one piece shares the read buffer of its
/// connection, which is larger. A copy occupies no more than what is reserved.
pub(super) fn own(body: &mut Bytes) {
    if body.len() <= MAX_SHARED {
        *body = Bytes::copy_from_slice(body);
    }
}
