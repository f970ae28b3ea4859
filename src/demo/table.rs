//! The report as a table. Pure.

use super::{Outcome, Report};

/// The table, with a line on top that says what was done.
pub(super) fn render(report: &Report) -> String {
    let Report { direct, proxied } = report;
    let row = |name: &str, value: &dyn Fn(&Outcome) -> String| format!("{name:<22}{:>12}{:>12}\n", value(direct), value(proxied));
    [
        format!("{} creates against 3 apiservers behind one load balancer, all charging one ResourceQuota\n\n", direct.requested),
        format!("{:<22}{:>12}{:>12}\n", "", "direct", "proxied"),
        row("pods created", &|outcome| outcome.created.to_string()),
        row("creates failed", &|outcome| outcome.failed.to_string()),
        row("quota conflicts", &|outcome| outcome.conflicts.to_string()),
        row("replays", &|outcome| outcome.replays.to_string()),
        row("seconds", &|outcome| format!("{:.2}", outcome.seconds)),
        row("median create, ms", &|outcome| format!("{:.0}", outcome.p50_ms)),
        row("99 % of creates, ms", &|outcome| format!("{:.0}", outcome.p99_ms)),
    ]
    .concat()
}
