//! The part of the configuration that the loop uses. It is replaced as a whole when the
//! configuration is reloaded.

use crate::backoff::{Backoff, Limits};
use crate::budget::Budget;
use crate::config::{self, Config, Mode};
use crate::ratelimit::RateLimit;
use crate::verdict::{Class, Policy};

/// What `mode`, `replay` and `rateLimit` mean for the loop. Budgets and rate limits keep their
/// state here, so they start fresh after a reload.
pub struct Settings {
    /// Whether to replay.
    pub mode: Mode,
    /// Which opt-in classes are replayed too.
    pub policy: Policy,
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// How many replays all creates together may cause.
    pub budget: Budget,
    /// How many creates per second may be sent.
    pub rate_limit: RateLimit,
    replay: config::Replay,
}

impl Settings {
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
            },
            backoff: Backoff {
                base: replay.base_delay,
                cap: replay.max_delay,
            },
            budget: Budget::new(&replay.budget),
            rate_limit: RateLimit::new(&config.rate_limit),
            replay: replay.clone(),
        }
    }

    /// The limits of one create after an answer of `class`. Each opt-in class has its own.
    pub fn limits(&self, class: Class) -> Limits {
        let own = match class {
            Class::ExceededQuota => Some(&self.replay.exceeded_quota),
            Class::QuotaStatusUnknown => Some(&self.replay.quota_status_unknown),
            Class::QuotaEvaluationTimeout => Some(&self.replay.quota_evaluation_timeout),
            Class::WebhookUnreachable => Some(&self.replay.webhook_unreachable),
            _ => None,
        };
        match own {
            Some(own) => Limits {
                max_attempts: own.max_attempts.get(),
                max_hold: own.max_hold,
            },
            None => Limits {
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
    fn what_takes_the_apiserver_ten_seconds_is_replayed_by_the_limits_of_its_own_class_alone() {
        let settings = Settings::new(&Config::default());
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
