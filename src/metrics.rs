//! What the proxy tells Prometheus. Injected as `Arc<Metrics>` by `app`; the only module that knows
//! the prometheus crate.
//!
//! Methods are named for events, so that no metric's name stands outside of `metrics/families.rs`.
//! What is held is a guard: its share of the gauge falls when it is dropped. Nothing on the
//! pass-through path allocates or formats.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{IntCounterVec, Registry, TextEncoder};

use crate::config::Mode;
use crate::verdict::Outcome;

mod families;
mod guards;
mod labels;
mod lanes;
mod namespaces;
mod readings;

pub use guards::{GaugeGuard, Level, Unread};
pub use labels::{
    BudgetKind, Closed, NotReplayed, PinMove, Port, Reloaded, RouteLabel, Scope, StreamKind,
};
pub use lanes::LaneMetrics;
pub use readings::{NamespaceReading, Readings};

use families::{Families, Route, mode_label, result};
use namespaces::Namespaces;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All metrics of one proxy, with a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    namespaces: Namespaces,
}

impl Metrics {
    /// Metrics at 0. `max_namespaces` get a label of their own; `classes` are the names of the
    /// classes that an answer can fall in.
    #[must_use]
    pub fn new(max_namespaces: usize, classes: &[&'static str]) -> Self {
        let registry = Registry::new();
        let families = Families::register(&registry, classes);
        Self {
            registry,
            families,
            namespaces: Namespaces::new(max_namespaces),
        }
    }

    /// A request has its final answer, `elapsed` after its own headers came.
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
            // Three digits are valid up to 999, but nobody counts with those: one label keeps a
            // strange upstream bounded.
            None => child("other").inc(),
        }
    }

    /// A request spent `elapsed` in the proxy itself: without reading its body, the upstream, the
    /// rate limit and holding.
    pub fn overhead(&self, route: RouteLabel, elapsed: Duration) {
        self.route(route).overhead.observe(elapsed.as_secs_f64());
    }

    /// An attempt of a create ended, with an answer of this code or with none.
    pub fn attempt(&self, class: &'static str, code: Option<u16>) {
        let code = code.map(|code| code.to_string());
        self.families
            .attempts
            .with_label_values(&[class, code.as_deref().unwrap_or("none")])
            .inc();
    }

    /// The upstream answered a create with a quota conflict.
    pub fn conflict(&self, namespace: &str, class: &'static str) {
        self.families
            .conflicts
            .with_label_values(&[self.namespaces.admit(namespace), class])
            .inc();
    }

    /// A create is sent again; `class` is that of the answer before.
    pub fn replay(&self, class: &'static str) {
        self.families.replays.with_label_values(&[class]).inc();
    }

    /// A create ended. Called exactly once for each.
    pub fn outcome(&self, namespace: &str, outcome: Outcome) {
        let namespace = if outcome.proves_namespace() {
            self.namespaces.admit(namespace)
        } else {
            self.namespaces.label(namespace)
        };
        self.families
            .outcomes
            .with_label_values(&[namespace, outcome.as_str()])
            .inc();
    }

    /// A create that might have been sent again was not.
    pub fn not_replayed(&self, reason: NotReplayed) {
        self.families
            .not_replayed
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// A create that was held is over; it waited this long between its attempts.
    pub fn hold(&self, elapsed: Duration) {
        self.families.hold.observe(elapsed.as_secs_f64());
    }

    /// A create waits between two attempts, until the guard is dropped.
    pub fn held(&self) -> GaugeGuard {
        GaugeGuard::new(&self.families.held)
    }

    /// The memory that creates occupy, heads and bodies, in bytes.
    pub fn buffered(&self) -> Level {
        Level::new(&self.families.buffered)
    }

    /// Answers that are not read.
    pub fn unread(&self) -> Unread {
        Unread {
            bytes: Level::new(&self.families.unread),
            let_go: self.families.let_go.clone(),
        }
    }

    /// A stream is open, until the guard is dropped.
    pub fn stream_open(&self, kind: StreamKind) -> GaugeGuard {
        GaugeGuard::new(&self.families.streams.with_label_values(&[kind.as_str()]))
    }

    /// A client's connection is open, until the guard is dropped.
    pub fn downstream_connection(&self) -> GaugeGuard {
        GaugeGuard::new(&self.families.downstream_connections)
    }

    /// The proxy closed a connection that came to this port.
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

    /// A create waited for its turn under the rate limit. Not called for those that did not wait.
    pub fn rate_limit_waited(&self, waited: Duration) {
        self.families.rate_limit_wait.observe(waited.as_secs_f64());
    }

    /// A create was answered 429 by the proxy's own rate limit.
    pub fn rate_limit_rejected(&self, scope: Scope) {
        self.families
            .rate_limit_rejected
            .with_label_values(&[scope.as_str()])
            .inc();
    }

    /// A server of the upstream, named `host:port`, is used or not.
    pub fn upstream_up(&self, server: &str, up: bool) {
        self.families
            .upstream_up
            .with_label_values(&[server])
            .set(up.into());
    }

    /// A server is no longer one of the upstream's.
    pub fn upstream_gone(&self, server: &str) {
        // It fails only if there is no such label value, and then all is as it should be.
        let _ = self.families.upstream_up.remove_label_values(&[server]);
    }

    /// The creates of a namespace go to another server from now on.
    pub fn pin_moved(&self, why: PinMove) {
        self.families
            .pins_moved
            .with_label_values(&[why.as_str()])
            .inc();
    }

    /// What a lane tells, looked up once: every request is a stream of one.
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

    /// Something was loaded again at run time, or could not be.
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

    /// This mode is in effect from now on.
    pub fn mode(&self, mode: Mode) {
        for each in [Mode::Off, Mode::Observe, Mode::Enforce] {
            self.families
                .mode
                .with_label_values(&[mode_label(each)])
                .set((each == mode).into());
        }
    }

    /// So many spans of traces reached the collector, or were dropped.
    pub fn spans(&self, exported: bool, spans: u64) {
        self.families
            .spans
            .with_label_values(&[result(exported)])
            .inc_by(spans);
    }

    /// A Kubernetes Event was taken by the apiserver, or not.
    pub fn event(&self, taken: bool) {
        self.families
            .events
            .with_label_values(&[result(taken)])
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

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        // Fails only for an invalid name or a family without metrics: the first is impossible here,
        // the second is left out by gather.
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }

    fn route(&self, route: RouteLabel) -> &Route {
        // families.rs makes one for each label, in this order.
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
