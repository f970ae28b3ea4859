//! The status of the proxy at one moment, as plain data: the one source of the page, of its live
//! updates, of `/status.json` and of the `status` command. Its numbers are those of `/metrics`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

mod decision;

pub use decision::{Attempt, Decision};

use super::history::STEP;
use super::limits;
use super::readiness::Passes;
use super::words::{counted, span};
use crate::config::Config;
use crate::decisions::{self, HeldCreate};
use crate::metrics::{Metrics, NamespaceReading, Outcome, Readings};
use crate::upstream::ServerStatus;
use crate::verdict::Class;

/// Decisions that a snapshot shows.
const DECISIONS: usize = 20;
/// Held creates that a snapshot shows.
const HELD: usize = 10;
/// Pinned namespaces that are named for each server.
const PINS: usize = 12;

/// See the module. Fields that a future version adds are ignored by this one's `status` command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The proxy's version.
    pub version: String,
    /// When this was true, in RFC 3339 UTC.
    pub time: String,
    /// Since the start.
    pub uptime_seconds: u64,
    /// `Off`, `Observe` or `Enforce`.
    pub mode: String,
    /// The checks of `/readyz`.
    pub checks: Vec<Check>,
    /// Quota conflicts of all namespaces.
    pub conflicts: Conflicts,
    /// How creates ended, every way with its count.
    pub outcomes: Vec<Ended>,
    /// By conflicts, the most first.
    pub namespaces: Vec<Namespace>,
    /// Creates waiting between attempts.
    pub held: u64,
    /// Those that have been held the longest.
    pub longest_held: Vec<Held>,
    /// Open watches, followed logs and upgraded connections.
    pub streams: u64,
    /// Open connections of clients.
    pub downstream_connections: u64,
    /// The apiservers.
    pub servers: Vec<Server>,
    /// Every limit, what it is set to, and how many times it was reached.
    pub limits: Vec<Limit>,
    /// The serving certificate.
    pub certificate: Certificate,
    /// The last creates that did not simply succeed, newest first.
    pub decisions: Vec<Decision>,
    /// How many of the last creates the proxy remembers.
    pub decided: u64,
    /// How many of those succeeded at the first attempt, and are left out of `decisions`.
    pub plain: u64,
}

/// A check of readiness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// As in `/readyz?verbose`.
    pub name: String,
    /// Why it fails. None: it passes.
    pub failure: Option<String>,
}

/// Quota conflicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflicts {
    /// Answered by the upstream, since the start.
    pub met: u64,
    /// Followed by another attempt, since the start: the client did not see these.
    pub absorbed: u64,
    /// Absorbed within a minute, one value every `step_seconds`; the last one is that of the
    /// minute before now.
    pub absorbed_per_minute: Vec<u64>,
    /// The time between two values.
    pub step_seconds: u64,
}

impl Conflicts {
    /// Absorbed in the minute before now.
    #[must_use]
    pub fn last_minute(&self) -> u64 {
        self.absorbed_per_minute.last().copied().unwrap_or_default()
    }

    /// The highest value of the history.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.absorbed_per_minute
            .iter()
            .copied()
            .max()
            .unwrap_or_default()
    }
}

/// One way in which creates ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// The label of `outcomes_total`.
    pub outcome: String,
    /// The same in words.
    pub in_words: String,
    /// Since the start, all namespaces together.
    pub count: u64,
}

/// What was counted of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// The label of the metrics: the name, `_other` for those beyond `metrics.maxNamespaces`,
    /// `_cluster` for none.
    pub name: String,
    /// Quota conflicts.
    pub conflicts: u64,
    /// Creates stored at the first attempt.
    pub created: u64,
    /// Creates stored after a replay.
    pub created_after_replay: u64,
    /// Creates whose answer was passed on because a limit was reached.
    pub gave_up: u64,
    /// Creates that ended in any other way.
    pub others: u64,
}

/// One create that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Empty for an object in none.
    pub namespace: String,
    /// The object's name, as far as it is known.
    pub name: String,
    /// Attempts so far.
    pub attempts: u64,
    /// The class of the last answer.
    pub class: String,
    /// Since the first pause began.
    pub held_for_ms: u64,
}

