//! The admin port: the status page, probes, metrics and debug pages, over plain HTTP/1.1. It is
//! read-only and asks for no credentials.
//!
//! `app` serves it on a separate address, since on the proxy's port every path belongs to the
//! apiserver. Probes are answered under any load: when all connections are in use, the port closes
//! the one that has waited longest without sending a whole head, or else the one that has been
//! answered for longest.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use http_body_util::Either;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::config::Config;
use crate::connections::{ConnectionLimits, Connections, Place, socket};
use crate::decisions::Decisions;
use crate::metrics::{self, Metrics};
use crate::snapshot::Snapshot;
use crate::upstream::ServerStatus;

mod events;
mod gather;
mod history;
mod limits;
mod page;
mod pages;
mod readiness;

pub use readiness::{Check, CheckResult, Readiness};

use gather::Sources;
use history::History;

/// Open connections. Probes, scrapes and live pages need far fewer.
const MAX_CONNECTIONS: usize = 128;
/// How long the head of a request may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take in all, so that a client that does not read its answer is closed
/// too. It is longer than Prometheus waits by default (10 s).
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer a connection that keeps a page live may take. A browser that still shows the
/// page connects again. A client that no longer reads frees its place.
const LIVE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long open connections may take to finish when the process stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a request's head. A browser may send the cookies of everything else on the same host.
const MAX_HEAD: usize = 64 << 10;
/// Header lines of a request.
const MAX_HEADERS: usize = 200;
/// The pause after a failed accept, which mostly means that there are no file descriptors left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);
/// The log has one line about failed accepts in this time.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The parts of the proxy that the admin port shows.
pub struct Admin {
    /// Shown at `/metrics`, and the source of every number of the status page.
    pub metrics: Arc<Metrics>,
    /// Shown at `/debug/decisions` and `/debug/held`.
    pub decisions: Arc<Decisions>,
    /// Shown at `/readyz`.
    pub readiness: Arc<Readiness>,
    /// Returns the configuration in effect, for `/configz`. It has no secrets.
    pub config: Box<dyn Fn() -> Arc<Config> + Send + Sync>,
    /// Returns the state of each apiserver.
    pub servers: Box<dyn Fn() -> Vec<ServerStatus> + Send + Sync>,
}

/// The parts that all connections of the port share.
struct AdminPort {
    admin: Admin,
    history: History,
    started: Instant,
    /// One permit for each page that may be kept live.
    viewers: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Serves the admin port until `shutdown` is cancelled.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let port = Arc::new(AdminPort {
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
    // Connections that are still open after the timeout are bounded by their own.
    let _ = shutdown.run_until_cancelled(serving).await;
    connections.close();
    if timeout(SHUTDOWN_TIMEOUT, connections.wait()).await.is_err() {
        debug!(
            open = connections.len(),
            "Admin connections still open at shutdown"
        );
    }
}

impl AdminPort {
    fn snapshot(&self) -> Snapshot {
        let Admin {
            metrics,
            decisions,
            readiness,
            config,
            servers,
        } = &self.admin;
        let absorbed = history::absorbed(metrics);
        Sources {
            config: &config(),
            readings: metrics.read(),
            checks: readiness.checks(),
            absorbed,
            absorbed_per_minute: self.history.per_minute(absorbed),
            history_step: history::STEP,
            held: &decisions.held(),
            decisions: &decisions.recent(usize::MAX, |_| true),
            servers: servers(),
            uptime: self.started.elapsed(),
            now: SystemTime::now(),
        }
        .snapshot()
    }
}

async fn accept(listener: TcpListener, port: &Arc<AdminPort>, tasks: &TaskTracker) {
    let limits = ConnectionLimits {
        max: MAX_CONNECTIONS,
        per_address: MAX_CONNECTIONS,
        close_busy: true,
        requests: usize::MAX,
    };
    let connections = Connections::new(metrics::Port::Admin, limits, &port.admin.metrics);
    let mut logged: Option<Instant> = None;
    loop {
        match socket::accept(&listener).await {
            Ok((stream, peer)) => {
                if let Some(place) = connections.admit(peer.ip()).await {
                    tasks.spawn(connection(stream, Arc::clone(port), place));
                }
            }
            Err(error) => {
                if logged.is_none_or(|then| then.elapsed() > LOG_AGAIN_AFTER) {
                    warn!(%error, "The admin port cannot accept connections, trying again");
                    logged = Some(Instant::now());
                }
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Answers one request. There is no keep-alive, so that no client can occupy a connection that a
/// probe needs.
async fn connection(stream: TcpStream, port: Arc<AdminPort>, place: Place) {
    let asked = OnceLock::new();
    let service = service_fn(|request| {
        let _ = asked.set(place.request());
        let answer = pages::answer(&port, request.method(), request.uri());
        if matches!(answer.body(), Either::Right(_)) {
            place.keep();
        }
        async { Ok::<_, Infallible>(answer) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let served = tokio::select! {
        served = serving => served,
        () = place.told_to_close() => return debug!("Closed an admin connection to make room for a new one"),
        () = outlived(&place) => return debug!("Closed an admin connection that took too long"),
    };
    if let Err(error) = served {
        debug!(%error, "Admin connection failed");
    }
}

/// Returns when a connection has taken as long as it may.
async fn outlived(place: &Place) {
    sleep(CONNECTION_TIMEOUT).await;
    if place.is_kept() {
        sleep(LIVE_TIMEOUT).await;
    }
}

#[cfg(test)]
mod tests;
