//! What an answer to a create proves, and whether to send the create again.
//!
//! [`classify()`] puts every answer into one [`Class`]; a class knows whether its answer proves
//! that nothing was stored; [`verdict`] turns it, with what the operator opted in to, into relay or
//! replay. Pure: waiting, limits and budgets are `create`'s business. Whatever is not known
//! for certain is relayed.

mod class;
mod classify;
mod outcome;
mod table;

pub use class::{Class, Safety};
pub use classify::classify;
pub use outcome::Outcome;

use std::time::Duration;

/// An answer, or the lack of one, as far as replaying goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassifiedAnswer {
    /// What it is.
    pub class: Class,
    /// How long upstream asked to wait.
    pub retry_after: Option<Duration>,
}

impl From<Class> for ClassifiedAnswer {
    fn from(class: Class) -> ClassifiedAnswer {
        ClassifiedAnswer {
            class,
            retry_after: None,
        }
    }
}

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Hand it to the client.
    Relay,
    /// Send the create again, limits permitting.
    Replay {
        /// Not sooner than this, zero if any time will do.
        wait_at_least: Duration,
        /// On another connection, if possible to another server: this one is going or gone.
        on_another_server: bool,
    },
}

/// The classes that are replayed only where the operator says so. Their answers prove that nothing
/// was stored, but a replay has a price: it holds the client for long, charges the quota again, or
/// repeats a webhook's side effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Hold creates until the quota frees.
    pub exceeded_quota: bool,
    /// Wait for the quota controller to compute a new quota.
    pub quota_status_unknown: bool,
    /// Try again after the apiserver's ten seconds.
    pub quota_evaluation_timeout: bool,
    /// Try again when a webhook did not answer.
    pub webhook_unreachable: bool,
}

/// etcd refuses proposals while it lags 5,000 behind; coming back within a second only adds to
/// that.
const ETCD_PAUSE: Duration = Duration::from_secs(1);

/// Whether to send the create again after `answer`.
pub fn verdict(answer: &ClassifiedAnswer, policy: &Policy) -> Verdict {
    let asked = answer.retry_after.unwrap_or_default();
    let replay = |wait_at_least, on_another_server| Verdict::Replay {
        wait_at_least,
        on_another_server,
    };
    match answer.class {
        Class::QuotaConflict
        | Class::QuotaConflictUid
        | Class::ClusterQuotaConflict
        | Class::Throttled => replay(asked, false),
        Class::EtcdOverload => replay(asked.max(ETCD_PAUSE), false),
        Class::ShuttingDown | Class::StartingUp | Class::ConnectFailed | Class::Refused => {
            replay(asked, true)
        }
        Class::ExceededQuota if policy.exceeded_quota => replay(asked, false),
        Class::QuotaStatusUnknown if policy.quota_status_unknown => replay(asked, false),
        Class::QuotaEvaluationTimeout if policy.quota_evaluation_timeout => replay(asked, false),
        Class::WebhookUnreachable if policy.webhook_unreachable => replay(asked, false),
        _ => Verdict::Relay,
    }
}

#[cfg(test)]
mod tests;
