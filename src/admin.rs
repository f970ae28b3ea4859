//! The admin port: the status page, probes, metrics and what helps to understand the proxy, over plain HTTP/1.1. Read-only, and without
//! credentials.
//!
//! `app` binds it apart from the proxy's own port, on which every path belongs to the apiserver. A slow or malformed client costs one of
//! a few connections for a short while, nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http_body_util::Either;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::config::Config;
use crate::decisions::Decisions;
use crate::metrics::Metrics;

mod events;
mod history;
mod limits;
mod page;
mod pages;
mod readiness;
pub mod snapshot;
pub mod words;

pub use readiness::{Check, Passes, Readiness};
pub use snapshot::{Server, Snapshot};

use history::History;
use snapshot::Sources;

/// Connections at the same time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head: it is a few hundred bytes.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection altogether, so that a client that does not read its answer goes too. Longer than Prometheus waits by default (10 s).
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// For a connection that keeps a page live. The browser makes a new one by itself, and whoever does not read gives its place up.
const LIVE_TIMEOUT: Duration = Duration::from_secs(600);
/// For answers under way when the process stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// For a request's head. hyper's smallest.
const MAX_HEAD: usize = 8192;
/// After a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// What the admin port shows.
pub struct Admin {
    /// For `/metrics`, and every number of the status page.
    pub metrics: Arc<Metrics>,
    /// For `/debug/decisions` and `/debug/held`.
    pub decisions: Arc<Decisions>,
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/configz`: the configuration in effect, which has no secrets. A function, because it changes at run time.
    pub config: Box<dyn Fn() -> Arc<Config> + Send + Sync>,
    /// The upstream as it is now.
    pub servers: Box<dyn Fn() -> Vec<Server> + Send + Sync>,
}

/// The port while it is served.
struct Port {
    admin: Admin,
    history: History,
    started: Instant,
    /// Places for pages that are kept live.
    viewers: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Serves the admin port until `shutdown`.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let port = Arc::new(Port {
        admin,
        history: History::new(),
        started: Instant::now(),
        viewers: Arc::new(Semaphore::new(events::MAX_VIEWERS)),
        stop: shutdown.clone(),
    });
    let serving = async {
        tokio::select! {
            () = accept(listener, &port, &connections) => (),
            () = port.history.run(&port.admin.metrics) => (),
        }
    };
    // Ends open connections too; those that are left after the timeout end by their own.
    let _ = shutdown.run_until_cancelled(serving).await;
    connections.close();
    if timeout(SHUTDOWN_TIMEOUT, connections.wait()).await.is_err() {
        debug!(open = connections.len(), "Admin connections still open at shutdown");
    }
}

impl Port {
    fn snapshot(&self) -> Snapshot {
        let Admin { metrics, decisions, readiness, config, servers } = &self.admin;
        let absorbed = snapshot::absorbed(metrics);
        Snapshot::new(Sources {
            config: &config(),
            readings: metrics.read(),
            checks: readiness.checks(),
            absorbed,
            absorbed_per_minute: self.history.per_minute(absorbed),
            held: &decisions.held(),
            decisions: &decisions.recent(None, usize::MAX),
            servers: servers(),
            uptime: self.started.elapsed(),
            now: SystemTime::now(),
        })
    }
}

async fn accept(listener: TcpListener, port: &Arc<Port>, connections: &TaskTracker) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Ends if the semaphore is closed: never.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(port), permit));
            }
            Err(error) => {
                warn!(%error, "Admin port cannot accept, trying again");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// One request, one answer. Without keep-alive nobody can sit on a connection that a probe needs.
async fn connection(stream: TcpStream, port: Arc<Port>, _permit: OwnedSemaphorePermit) {
    let live = AtomicBool::new(false);
    let service = service_fn(|request| {
        let answer = pages::answer(&port, request.method(), request.uri());
        live.store(matches!(answer.body(), Either::Right(_)), Ordering::Relaxed);
        async { Ok::<_, Infallible>(answer) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let mut served = timeout(CONNECTION_TIMEOUT, serving.as_mut()).await;
    if served.is_err() && live.load(Ordering::Relaxed) {
        served = timeout(LIVE_TIMEOUT, serving).await;
    }
    match served {
        Ok(Ok(())) => (),
        Ok(Err(error)) => debug!(%error, "Admin connection failed"),
        Err(_) => debug!("Admin connection took too long"),
    }
}

#[cfg(test)]
mod tests;
