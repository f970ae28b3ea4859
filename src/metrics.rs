//! The metrics for Prometheus. `app` injects them as `Arc<Metrics>`. This is the only module that
//! knows the prometheus crate.
//!
//! Methods are named after events, so that the names of metrics are only in `metrics/families.rs`.
//! A gauge counts guards: it falls when a guard is dropped. Nothing here allocates or formats for a
//! request that is passed through.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{IntCounterVec, Registry, TextEncoder};

use crate::config::Mode;
use crate::verdict::Outcome;

mod bounded;
mod families;
mod guards;
mod labels;
mod lanes;
mod readings;
mod register;

pub use guards::{GaugeGuard, Level, Unread};
pub use labels::{
    Ambiguity, BudgetKind, CertificateUse, Closed, NotReplayed, PinMove, Port, QuotaWait,
    QuotaWake, Reloaded, RouteLabel, Scope, StreamKind,
};
pub use lanes::LaneMetrics;
pub use readings::{Reading, Readings};

use bounded::BoundedLabels;
use families::{Families, RouteMetrics, mode_label, result};

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The most resources that have their own label. A cluster has some dozens whose objects are
/// created all day, and each costs a series for each outcome.
const MAX_RESOURCES: usize = 100;

/// All metrics of one proxy, in a separate registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    namespaces: BoundedLabels,
    resources: BoundedLabels,
}

