//! Guards that lower a gauge when they are dropped, however the request ends. Each costs two atomic
//! additions and a clone of an `Arc`.

use prometheus::{IntCounter, IntGauge};

/// One unit of a gauge until it is dropped.
#[derive(Debug)]
#[must_use = "the gauge falls when the guard is dropped"]
pub struct GaugeGuard(IntGauge);

impl GaugeGuard {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of answers that clients do not read.
#[derive(Clone, Debug)]
pub struct Unread {
    /// The bytes that such answers occupy.
    pub bytes: Level,
    pub(super) let_go: IntCounter,
}

impl Unread {
    /// An answer was cut off to free its memory.
    pub fn let_go(&self) {
        self.let_go.inc();
    }
}

/// A gauge of an amount. The owner must lower it by the same amount, with its own guard.
#[derive(Clone, Debug)]
pub struct Level(IntGauge);

impl Level {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        Self(gauge.clone())
    }

    /// Raises the gauge.
    pub fn rise(&self, amount: u64) {
        // Amounts of memory always fit.
        self.0.add(i64::try_from(amount).unwrap_or(i64::MAX));
    }

    /// Lowers the gauge.
    pub fn fall(&self, amount: u64) {
        self.0.sub(i64::try_from(amount).unwrap_or(i64::MAX));
    }
}
