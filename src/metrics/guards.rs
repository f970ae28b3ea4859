//! Shares of a gauge that are given back on drop, however the request ends. Each costs two atomic
//! additions and a clone of an `Arc`.

use prometheus::{IntCounter, IntGauge};

/// One unit of a gauge, for as long as it lives.
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

/// What is told of answers that are not read.
#[derive(Clone, Debug)]
pub struct Unread {
    /// What they may occupy, in bytes.
    pub bytes: Level,
    pub(super) let_go: IntCounter,
}

impl Unread {
    /// One was broken off.
    pub fn let_go(&self) {
        self.let_go.inc();
    }
}

/// An amount that its owner counts: whatever rises falls with the owner's own guard.
#[derive(Clone, Debug)]
pub struct Level(IntGauge);

impl Level {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        Self(gauge.clone())
    }

    /// It is so much more.
    pub fn rise(&self, amount: u64) {
        // Never saturates: memory is smaller.
        self.0.add(i64::try_from(amount).unwrap_or(i64::MAX));
    }

    /// It is so much less.
    pub fn fall(&self, amount: u64) {
        self.0.sub(i64::try_from(amount).unwrap_or(i64::MAX));
    }
}
