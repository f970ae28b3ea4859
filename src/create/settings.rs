//! The part of the configuration that the loop uses. It is replaced as a whole when the
//! configuration is reloaded.

use std::sync::OnceLock;

use super::claims::Claim;
use crate::backoff::{Backoff, ReplayLimits};
use crate::budget::Budget;
use crate::config::{self, Ambiguous, Config, Mode};
use crate::ratelimit::RateLimit;
use crate::verdict::{Class, Policy};

/// The settings of the loop, from `mode`, `replay` and `rateLimit`. Budgets and rate limits keep
/// their state here, so a reload resets them.
pub struct CreateSettings {
    /// Whether to replay.
    pub mode: Mode,
    /// The opt-in classes that are replayed.
    pub policy: Policy,
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// How creates wait for a full quota.
    pub full_quotas: config::FullQuotas,
    /// How many replays all creates together may cause.
    pub budget: Budget,
    /// How many creates per second may be sent.
    pub rate_limit: RateLimit,
    replay: config::ReplayConfig,
    /// The doubt about the creates that still use these settings after a reload. They have no
    /// claims of their own, because these settings do not resolve.
    left: OnceLock<Claim>,
}

impl CreateSettings {
    /// Takes `mode`, `replay` and `rateLimit` from the configuration, with fresh budgets and
    /// limits.
    pub fn new(config: &Config) -> Self {
        let replay = &config.replay;
        Self {
            mode: config.mode,
            policy: Policy {
                exceeded_quota: replay.exceeded_quota.enabled,
                quota_status_unknown: replay.quota_status_unknown.enabled,
                quota_evaluation_timeout: replay.quota_evaluation_timeout.enabled,
                webhook_unreachable: replay.webhook_unreachable.enabled,
                resolve: replay.ambiguous == Ambiguous::Resolve,
            },
            backoff: Backoff {
                base: replay.base_delay,
                cap: replay.max_delay,
            },
            full_quotas: replay.full_quotas.clone(),
            budget: Budget::new(&replay.budget),
            rate_limit: RateLimit::new(&config.rate_limit),
            replay: replay.clone(),
            left: OnceLock::new(),
        }
    }

    /// Keeps the claim of the creates that use these settings, until the last of them has ended.
    pub(super) fn leave_in_doubt(&self, claim: Claim) {
        self.left.get_or_init(|| claim);
    }

    /// Whether ambiguous answers are resolved.
    pub fn resolves(&self) -> bool {
        self.policy.resolve && self.mode == Mode::Enforce
    }

    /// Whether the proxy completes the names of objects that have only a `generateName`.
    pub(super) fn completes_names(&self) -> bool {
        self.replay.complete_generate_name
    }

    /// The limits of one create after an answer of `class`. Each opt-in class has its own.
    pub fn limits(&self, class: Class) -> ReplayLimits {
        let own = match class {
            Class::ExceededQuota => Some(&self.replay.exceeded_quota),
            Class::QuotaStatusUnknown => Some(&self.replay.quota_status_unknown),
            Class::QuotaEvaluationTimeout => Some(&self.replay.quota_evaluation_timeout),
            Class::WebhookUnreachable => Some(&self.replay.webhook_unreachable),
            _ => None,
        };
        match own {
            Some(own) => ReplayLimits {
                max_attempts: own.max_attempts.get(),
                max_hold: own.max_hold,
            },
            None => ReplayLimits {
                max_attempts: self.replay.max_attempts.get(),
                max_hold: self.replay.max_hold,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::rows::every;
    use std::time::Duration;

    use super::*;
    use crate::backoff::{Exhausted, Spent};

    #[test]
    fn slow_opt_in_classes_use_only_their_own_limits() {
        let settings = CreateSettings::new(&Config::default());
        let ten = Duration::from_secs(10);
        let spent = Spent {
            attempts: 1,
            elapsed: ten,
            longest: ten,
        };
        let next = |class| {
            settings
                .limits(class)
                .next(spent, None, Duration::ZERO)
                .map(|_| ())
        };
        every(
            [
                Class::QuotaEvaluationTimeout,
                Class::WebhookUnreachable,
                Class::ExceededQuota,
            ],
            |class| {
                assert_eq!(next(class), Ok(()), "{class:?}");
            },
        );
        every(
            [Class::QuotaConflict, Class::Throttled, Class::ConnectFailed],
            |class| {
                assert_eq!(next(class), Err(Exhausted::Hold), "{class:?}");
            },
        );
    }
}
