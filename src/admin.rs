//! The admin port: the status page, probes, metrics and what helps to understand the proxy, over
//! plain HTTP/1.1. Read-only, and without credentials.
//!
//! `app` binds it apart from the proxy's own port, on which every path belongs to the apiserver.
//! Probes are answered whatever else comes: when all of the few places are taken, whoever has sent
//! no whole head for longest makes room, then whoever is answered for longest.

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
use crate::connections::{Connections, Limits, Place, socket};
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

pub use readiness::{Check, Passes, Readiness};

use gather::Sources;
use history::History;

/// Connections at the same time. Far more than probes and scrapes need, and than pages that are
/// kept live.
const MAX_CONNECTIONS: usize = 128;
/// For a request's head: it is a few hundred bytes, and some kilobytes of what a browser has from
/// others on the same host.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection altogether, so that a client that does not read its answer goes too. Longer
/// than Prometheus waits by default (10 s).
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// For a connection that keeps a page live. The browser makes a new one by itself, and whoever does
/// not read gives its place up.
const LIVE_TIMEOUT: Duration = Duration::from_secs(600);
/// For answers under way when the process stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// For a request's head: the cookies of everything else on the same host may come with it.
const MAX_HEAD: usize = 64 << 10;
/// For the lines of it.
const MAX_HEADERS: usize = 200;
/// After a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);
/// How often the log is told so.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What the admin port shows.
pub struct Admin {
    /// For `/metrics`, and every number of the status page.
    pub metrics: Arc<Metrics>,
    /// For `/debug/decisions` and `/debug/held`.
    pub decisions: Arc<Decisions>,
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/configz`: the configuration in effect, which has no secrets. A function, because it
    /// changes at run time.
    pub config: Box<dyn Fn() -> Arc<Config> + Send + Sync>,
    /// The upstream as it is now.
    pub servers: Box<dyn Fn() -> Vec<ServerStatus> + Send + Sync>,
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
        debug!(
            open = connections.len(),
            "Admin connections still open at shutdown"
        );
    }
}

impl Port {
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
            decisions: &decisions.recent(None, usize::MAX),
            servers: servers(),
            uptime: self.started.elapsed(),
            now: SystemTime::now(),
        }
        .snapshot()
    }
}

async fn accept(listener: TcpListener, port: &Arc<Port>, tasks: &TaskTracker) {
    let limits = Limits {
        max: MAX_CONNECTIONS,
        per_address: MAX_CONNECTIONS,
        answered_too: true,
        requests: usize::MAX,
    };
    let connections = Connections::new(metrics::Port::Admin, limits, &port.admin.metrics);
    let mut told: Option<Instant> = None;
    loop {
        match socket::accept(&listener).await {
            Ok((stream, peer)) => {
                if let Some(place) = connections.admit(peer.ip()).await {
                    tasks.spawn(connection(stream, Arc::clone(port), place));
                }
            }
            Err(error) => {
                if told.is_none_or(|then| then.elapsed() > TELL_AGAIN) {
                    warn!(%error, "Admin port cannot accept, trying again");
                    told = Some(Instant::now());
                }
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// One request, one answer. Without keep-alive nobody can sit on a connection that a probe needs.
async fn connection(stream: TcpStream, port: Arc<Port>, place: Place) {
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
        () = place.told_to_leave() => return debug!("An admin connection made room for another one"),
        () = outlived(&place) => return debug!("Admin connection took too long"),
    };
    if let Err(error) = served {
        debug!(%error, "Admin connection failed");
    }
}

/// Returns when a connection has had its time.
async fn outlived(place: &Place) {
    sleep(CONNECTION_TIMEOUT).await;
    if place.is_kept() {
        sleep(LIVE_TIMEOUT).await;
    }
}

#[cfg(test)]
mod tests;
