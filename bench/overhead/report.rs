//! The table, and the same as JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{Load, Turn};

/// All scenarios.
pub(crate) struct Report(Vec<Row>);

/// One scenario: its turns, direct and proxied.
pub(crate) struct Row {
    load: Load,
    direct: Side,
    proxied: Side,
    /// Of the proxy, in its turns.
    processor_time: Duration,
    /// Requests per second, proxied by direct, of each round.
    ratios: Vec<f64>,
}

#[derive(Default)]
struct Side {
    latencies: Vec<Duration>,
    elapsed: Duration,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn add(&mut self, mut row: Row) {
        row.direct.latencies.sort_unstable();
        row.proxied.latencies.sort_unstable();
        row.ratios.sort_unstable_by(f64::total_cmp);
        self.0.push(row);
    }

    pub(crate) fn json(&self) -> String {
        format!("{:#}\n", Value::from_iter(self.0.iter().map(Row::json)))
    }
}

impl Row {
    pub(crate) fn new(load: Load) -> Self {
        Self { load, direct: Side::default(), proxied: Side::default(), processor_time: Duration::ZERO, ratios: Vec::new() }
    }

    pub(crate) fn round(&mut self, direct: Turn, proxied: Turn, processor_time: Duration) {
        let rate = |turn: &Turn| turn.latencies.len() as f64 / turn.elapsed.as_secs_f64();
        self.ratios.push(rate(&proxied) / rate(&direct));
        self.direct.add(direct);
        self.proxied.add(proxied);
        self.processor_time += processor_time;
    }

    fn processor_per_request(&self) -> f64 {
        micros(self.processor_time) / self.proxied.latencies.len() as f64
    }

    fn added(&self, quantile: f64) -> f64 {
        micros(self.proxied.quantile(quantile)) - micros(self.direct.quantile(quantile))
    }

    /// The median round, and how far the quarter of the rounds below and above it reach.
    fn ratio(&self) -> [f64; 3] {
        [2, 1, 3].map(|quarter| self.ratios[self.ratios.len() * quarter / 4])
    }

    fn json(&self) -> Value {
        let [median, low, high] = self.ratio();
        json!({
            "scenario": self.load.to_string(),
            "direct": self.direct.json(),
            "proxied": self.proxied.json(),
            "added_p50_us": self.added(0.5),
            "added_p99_us": self.added(0.99),
            "rate_ratio": { "median": median, "quartiles": [low, high] },
            "proxy_cpu_us_per_request": self.processor_per_request(),
        })
    }
}

impl Side {
    fn add(&mut self, turn: Turn) {
        self.latencies.extend(turn.latencies);
        self.elapsed += turn.elapsed;
    }

    fn quantile(&self, quantile: f64) -> Duration {
        self.latencies[(self.latencies.len() as f64 * quantile) as usize]
    }

    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn json(&self) -> Value {
        json!({
            "requests": self.latencies.len(),
            "per_second": self.rate(),
            "p50_us": micros(self.quantile(0.5)),
            "p99_us": micros(self.quantile(0.99)),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| scenario | direct p50 / p99 | added p50 | added p99 | direct /s | proxied /s | ratio (quartiles) | proxy CPU |")?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|")?;
        for row in &self.0 {
            let (p50, p99) = (micros(row.direct.quantile(0.5)), micros(row.direct.quantile(0.99)));
            let [median, low, high] = row.ratio();
            writeln!(
                f,
                "| {} | {p50:.0} / {p99:.0} µs | {:.0} µs | {:.0} µs | {:.0} | {:.0} | {median:.2} ({low:.2}–{high:.2}) | {:.0} µs |",
                row.load,
                row.added(0.5),
                row.added(0.99),
                row.direct.rate(),
                row.proxied.rate(),
                row.processor_per_request(),
            )?;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
