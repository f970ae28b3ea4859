//! Between two attempts of a create: whether it may be sent again, and the pause.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;

use super::{Create, Kept, MAX_SHARED};
use crate::backoff::{Exhausted, Spent};
use crate::config::Mode;
use crate::drain::Stage;
use crate::metrics::{BudgetKind, NotReplayed};
use crate::verdict::{Answer, Outcome, Verdict, verdict};

impl Create<'_> {
    /// Returns when the create may be sent again, or why it must not.
    pub(super) async fn wait_to_replay(&mut self, answer: &Answer) -> Result<(), Kept> {
        let class = answer.class;
        let Verdict::Replay { wait_at_least, .. } = verdict(answer, &self.settings.policy) else {
            return Err(self.final_answer(class));
        };
        if self.settings.mode == Mode::Observe {
            self.all.metrics.not_replayed(NotReplayed::ModeObserve);
            return Err(Kept {
                outcome: Outcome::Observed,
                why: "it would have been replayed, but the mode is Observe",
            });
        }
        // What one server asks for says nothing of another, and there is no crowd at its door: no
        // pause, and no share of the budget.
        let delay = if self.left {
            Duration::ZERO
        } else {
            self.settings
                .backoff
                .delay(self.attempts, fastrand::f64(), wait_at_least)
        };
        let spent = Spent {
            attempts: self.attempts,
            elapsed: self.started.elapsed(),
            longest: self.longest,
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
        if !self.left {
            let kind = if class.is_quota_conflict() {
                BudgetKind::QuotaConflict
            } else {
                BudgetKind::Other
            };
            self.budget().withdraw(kind).map_err(|scope| {
                self.all.metrics.budget_exhausted(scope, kind);
                self.give_up(NotReplayed::Budget)
            })?;
        }
        self.hold(pause).await?;
        debug!(
            namespace = self.target.namespace,
            class = class.as_str(),
            attempt = self.attempts + 1,
            ?pause,
            "Replaying a create"
        );
        self.all.metrics.replay(class.as_str());
        Ok(())
    }

    /// Waits holding nothing but the body. The end of the drain's grace ends it with the answer at
    /// hand.
    async fn hold(&mut self, pause: Duration) -> Result<(), Kept> {
        let Ok(_place) = self.all.held.try_acquire() else {
            return Err(self.give_up(NotReplayed::HeldFull));
        };
        let _held = self.all.metrics.held();
        let hold = self.record.as_mut().map(|record| record.hold(pause));
        if self.attempts == 1 && self.body.data.len() <= MAX_SHARED {
            // What came in one piece shares a buffer of its connection, which is larger: a copy
            // occupies what is reserved.
            self.body.data = Bytes::copy_from_slice(&self.body.data);
        }
        let released = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = self.all.drain.reached(Stage::Releasing) => true,
        };
        drop(hold);
        if released {
            Err(self.give_up(NotReplayed::Draining))
        } else {
            Ok(())
        }
    }
}
