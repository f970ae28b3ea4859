//! Every metric of the proxy: its name, its help, its labels and its buckets.
//!
//! Names, labels and help texts are API, and `tests/snapshots/metrics.txt` pins them. Counters
//! whose label values are known start at 0, so that `rate()` sees their first increase.

use std::sync::OnceLock;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};

use super::bounded::OTHER;
use super::labels::{
    Ambiguity, BudgetKind, CertificateUse, Closed, NotReplayed, PinMove, Port, QuotaWait,
    QuotaWake, Reloaded, RouteLabel, Scope, StreamKind,
};
use super::register::{PREFIX, Register};
use crate::config::Mode;
use crate::verdict::Outcome;

/// From one millisecond, as for renewing a lease, to the apiserver's own limit of 60 s.
const REQUEST_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// The proxy's own overhead is microseconds in normal operation.
const OVERHEAD_BUCKETS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1.0,
];
/// From one short pause to the longest opt-in hold.
const HOLD_BUCKETS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
];
/// From one status of a quota to the longest hold that makes sense.
const QUOTA_WAIT_BUCKETS: &[f64] = &[
    0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];
/// From the wait of one create at a high rate to beyond the default `maxWait`.
const WAIT_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// TCP, TLS and HTTP handshakes, up to the default connect timeout.
const CONNECT_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// The metrics, each registered under its name.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) requests: IntCounterVec,
    pub(super) routes: Vec<RouteMetrics>,
    pub(super) attempts: IntCounterVec,
    pub(super) conflicts: IntCounterVec,
    pub(super) resource_conflicts: IntCounterVec,
    pub(super) replays: IntCounterVec,
    pub(super) outcomes: IntCounterVec,
    pub(super) resource_outcomes: IntCounterVec,
    pub(super) not_replayed: IntCounterVec,
    pub(super) ambiguous: IntCounterVec,
    pub(super) hold: Histogram,
    pub(super) held: IntGauge,
    pub(super) quota_waiting: IntGaugeVec,
    pub(super) quota_wakes: IntCounterVec,
    pub(super) quota_wait: Histogram,
    pub(super) quota_watches: IntGauge,
    pub(super) quota_watch_failures: IntCounter,
    pub(super) buffered: IntGauge,
    pub(super) unread: IntGauge,
    pub(super) let_go: IntCounter,
    pub(super) streams: IntGaugeVec,
    pub(super) downstream_connections: IntGauge,
    pub(super) connections_closed: IntCounterVec,
    pub(super) budget_exhausted: IntCounterVec,
    pub(super) rate_limit_wait: Histogram,
    pub(super) rate_limit_rejected: IntCounterVec,
    pub(super) upstream_up: IntGaugeVec,
    pub(super) pins_moved: IntCounterVec,
    pub(super) upstream_connections: IntGaugeVec,
    pub(super) upstream_streams: IntGaugeVec,
    pub(super) upstream_connect: HistogramVec,
    pub(super) upstream_errors: IntCounterVec,
    pub(super) reloads: IntCounterVec,
    pub(super) certificate_expiry: Gauge,
    /// Not there if the proxy has no such certificate.
    pub(super) front_proxy_expiry: GaugeVec,
    /// One counter for each use, in the order of the label.
    pub(super) client_certificates: Vec<IntCounter>,
    pub(super) mode: IntGaugeVec,
    pub(super) spans: IntCounterVec,
    pub(super) events: IntCounterVec,
}

/// The metrics of one route. They are resolved once, so that a request looks nothing up.
#[derive(Debug)]
pub(super) struct RouteMetrics {
    pub(super) duration: Histogram,
    pub(super) overhead: Histogram,
    /// One counter for each status code from 100 on, made at its first use.
    pub(super) codes: Box<[OnceLock<IntCounter>]>,
}

