//! The measurements of one run.

use std::fmt;

use serde::Serialize;

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// The time until the last create finished, in seconds.
    pub(crate) makespan: f64,
    /// CPU time of this process during the run, in seconds: clients, proxies, and the model.
    pub(crate) cpu_own: f64,
    /// CPU time of the whole machine, including a real control plane.
    pub(crate) cpu_machine: f64,
    /// CPU time of each apiserver of a real control plane, in the order in which they were started.
    /// Empty for the model.
    pub(crate) cpu_apiservers: Vec<f64>,
    /// The number of successful creates.
    pub(crate) created: u64,
    /// The number of failed creates.
    pub(crate) failed: u64,
    /// Quota conflicts in answers to clients.
    pub(crate) client_conflicts: u64,
    /// Quota conflicts in answers of apiservers, to clients or to a proxy.
    pub(crate) conflicts: u64,
    /// Attempts that reached an apiserver for each successful create.
    pub(crate) attempts_per_success: f64,
    /// Status updates of quotas that succeeded.
    pub(crate) writes_won: u64,
    /// Status updates of quotas that lost a race.
    pub(crate) writes_lost: u64,
    /// Pods that the quotas count in addition to the stored ones, as a sum over the quotas.
    pub(crate) overcharge: i64,
    /// Creates that met a conflict first, and exceeded the quota in the end.
    pub(crate) conflict_then_exceeded: u64,
    /// Creates that exceeded the quota.
    pub(crate) exceeded: u64,
    /// Median duration of a create for its client, including retries.
    pub(crate) p50_ms: f64,
    /// The 99th percentile of the duration.
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
