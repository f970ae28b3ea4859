//! Runs one phase: sends the creates, and checks the answers against the store and its journal.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use indicatif::ProgressBar;

use super::{DemoError, Options, PhaseOutcome};
use model_control_plane::client::Endpoint;
use model_control_plane::storm::{Create, Retry, Storm, StormResult};
use model_control_plane::{ControlPlane, QuotaOutcome};

/// Creates `options.pods` pods in a new namespace, which has a quota with room for all of them.
pub(super) async fn run(
    plane: &ControlPlane,
    namespace: &'static str,
    endpoint: &Endpoint,
    options: Options,
    progress: ProgressBar,
) -> Result<PhaseOutcome, DemoError> {
    plane.create_namespace(namespace)?;
    // Twice the number of pods, because a create that fails may leave its charge in the quota.
    let pods = u64::from(options.pods) * 2;
    let hard = [
        ("pods", pods.to_string()),
        ("requests.cpu", pods.to_string()),
        ("requests.memory", format!("{pods}Gi")),
    ];
    plane.create_quota(
        namespace,
        "compute-quota",
        &hard.each_ref().map(|(name, limit)| (*name, limit.as_str())),
    )?;

    let storm = Storm {
        servers: vec![endpoint.clone()],
        namespaces: vec![namespace.to_owned()],
        pods: options.pods as usize,
        in_flight: options.concurrency as usize,
        retry: Retry::NONE,
        deletes_per_second: None,
    };
    let ended = storm.run(shown_on(progress.clone())).await?;
    progress.finish();
    let there: HashSet<_> = plane
        .pods(namespace)
        .iter()
        .map(|pod| (namespace.to_owned(), pod.name().to_owned()))
        .collect();
    ended.check(&there)?;
    if let Some((name, times)) = plane.journal().stored_twice() {
        return Err(DemoError::Twice(name, times));
    }
    Ok(outcome(plane, namespace, &ended, there.len()))
}

fn shown_on(progress: ProgressBar) -> impl Fn(&Create) + Clone + Send {
    let failed = Arc::new(AtomicU32::new(0));
    move |create| {
        if !create.succeeded() {
            let failed = failed.fetch_add(1, Ordering::Relaxed) + 1;
            progress.set_message(format!("{failed} failed"));
        }
        progress.inc(1);
    }
}

fn outcome(
    plane: &ControlPlane,
    namespace: &str,
    ended: &StormResult,
    created: usize,
) -> PhaseOutcome {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let mut conflicts = 0;
    plane.journal().for_each_create(|attempt| {
        conflicts += u64::from(attempt.path == path && attempt.quota == QuotaOutcome::Conflict)
    });
    PhaseOutcome {
        requested: ended.creates.len() as u64,
        created: created as u64,
        failed: ended.failed() as u64,
        conflicts,
        replays: 0,
        seconds: ended.elapsed.as_secs_f64(),
        p50_ms: ended.quantile(0.5).as_secs_f64() * 1000.0,
        p99_ms: ended.quantile(0.99).as_secs_f64() * 1000.0,
    }
}
