//! Decides what an answer to a create proves, and whether to send the create again. Pure.
//!
//! [`classify()`] puts every answer into one [`Class`]. The class says whether the answer proves
//! that nothing was stored. [`verdict`] turns the class, with the operator's opt-ins, into relay or
//! replay. An answer that proves nothing is relayed. Waiting, limits and budgets are in `create`.

mod class;
mod classify;
mod exceeded;
mod outcome;
mod table;

pub use class::{Class, Safety};
pub use classify::{classify, classify_status};
pub use exceeded::{Exceeded, Shortage};
pub use outcome::Outcome;

use std::time::Duration;

/// The result of an attempt, as far as it matters for a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassifiedAnswer {
    /// The class of the answer or of the failure.
    pub class: Class,
    /// How long the upstream asked to wait.
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

/// The decision after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Give the answer to the client.
    Relay,
    /// Send the create again, if the limits allow it.
    Replay {
        /// The shortest pause before the replay.
        wait_at_least: Duration,
        /// Use another connection, to another server if one is up: this server is stopping,
        /// starting or gone.
        on_another_server: bool,
    },
}

/// The opt-in classes, which are replayed only if the operator enables them. Their answers prove
/// that nothing was stored, but a replay has a cost: it makes the client wait for long, charges the
/// quota again, or repeats side effects of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Hold creates until the quota has room.
    pub exceeded_quota: bool,
    /// Wait for the quota controller to compute a new quota.
    pub quota_status_unknown: bool,
    /// Replay after the apiserver failed to evaluate the quota for ten seconds.
    pub quota_evaluation_timeout: bool,
    /// Replay after a webhook did not answer.
    pub webhook_unreachable: bool,
}

/// etcd refuses proposals while it is 5,000 entries behind. A replay within a second would only add
/// to the load.
const ETCD_PAUSE: Duration = Duration::from_secs(1);

/// Decides whether to send the create again after `answer`.
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
