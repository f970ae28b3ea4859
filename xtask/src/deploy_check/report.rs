//! Counts the checks and prints their results.

use std::env;
use std::fmt::Display;

use anyhow::Result;

use crate::process::exists;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Whether only failures are printed.
    quiet: bool,
}

impl Report {
    /// For checks that only run to produce files.
    pub(super) fn quiet() -> Self {
        Self {
            quiet: true,
            ..Self::default()
        }
    }

    pub(super) fn check(&mut self, what: impl Display, check: impl FnOnce() -> Result<()>) {
        match check() {
            Ok(()) => {
                self.passed += 1;
                if !self.quiet {
                    println!("ok    {what}");
                }
            }
            Err(error) => {
                self.failed += 1;
                println!(
                    "FAIL  {what}\n      {}",
                    format!("{error:#}").replace('\n', "\n      ")
                );
            }
        }
    }

    /// Whether a tool is installed. If not, `what` is skipped, or fails in CI.
    pub(super) fn has(&mut self, tool: &str, what: &str) -> bool {
        self.has_if(
            exists(tool),
            env::var_os("CI").is_some_and(|ci| ci == "true"),
            tool,
            what,
        )
    }

    fn has_if(&mut self, exists: bool, ci: bool, tool: &str, what: &str) -> bool {
        if exists {
            return true;
        }
        let word = if ci { "FAIL" } else { "skip" };
        *(if ci {
            &mut self.failed
        } else {
            &mut self.skipped
        }) += 1;
        println!("{word}  {what}: {tool} is missing");
        false
    }

    /// Prints the totals. Returns whether no check failed.
    pub(super) fn finish(&self) -> bool {
        println!(
            "\n{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        );
        self.failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_or_a_tool_missing_in_ci_fails_the_report() {
        let mut report = Report::default();
        report.check("good", || Ok(()));
        assert!(report.has_if(true, true, "sh", "it"));
        assert!(!report.has_if(false, false, "tool", "it"));
        assert!(report.finish());
        assert_eq!((report.passed, report.failed, report.skipped), (1, 0, 1));

        assert!(!report.has_if(false, true, "tool", "it"));
        assert!(!report.finish());

        let mut report = Report::default();
        report.check("bad", || anyhow::bail!("no"));
        assert!(!report.finish());
    }
}
