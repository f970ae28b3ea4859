//! The readiness of the proxy: named checks, each set by the part of the proxy that it is about.
//!
//! A check fails until it is first set. It fails again when its handle is dropped, so that a task
//! that has died does not look healthy.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

/// The state of a check. Ok: it passes, with a text for `?verbose` that may be empty. Err: why it
/// fails.
pub type CheckResult = Result<String, String>;

/// All checks of one proxy. The proxy is ready if every check passes.
#[derive(Debug, Default)]
pub struct Readiness {
    /// Checks are added at the start and never removed, so a handle can be an index.
    checks: Mutex<Vec<(&'static str, CheckResult)>>,
}

impl Readiness {
    /// No checks yet, so the proxy is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check. It fails until it is set.
    pub fn check(self: &Arc<Self>, name: &'static str) -> Check {
        let mut checks = self.lock();
        checks.push((name, Err("not checked yet".into())));
        Check {
            readiness: Arc::clone(self),
            index: checks.len() - 1,
        }
    }

    /// Whether every check passes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().iter().all(|(_, passes)| passes.is_ok())
    }

    /// The name and the state of every check.
    #[must_use]
    pub fn checks(&self) -> Vec<(&'static str, CheckResult)> {
        self.lock().clone()
    }

    /// Whether every check passes, and a line for each check like those of kube-apiserver's
    /// `?verbose`.
    /// <https://github.com/kubernetes/apiserver/blob/v0.34.0/pkg/server/healthz/healthz.go#L235-L262>
    #[must_use]
    pub(super) fn report(&self) -> (bool, String) {
        let mut text = String::from("[+]ping ok\n");
        let mut ready = true;
        for (name, passes) in self.lock().iter() {
            // Writing to a String cannot fail.
            let _ = match passes {
                Ok(more) if more.is_empty() => writeln!(text, "[+]{name} ok"),
                Ok(more) => writeln!(text, "[+]{name} ok: {more}"),
                Err(reason) => writeln!(text, "[-]{name} failed: {reason}"),
            };
            ready &= passes.is_ok();
        }
        (ready, text)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(&'static str, CheckResult)>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle of one check. When it is dropped, the check fails for good.
#[derive(Debug)]
pub struct Check {
    readiness: Arc<Readiness>,
    index: usize,
}

impl Check {
    /// Sets the state of the check. Anybody who can reach the admin port sees the texts.
    pub fn set(&self, passes: CheckResult) {
        let mut checks = self.readiness.lock();
        let Some((name, last)) = checks.get_mut(self.index) else {
            return;
        };
        if *last == passes {
            return;
        }
        let (name, was_ok) = (*name, last.is_ok());
        *last = passes.clone();
        drop(checks);
        match passes {
            Ok(_) if !was_ok => info!(check = name, "Readiness check passes"),
            Err(reason) if was_ok => warn!(check = name, %reason, "Readiness check fails"),
            _ => (),
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.set(Err("no longer checked".into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_if_every_check_passes() {
        let readiness = Arc::new(Readiness::new());
        assert!(readiness.is_ready());
        let upstream = readiness.check("upstream");
        let draining = readiness.check("draining");
        assert!(!readiness.is_ready(), "a check fails until it is set");
        upstream.set(Ok("a is up; b is down".into()));
        draining.set(Ok(String::new()));
        assert!(readiness.is_ready());
        draining.set(Err("shutting down".into()));
        assert_eq!(
            readiness.report(),
            (false, "[+]ping ok\n[+]upstream ok: a is up; b is down\n[-]draining failed: shutting down\n".into())
        );
    }

    #[test]
    fn a_check_whose_handle_is_gone_fails() {
        let readiness = Arc::new(Readiness::new());
        let check = readiness.check("upstream");
        check.set(Ok(String::new()));
        drop(check);
        assert_eq!(
            readiness.report(),
            (
                false,
                "[+]ping ok\n[-]upstream failed: no longer checked\n".into()
            )
        );
    }
}
