//! What one run measured.

use std::fmt;

use serde::Serialize;

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// Until the last create was over, in seconds.
    pub(crate) makespan: f64,
    /// Processor time of this process meanwhile, in seconds: clients, proxies, and the model.
    pub(crate) cpu_own: f64,
    /// The same of the whole machine, a real control plane included.
    pub(crate) cpu_machine: f64,
    /// The same of each apiserver of a real control plane, in the order in which it started them;
    /// of the model nothing.
    pub(crate) cpu_apiservers: Vec<f64>,
    /// Creates that succeeded.
    pub(crate) created: u64,
    /// Creates that did not.
    pub(crate) failed: u64,
    /// Quota conflicts that clients were answered.
    pub(crate) client_conflicts: u64,
    /// Quota conflicts that apiservers answered, to clients or to a proxy.
    pub(crate) conflicts: u64,
    /// Creates that reached an apiserver, for each that succeeded.
    pub(crate) attempts_per_success: f64,
    /// Status updates of quotas that were stored.
    pub(crate) writes_won: u64,
    /// Status updates of quotas that lost a race.
    pub(crate) writes_lost: u64,
    /// Pods that the quotas count beyond those that are there, summed over the quotas.
    pub(crate) overcharge: i64,
    /// Creates that were refused by a conflict first and for want of quota in the end.
    pub(crate) conflict_then_exceeded: u64,
    /// Creates that were refused for want of quota.
    pub(crate) exceeded: u64,
    /// Median time of a create, as its client sees it, retries included.
    pub(crate) p50_ms: f64,
    /// The 99th percentile of the same.
    pub(crate) p99_ms: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            makespan,
            failed,
            conflicts,
            ..
        } = self;
        write!(f, "{makespan:.2} s, {failed} failed, {conflicts} conflicts")
    }
}
