//! The results as a table and as JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{Load, Turn};

/// All scenarios.
pub(crate) struct Report {
    /// The name of the baseline.
    baseline: &'static str,
    rows: Vec<Row>,
}

/// One scenario: its turns with the baseline (no proxy or an earlier one), and with the proxy.
pub(crate) struct Row {
    load: Load,
    before: Side,
    after: Side,
    /// The ratio of requests per second, proxy to baseline, in each round.
    ratios: Vec<f64>,
}

#[derive(Default)]
struct Side {
    latencies: Vec<Duration>,
    elapsed: Duration,
    processor_time: Duration,
}

impl Report {
    pub(crate) fn new(baseline: &'static str) -> Self {
        Self {
            baseline,
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, mut row: Row) {
        row.before.latencies.sort_unstable();
        row.after.latencies.sort_unstable();
        row.ratios.sort_unstable_by(f64::total_cmp);
        self.rows.push(row);
    }

    pub(crate) fn json(&self) -> String {
        format!(
            "{:#}\n",
            self.rows
                .iter()
                .map(|row| row.json(self.baseline))
                .collect::<Value>()
        )
    }
}

impl Row {
    pub(crate) fn new(load: Load) -> Self {
        Self {
            load,
            before: Side::default(),
            after: Side::default(),
            ratios: Vec::new(),
        }
    }

    pub(crate) fn round(&mut self, before: Turn, after: Turn) {
        let rate = |turn: &Turn| turn.latencies.len() as f64 / turn.elapsed.as_secs_f64();
        self.ratios.push(rate(&after) / rate(&before));
        self.before.add(before);
        self.after.add(after);
    }

    fn added(&self, quantile: f64) -> f64 {
        self.after.quantile(quantile) - self.before.quantile(quantile)
    }

    /// The median round, and the quartiles.
    fn ratio(&self) -> [f64; 3] {
        [2, 1, 3].map(|quarter| self.ratios[self.ratios.len() * quarter / 4])
    }

    fn json(&self, baseline: &str) -> Value {
        let [median, low, high] = self.ratio();
        json!({
            "scenario": self.load.to_string(),
            baseline: self.before.json(),
            "proxied": self.after.json(),
            "added_p50_us": self.added(0.5),
            "added_p99_us": self.added(0.99),
            "rate_ratio": { "median": median, "quartiles": [low, high] },
        })
    }
}

impl Side {
    fn add(&mut self, turn: Turn) {
        self.latencies.extend(turn.latencies);
        self.elapsed += turn.elapsed;
        self.processor_time += turn.processor_time;
    }

    /// In microseconds.
    fn quantile(&self, quantile: f64) -> f64 {
        micros(self.latencies[(self.latencies.len() as f64 * quantile) as usize])
    }

    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The CPU time of the proxy for each request, in microseconds.
    fn processor_time(&self) -> f64 {
        micros(self.processor_time) / self.latencies.len() as f64
    }

    fn json(&self) -> Value {
        json!({
            "requests": self.latencies.len(),
            "per_second": self.rate(),
            "p50_us": self.quantile(0.5),
            "p99_us": self.quantile(0.99),
            "proxy_cpu_us_per_request": self.processor_time(),
        })
    }
}

/// Markdown. The columns show the latencies of the baseline, and the latency that the proxy adds.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let baseline = self.baseline;
        writeln!(
            f,
            "| scenario | p50 {baseline} | p99 {baseline} | p50 added | p99 added | /s {baseline} | /s | ratio (quartiles) | proxy CPU |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            load,
            before,
            after,
            ..
        } = self;
        let [median, low, high] = self.ratio();
        write!(
            f,
            "| {load} | {:.0} µs | {:.0} µs ",
            before.quantile(0.5),
            before.quantile(0.99)
        )?;
        write!(
            f,
            "| {:.0} µs | {:.0} µs ",
            self.added(0.5),
            self.added(0.99)
        )?;
        write!(
            f,
            "| {:.0} | {:.0} | {median:.2} ({low:.2}–{high:.2}) ",
            before.rate(),
            after.rate()
        )?;
        if before.processor_time > Duration::ZERO {
            write!(
                f,
                "| {:.1} → {:.1} µs |",
                before.processor_time(),
                after.processor_time()
            )
        } else {
            write!(f, "| {:.1} µs |", after.processor_time())
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
