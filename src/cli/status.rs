//! `status`: prints the snapshot of a running proxy in the terminal, with the content of its status
//! page.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{CliError, Output, admin, printable};
use crate::snapshot::words::{duration, number};
use crate::snapshot::{CountsSummary, DecisionSummary, LimitSummary, Snapshot};
use crate::verdict::Outcome;

/// Rows of each table; `-o json` has all.
const ROWS: usize = 10;
/// The number of points in the chart. It shows the newest.
const POINTS: usize = 60;

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kube-retry-proxy status
  kubectl -n argo exec deploy/workflow-controller -c kube-retry-proxy -- /kube-retry-proxy status
  kubectl -n argo port-forward deploy/workflow-controller 8080 & kube-retry-proxy status
  watch kube-retry-proxy status
  kube-retry-proxy status -o json | jq .conflicts

Exits with 0 whenever the proxy answers, ready or not.")]
pub struct StatusArgs {
    /// The admin port of the proxy. In the proxy's own container the variable says where `serve`
    /// has put it.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "KUBE_RETRY_PROXY_ADMIN_BIND_ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub admin_address: String,
    /// How the status is printed.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Fetches the status and prints it.
pub fn run(args: &StatusArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let snapshot: Snapshot = admin::get(&args.admin_address, "/status.json")?;
    match args.output {
        Output::Table => write!(out, "{}", text(&snapshot)),
        // Plain data with names cannot fail to serialise.
        Output::Json => writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&snapshot).unwrap_or_default()
        ),
    }
    .map_err(CliError::Stdout)?;
    Ok(ExitCode::SUCCESS)
}

