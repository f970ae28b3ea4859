//! Between two attempts of a create: whether it may be sent again, and the pause.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::time::Instant;
use tracing::debug;

use super::{Create, Ending};
use crate::backoff::{Exhausted, Spent};
use crate::body::Buffered;
use crate::config::Mode;
use crate::drain::Stage;
use crate::error::ProxyError;
use crate::metrics::{BudgetKind, NotReplayed};
use crate::verdict::{Class, ClassifiedAnswer, Outcome, Verdict, verdict};

/// A body of at most this many bytes may have arrived in one piece.
const MAX_SHARED: usize = 64 << 10;

impl Create<'_> {
    /// Waits until the create may be sent again.
    ///
    /// # Errors
    /// It must not be sent again: the client gets the answer at hand.
    pub(super) async fn wait_to_replay(
        &mut self,
        answer: &ClassifiedAnswer,
        reply: &Result<Response<Buffered>, ProxyError>,
    ) -> Result<(), Ending> {
        let class = answer.class;
        let Verdict::Replay { wait_at_least, .. } = verdict(answer, &self.settings.policy) else {
            return Err(self.final_answer(class));
        };
        if self.settings.mode == Mode::Observe {
            self.shared.metrics.not_replayed(NotReplayed::ModeObserve);
            return Err(Ending {
                outcome: Outcome::Observed,
                why: "it would have been replayed, but the mode is Observe",
            });
        }
        let waits_for_quota = class == Class::ExceededQuota;
        if waits_for_quota {
            let refusal = reply.as_ref().ok().map(|reply| &*reply.body().data);
            if self.wait_for_quota(refusal, wait_at_least).await? {
                return Ok(());
            }
        }
        let (attempts, since) = if waits_for_quota {
            (self.attempts, self.started)
        } else {
            (self.attempts - self.since_quota.0, self.since_quota.1)
        };
        // Another server takes the replay. The `Retry-After` of this one does not hold for it, and
        // it is not overloaded: there is no pause, and the replay costs no budget.
        let delay = if self.another_server_is_up {
            Duration::ZERO
        } else {
            self.settings
                .backoff
                .delay(attempts, fastrand::f64(), wait_at_least)
        };
        let spent = Spent {
            attempts,
            elapsed: since.elapsed(),
            longest: self.longest_attempt,
        };
        let client_remaining = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let pause = self
            .settings
            .limits(class)
            .next(spent, client_remaining, delay)
            .map_err(|limit| {
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
        self.hold(pause).await?;
        if waits_for_quota {
            self.since_quota = (self.attempts, Instant::now());
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

    /// Waits for `pause`, and holds only the body and a place among the held creates meanwhile.
    ///
    /// # Errors
    /// Too many creates wait already, or the grace of the drain ended.
    async fn hold(&mut self, pause: Duration) -> Result<(), Ending> {
        let Ok(_place) = self.shared.held.try_acquire() else {
            return Err(self.give_up(NotReplayed::HeldFull));
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
