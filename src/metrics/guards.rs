//! Shares of a gauge that are given back on drop, however the request ends. Each costs two atomic additions and a clone of an `Arc`.

use prometheus::IntGauge;

/// One unit of a gauge, for as long as it lives.
#[derive(Debug)]
#[must_use = "the gauge falls when the guard is dropped"]
pub struct GaugeGuard {
    _share: Share,
}

impl GaugeGuard {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        Self { _share: Share::new(gauge, 1) }
    }
}

/// Buffered bytes, counted for as long as it lives.
#[derive(Debug)]
#[must_use = "the gauge falls when the guard is dropped"]
pub struct BufferedGuard(Share);

impl BufferedGuard {
    pub(super) fn new(gauge: &IntGauge, bytes: usize) -> Self {
        Self(Share::new(gauge, bytes))
    }

    /// Counts `bytes` more.
    pub fn grow(&mut self, bytes: usize) {
        self.0.grow(bytes);
    }
}

#[derive(Debug)]
struct Share {
    gauge: IntGauge,
    amount: i64,
}

impl Share {
    fn new(gauge: &IntGauge, amount: usize) -> Self {
        let mut share = Self { gauge: gauge.clone(), amount: 0 };
        share.grow(amount);
        share
    }

    fn grow(&mut self, amount: usize) {
        // Never saturates: memory is smaller.
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        self.amount = self.amount.saturating_add(amount);
        self.gauge.add(amount);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.sub(self.amount);
    }
}
