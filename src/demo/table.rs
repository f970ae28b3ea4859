//! Prints the report as a table. Pure.

use super::{PhaseOutcome, Report};

/// The table, with an explanation above it.
pub(super) fn render(report: &Report) -> String {
    let Report {
        direct,
        unpinned,
        pinned,
    } = report;
    let line = |name: &str, [direct, unpinned, pinned]: [&str; 3]| {
        format!("{name:<22}{direct:>12}{unpinned:>12}{pinned:>12}\n")
    };
    let row = |name: &str, value: &dyn Fn(&PhaseOutcome) -> String| {
        line(name, [&*value(direct), &*value(unpinned), &*value(pinned)])
    };
    [
        format!("{} creates against 3 apiservers, all charging one ResourceQuota: direct through a load balancer,\n", direct.requested),
        "and through the proxy, which spreads them and replays (unpinned), or keeps them to one apiserver (pinned)\n\n".to_owned(),
        line("", ["direct", "unpinned", "pinned"]),
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
