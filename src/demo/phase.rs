//! One phase: creates pods from several clients at once, and judges by the store and its journal what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use indicatif::ProgressBar;
use tokio::task::JoinSet;

use super::{DemoError, Options, Outcome};
use crate::model::client::{Client, Endpoint};
use crate::model::{ControlPlane, QuotaOutcome};

/// Creates that one client saw answered: name, code (`None`: no answer), time.
type Answered = Vec<(String, Option<StatusCode>, Duration)>;

/// Creates `options.pods` pods in a namespace of their own, which has a quota with room for all of them.
pub(super) async fn run(
    plane: &ControlPlane,
    namespace: &'static str,
    endpoint: &Endpoint,
    options: Options,
    progress: ProgressBar,
) -> Result<Outcome, DemoError> {
    plane.create_namespace(namespace)?;
    // Twice what is needed, for a create that loses may leave its charge behind.
    let pods = u64::from(options.pods) * 2;
    let hard = [("pods", pods.to_string()), ("requests.cpu", pods.to_string()), ("requests.memory", format!("{pods}Gi"))];
    plane.create_quota(namespace, "compute-quota", &hard.each_ref().map(|(name, limit)| (*name, limit.as_str())))?;

    let next = Arc::new(AtomicU32::new(0));
    let failed = Arc::new(AtomicU32::new(0));
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..options.concurrency.min(options.pods) {
        let (endpoint, next, failed, progress) = (endpoint.clone(), next.clone(), failed.clone(), progress.clone());
        clients.spawn(async move {
            let mut answered = Answered::new();
            let mut client = None;
            loop {
                let pod = next.fetch_add(1, Ordering::Relaxed);
                if pod >= options.pods {
                    return answered;
                }
                let name = format!("demo-{pod}");
                let sent = Instant::now();
                let status = create(&endpoint, &mut client, namespace, &name).await;
                if status != Some(StatusCode::CREATED) {
                    let failed = failed.fetch_add(1, Ordering::Relaxed) + 1;
                    progress.set_message(format!("{failed} failed"));
                }
                progress.inc(1);
                answered.push((name, status, sent.elapsed()));
            }
        });
    }
    let mut answered = Answered::new();
    while let Some(client) = clients.join_next().await {
        answered.extend(client?);
    }
    let seconds = start.elapsed().as_secs_f64();
    progress.finish();
    check(plane, namespace, &answered)?;
    Ok(outcome(plane, namespace, &answered, seconds))
}

/// One create without any retry; `None` if the connection broke. The next create opens another one then.
pub(super) async fn create(endpoint: &Endpoint, client: &mut Option<Client>, namespace: &str, name: &str) -> Option<StatusCode> {
    let mut open = match client.take() {
        Some(open) => open,
        None => endpoint.connect().await.ok()?,
    };
    let answer = open.create_pod(namespace, name).await.ok()?;
    *client = Some(open);
    Some(answer.status)
}

/// Acknowledged pods are there, refused ones are not, and none was stored twice.
fn check(plane: &ControlPlane, namespace: &str, answered: &Answered) -> Result<(), DemoError> {
    let there: BTreeSet<String> = plane.pods(namespace).iter().map(|pod| pod.name().to_owned()).collect();
    for (name, status, _) in answered {
        match status {
            Some(StatusCode::CREATED) if !there.contains(name) => return Err(DemoError::Lost(name.clone())),
            Some(code) if *code != StatusCode::CREATED && there.contains(name) => return Err(DemoError::Refused(name.clone())),
            _ => {}
        }
    }
    let mut stored: BTreeMap<String, usize> = BTreeMap::new();
    for attempt in plane.journal().creates() {
        if let Some(pod) = attempt.stored.filter(|pod| pod.namespace == namespace) {
            *stored.entry(pod.name).or_default() += 1;
        }
    }
    match stored.into_iter().find(|(_, times)| *times > 1) {
        Some((name, times)) => Err(DemoError::Twice(name, times)),
        None => Ok(()),
    }
}

fn outcome(plane: &ControlPlane, namespace: &str, answered: &Answered, seconds: f64) -> Outcome {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let attempts = plane.journal().creates();
    let conflicts = attempts.iter().filter(|attempt| attempt.path == path && attempt.quota == QuotaOutcome::Conflict).count();
    let mut times: Vec<Duration> = answered.iter().map(|(_, _, time)| *time).collect();
    times.sort_unstable();
    let percentile = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    Outcome {
        requested: answered.len() as u64,
        created: plane.pods(namespace).len() as u64,
        failed: answered.iter().filter(|(_, status, _)| *status != Some(StatusCode::CREATED)).count() as u64,
        conflicts: conflicts as u64,
        replays: 0,
        seconds,
        p50_ms: percentile(50),
        p99_ms: percentile(99),
    }
}
