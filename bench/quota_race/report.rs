//! The results as tables and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::args::Cell;
use crate::figures::Figures;
use crate::policy::Policy;

/// All runs.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
}

/// All runs of one policy under the same conditions.
pub(crate) struct Row {
    pub(crate) cell: Cell,
    pub(crate) policy: Policy,
    pub(crate) runs: Vec<Figures>,
}

impl Report {
    /// Begins a row.
    pub(crate) fn row(&mut self, cell: &Cell, policy: &Policy) {
        self.rows.push(Row {
            cell: *cell,
            policy: *policy,
            runs: Vec::new(),
        });
    }

    pub(crate) fn add(&mut self, cell: &Cell, policy: &Policy, figures: Figures) {
        if let Some(row) = self
            .rows
            .iter_mut()
            .find(|row| row.cell == *cell && row.policy == *policy)
        {
            row.runs.push(figures);
        }
    }

    pub(crate) fn json(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let Cell {
                apiservers,
                namespaces,
                in_flight,
                deletes,
                watch_latency,
                quotas,
                pods,
                margin,
            } = row.cell;
            json!({
                "apiservers": apiservers,
                "namespaces": namespaces,
                "in_flight": in_flight,
                "deletes": deletes,
                "watch_latency_ms": watch_latency.as_secs_f64() * 1000.0,
                "quotas": quotas,
                "pods": pods,
                "margin": margin,
                "policy": row.policy.to_string(),
                "runs": row.runs,
            })
        });
        format!("{:#}\n", rows.collect::<Value>())
    }

    /// The rows, grouped by their conditions.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|one, other| one.cell == other.cell)
    }
}

impl Row {
    /// The minimum, median and maximum of one figure over the runs.
    pub(crate) fn spread(&self, figure: impl Fn(&Figures) -> f64) -> [f64; 3] {
        let mut values: Vec<f64> = self.runs.iter().map(figure).collect();
        values.sort_unstable_by(f64::total_cmp);
        [
            values[0],
            values[values.len() / 2],
            values[values.len() - 1],
        ]
    }

    /// The median, and the range if there are several runs.
    fn text(&self, digits: usize, figure: impl Fn(&Figures) -> f64) -> String {
        let [low, median, high] = self.spread(figure);
        let range = if self.runs.len() > 1 {
            format!(" ({low:.digits$}–{high:.digits$})")
        } else {
            String::new()
        };
        format!("{median:.digits$}{range}")
    }

    fn median(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        self.spread(figure)[1]
    }
}

/// Markdown: one table for each set of conditions.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rows in self.cells() {
            writeln!(f, "{} creates, {}:\n", rows[0].cell.pods, rows[0].cell)?;
            f.write_str(
                "| policy | seconds | failed | conflicts to clients | conflicts in all | attempts each | quota writes | overcharge ",
            )?;
            writeln!(
                f,
                "| conflict, then exceeded | p50 ms | p99 ms | CPU s, all |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
            )?;
            rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = |figure: fn(&Figures) -> u64| self.text(0, |figures| figure(figures) as f64);
        write!(
            f,
            "| {} | {} | {} ",
            self.policy,
            self.text(2, |figures| figures.makespan),
            counts(|figures| figures.failed)
        )?;
        write!(
            f,
            "| {} | {} ",
            counts(|figures| figures.client_conflicts),
            counts(|figures| figures.conflicts)
        )?;
        write!(
            f,
            "| {:.2} ",
            self.median(|figures| figures.attempts_per_success)
        )?;
        let (won, lost) = (
            self.median(|figures| figures.writes_won as f64),
            self.median(|figures| figures.writes_lost as f64),
        );
        write!(
            f,
            "| {won:.0} + {lost:.0} | {} ",
            self.text(0, |figures| figures.overcharge as f64)
        )?;
        write!(f, "| {} ", counts(|figures| figures.conflict_then_exceeded))?;
        write!(
            f,
            "| {:.0} | {:.0} ",
            self.median(|figures| figures.p50_ms),
            self.median(|figures| figures.p99_ms)
        )?;
        write!(
            f,
            "| {:.2}, {:.2} |",
            self.median(|figures| figures.cpu_own),
            self.median(|figures| figures.cpu_machine)
        )
    }
}