impl Families {
    /// Registers all metrics in `registry`. `classes` are the labels of all classes of answers.
    pub(super) fn register(registry: &Registry, classes: &[&str]) -> Self {
        let in_registry = Register(registry);
        let requests = in_registry.counters(
            "requests_total",
            "Requests answered, by route and status code of the final answer.",
            &["route", "code"],
        );
        let durations = in_registry.histograms(
            "request_duration_seconds",
            "Time from a request's headers to those of its final answer, holding included.",
            &["route"],
            REQUEST_BUCKETS,
        );
        let overheads = in_registry.histograms(
            "overhead_seconds",
            "Time that a request spent in the proxy itself, without the upstream and without holding.",
            &["route"],
            OVERHEAD_BUCKETS,
        );
        let client_certificates = in_registry.counters(
            "client_certificates_total",
            "Requests with a client certificate, by what became of it.",
            &["result"],
        );
        let families = Self {
            requests,
            routes: RouteLabel::ALL
                .iter()
                .map(|route| RouteMetrics {
                    duration: durations.with_label_values(&[route.as_str()]),
                    overhead: overheads.with_label_values(&[route.as_str()]),
                    codes: std::iter::repeat_with(OnceLock::new).take(500).collect(),
                })
                .collect(),
            attempts: in_registry.counters(
                "attempts_total",
                "Attempts of creates, by class and status code of the answer; code none where there was no answer.",
                &["class", "code"],
            ),
            conflicts: in_registry.counters(
                "conflicts_total",
                "Quota conflicts that the upstream answered creates with.",
                &["namespace", "class"],
            ),
            resource_conflicts: in_registry.counters(
                "resource_conflicts_total",
                "The same quota conflicts as conflicts_total, by resource.",
                &["resource", "class"],
            ),
            replays: in_registry.counters("replays_total", "Creates sent again, by class of the answer before.", &["class"]),
            outcomes: in_registry.counters("outcomes_total", "Creates, by how they ended for their clients.", &["namespace", "outcome"]),
            resource_outcomes: in_registry.counters(
                "resource_outcomes_total",
                "The same creates as outcomes_total, by resource.",
                &["resource", "outcome"],
            ),
            not_replayed: in_registry.counters(
                "not_replayed_total",
                "Creates that were not sent again although their answer or their route allowed it, by reason.",
                &["reason"],
            ),
            ambiguous: in_registry.counters(
                "ambiguous_total",
                "Creates with an answer that does not tell whether the object was stored, by what became of them.",
                &["result"],
            ),
            hold: in_registry.histogram(
                "hold_seconds",
                "Time that a create waited between attempts, for creates that waited. Those that waited for a full quota are in quota_wait_seconds.",
                HOLD_BUCKETS,
            ),
            held: in_registry.gauge("held", "Creates waiting between attempts."),
            quota_waiting: in_registry.gauges("quota_waiting", "Creates that wait for a full quota, by how they learn that it has room.", &["by"]),
            quota_wakes: in_registry.counters("quota_wakes_total", "Creates that waited for a full quota and were sent again, by reason.", &["why"]),
            quota_wait: in_registry.histogram(
                "quota_wait_seconds",
                "Time from the first refusal by a full quota to the end of the create.",
                QUOTA_WAIT_BUCKETS,
            ),
            quota_watches: in_registry.gauge("quota_watches", "Namespaces whose quotas are watched."),
            quota_watch_failures: in_registry.counter(
                "quota_watch_failures_total",
                "Failures to list or watch the quotas of a namespace; its creates poll meanwhile.",
            ),
            buffered: in_registry.gauge("buffered_bytes", "Memory reserved for creates (heads, bodies and large answers)."),
            unread: in_registry.gauge("unread_bytes", "Memory that answers may occupy whose clients have not read all that came."),
            let_go: in_registry.counter("answers_let_go_total", "Answers broken off because nobody read them while memory was short."),
            streams: in_registry.gauges("streams", "Open watches, followed logs and upgraded connections.", &["kind"]),
            downstream_connections: in_registry.gauge("downstream_connections", "Open connections of clients."),
            connections_closed: in_registry.counters(
                "connections_closed_total",
                "Connections that the proxy closed or refused by itself, by its port and the reason.",
                &["port", "reason"],
            ),
            budget_exhausted: in_registry.counters(
                "budget_exhausted_total",
                "Replays that did not happen because a budget was spent.",
                &["scope", "kind"],
            ),
            rate_limit_wait: in_registry.histogram(
                "rate_limit_wait_seconds",
                "Time that a create waited for its turn under the rate limit, for creates that waited.",
                WAIT_BUCKETS,
            ),
            rate_limit_rejected: in_registry.counters(
                "rate_limit_rejected_total",
                "Creates answered 429 by the proxy's rate limit.",
                &["scope"],
            ),
            upstream_up: in_registry.gauges(
                "upstream_up",
                "Whether requests go to this apiserver (1), or it failed or is not ready (0).",
                &["server"],
            ),
            pins_moved: in_registry.counters(
                "upstream_pins_moved_total",
                "Namespaces whose creates went over to another apiserver, because theirs had failed or returned.",
                &["why"],
            ),
            upstream_connections: in_registry.gauges("upstream_connections", "Open connections to the upstream.", &["lane"]),
            upstream_streams: in_registry.gauges("upstream_streams", "Requests in flight to the upstream.", &["lane"]),
            upstream_connect: in_registry.histograms(
                "upstream_connect_duration_seconds",
                "Time to open a connection to the upstream, TLS and HTTP handshakes included.",
                &["lane", "result"],
                CONNECT_BUCKETS,
            ),
            upstream_errors: in_registry.counters("upstream_errors_total", "Attempts that ended without an answer.", &["kind"]),
            reloads: in_registry.counters(
                "reloads_total",
                "Reloads at run time; after a failure the last good state stays.",
                &["what", "result"],
            ),
            certificate_expiry: in_registry.plain_gauge(
                Opts::new("certificate_expiry_timestamp_seconds", "When the serving certificate expires, in Unix time.").namespace(PREFIX),
            ),
            front_proxy_expiry: in_registry.add(GaugeVec::new(
                Opts::new(
                    "front_proxy_certificate_expiry_timestamp_seconds",
                    "When the certificate expires that the proxy shows to the upstream, in Unix time.",
                )
                .namespace(PREFIX),
                &[],
            )),
            client_certificates: CertificateUse::ALL
                .iter()
                .map(|used| client_certificates.with_label_values(&[used.as_str()]))
                .collect(),
            mode: in_registry.gauges("mode", "The mode that is in effect (1); the others are 0.", &["mode"]),
            spans: in_registry.counters(
                "trace_spans_total",
                "Spans of traces, by whether the collector took them (success) or they were dropped (failure).",
                &["result"],
            ),
            events: in_registry.counters(
                "events_total",
                "Kubernetes Events of creates that were given up, by whether the apiserver took them (success) or not (failure).",
                &["result"],
            ),
        };
        in_registry.process();
        families.start_at_zero(classes);
        families
    }

