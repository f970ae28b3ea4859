//! Makes metrics with the prefix of this proxy, and adds them to the registry.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// The prefix of every name.
pub(super) const PREFIX: &str = "kube_retry_proxy";

/// Makes metrics and adds them to the registry.
pub(super) struct Register<'a>(pub(super) &'a Registry);

#[expect(
    clippy::expect_used,
    reason = "names and labels are constants of `families`; the snapshot test makes every one of them"
)]
impl Register<'_> {
    pub(super) fn add<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("the name and the labels are valid");
        self.0
            .register(Box::new(metric.clone()))
            .expect("the name is used once");
        metric
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(
            Opts::new(name, help).namespace(PREFIX),
            labels,
        ))
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(
            Opts::new(name, help).namespace(PREFIX),
        ))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(Opts::new(name, help).namespace(PREFIX)))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(
            Opts::new(name, help).namespace(PREFIX),
            labels,
        ))
    }

    pub(super) fn plain_gauge(&self, opts: Opts) -> Gauge {
        self.add(Gauge::with_opts(opts))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.add(Histogram::with_opts(
            HistogramOpts::new(name, help)
                .namespace(PREFIX)
                .buckets(buckets.to_vec()),
        ))
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> HistogramVec {
        self.add(HistogramVec::new(
            HistogramOpts::new(name, help)
                .namespace(PREFIX)
                .buckets(buckets.to_vec()),
            labels,
        ))
    }

    /// Metrics that never change while the process runs.
    pub(super) fn process(&self) {
        let build = self.add(GaugeVec::new(
            Opts::new("build_info", "The build, as labels; always 1.").namespace(PREFIX),
            &["version"],
        ));
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        // The only name without the prefix: every Prometheus client library exports it like this,
        // and dashboards look for it.
        let started = self.plain_gauge(Opts::new(
            "process_start_time_seconds",
            "When the process started, in Unix time.",
        ));
        started.set(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
        );
    }
}
