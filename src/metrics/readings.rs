//! The current values of the metrics as plain numbers. They come from the same families that
//! `/metrics` renders, so the status page always agrees with it.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::proto::Metric;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::Metrics;
use super::labels::{BudgetKind, NotReplayed, Scope};
use crate::verdict::Outcome;

/// The values at one moment. They are read one after the other, so a create that ends meanwhile may
/// be counted in only some of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Readings {
    /// The counts of each namespace label, including `_other`.
    pub namespaces: BTreeMap<String, Reading>,
    /// The counts of each resource label, including `_other`.
    pub resources: BTreeMap<String, Reading>,
    /// How many creates were not sent again, for each reason.
    pub not_replayed: BTreeMap<&'static str, u64>,
    /// How many replays the budget of each kind prevented, both scopes together.
    pub budget_exhausted: BTreeMap<&'static str, u64>,
    /// How many creates the rate limit of each scope refused.
    pub rate_limit_rejected: BTreeMap<&'static str, u64>,
    /// Creates that wait between two attempts.
    pub held: u64,
    /// Bytes of request bodies kept for replay.
    pub buffered_bytes: u64,
    /// Open watches, followed logs and upgraded connections.
    pub streams: u64,
    /// Open connections of clients.
    pub downstream_connections: u64,
    /// When the serving certificate expires, in Unix time; 0 if it is not known.
    pub certificate_expiry: u64,
    /// When the certificate that the proxy shows to the upstream expires, in Unix time. None: it
    /// has none.
    pub front_proxy_expiry: Option<u64>,
}

/// The counts of one namespace or one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Quota conflicts, all classes together.
    pub conflicts: u64,
    /// Creates by the label of their outcome. Outcomes that never occurred may be missing.
    pub outcomes: BTreeMap<String, u64>,
}

impl Reading {
    /// How many creates ended with this outcome.
    #[must_use]
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.outcomes
            .get(outcome.as_str())
            .copied()
            .unwrap_or_default()
    }
}

impl Metrics {
    /// Reads every value that the status page shows.
    #[must_use]
    pub fn read(&self) -> Readings {
        let families = &self.families;
        let exhausted = |kind: BudgetKind| {
            let of = |scope: &Scope| {
                families
                    .budget_exhausted
                    .with_label_values(&[scope.as_str(), kind.as_str()])
                    .get()
            };
            Scope::ALL.iter().map(of).sum()
        };
        let count = |counters: &IntCounterVec, label: &'static str| {
            (label, counters.with_label_values(&[label]).get())
        };
        Readings {
            namespaces: readings("namespace", &families.conflicts, &families.outcomes),
            resources: readings(
                "resource",
                &families.resource_conflicts,
                &families.resource_outcomes,
            ),
            not_replayed: NotReplayed::ALL
                .iter()
                .map(|reason| count(&families.not_replayed, reason.as_str()))
                .collect(),
            budget_exhausted: BudgetKind::ALL
                .iter()
                .map(|kind| (kind.as_str(), exhausted(*kind)))
                .collect(),
            rate_limit_rejected: Scope::ALL
                .iter()
                .map(|scope| count(&families.rate_limit_rejected, scope.as_str()))
                .collect(),
            held: level(&families.held),
            buffered_bytes: level(&families.buffered),
            streams: levels(&families.streams),
            downstream_connections: level(&families.downstream_connections),
            certificate_expiry: families.certificate_expiry.get() as u64,
            front_proxy_expiry: families
                .front_proxy_expiry
                .collect()
                .iter()
                .flat_map(|family| family.get_metric())
                .map(|metric| metric.get_gauge().get_value() as u64)
                .next(),
        }
    }

    /// How many times creates were sent again after an answer of this class.
    #[must_use]
    pub fn replays_after(&self, class: &'static str) -> u64 {
        self.families.replays.with_label_values(&[class]).get()
    }
}

/// The counts for each value of `label`.
fn readings(
    label: &str,
    conflicts: &IntCounterVec,
    outcomes: &IntCounterVec,
) -> BTreeMap<String, Reading> {
    let mut readings: BTreeMap<String, Reading> = BTreeMap::new();
    for (labels, count) in counts(conflicts) {
        readings.entry(labels.of(label)).or_default().conflicts += count;
    }
    for (labels, count) in counts(outcomes) {
        let reading = readings.entry(labels.of(label)).or_default();
        *reading.outcomes.entry(labels.of("outcome")).or_default() += count;
    }
    readings
}

/// The labels of one series.
struct Labels(Metric);

impl Labels {
    fn of(&self, name: &str) -> String {
        let pair = self.0.get_label().iter().find(|pair| pair.name() == name);
        pair.map(|pair| pair.value().to_owned()).unwrap_or_default()
    }
}

fn counts(counters: &IntCounterVec) -> impl Iterator<Item = (Labels, u64)> {
    let series = counters
        .collect()
        .into_iter()
        .flat_map(|mut family| family.take_metric());
    series.map(|metric| {
        let count = metric.get_counter().get_value() as u64;
        (Labels(metric), count)
    })
}

fn level(gauge: &IntGauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or_default()
}

fn levels(gauges: &IntGaugeVec) -> u64 {
    let families = gauges.collect();
    families
        .iter()
        .flat_map(|family| family.get_metric())
        .map(|metric| metric.get_gauge().get_value().max(0.0) as u64)
        .sum()
}
