//! One run: creates the namespaces, sends the storm with one policy, and compares the answers with
//! the stored pods.

use model_control_plane::CreateResult;
use model_control_plane::client::Endpoint;
use model_control_plane::storm::{Create, Retry, Storm, StormResult};

use crate::args::{Cell, Plan};
use crate::figures::Figures;
use crate::plane::Plane;
use crate::policy::{Policy, Proxies};
use crate::processors;
use crate::requests::counted;

const DELETES_PER_SECOND: u32 = 100;

/// Runs the storm of `cell` with `policy`.
///
/// # Panics
///
/// If a created pod is missing, a refused pod is stored, or a pod was stored twice.
pub(crate) async fn run(cell: &Cell, policy: &Policy, plan: &Plan) -> Figures {
    let apiservers = if *policy == Policy::Oracle {
        1
    } else {
        cell.apiservers
    };
    let plane = Plane::start(apiservers, cell.watch_latency, plan).await;
    let namespaces = plane.namespaces(cell).await;
    let writes = plane.quota_writes().await;
    let proxies = match *policy {
        Policy::Proxied { pinned, replicas } => {
            Some(Proxies::start(replicas, pinned, plane.servers(), plane.ca_pem()).await)
        }
        Policy::Oracle | Policy::Direct(_) => None,
    };
    let endpoint = |url: &str, ca_pem: &str| {
        Endpoint::new(url, ca_pem, plane.token(), plan.version).expect("an address on loopback")
    };
    let storm = Storm {
        servers: match &proxies {
            Some(proxies) => proxies
                .servers()
                .map(|(url, ca_pem)| endpoint(&url, ca_pem))
                .collect(),
            None => plane
                .servers()
                .iter()
                .map(|url| endpoint(url, plane.ca_pem()))
                .collect(),
        },
        namespaces,
        pods: cell.pods,
        in_flight: cell.in_flight,
        retry: if let Policy::Direct(retry) = policy {
            *retry
        } else {
            Retry::NONE
        },
        deletes_per_second: cell.deletes.then_some(DELETES_PER_SECOND),
    };
    plane.settled().await;
    // CPU time of this process: the clients, the proxies, and the model.
    let spent = || {
        (
            processors::process(std::process::id()),
            processors::machine(),
            plane.apiservers_spent(),
        )
    };
    let before = spent();
    let ended = storm.run(|_| ()).await.expect("every server accepts");
    let after = spent();
    let written = plane.quota_writes().await;
    let state = plane.state(&storm.namespaces).await;
    ended
        .check(&state.pods)
        .unwrap_or_else(|wrong| unreachable!("{wrong}"));
    plane.check_journal(&ended);

    let mut figures = seen_by_clients(&ended);
    figures.overcharge = state.charged - (state.pods.len() * cell.quotas) as i64;
    (figures.cpu_own, figures.cpu_machine) = (after.0 - before.0, after.1 - before.1);
    figures.cpu_apiservers = after
        .2
        .iter()
        .zip(&before.2)
        .map(|(after, before)| after - before)
        .collect();
    (figures.writes_won, figures.writes_lost) =
        (written.won - writes.won, written.lost - writes.lost);
    if let Some(proxies) = proxies {
        let metrics = proxies.metrics();
        let replays = counted(&metrics, "kube_retry_proxy_replays_total", &[]);
        figures.conflicts = counted(&metrics, "kube_retry_proxy_conflicts_total", &[]);
        figures.attempts_per_success =
            (ended.creates.len() as u64 + replays) as f64 / figures.created.max(1) as f64;
        // The proxy only replays quota conflicts here, so a create that is refused after a replay
        // has exceeded the quota.
        figures.conflict_then_exceeded = counted(
            &metrics,
            "kube_retry_proxy_outcomes_total",
            &[r#"outcome="refused_after_replay""#],
        );
        proxies.stop().await;
    }
    plane.stop(&storm.namespaces).await;
    figures
}

/// The figures of a storm without a proxy. The figures of the quotas are added later.
fn seen_by_clients(ended: &StormResult) -> Figures {
    let count = |of: &dyn Fn(&Create) -> bool| {
        ended.creates.iter().filter(|create| of(create)).count() as u64
    };
    let failed = ended.failed() as u64;
    let created = ended.creates.len() as u64 - failed;
    let exceeded = |create: &Create| create.result == CreateResult::QuotaExceeded;
    let client_conflicts = ended
        .creates
        .iter()
        .map(|create| u64::from(create.conflicts))
        .sum();
    Figures {
        makespan: ended.elapsed.as_secs_f64(),
        created,
        failed,
        client_conflicts,
        conflicts: client_conflicts,
        attempts_per_success: ended
            .creates
            .iter()
            .map(|create| u64::from(create.attempts))
            .sum::<u64>() as f64
            / created.max(1) as f64,
        cpu_own: 0.0,
        cpu_machine: 0.0,
        cpu_apiservers: Vec::new(),
        writes_won: 0,
        writes_lost: 0,
        overcharge: 0,
        conflict_then_exceeded: count(&|create| create.conflicts > 0 && exceeded(create)),
        exceeded: count(&exceeded),
        p50_ms: ended.quantile(0.5).as_secs_f64() * 1000.0,
        p99_ms: ended.quantile(0.99).as_secs_f64() * 1000.0,
    }
}
