//! Every limit of the proxy: its setting, how much of it is in use, and how many times it was
//! reached. Pure.

use crate::config::{BudgetConfig, Config, Rate};
use crate::metrics::{BudgetKind, NotReplayed, Readings, Scope};
use crate::snapshot::LimitSummary;
use crate::snapshot::words::{bytes, duration, number};

/// The limits in the order in which a create meets them. The opt-in classes have their own limits
/// of attempts and holding. Reaching one of those counts here too.
pub(super) fn of(config: &Config, readings: &Readings) -> Vec<LimitSummary> {
    let (creates, replay, rate_limit) = (&config.creates, &config.replay, &config.rate_limit);
    let kept = |reason: NotReplayed| {
        readings
            .not_replayed
            .get(reason.as_str())
            .copied()
            .unwrap_or_default()
    };
    let spent = |kind: BudgetKind| {
        readings
            .budget_exhausted
            .get(kind.as_str())
            .copied()
            .unwrap_or_default()
    };
    let refused = |scope: Scope| {
        readings
            .rate_limit_rejected
            .get(scope.as_str())
            .copied()
            .unwrap_or_default()
    };
    vec![
        limit(
            "Body of one create",
            "creates.maxBody",
            bytes(creates.max_body),
            kept(NotReplayed::BodyTooLarge),
        ),
        LimitSummary {
            now: bytes(readings.buffered_bytes),
            ..limit(
                "Bodies in memory",
                "creates.maxBuffered",
                bytes(creates.max_buffered),
                kept(NotReplayed::BufferFull),
            )
        },
        limit(
            "Creates per namespace",
            "rateLimit.namespace",
            rate(rate_limit.namespace),
            refused(Scope::Namespace),
        ),
        limit(
            "Creates altogether",
            "rateLimit.global",
            rate(rate_limit.global),
            refused(Scope::Global),
        ),
        limit(
            "Attempts of one create",
            "replay.maxAttempts",
            number(replay.max_attempts.into()),
            kept(NotReplayed::Attempts),
        ),
        limit(
            "Holding one create",
            "replay.maxHold",
            duration(replay.max_hold),
            kept(NotReplayed::Hold),
        ),
        limit(
            "The client's own timeout",
            "",
            "its ?timeout=".to_owned(),
            kept(NotReplayed::ClientTimeout),
        ),
        limit(
            "Replays after quota conflicts",
            "replay.budget.quotaConflict",
            budget(&replay.budget.quota_conflict),
            spent(BudgetKind::QuotaConflict),
        ),
        limit(
            "Replays after other answers",
            "replay.budget.other",
            budget(&replay.budget.other),
            spent(BudgetKind::Other),
        ),
        limit(
            "Creates of one namespace that wait for a full quota",
            "replay.fullQuotas.maxWaiting",
            number(replay.full_quotas.max_waiting.into()),
            kept(NotReplayed::QuotaQueueFull),
        ),
        LimitSummary {
            now: number(readings.held),
            ..limit(
                "Creates held at once",
                "creates.maxHeld",
                number(creates.max_held.into()),
                kept(NotReplayed::HeldFull),
            )
        },
    ]
}

fn limit(what: &str, field: &str, set: String, reached: u64) -> LimitSummary {
    LimitSummary {
        what: what.to_owned(),
        field: field.to_owned(),
        set,
        now: String::new(),
        reached,
    }
}

fn budget(budget: &BudgetConfig) -> String {
    format!(
        "{} % of creates + {}/s",
        (budget.ratio.get() * 1000.0).round() / 10.0,
        budget.per_second
    )
}

fn rate(rate: Option<Rate>) -> String {
    match rate {
        Some(rate) => format!("{}/s, {} at once", rate.qps, number(rate.burst.into())),
        None => "no limit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_names_a_field_of_the_configuration() {
        let shown = crate::config::show(&Config::default());
        for limit in of(&Config::default(), &Readings::default()) {
            let found = limit.field.split('.').try_fold(&shown, |value, key| {
                if key.is_empty() {
                    Some(value)
                } else {
                    value.get(key)
                }
            });
            assert!(found.is_some(), "{}", limit.field);
        }
    }
}
