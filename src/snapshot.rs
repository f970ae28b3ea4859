//! The state of the proxy at one moment, as plain data.
//!
//! `admin` makes a [`Snapshot`] and shows it as the status page, its live updates and
//! `/status.json`; the `status` and `explain` commands read it back. Its numbers are those of
//! `/metrics`. The names of the fields are API. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod decision;
pub mod words;

pub use decision::{AttemptSummary, DecisionSummary};

use crate::verdict::Outcome;
use words::{counted, duration};

/// A certificate that expires within this many seconds needs attention: 30 days.
const EXPIRES_SOON: i64 = 30 * 86_400;

/// The status of the proxy at one moment. A reader ignores fields that it does not know, so the
/// `status` command can read the snapshot of a newer proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The proxy's version.
    pub version: String,
    /// When the snapshot was made, in RFC 3339 UTC.
    pub time: String,
    /// Seconds since the proxy started.
    pub uptime_seconds: u64,
    /// `Off`, `Observe` or `Enforce`.
    pub mode: String,
    /// The checks of `/readyz`.
    pub checks: Vec<CheckSummary>,
    /// Quota conflicts of all namespaces.
    pub conflicts: ConflictSummary,
    /// How many creates ended in each way, zeros included.
    pub outcomes: Vec<OutcomeSummary>,
    /// Namespaces with any creates or conflicts, those with the most conflicts first.
    pub namespaces: Vec<CountsSummary>,
    /// Resources with any creates or conflicts, those with the most conflicts first.
    pub resources: Vec<CountsSummary>,
    /// Creates that wait between two attempts.
    pub held: u64,
    /// The first few of those creates, the longest held first.
    pub longest_held: Vec<HeldSummary>,
    /// Open watches, followed logs and upgraded connections.
    pub streams: u64,
    /// Open connections of clients.
    pub downstream_connections: u64,
    /// The apiservers.
    pub servers: Vec<ServerSummary>,
    /// Every limit, its setting, and how many times it was reached.
    pub limits: Vec<LimitSummary>,
    /// The serving certificate.
    pub certificate: CertificateSummary,
    /// The certificate that the proxy shows to the apiservers. None: client certificates do not
    /// pass.
    #[serde(default)]
    pub front_proxy_certificate: Option<CertificateSummary>,
    /// The last creates, newest first, without those that succeeded at the first attempt.
    pub decisions: Vec<DecisionSummary>,
    /// How many finished creates the proxy remembers.
    pub decided: u64,
    /// How many of those succeeded at the first attempt and are not in `decisions`.
    pub plain: u64,
}

/// One readiness check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSummary {
    /// Its name in `/readyz?verbose`.
    pub name: String,
    /// Why it fails. None: it passes.
    pub failure: Option<String>,
}

/// Quota conflicts since the start, and their recent history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConflictSummary {
    /// Conflicts that the apiserver answered with.
    pub met: u64,
    /// Conflicts after which the create was sent again, so that the client did not see them.
    pub absorbed: u64,
    /// Conflicts absorbed within one minute: one value every `step_seconds`, oldest first. The last
    /// value is for the minute that ends now.
    pub absorbed_per_minute: Vec<u64>,
    /// Seconds between two values.
    pub step_seconds: u64,
}

impl ConflictSummary {
    /// Conflicts absorbed in the minute that ends now.
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

/// How many creates ended in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeSummary {
    /// The label of the metric `outcomes_total`.
    pub outcome: String,
    /// The outcome in words.
    pub in_words: String,
    /// Creates of all namespaces since the start.
    pub count: u64,
}

/// The counts of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountsSummary {
    /// The label of the metrics: the name of the namespace or resource, or `_other` for all that
    /// have no label of their own.
    pub name: String,
    /// Quota conflicts.
    pub conflicts: u64,
    /// Creates that the first attempt stored.
    pub created: u64,
    /// Creates that a replay stored.
    pub created_after_replay: u64,
    /// Creates that were given up at a limit; the client got the apiserver's last answer.
    pub gave_up: u64,
    /// Creates that ended in any other way.
    pub others: u64,
}

impl CountsSummary {
    /// Creates that have ended.
    #[must_use]
    pub fn creates(&self) -> u64 {
        self.created + self.created_after_replay + self.gave_up + self.others
    }