/// One apiserver, or the address before several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Where it is.
    pub address: String,
    /// Whether requests are sent to it.
    pub healthy: bool,
    /// How long it has been so. None: not known.
    pub for_seconds: Option<u64>,
    /// Why it is not healthy, or was not the last time.
    pub last_error: Option<String>,
    /// Open connections to it.
    pub connections: u64,
    /// Requests in flight to it, watches included.
    pub in_flight: u64,
    /// How many namespaces are pinned to it: their creates go there.
    pub pinned: u64,
    /// The first of those.
    pub namespaces: Vec<String>,
}

impl From<ServerStatus> for Server {
    fn from(status: ServerStatus) -> Self {
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
        let for_seconds = since.elapsed().ok().map(|since| since.as_secs());
        let (connections, in_flight) = (connections as u64, in_flight as u64);
        Self {
            address,
            healthy,
            for_seconds,
            last_error,
            connections,
            in_flight,
            pinned,
            namespaces,
        }
    }
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What it bounds, in words.
    pub what: String,
    /// The field of the configuration; empty where the client sets it.
    pub field: String,
    /// What it is set to, in words.
    pub set: String,
    /// How much of it is in use, in words; empty where that is not counted.
    pub now: String,
    /// How many times it kept a create from being sent, or sent again.
    pub reached: u64,
}

/// The serving certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// In RFC 3339 UTC; empty where it is not known.
    pub expires: String,
    /// Until then; negative afterwards.
    pub seconds_left: i64,
}

/// What a snapshot is made from.
pub(super) struct Sources<'a> {
    pub config: &'a Config,
    pub readings: Readings,
    pub checks: Vec<(&'static str, Passes)>,
    pub absorbed: u64,
    pub absorbed_per_minute: Vec<u64>,
    pub held: &'a [HeldCreate],
    pub decisions: &'a [decisions::Decision],
    pub servers: Vec<Server>,
    pub uptime: Duration,
    pub now: SystemTime,
}

/// Quota conflicts that were followed by another attempt.
pub(super) fn absorbed(metrics: &Metrics) -> u64 {
    Class::ALL
        .iter()
        .filter(|class| class.is_quota_conflict())
        .map(|class| metrics.replays_after(class.as_str()))
        .sum()
}

impl Snapshot {
    pub(super) fn new(sources: Sources<'_>) -> Self {
        let Sources {
            config,
            readings,
            checks,
            absorbed,
            absorbed_per_minute,
            held,
            decisions,
            servers,
            uptime,
            now,
        } = sources;
        let (plain, told): (Vec<_>, Vec<_>) = decisions
            .iter()
            .partition(|decision| decision.outcome == Outcome::Created);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: decisions::rfc3339(now),
            uptime_seconds: uptime.as_secs(),
            mode: format!("{:?}", config.mode),
            checks: checks
                .into_iter()
                .map(|(name, passes)| Check {
                    name: name.to_owned(),
                    failure: passes.err(),
                })
                .collect(),
            conflicts: Conflicts {
                met: readings
                    .namespaces
                    .values()
                    .map(|namespace| namespace.conflicts)
                    .sum(),
                absorbed,
                absorbed_per_minute,
                step_seconds: STEP.as_secs(),
            },
            outcomes: Outcome::ALL
                .iter()
                .map(|outcome| Ended::of(*outcome, &readings))
                .collect(),
            namespaces: ranked(&readings),
            held: readings.held,
            longest_held: held
                .iter()
                .filter(|held| held.next_attempt.is_some())
                .take(HELD)
                .map(Held::from)
                .collect(),
            streams: readings.streams,
            downstream_connections: readings.downstream_connections,
            servers,
            limits: limits::of(config, &readings),
            certificate: Certificate::of(readings.certificate_expiry, now),
            decisions: told
                .into_iter()
                .take(DECISIONS)
                .map(Decision::from)
                .collect(),
            decided: decisions.len() as u64,
            plain: plain.len() as u64,
        }
    }

    /// Whether every check passes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.failure.is_none())
    }

    /// What the mode means, and has done so far.
    #[must_use]
    pub fn mode_in_words(&self) -> String {
        match self.mode.as_str() {
            "Off" => "A plain proxy: nothing is replayed.".to_owned(),
            "Observe" => {
                format!(
                    "Nothing is replayed; {} would have been.",
                    counted(self.ended(Outcome::Observed), "create")
                )
            }
            _ => "Creates are sent again until the apiserver has decided.".to_owned(),
        }
    }

    /// How many creates ended so, all namespaces together.
    #[must_use]
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.outcomes
            .iter()
            .filter(|each| each.outcome == outcome.as_str())
            .map(|each| each.count)
            .sum()
    }
}

