//! The flags, the presets, and the grid of runs that they define.

use std::fmt;
use std::num::ParseIntError;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use http::Version;
use model_control_plane::Settings;

use crate::policy::Policy;

/// The race for a quota, by policy. Each axis takes a list; a run is one storm of creates.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Run on the control plane in this directory (of `cargo xtask control-plane`) instead of on the
    /// model.
    #[arg(long, value_name = "DIRECTORY")]
    control_plane: Option<PathBuf>,
    /// The whole grid: 1/3/5 apiservers, 1/10/100 namespaces, 10 to 200 in flight, deletes, watch
    /// latencies. Takes hours.
    #[arg(long)]
    full: bool,
    /// The simulation: 5 apiservers, 1,000 namespaces, 100,000 pods, 4 replicas of the proxy, on a
    /// model with 40 times the processors.
    #[arg(long, conflicts_with_all = ["full", "control_plane"])]
    large: bool,
    /// direct, direct-retry and direct-backoff (client-go's DefaultRetry and DefaultBackoff),
    /// unpinned, pinned, pinned-N (N replicas), oracle.
    #[arg(long, value_name = "POLICY", value_delimiter = ',')]
    policies: Vec<Policy>,
    /// How many apiservers share the creates; on a real control plane, that many of its own, drawn
    /// anew for each run.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    apiservers: Vec<usize>,
    /// How many namespaces share the creates.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    namespaces: Vec<usize>,
    /// How many creates are in flight.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    in_flight: Vec<usize>,
    /// Whether pods are deleted meanwhile, at up to 100/s: true, false or both.
    #[arg(long, value_delimiter = ',')]
    deletes: Vec<bool>,
    /// Mean watch latency of the model in milliseconds, `calibrated` for that of the machine in
    /// bench/README.md. A real control plane has its own.
    #[arg(long, value_name = "MS", value_delimiter = ',', value_parser = latency)]
    watch_latency: Vec<Duration>,
    /// How many quotas each namespace has.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    quotas: Vec<usize>,
    /// How many pods are created in a run.
    #[arg(long, value_name = "N")]
    pods: Option<usize>,
    /// How many pods more than those created each quota has room for. Without it there is room for
    /// plenty.
    #[arg(long, value_name = "N")]
    margin: Option<usize>,
    /// How often each run is repeated; the table shows medians and ranges.
    #[arg(long, value_name = "N", default_value_t = 1)]
    runs: usize,
    /// Clients speak HTTP/2 instead of HTTP/1.1.
    #[arg(long)]
    http2: bool,
    /// Writes the figures of every run to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a plot to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// `cargo bench` gives it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The runs, in this order.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) control_plane: Option<PathBuf>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) runs: usize,
    /// The HTTP version of the clients.
    pub(crate) version: Version,
    /// How many times faster the model is than the calibrated one.
    pub(crate) processors: u32,
    pub(crate) json: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
}

/// The conditions of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) apiservers: usize,
    pub(crate) namespaces: usize,
    pub(crate) in_flight: usize,
    pub(crate) deletes: bool,
    /// The watch latency of the model.
    pub(crate) watch_latency: Duration,
    /// The number of quotas in each namespace.
    pub(crate) quotas: usize,
    pub(crate) pods: usize,
    pub(crate) margin: Option<usize>,
}

/// The default values of the axes.
struct Axes {
    policies: &'static str,
    apiservers: &'static [usize],
    namespaces: &'static [usize],
    in_flight: &'static [usize],
    deletes: &'static [bool],
    watch_latency: &'static [Duration],
    pods: usize,
    processors: u32,
}

const POLICIES: &str = "oracle,direct,direct-retry,direct-backoff,unpinned,pinned,pinned-2";
const LATENCIES: [Duration; 3] = [
    Duration::from_millis(5),
    Duration::from_millis(50),
    Duration::from_millis(250),
];
const DEFAULT: Axes = Axes {
    policies: POLICIES,
    apiservers: &[3],
    namespaces: &[1],
    in_flight: &[10, 50, 100, 200],
    deletes: &[false],
    watch_latency: &[Duration::from_millis(5)],
    pods: 1000,
    processors: 1,
};
const FULL: Axes = Axes {
    apiservers: &[1, 3, 5],
    namespaces: &[1, 10, 100],
    deletes: &[false, true],
    watch_latency: &LATENCIES,
    ..DEFAULT
};
const LARGE: Axes = Axes {
    policies: "direct-backoff,unpinned-4,pinned-4",
    apiservers: &[5],
    namespaces: &[1000],
    in_flight: &[1000],
    pods: 100_000,
    processors: 40,
    ..DEFAULT
};