/// Several small tables.
fn text(snapshot: &Snapshot) -> String {
    let parts = [
        headline(snapshot),
        conflicts(snapshot),
        counts("NAMESPACE", &snapshot.namespaces),
        counts("RESOURCE", &snapshot.resources),
        outcomes(snapshot),
        held(snapshot),
        servers(snapshot),
        limits(snapshot),
        decisions(snapshot),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

fn headline(snapshot: &Snapshot) -> String {
    let ready = if snapshot.is_ready() {
        "ready"
    } else {
        "NOT READY"
    };
    let uptime = duration(Duration::from_secs(snapshot.uptime_seconds));
    let (version, mode) = (printable(&snapshot.version), printable(&snapshot.mode));
    let mut text = format!(
        "kube-retry-proxy {version}, {ready}, mode {mode}, up {uptime}\n{}\n",
        snapshot.mode_in_words()
    );
    for check in &snapshot.checks {
        if let Some(failure) = &check.failure {
            text += &format!(
                "not ready: {}: {}\n",
                printable(&check.name),
                printable(failure)
            );
        }
    }
    text
}

fn conflicts(snapshot: &Snapshot) -> String {
    let conflicts = &snapshot.conflicts;
    let points = &conflicts.absorbed_per_minute;
    let shown = &points[points.len().saturating_sub(POINTS)..];
    let peak = shown.iter().copied().max().unwrap_or_default();
    let ago = duration(Duration::from_secs(
        conflicts.step_seconds.saturating_mul(shown.len() as u64),
    ));
    let rows = [
        (
            "absorbed in the last minute",
            number(conflicts.last_minute()),
        ),
        (
            "absorbed since the start",
            format!(
                "{} of {}",
                number(conflicts.absorbed),
                number(conflicts.met)
            ),
        ),
        (
            "creates saved by a replay",
            number(snapshot.ended(Outcome::CreatedAfterReplay)),
        ),
        (
            "creates given up at a limit",
            number(snapshot.ended(Outcome::GaveUp)),
        ),
        ("creates held now", number(snapshot.held)),
    ];
    let resolved = snapshot.ended(Outcome::Resolved);
    let resolved = (resolved > 0).then(|| ("creates found by a lookup", number(resolved)));
    let certificates = snapshot
        .certificates()
        .map(|(what, certificate)| (what, certificate.time_left()));
    let rows: Vec<_> = rows
        .into_iter()
        .chain(resolved)
        .chain(certificates)
        .map(|(what, value)| vec![what.to_owned(), value])
        .collect();
    let chart = format!(
        "{}  absorbed per minute, the last {ago}, highest {}\n",
        sparkline(shown, peak),
        number(peak)
    );
    table(&["QUOTA CONFLICTS", ""], &rows) + &chart
}

/// The table of the namespaces or of the resources.
fn counts(title: &str, all: &[CountsSummary]) -> String {
    let row = |counts: &CountsSummary| {
        let numbers = [
            counts.conflicts,
            counts.created,
            counts.created_after_replay,
            counts.gave_up,
            counts.others,
        ];
        std::iter::once(printable(counts.title()))
            .chain(numbers.map(number))
            .collect()
    };
    let rows: Vec<_> = all.iter().take(ROWS).map(row).collect();
    table(
        &[
            title,
            "CONFLICTS",
            "CREATED",
            "AFTER A REPLAY",
            "GAVE UP",
            "OTHER OUTCOMES",
        ],
        &rows,
    ) + &more(all.len())
}

fn outcomes(snapshot: &Snapshot) -> String {
    let ended = snapshot.outcomes.iter().filter(|ended| ended.count > 0);
    let rows: Vec<_> = ended
        .map(|ended| vec![printable(&ended.in_words), number(ended.count)])
        .collect();
    table(&["OUTCOME", "CREATES"], &rows)
}

fn held(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot
        .longest_held
        .iter()
        .map(|held| {
            vec![
                printable(&held.object()),
                number(held.attempts),
                printable(&held.last_answer()),
                duration(Duration::from_millis(held.held_for_ms)),
            ]
        })
        .collect();
    table(&["HELD NOW", "ATTEMPTS", "LAST ANSWER", "FOR"], &rows)
}

fn servers(snapshot: &Snapshot) -> String {
    let rows: Vec<_> = snapshot
        .servers
        .iter()
        .map(|server| {
            let health = if server.healthy { "up" } else { "DOWN" };
            let since = server
                .for_seconds
                .map(|seconds| format!(" for {}", duration(Duration::from_secs(seconds))))
                .unwrap_or_default();
            let unnamed = match server.pinned.saturating_sub(server.namespaces.len() as u64) {
                0 => String::new(),
                more => format!(" and {} more", number(more)),
            };
            let pinned = if server.namespaces.is_empty() {
                "none".to_owned()
            } else {
                printable(&server.namespaces.join(",")) + &unnamed
            };
            let error = server
                .last_error
                .as_deref()
                .map(printable)
                .unwrap_or_default();
            vec![
                printable(&server.address),
                format!("{health}{since}"),
                number(server.connections),
                number(server.in_flight),
                pinned,
                error,
            ]
        })
        .collect();
    table(
        &[
            "SERVER",
            "HEALTH",
            "CONNECTIONS",
            "IN FLIGHT",
            "PINNED NAMESPACES",
            "LAST ERROR",
        ],
        &rows,
    )
}

fn limits(snapshot: &Snapshot) -> String {
    let row = |limit: &LimitSummary| {
        let now = if limit.now.is_empty() {
            "-".to_owned()
        } else {
            printable(&limit.now)
        };
        vec![
            printable(&limit.what),
            printable(&limit.set),
            now,
            number(limit.reached),
        ]
    };
    let rows: Vec<_> = snapshot.limits.iter().map(row).collect();
    table(&["LIMIT", "SET TO", "IN USE", "REACHED"], &rows)
}

fn decisions(snapshot: &Snapshot) -> String {
    let row = |decision: &DecisionSummary| {
        let clock = decision.time.get(11..19).unwrap_or(&decision.time);
        let cells = [
            clock,
            &decision.object(),
            decision.outcome_in_words(),
            &decision.story(),
        ];
        cells.map(printable).to_vec()
    };
    let rows: Vec<_> = snapshot.decisions.iter().take(ROWS).map(row).collect();
    table(&["LAST (UTC)", "CREATE", "OUTCOME", "WHAT HAPPENED"], &rows)
}

fn more(rows: usize) -> String {
    match rows.checked_sub(ROWS) {
        Some(more) if more > 0 => format!("and {} more\n", number(more as u64)),
        _ => String::new(),
    }
}

/// A table in the style of kubectl. Empty without rows.
pub(super) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let all = || std::iter::once(&titles).chain(rows);
    let width = |column: usize| {
        all()
            .map(|row| row.get(column).map_or(0, |cell| cell.chars().count()))
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..titles.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: String = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}   "))
            .collect();
        cells.trim_end().to_owned() + "\n"
    };
    all().map(line).collect()
}

/// A chart of one character for each point.
pub(super) fn sparkline(points: &[u64], peak: u64) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = |point: &u64| {
        if peak == 0 {
            0
        } else {
            usize::try_from(point.saturating_mul(7).div_ceil(peak))
                .unwrap_or(7)
                .min(7)
        }
    };
    points.iter().map(|point| LEVELS[level(point)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["longer".to_owned(), "1,000".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "N"], &rows),
            "NAME     N\na        1\nlonger   1,000\n"
        );
        assert_eq!(table(&["NAME"], &[]), "");
    }

    #[test]
    fn the_lowest_non_zero_point_differs_from_zero() {
        assert_eq!(sparkline(&[0, 1, 50, 100], 100), "▁▂▅█");
        assert_eq!(sparkline(&[0, 0], 0), "▁▁");
    }
}
