//! Makes a [`Snapshot`] from the parts of the proxy that know its numbers. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::limits;
use super::readiness::CheckResult;
use crate::config::Config;
use crate::decisions::{AttemptRecord, Decision, HeldCreate, rfc3339};
use crate::metrics::{Reading, Readings};
use crate::snapshot::{
    AttemptSummary, CertificateSummary, CheckSummary, ConflictSummary, CountsSummary,
    DecisionSummary, HeldSummary, OutcomeSummary, ServerSummary, Snapshot,
};
use crate::upstream::ServerStatus;
use crate::verdict::Outcome;

/// Decisions in a snapshot.
const DECISIONS: usize = 20;
/// Held creates in a snapshot.
const HELD: usize = 10;
/// Pinned namespaces that are named for each server.
const PINS: usize = 12;

/// The inputs of a snapshot.
pub(super) struct Sources<'a> {
    pub(super) config: &'a Config,
    pub(super) readings: Readings,
    pub(super) checks: Vec<(&'static str, CheckResult)>,
    /// Quota conflicts that were followed by another attempt.
    pub(super) absorbed: u64,
    /// One value every `history_step`, oldest first.
    pub(super) absorbed_per_minute: Vec<u64>,
    pub(super) history_step: Duration,
    /// The longest held first.
    pub(super) held: &'a [HeldCreate],
    /// The newest first.
    pub(super) decisions: &'a [Decision],
    pub(super) servers: Vec<ServerStatus>,
    pub(super) uptime: Duration,
    pub(super) now: SystemTime,
}

impl Sources<'_> {
    pub(super) fn snapshot(self) -> Snapshot {
        let Sources {
            config,
            readings,
            checks,
            absorbed,
            absorbed_per_minute,
            history_step,
            held,
            decisions,
            servers,
            uptime,
            now,
        } = self;
        let (plain, others): (Vec<_>, Vec<_>) = decisions
            .iter()
            .partition(|decision| decision.outcome == Outcome::Created);
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: rfc3339(now),
            uptime_seconds: uptime.as_secs(),
            mode: format!("{:?}", config.mode),
            checks: checks
                .into_iter()
                .map(|(name, passes)| CheckSummary {
                    name: name.to_owned(),
                    failure: passes.err(),
                })
                .collect(),
            conflicts: ConflictSummary {
                met: readings
                    .namespaces
                    .values()
                    .map(|namespace| namespace.conflicts)
                    .sum(),
                absorbed,
                absorbed_per_minute,
                step_seconds: history_step.as_secs(),
            },
            outcomes: Outcome::ALL
                .iter()
                .map(|outcome| ended(*outcome, &readings))
                .collect(),
            namespaces: ranked(&readings.namespaces),
            resources: ranked(&readings.resources),
            held: readings.held,
            longest_held: held
                .iter()
                .filter(|held| held.next_attempt.is_some())
                .take(HELD)
                .map(held_summary)
                .collect(),
            streams: readings.streams,
            downstream_connections: readings.downstream_connections,
            servers: servers.into_iter().map(server).collect(),
            limits: limits::of(config, &readings),
            certificate: certificate(readings.certificate_expiry, now),
            front_proxy_certificate: readings
                .front_proxy_expiry
                .map(|expiry| certificate(expiry, now)),
            decisions: others
                .into_iter()
                .take(DECISIONS)
                .map(decision_summary)
                .collect(),
            decided: decisions.len() as u64,
            plain: plain.len() as u64,
        }
    }
}

fn ended(outcome: Outcome, readings: &Readings) -> OutcomeSummary {
    OutcomeSummary {
        outcome: outcome.as_str().to_owned(),
        in_words: outcome.in_words().to_owned(),
        count: readings
            .namespaces
            .values()
            .map(|namespace| namespace.ended(outcome))
            .sum(),
    }
}

/// The namespaces or resources with any creates or conflicts, by conflicts and then by name.
fn ranked(readings: &BTreeMap<String, Reading>) -> Vec<CountsSummary> {
    let all = readings.iter().map(|(name, reading)| counts(name, reading));
    let mut ranked: Vec<_> = all
        .filter(|counts| counts.conflicts + counts.creates() > 0)
        .collect();
    ranked.sort_by(|a, b| {
        b.conflicts
            .cmp(&a.conflicts)
            .then_with(|| a.name.cmp(&b.name))
    });
    ranked
}

fn counts(name: &str, reading: &Reading) -> CountsSummary {
    let [created, resolved, created_after_replay, gave_up] = [
        Outcome::Created,
        Outcome::Resolved,
        Outcome::CreatedAfterReplay,
        Outcome::GaveUp,
    ]
    .map(|outcome| reading.ended(outcome));
    let created = created + resolved;
    let all: u64 = reading.outcomes.values().sum();
    CountsSummary {
        name: name.to_owned(),
        conflicts: reading.conflicts,
        created,
        created_after_replay,
        gave_up,
        others: all - created - created_after_replay - gave_up,
    }
}

fn held_summary(held: &HeldCreate) -> HeldSummary {
    HeldSummary {
        namespace: held.namespace.to_string(),
        name: held.name.to_string(),
        resource: held.resource.to_string(),
        attempts: held.attempts as u64,
        class: held.class.to_owned(),
        waits_for: held.waits_for.to_string(),
        held_for_ms: millis(held.since.elapsed()),
    }
}

fn server(status: ServerStatus) -> ServerSummary {
    let ServerStatus {
        address,
        healthy,
        since,
        last_error,
        connections,
        in_flight,
        mut namespaces,
    } = status;
    let pinned = namespaces.len() as u64;
    namespaces.truncate(PINS);
    ServerSummary {
        address,
        healthy,
        for_seconds: since.elapsed().ok().map(|since| since.as_secs()),
        last_error,
        connections: connections as u64,
        in_flight: in_flight as u64,
        pinned,
        namespaces,
    }
}

/// `expiry` is in seconds since 1970; 0 if it is not known.
fn certificate(expiry: u64, now: SystemTime) -> CertificateSummary {
    if expiry == 0 {
        return CertificateSummary {
            expires: String::new(),
            seconds_left: 0,
        };
    }
    let now = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    CertificateSummary {
        // Empty for a time that no calendar has.
        expires: UNIX_EPOCH
            .checked_add(Duration::from_secs(expiry))
            .map(rfc3339)
            .unwrap_or_default(),
        seconds_left: i64::try_from(expiry)
            .unwrap_or(i64::MAX)
            .saturating_sub_unsigned(now),
    }
}

fn decision_summary(decision: &Decision) -> DecisionSummary {
    let attempt = |attempt: &AttemptRecord| AttemptSummary {
        code: attempt.answer.ok(),
        class: attempt.class.to_owned(),
        duration_ms: millis(attempt.duration),
        delay_ms: attempt.delay.map(millis),
        lookups: attempt
            .lookups
            .iter()
            .map(|found| (*found).to_owned())
            .collect(),
    };
    DecisionSummary {
        time: rfc3339(decision.time),
        namespace: decision.namespace.to_string(),
        name: decision.name.to_string(),
        resource: decision.resource.to_string(),
        attempts: decision.attempts.iter().map(attempt).collect(),
        outcome: decision.outcome.as_str().to_owned(),
        why: decision.why.to_string(),
        held_ms: millis(decision.held),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests;
