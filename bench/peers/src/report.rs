//! The results: tables in Markdown, all figures in JSON and CSV.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

/// Figures of one kind by contestant and column, one for each round.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    /// Whether the smallest figure is the best.
    pub(crate) least: bool,
    contestants: Vec<String>,
    columns: Vec<String>,
    rounds: BTreeMap<(usize, usize), Vec<f64>>,
}

impl Table {
    pub(crate) fn new(title: &str, unit: &'static str, least: bool) -> Self {
        Self {
            title: title.to_owned(),
            unit,
            least,
            contestants: Vec::new(),
            columns: Vec::new(),
            rounds: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, contestant: &str, column: &str, figure: f64) {
        let at = (
            position(&mut self.contestants, contestant),
            position(&mut self.columns, column),
        );
        self.rounds.entry(at).or_default().push(figure);
    }

    pub(crate) fn contestants(&self) -> &[String] {
        &self.contestants
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The median of the rounds.
    pub(crate) fn median(&self, contestant: usize, column: usize) -> Option<f64> {
        let mut rounds = self.rounds.get(&(contestant, column))?.clone();
        rounds.sort_unstable_by(f64::total_cmp);
        Some(rounds[rounds.len() / 2])
    }

    /// The best median of a column among the others, not counting our own variants.
    fn best_other(&self, column: usize) -> Option<f64> {
        let others = (0..self.contestants.len())
            .filter(|at| !is_ours(&self.contestants[*at]) && self.contestants[*at] != "direct");
        let medians = others.filter_map(|at| self.median(at, column));
        medians.reduce(if self.least { f64::min } else { f64::max })
    }

    /// A row for each contestant with its medians and their spread. Below it, for each of ours, the
    /// ratio to the best of the others.
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("### {} ({})\n\n|", self.title, self.unit);
        for column in std::iter::once("").chain(self.columns.iter().map(String::as_str)) {
            let _ = write!(out, " {column} |");
        }
        out += "\n|---|";
        out += &"--:|".repeat(self.columns.len());
        for (at, contestant) in self.contestants.iter().enumerate() {
            let _ = write!(out, "\n| {contestant} |");
            for column in 0..self.columns.len() {
                match (self.median(at, column), self.rounds.get(&(at, column))) {
                    (Some(median), Some(rounds)) => {
                        let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
                        let most = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        let _ = if rounds.len() > 1 {
                            let [median, least, most] = [median, least, most].map(shown);
                            write!(out, " {median} ({least}–{most}) |")
                        } else {
                            write!(out, " {} |", shown(median))
                        };
                    }
                    _ => out += " – |",
                }
            }
        }
        for (at, contestant) in self.contestants.iter().enumerate() {
            if !is_ours(contestant) {
                continue;
            }
            let _ = write!(out, "\n| **{contestant} / best of the others** |");
            for column in 0..self.columns.len() {
                let ratio = self.median(at, column).zip(self.best_other(column));
                let _ = match ratio {
                    Some((ours, best)) => write!(out, " **{:.2}** |", ours / best),
                    None => write!(out, " – |"),
                };
            }
        }
        out + "\n"
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rounds.iter().map(|((contestant, column), rounds)| {
            json!({
                "contestant": self.contestants[*contestant],
                "column": self.columns[*column],
                "rounds": rounds,
            })
        });
        json!({
            "title": self.title,
            "unit": self.unit,
            "figures": rows.collect::<Vec<_>>(),
        })
    }

    /// Lines of `table,contestant,column,round,figure`.
    pub(crate) fn csv(&self) -> String {
        let mut out = String::new();
        for ((contestant, column), rounds) in &self.rounds {
            for (round, figure) in rounds.iter().enumerate() {
                let contestant = &self.contestants[*contestant];
                let column = &self.columns[*column];
                let _ = writeln!(
                    out,
                    "{},\"{contestant}\",\"{column}\",{round},{figure}",
                    self.title
                );
            }
        }
        out
    }
}

/// Whether this is kube-retry-proxy in one of its variants.
pub(crate) fn is_ours(contestant: &str) -> bool {
    contestant.starts_with("kube-retry-proxy")
}

fn position(all: &mut Vec<String>, name: &str) -> usize {
    all.iter().position(|each| each == name).unwrap_or_else(|| {
        all.push(name.to_owned());
        all.len() - 1
    })
}

/// Three digits that count.
fn shown(figure: f64) -> String {
    match figure {
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure if figure >= 1.0 => format!("{figure:.2}"),
        figure => format!("{figure:.3}"),
    }
}
