//! The background work of the upstream while the proxy runs: probes, discovery, and closing idle
//! connections.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::discover::Discovery;
use super::server::Server;
use super::servers::{ServerList, contains};

/// How often the lanes are searched for idle connections.
const CLOSE_IDLE_EVERY: Duration = Duration::from_secs(5);

/// How often the responses in progress are searched for unread ones.
const LET_GO_EVERY: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub(super) async fn run(list: &ServerList, discovery: Option<&Discovery>, stop: CancellationToken) {
    let discover = async {
        match discovery {
            Some(discovery) => discovery.run(|urls| list.replace(&urls)).await,
            None => std::future::pending().await,
        }
    };
    stop.run_until_cancelled(async { tokio::join!(maintain(list, discovery), discover) })
        .await;
}

/// Probes every server, closes idle connections, and cancels responses that nobody reads.
async fn maintain(list: &ServerList, discovery: Option<&Discovery>) {
    let mut probes: Vec<(Arc<Server>, AbortOnDropHandle<()>)> = Vec::new();
    let mut close_idle = tokio::time::interval(CLOSE_IDLE_EVERY);
    let mut let_go = tokio::time::interval(LET_GO_EVERY);
    loop {
        let servers = list.snapshot();
        probes.retain(|(server, _)| contains(&servers, server));
        for server in servers.iter() {
            if !probes.iter().any(|(probed, _)| Arc::ptr_eq(probed, server)) {
                let probe = AbortOnDropHandle::new(tokio::spawn(keep_probing(Arc::clone(server))));
                probes.push((Arc::clone(server), probe));
            }
        }
        tokio::select! {
            _ = close_idle.tick() => {
                let service = discovery.map(|discovery| &discovery.service);
                servers
                    .iter()
                    .chain(service)
                    .flat_map(|server| server.lanes())
                    .for_each(|lane| lane.close_idle());
            }
            _ = let_go.tick() => list.context.flows.let_go(),
            () = list.replaced.notified() => {}
        }
    }
}

async fn keep_probing(server: Arc<Server>) {
    loop {
        server.health.next_probe_due().await;
        server.probe().await;
    }
}