impl Metrics {
    /// All metrics at 0. At most `max_namespaces` namespaces get their own label. `classes` are the
    /// labels of all classes of answers.
    #[must_use]
    pub fn new(max_namespaces: usize, classes: &[&'static str]) -> Self {
        let registry = Registry::new();
        let families = Families::register(&registry, classes);
        Self {
            registry,
            families,
            namespaces: BoundedLabels::of_namespaces(max_namespaces),
            resources: BoundedLabels::of_resources(MAX_RESOURCES),
        }
    }

    /// A request got its final answer, `elapsed` after its headers arrived.
    pub fn request(&self, route: RouteLabel, code: u16, elapsed: Duration) {
        let children = self.route(route);
        children.duration.observe(elapsed.as_secs_f64());
        let child = |code: &str| {
            self.families
                .requests
                .with_label_values(&[route.as_str(), code])
        };
        match usize::from(code)
            .checked_sub(100)
            .and_then(|index| children.codes.get(index))
        {
            Some(counter) => counter.get_or_init(|| child(&code.to_string())).inc(),
            // Codes up to 999 are valid in HTTP. They share one label, so that the upstream cannot
            // make up hundreds of series.
            None => child("other").inc(),
        }
    }

    /// A request spent `elapsed` in the proxy itself. This excludes reading the body, the upstream,
    /// the rate limit and pauses.
    pub fn overhead(&self, route: RouteLabel, elapsed: Duration) {
        self.route(route).overhead.observe(elapsed.as_secs_f64());
    }

    /// An attempt of a create ended with an answer of this code. None: no answer came.
    pub fn attempt(&self, class: &'static str, code: Option<u16>) {
        let code = code.map(|code| code.to_string());
        self.families
            .attempts
            .with_label_values(&[class, code.as_deref().unwrap_or("none")])
            .inc();
    }

    /// The apiserver let a create into the namespace, so the namespace gets a label.
    pub fn authorized(&self, namespace: &str) {
        self.namespaces.admit(namespace);
    }

    /// The upstream answered a create with a quota conflict.
    pub fn conflict(&self, namespace: &str, resource: &str, class: &'static str) {
        self.families
            .conflicts
            .with_label_values(&[self.namespaces.admit(namespace), class])
            .inc();
        self.families
            .resource_conflicts
            .with_label_values(&[self.resources.admit(resource), class])
            .inc();
    }

    /// A create is sent again after an answer of `class`.
    pub fn replay(&self, class: &'static str) {
        self.families.replays.with_label_values(&[class]).inc();
    }

    /// A create ended. This is called exactly once for each create.
    pub fn outcome(&self, namespace: &str, resource: &str, outcome: Outcome) {
        // Anybody can cause the other outcomes, with any namespace and resource.
        let (namespace, resource) = if outcome.is_stored() {
            (
                self.namespaces.admit(namespace),
                self.resources.admit(resource),
            )
        } else {
            (
                self.namespaces.label(namespace),
                self.resources.label(resource),
            )
        };
        self.families
            .outcomes
            .with_label_values(&[namespace, outcome.as_str()])
            .inc();
        self.families
            .resource_outcomes
            .with_label_values(&[resource, outcome.as_str()])
            .inc();
    }

    /// A create that could have been sent again was not.
    pub fn not_replayed(&self, reason: NotReplayed) {
        self.families
            .not_replayed
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// A create that had an ambiguous answer ended.
    pub fn ambiguous(&self, result: Ambiguity) {
        self.families
            .ambiguous
            .with_label_values(&[result.as_str()])
            .inc();
    }

    /// A create that was held ended. All its pauses together took `elapsed`.
    pub fn hold(&self, elapsed: Duration) {
        self.families.hold.observe(elapsed.as_secs_f64());
    }

    /// A create waits between two attempts until the guard is dropped.
    pub fn held(&self) -> GaugeGuard {
        GaugeGuard::new(&self.families.held)
    }

    /// A create waits for a full quota, and learns in this way that it has room, until the guard is
    /// dropped.
    pub fn quota_waiting(&self, how: QuotaWait) -> GaugeGuard {
        let waiting = &self.families.quota_waiting;
        GaugeGuard::new(&waiting.with_label_values(&[how.as_str()]))
    }

    /// A create that waited for a full quota is sent again.
    pub fn quota_wake(&self, why: QuotaWake) {
        let wakes = &self.families.quota_wakes;
        wakes.with_label_values(&[why.as_str()]).inc();
    }

    /// A create that waited for a full quota ended, this long after the first refusal.
    pub fn quota_waited(&self, elapsed: Duration) {
        self.families.quota_wait.observe(elapsed.as_secs_f64());
    }

    /// The quotas of a namespace are watched until the guard is dropped.
    pub fn quota_watch(&self) -> GaugeGuard {
        GaugeGuard::new(&self.families.quota_watches)
    }

    /// The quotas of a namespace could not be watched.
    pub fn quota_watch_failed(&self) {
        self.families.quota_watch_failures.inc();
    }

    /// The bytes of memory that the heads and bodies of creates occupy.
    pub fn buffered(&self) -> Level {
        Level::new(&self.families.buffered)
    }

    /// The memory for answers that clients do not read.
    pub fn unread(&self) -> Unread {
        Unread {
            bytes: Level::new(&self.families.unread),
            let_go: self.families.let_go.clone(),
        }
    }

    /// A stream is open until the guard is dropped.
    pub fn stream_open(&self, kind: StreamKind) -> GaugeGuard {
        GaugeGuard::new(&self.families.streams.with_label_values(&[kind.as_str()]))
    }

    /// A client's connection is open until the guard is dropped.
    pub fn downstream_connection(&self) -> GaugeGuard {
        GaugeGuard::new(&self.families.downstream_connections)
    }

    /// The proxy closed a connection to this port.
    pub fn connection_closed(&self, port: Port, why: Closed) {
        self.families
            .connections_closed
            .with_label_values(&[port.as_str(), why.as_str()])
            .inc();
    }

    /// A replay did not happen because the budget of this scope was spent.
    pub fn budget_exhausted(&self, scope: Scope, kind: BudgetKind) {
        self.families
            .budget_exhausted
            .with_label_values(&[scope.as_str(), kind.as_str()])
            .inc();
    }

    /// A create waited for the rate limit. This is not called for creates that did not wait.
    pub fn rate_limit_waited(&self, waited: Duration) {
        self.families.rate_limit_wait.observe(waited.as_secs_f64());
    }

    /// The proxy's own rate limit answered a create with 429.
    pub fn rate_limit_rejected(&self, scope: Scope) {
        self.families
            .rate_limit_rejected
            .with_label_values(&[scope.as_str()])
            .inc();
    }

    /// The server `host:port` of the upstream went up or down.
    pub fn upstream_up(&self, server: &str, up: bool) {
        self.families
            .upstream_up
            .with_label_values(&[server])
            .set(up.into());
    }

    /// A server no longer belongs to the upstream.
    pub fn upstream_gone(&self, server: &str) {
        // This fails only if there is no such series, which is fine.
        let _ = self.families.upstream_up.remove_label_values(&[server]);
    }

    /// The creates of a namespace now go to another server.
    pub fn pin_moved(&self, why: PinMove) {
        self.families
            .pins_moved
            .with_label_values(&[why.as_str()])
            .inc();
    }

    /// The metrics of a lane, looked up once, since every request needs them.
    pub fn lane(&self, lane: &'static str) -> LaneMetrics {
        LaneMetrics::new(&self.families, lane)
    }

    /// An attempt ended without an answer.
    pub fn upstream_error(&self, kind: &'static str) {
        self.families
            .upstream_errors
            .with_label_values(&[kind])
            .inc();
    }

    /// Something was reloaded at run time, or could not be.
    pub fn reload(&self, what: Reloaded, ok: bool) {
        self.families
            .reloads
            .with_label_values(&[what.as_str(), result(ok)])
            .inc();
    }

    /// The serving certificate in use expires at this Unix time, in seconds.
    pub fn certificate_expiry(&self, unix_seconds: i64) {
        // Exact up to the year 285 million.
        self.families.certificate_expiry.set(unix_seconds as f64);
    }

    /// The certificate that the proxy shows to the upstream expires at this Unix time, in seconds.
    pub fn front_proxy_certificate_expiry(&self, unix_seconds: i64) {
        self.families
            .front_proxy_expiry
            .with_label_values(&[] as &[&str])
            .set(unix_seconds as f64);
    }

    /// A request came over a connection with a client certificate.
    pub fn client_certificate(&self, used: CertificateUse) {
        self.families.client_certificates[used as usize].inc();
    }

    /// This mode is now in effect.
    pub fn mode(&self, mode: Mode) {
        for each in [Mode::Off, Mode::Observe, Mode::Enforce] {
            self.families
                .mode
                .with_label_values(&[mode_label(each)])
                .set((each == mode).into());
        }
    }

    /// This many spans reached the collector, or were dropped.
    pub fn spans(&self, exported: bool, spans: u64) {
        self.families
            .spans
            .with_label_values(&[result(exported)])
            .inc_by(spans);
    }

    /// The apiserver accepted a Kubernetes Event, or did not.
    pub fn event(&self, accepted: bool) {
        self.families
            .events
            .with_label_values(&[result(accepted)])
            .inc();
    }

    /// Quota conflicts since the start.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        total(&self.families.conflicts)
    }

    /// Replays since the start.
    #[must_use]
    pub fn replays(&self) -> u64 {
        total(&self.families.replays)
    }

    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        // This fails only for an invalid name or a family without metrics. Names are constants, and
        // gather leaves empty families out.
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }

    fn route(&self, route: RouteLabel) -> &RouteMetrics {
        // families.rs makes one for each label, in the same order.
        &self.families.routes[route as usize]
    }
}

/// The sum of a family's counters.
fn total(counters: &IntCounterVec) -> u64 {
    let sum: f64 = counters
        .collect()
        .iter()
        .flat_map(|family| family.get_metric())
        .map(|metric| metric.get_counter().get_value())
        .sum();
    sum as u64
}

#[cfg(test)]
mod tests;
