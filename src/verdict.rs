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
    /// Whether a gateway on the way says that it got no answer: the connection behind it broke.
    pub of_gateway: bool,
}

impl From<Class> for ClassifiedAnswer {
    fn from(class: Class) -> ClassifiedAnswer {
        ClassifiedAnswer {
            class,
            retry_after: None,
            of_gateway: false,
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
    /// Look whether the object was stored. If it was, and provably by this create, the client gets
    /// it.
    Resolve {
        /// What to do if it is not there.
        if_absent: IfAbsent,
    },
}

/// What to do if a create whose answer was ambiguous has stored no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfAbsent {
    /// Send the create again: its outcome was lost, and nothing says that it would be lost again.
    SendAgain,
    /// Give the answer to the client: the apiserver would give it again.
    Relay,
    /// Give the ambiguous answer to the client: an object of this name existed a moment ago, and it
    /// may have been this one.
    Ambiguous,
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
    /// Look for the object after an ambiguous answer.
    pub resolve: bool,
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
        class if policy.resolve && class.is_ambiguous() => Verdict::Resolve {
            if_absent: match class {
                Class::Lost | Class::HandlerTimeout | Class::StorageTimeout => IfAbsent::SendAgain,
                _ if answer.of_gateway => IfAbsent::SendAgain,
                _ => IfAbsent::Relay,
            },
        },
        _ => Verdict::Relay,
    }
}

/// The same for an answer to an attempt that came after an ambiguous one. No refusal of a later
/// attempt tells what became of the earlier one, which may be stored late. So the object is looked
/// for before anything is relayed that says that there is none.
pub fn verdict_after_ambiguous(answer: &ClassifiedAnswer, policy: &Policy) -> Verdict {
    match (verdict(answer, policy), answer.class) {
        (Verdict::Relay, Class::Success) => Verdict::Relay,
        (Verdict::Relay, Class::AlreadyExists) => Verdict::Resolve {
            if_absent: IfAbsent::Ambiguous,
        },
        (Verdict::Relay, _) => Verdict::Resolve {
            if_absent: IfAbsent::Relay,
        },
        (other, _) => other,
    }
}

#[cfg(test)]
mod tests;
