//! The admin port: probes, metrics and what helps to understand the proxy, over plain HTTP/1.1. Read-only, and without credentials.
//!
//! `app` binds it apart from the proxy's own port, on which every path belongs to the apiserver. A slow or malformed client costs one of
//! a few connections for a short while, nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::decisions::Decisions;
use crate::metrics::Metrics;

mod pages;
mod readiness;

pub use readiness::{Check, Passes, Readiness};

/// Connections at the same time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head: it is a few hundred bytes.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection altogether, so that a client that does not read its answer goes too. Longer than Prometheus waits by default (10 s).
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// For answers under way when the process stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// For a request's head. hyper's smallest.
const MAX_HEAD: usize = 8192;
/// After a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// What the admin port shows.
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/debug/decisions` and `/debug/held`.
    pub decisions: Arc<Decisions>,
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/configz`: the configuration in effect, without secrets. A function, because it changes at run time.
    pub configz: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
}

/// Serves the admin port until `shutdown`.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    // Ends open connections too; those that are left after the timeout end by their own.
    let _ = shutdown.run_until_cancelled(accept(listener, admin, &connections)).await;
    connections.close();
    if timeout(SHUTDOWN_TIMEOUT, connections.wait()).await.is_err() {
        debug!(open = connections.len(), "Admin connections still open at shutdown");
    }
}

async fn accept(listener: TcpListener, admin: Arc<Admin>, connections: &TaskTracker) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Ends if the semaphore is closed: never.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(&admin), permit));
            }
            Err(error) => {
                warn!(%error, "Admin port cannot accept, trying again");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// One request, one answer. Without keep-alive nobody can sit on a connection that a probe needs.
async fn connection(stream: TcpStream, admin: Arc<Admin>, _permit: OwnedSemaphorePermit) {
    let service = service_fn(|request| {
        let answer = pages::answer(&admin, request.method(), request.uri());
        async { Ok::<_, Infallible>(answer) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, serving).await {
        Ok(Ok(())) => (),
        Ok(Err(error)) => debug!(%error, "Admin connection failed"),
        Err(_) => debug!("Admin connection took too long"),
    }
}

#[cfg(test)]
mod tests;