impl Args {
    /// The grid, in the order in which it is run.
    pub(crate) fn plan(self) -> Plan {
        let axes = match (self.large, self.full) {
            (true, _) => LARGE,
            (_, true) => FULL,
            _ => DEFAULT,
        };
        // A real control plane has its own watch latency, which cannot be set.
        let latencies = if self.control_plane.is_some() {
            vec![Duration::ZERO]
        } else {
            or(self.watch_latency, axes.watch_latency)
        };
        let (apiservers, namespaces) = (
            or(self.apiservers, axes.apiservers),
            or(self.namespaces, axes.namespaces),
        );
        let (in_flight, deletes, quotas) = (
            or(self.in_flight, axes.in_flight),
            or(self.deletes, axes.deletes),
            or(self.quotas, &[1]),
        );
        let one = Cell {
            apiservers: 0,
            namespaces: 0,
            in_flight: 0,
            deletes: false,
            watch_latency: Duration::ZERO,
            quotas: 0,
            pods: self.pods.unwrap_or(axes.pods),
            margin: self.margin,
        };
        let mut cells = vec![one];
        cells = by(&cells, &latencies, |cell, watch_latency| Cell {
            watch_latency,
            ..cell
        });
        cells = by(&cells, &deletes, |cell, deletes| Cell { deletes, ..cell });
        cells = by(&cells, &quotas, |cell, quotas| Cell { quotas, ..cell });
        cells = by(&cells, &apiservers, |cell, apiservers| Cell {
            apiservers,
            ..cell
        });
        cells = by(&cells, &namespaces, |cell, namespaces| Cell {
            namespaces,
            ..cell
        });
        cells = by(&cells, &in_flight, |cell, in_flight| Cell {
            in_flight,
            ..cell
        });
        let named = || {
            axes.policies
                .split(',')
                .map(|name| name.parse().expect("our own names parse"))
                .collect()
        };
        Plan {
            cells,
            policies: if self.policies.is_empty() {
                named()
            } else {
                self.policies
            },
            runs: self.runs,
            version: if self.http2 {
                Version::HTTP_2
            } else {
                Version::HTTP_11
            },
            processors: axes.processors,
            control_plane: self.control_plane,
            json: self.json,
            svg: self.svg,
        }
    }
}

fn latency(text: &str) -> Result<Duration, ParseIntError> {
    if text == "calibrated" {
        Ok(Settings::default().watch_latency)
    } else {
        text.parse().map(Duration::from_millis)
    }
}

fn or<T: Copy>(given: Vec<T>, otherwise: &[T]) -> Vec<T> {
    if given.is_empty() {
        otherwise.to_vec()
    } else {
        given
    }
}

/// Combines every cell with every value of one more axis.
fn by<T: Copy>(cells: &[Cell], values: &[T], with: impl Fn(Cell, T) -> Cell) -> Vec<Cell> {
    cells
        .iter()
        .flat_map(|cell| values.iter().map(|value| with(*cell, *value)))
        .collect()
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        write!(
            f,
            "{}, {}",
            plural(self.apiservers, "apiserver"),
            plural(self.namespaces, "namespace")
        )?;
        if self.quotas > 1 {
            write!(f, " with {} quotas", self.quotas)?;
        }
        if let Some(margin) = self.margin {
            write!(f, ", room for {margin} pods more")?;
        }
        write!(f, ", {} in flight", self.in_flight)?;
        if !self.watch_latency.is_zero() {
            write!(f, ", watch latency {:?}", self.watch_latency)?;
        }
        f.write_str(if self.deletes { ", deleting" } else { "" })
    }
}