    fn start_at_zero(&self, classes: &[&str]) {
        for class in classes {
            self.replays.with_label_values(&[class]);
        }
        for outcome in Outcome::ALL {
            self.outcomes.with_label_values(&[OTHER, outcome.as_str()]);
            self.resource_outcomes
                .with_label_values(&[OTHER, outcome.as_str()]);
        }
        for reason in NotReplayed::ALL {
            self.not_replayed.with_label_values(&[reason.as_str()]);
        }
        for result in Ambiguity::ALL {
            self.ambiguous.with_label_values(&[result.as_str()]);
        }
        for how in QuotaWait::ALL {
            self.quota_waiting.with_label_values(&[how.as_str()]);
        }
        for why in QuotaWake::ALL {
            self.quota_wakes.with_label_values(&[why.as_str()]);
        }
        for kind in StreamKind::ALL {
            self.streams.with_label_values(&[kind.as_str()]);
        }
        for port in Port::ALL {
            for why in Closed::ALL {
                self.connections_closed
                    .with_label_values(&[port.as_str(), why.as_str()]);
            }
        }
        for scope in Scope::ALL {
            self.rate_limit_rejected
                .with_label_values(&[scope.as_str()]);
            for kind in BudgetKind::ALL {
                self.budget_exhausted
                    .with_label_values(&[scope.as_str(), kind.as_str()]);
            }
        }
        for why in PinMove::ALL {
            self.pins_moved.with_label_values(&[why.as_str()]);
        }
        for what in Reloaded::ALL {
            for ok in [true, false] {
                self.reloads.with_label_values(&[what.as_str(), result(ok)]);
            }
        }
        for ok in [true, false] {
            self.spans.with_label_values(&[result(ok)]);
            self.events.with_label_values(&[result(ok)]);
        }
        for mode in [Mode::Off, Mode::Observe, Mode::Enforce] {
            self.mode.with_label_values(&[mode_label(mode)]);
        }
    }
}

/// The value of a `result` label.
pub(super) const fn result(ok: bool) -> &'static str {
    if ok { "success" } else { "failure" }
}

/// The value of the `mode` label.
pub(super) const fn mode_label(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Observe => "observe",
        Mode::Enforce => "enforce",
    }
}