    /// The name, or the meaning of the label in words.
    #[must_use]
    pub fn title(&self) -> &str {
        match self.name.as_str() {
            "_other" => "(all others)",
            name => name,
        }
    }
}

/// One create that waits for its next attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldSummary {
    /// The namespace.
    pub namespace: String,
    /// The object's name. Empty if it is not known; ends in `*` if the apiserver completes it.
    pub name: String,
    /// The resource, as in `pods` or `jobs.batch`.
    pub resource: String,
    /// Attempts so far.
    pub attempts: u64,
    /// The class of the last answer.
    pub class: String,
    /// The quota and the amounts that it waits for; empty if it does not wait for a quota.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waits_for: String,
    /// Milliseconds since its first pause began.
    pub held_for_ms: u64,
}

/// One apiserver, or one address of several apiservers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerSummary {
    /// Its host and port.
    pub address: String,
    /// Whether requests are sent to it.
    pub healthy: bool,
    /// Seconds since `healthy` last changed. None: not known.
    pub for_seconds: Option<u64>,
    /// The last reason why it was not healthy. It remains after the server has recovered.
    pub last_error: Option<String>,
    /// Open connections to it.
    pub connections: u64,
    /// Requests that it has not finished answering, watches included.
    pub in_flight: u64,
    /// How many namespaces are pinned to it: their creates go to this server.
    pub pinned: u64,
    /// The first of those namespaces.
    pub namespaces: Vec<String>,
}

/// One limit of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitSummary {
    /// The name of the limit, in words.
    pub what: String,
    /// Its field in the configuration; empty if the client sets the limit.
    pub field: String,
    /// Its setting, in words.
    pub set: String,
    /// How much of it is in use, in words; empty if that is not counted.
    pub now: String,
    /// How many times it prevented that a create was sent, or sent again.
    pub reached: u64,
}

/// When a certificate of the proxy expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSummary {
    /// In RFC 3339 UTC; empty if it is not known.
    pub expires: String,
    /// Seconds until then; negative afterwards.
    pub seconds_left: i64,
}

impl CertificateSummary {
    /// Whether it expires within 30 days, or has expired.
    #[must_use]
    pub fn expires_soon(&self) -> bool {
        !self.expires.is_empty() && self.seconds_left < EXPIRES_SOON
    }

    /// The time until it expires, in words.
    #[must_use]
    pub fn time_left(&self) -> String {
        match u64::try_from(self.seconds_left) {
            _ if self.expires.is_empty() => "not known".to_owned(),
            Err(_) => "expired".to_owned(),
            // Hours do not matter when there are days.
            Ok(seconds) => match seconds / 86_400 {
                0 => duration(Duration::from_secs(seconds)),
                days => counted(days, "day"),
            },
        }
    }
}

impl HeldSummary {
    /// The resource, the namespace and the name, as in `pods team/step-1`.
    #[must_use]
    pub fn object(&self) -> String {
        object(&self.resource, &self.namespace, &self.name)
    }

    /// The class of the last answer in words, and the quota that the create waits for.
    #[must_use]
    pub fn last_answer(&self) -> String {
        let class = self.class.replace('_', " ");
        if self.waits_for.is_empty() {
            class
        } else {
            format!("{class}: {}", self.waits_for)
        }
    }
}

/// The resource, the namespace and the name, with `?` for a name that is not known.
fn object(resource: &str, namespace: &str, name: &str) -> String {
    let name = if name.is_empty() { "?" } else { name };
    format!("{resource} {namespace}/{name}")
}

impl Snapshot {
    /// The certificates of the proxy, each with a phrase before the time that is left.
    pub fn certificates(&self) -> impl Iterator<Item = (&'static str, &CertificateSummary)> {
        let serving = ("until the certificate expires", &self.certificate);
        let front_proxy = self.front_proxy_certificate.as_ref();
        let front_proxy =
            front_proxy.map(|shown| ("until the front proxy's certificate expires", shown));
        std::iter::once(serving).chain(front_proxy)
    }

    /// Whether every check passes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.failure.is_none())
    }

    /// A sentence about what the mode means.
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

    /// How many creates of all namespaces ended with this outcome.
    #[must_use]
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.outcomes
            .iter()
            .filter(|each| each.outcome == outcome.as_str())
            .map(|each| each.count)
            .sum()
    }
}