/// Those with anything to tell, by conflicts and then by name.
fn ranked(readings: &Readings) -> Vec<Namespace> {
    let namespaces = readings
        .namespaces
        .iter()
        .map(|(name, reading)| Namespace::of(name, reading));
    let mut ranked: Vec<_> = namespaces
        .filter(|namespace| namespace.conflicts + namespace.creates() > 0)
        .collect();
    ranked.sort_by(|a, b| {
        b.conflicts
            .cmp(&a.conflicts)
            .then_with(|| a.name.cmp(&b.name))
    });
    ranked
}

impl Namespace {
    fn of(name: &str, reading: &NamespaceReading) -> Self {
        let [created, created_after_replay, gave_up] = [
            Outcome::Created,
            Outcome::CreatedAfterReplay,
            Outcome::GaveUp,
        ]
        .map(|outcome| reading.ended(outcome));
        let all: u64 = reading.outcomes.values().sum();
        let others = all - created - created_after_replay - gave_up;
        Self {
            name: name.to_owned(),
            conflicts: reading.conflicts,
            created,
            created_after_replay,
            gave_up,
            others,
        }
    }

    /// Creates that have ended.
    #[must_use]
    pub fn creates(&self) -> u64 {
        self.created + self.created_after_replay + self.gave_up + self.others
    }

    /// The name, or in words what the metrics' label stands for.
    #[must_use]
    pub fn title(&self) -> &str {
        match self.name.as_str() {
            "_other" => "(all others)",
            "_cluster" => "(no namespace)",
            name => name,
        }
    }
}

impl Ended {
    fn of(outcome: Outcome, readings: &Readings) -> Self {
        let count = readings
            .namespaces
            .values()
            .map(|namespace| namespace.ended(outcome))
            .sum();
        Self {
            outcome: outcome.as_str().to_owned(),
            in_words: outcome.in_words().to_owned(),
            count,
        }
    }
}

impl Certificate {
    fn of(expiry: u64, now: SystemTime) -> Self {
        if expiry == 0 {
            return Self {
                expires: String::new(),
                seconds_left: 0,
            };
        }
        let now = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let seconds_left = i64::try_from(expiry)
            .unwrap_or(i64::MAX)
            .saturating_sub_unsigned(now);
        // What no calendar has is left empty.
        let expires = UNIX_EPOCH
            .checked_add(Duration::from_secs(expiry))
            .map(decisions::rfc3339)
            .unwrap_or_default();
        Self {
            expires,
            seconds_left,
        }
    }
}

impl Certificate {
    /// Whether a person should do something about it: a month is left.
    #[must_use]
    pub fn ends_soon(&self) -> bool {
        !self.expires.is_empty() && self.seconds_left < 30 * 86_400
    }

    /// The time until it expires, in words.
    #[must_use]
    pub fn left(&self) -> String {
        match u64::try_from(self.seconds_left) {
            _ if self.expires.is_empty() => "not known".to_owned(),
            Err(_) => "expired".to_owned(),
            // Nobody plans by the hour.
            Ok(left) => match left / 86_400 {
                0 => span(Duration::from_secs(left)),
                days => counted(days, "day"),
            },
        }
    }
}

impl From<&HeldCreate> for Held {
    fn from(held: &HeldCreate) -> Self {
        Self {
            namespace: held.namespace.to_string(),
            name: held.name.to_string(),
            attempts: held.attempts as u64,
            class: held.class.to_owned(),
            held_for_ms: millis(held.since.elapsed()),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests;
