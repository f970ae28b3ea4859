//! The metrics of one lane of the upstream. They are resolved once for each lane, so that a request
//! looks nothing up.

use std::time::Duration;

use prometheus::{Histogram, IntGauge};

use super::families::{Families, result};
use super::guards::GaugeGuard;

/// The metrics of one lane.
#[derive(Debug)]
pub struct LaneMetrics {
    connections: IntGauge,
    streams: IntGauge,
    connected: Histogram,
    failed: Histogram,
}

impl LaneMetrics {
    pub(super) fn new(families: &Families, lane: &'static str) -> Self {
        let connect = |ok| {
            families
                .upstream_connect
                .with_label_values(&[lane, result(ok)])
        };
        Self {
            connections: families.upstream_connections.with_label_values(&[lane]),
            streams: families.upstream_streams.with_label_values(&[lane]),
            connected: connect(true),
            failed: connect(false),
        }
    }

    /// A connection is open until the guard is dropped.
    pub fn connection(&self) -> GaugeGuard {
        GaugeGuard::new(&self.connections)
    }

    /// A request is in flight until the guard is dropped.
    pub fn stream(&self) -> GaugeGuard {
        GaugeGuard::new(&self.streams)
    }

    /// Opening a connection took `elapsed`, and succeeded or failed.
    pub fn connect(&self, ok: bool, elapsed: Duration) {
        let histogram = if ok { &self.connected } else { &self.failed };
        histogram.observe(elapsed.as_secs_f64());
    }
}
