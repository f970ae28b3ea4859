//! Checks the alert rules and the dashboard.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::report::Report;
use super::text::has_line;
use super::{CHART, Deploy, read};
use crate::process::output;

const TESTS: &str = "tests/deploy/rules_test.yaml";

impl Deploy {
    pub(super) fn check_monitoring(&self, report: &mut Report) -> Result<()> {
        let path = Path::new(CHART).join("files/rules.yaml");
        let rules = read(&path)?;
        let (tests, runbooks) = (
            read(Path::new(TESTS))?,
            read(Path::new("docs/runbooks.md"))?,
        );
        for alert in alerts(&rules) {
            report.check(format!("{alert} is tested and has a runbook"), || {
                documented(alert, &rules, &tests, &runbooks)
            });
        }
        if report.has("promtool", "the alerts") {
            report.check("promtool check rules", || {
                output(Command::new("promtool").args(["check", "rules"]).arg(&path)).map(drop)
            });
            report.check("promtool test rules", || {
                output(Command::new("promtool").args(["test", "rules", TESTS])).map(drop)
            });
        }
        if report.has("go", "the dashboard's schema") {
            report.check("the dashboard fits Grafana's schema", || {
                let arguments = ["test", "-C", "tests/deploy", "-count=1", "./..."];
                output(Command::new("go").args(arguments)).map(drop)
            });
        }
        Ok(())
    }
}

fn alerts(rules: &str) -> impl Iterator<Item = &str> {
    rules
        .lines()
        .filter_map(|line| line.trim_start_matches(' ').strip_prefix("- alert: "))
}

/// Checks that an alert has a test in which it fires, a runbook, and a link to the runbook.
fn documented(alert: &str, rules: &str, tests: &str, runbooks: &str) -> Result<()> {
    ends_a_line(tests, &format!("alertname: {alert}"))?;
    has_line(runbooks, &format!("## {alert}"))?;
    let fragment = alert.to_ascii_lowercase();
    ends_a_line(rules, &format!("runbook_url: docs/runbooks.md#{fragment}"))
}

fn ends_a_line(text: &str, end: &str) -> Result<()> {
    anyhow::ensure!(
        text.lines().any(|line| line.ends_with(end)),
        "no line ends with `{end}`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_needs_a_test_a_runbook_and_a_link() {
        let rules = "    - alert: DoesFail\n      runbook_url: docs/runbooks.md#doesfail\n";
        assert_eq!(alerts(rules).collect::<Vec<_>>(), ["DoesFail"]);
        let (tests, runbooks) = ("  - alertname: DoesFail\n", "## DoesFail\n");
        assert!(documented("DoesFail", rules, tests, runbooks).is_ok());
        assert!(documented("DoesFail", "", tests, runbooks).is_err());
        assert!(documented("DoesFail", rules, "alertname: DoesFailMore\n", runbooks).is_err());
        assert!(documented("DoesFail", rules, tests, "### DoesFail\n").is_err());
    }
}
