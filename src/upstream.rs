//! Sends requests to kube-apiserver: chooses a server for each request, and holds the connections
//! to each server.
//!
//! Calls and streams are spread over the healthy servers. The creates of a namespace all go to one
//! server. A request that provably did not reach a server goes on to the next one. If every server
//! was tried, the caller gets an error that says what the failure proves, and decides whether to
//! send the request again. Nothing here repeats a write that may have been processed.

mod choice;
mod connect;
mod discover;
mod failover;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod lane;
mod lines;
mod pins;
mod report;
mod seats;
mod send_error;
mod server;
mod servers;
mod token;
mod upgrades;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::config::{self, Discover, Pin};
use crate::metrics::Metrics;
use crate::tls::{OwnCertificate, TlsError};
use choice::{least_loaded, pinned};
pub use connect::{AddressError, ConnectError, HandshakeError};
#[cfg(test)]
pub(crate) use connect::{Scripted, refused_stream};
use discover::Discovery;
use failover::failover;
pub use lane::Lease;
pub use lines::{LineError, WatchLines};
use pins::Key;
pub use report::ServerStatus;
use seats::Seats;
pub use send_error::SendError;
use server::Server;
use servers::ServerList;
pub use token::{TokenError, bearer};

/// How many connections of one server are tried for a request that was never sent. A connection
/// sometimes closes between two requests. Several in a row close only while the server goes away.
const UNSENT_TRIES: usize = 3;

/// The connections for a kind of request. Creates have their own, see [`Upstream::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// Short requests.
    Call,
    /// Watches and other responses without an end.
    Stream,
}

/// The servers, and which namespace is pinned to which of them.
pub struct Upstream {
    list: ServerList,
    discovery: Option<Discovery>,
    pin: Pin,
    seats: Seats,
}

/// Why the upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The configuration names no server.
    #[error("no upstream is configured")]
    NoServer,
    /// The proxy cannot use a URL.
    #[error("the upstream {url} is not usable")]
    Address {
        /// The URL as configured.
        url: String,
        /// The reason.
        source: Box<AddressError>,
    },
    /// The CA cannot be read, or there is none.
    #[error("the upstream cannot be verified")]
    Tls(#[from] TlsError),
}

impl Upstream {
    /// The servers of `settings`. The first request or [`Upstream::run`] connects.
    ///
    /// # Errors
    /// An address or the CA is not usable, or there is no server.
    pub fn new(
        settings: &config::UpstreamConfig,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, SetupError> {
        let list = ServerList::new(settings, metrics)?;
        let service = Arc::clone(&list.load()[0]);
        let discovery = |Discover::Kubernetes| Discovery {
            service,
            token_file: settings.discover_token_file.clone(),
        };
        Ok(Self {
            list,
            discovery: settings.discover.map(discovery),
            pin: settings.pin,
            seats: Seats::new(metrics),
        })
    }

    /// Sends one request to the least loaded server and returns the head of the response. The body
    /// streams, and holds its place in the lane until it ends.
    ///
    /// # Errors
    /// See [`SendError`], which tells whether the request was provably not processed.
    pub async fn send(
        &self,
        kind: LaneKind,
        request: Box<Request<Body>>,
    ) -> Result<Response<Body<Lease>>, SendError> {
        let servers = &self.list.snapshot();
        failover(
            servers,
            self.metrics(),
            request,
            |tried, request| async move {
                let load = |server: &Server| server.lanes_for(&request).lane(kind).in_flight();
                let (index, server) = least_loaded(servers, tried, load);
                let lane = server.lanes_for(&request).lane(kind);
                (index, server.send_with_retry(lane, request).await)
            },
        )
        .await
    }

    /// Sends one create to the server of its namespace. A namespace that moves back to its server
    /// waits for `settle`, the time that a write takes to reach the caches of the other servers.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    pub async fn create(
        &self,
        namespace: &str,
        settle: Duration,
        request: Box<Request<Body>>,
    ) -> Result<Response<Body<Lease>>, SendError> {
        let key = Key::of(namespace);
        let servers = &self.list.snapshot();
        failover(
            servers,
            self.metrics(),
            request,
            |tried, request| async move {
                let pinned = match self.pin {
                    Pin::Namespace => {
                        self.seats
                            .take(namespace, settle, || pinned(servers, tried, key))
                            .await
                    }
                    Pin::None => None,
                };
                let ((index, server), _seated) = pinned.unwrap_or_else(|| {
                    let load = |server: &Server| server.lanes_for(&request).slot(key).in_flight();
                    (least_loaded(servers, tried, load), None)
                });
                let slot = server.lanes_for(&request).slot(key);
                (index, server.send(slot, request).await)
            },
        )
        .await
    }

    /// Sends an upgrade request over a separate HTTP/1.1 connection. A 101 turns that connection
    /// into a tunnel.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    pub async fn upgrade(
        &self,
        request: Box<Request<Body>>,
    ) -> Result<Response<Incoming>, SendError> {
        let servers = &self.list.snapshot();
        failover(
            servers,
            self.metrics(),
            request,
            |tried, request| async move {
                let load = |server: &Server| {
                    let lanes = server.lanes_for(&request);
                    lanes.lane(LaneKind::Stream).in_flight()
                };
                let (index, server) = least_loaded(servers, tried, load);
                (index, server.upgrade(request).await)
            },
        )
        .await
    }

    /// Handles a response that says that its server is going away or starting up. Retires the
    /// connection, and if there are other servers, marks the server down until a probe finds it
    /// ready. Returns whether the next create goes to another server that is up.
    pub fn mark_down(&self, lease: Lease, why: &str) -> bool {
        let servers = self.list.load();
        let server = servers
            .iter()
            .find(|server| server.lanes().any(|lane| lease.belongs_to(lane)));
        lease.retire();
        // A single address can be a load balancer's, and the servers behind it can be healthy.
        if servers.len() == 1 {
            return false;
        }
        if let Some(server) = server {
            server.mark_down(&why);
        }
        servers.iter().any(|server| server.health.is_usable())
    }

    /// Discovers and probes servers, and closes idle connections, until `stop`. The proxy closes
    /// them first, because a server could close one just as a request is on its way.
    pub async fn run(&self, stop: CancellationToken) {
        upkeep::run(&self.list, self.discovery.as_ref(), stop).await;
    }

    /// Reads the CA of the servers again. Returns whether it changed; new connections then use the
    /// new one.
    ///
    /// # Errors
    /// The CA cannot be read or parsed. The last good one stays in use.
    pub fn reload_ca(&self) -> Result<bool, TlsError> {
        self.list.reload_ca()
    }

    /// The certificate that the proxy shows for requests in the name of clients with a certificate.
    pub fn front_proxy(&self) -> Option<&Arc<OwnCertificate>> {
        self.list.front_proxy()
    }

    /// Reads that certificate and its key again. Returns whether they changed; then no further
    /// request goes over a connection that shows the old one.
    ///
    /// # Errors
    /// The files cannot be read or used. The last good pair stays in use.
    pub fn reload_front_proxy(&self) -> Result<bool, TlsError> {
        self.list.reload_front_proxy()
    }

    /// Returns when a server went up or down, or is down for another reason, since the last call.
    /// Only one task may call it.
    pub async fn changed(&self) {
        self.list.context.changed.notified().await;
    }

    /// Whether any server is up, with a text for operators. None if no server has been probed. Also
    /// updates the metrics of each server.
    pub fn condition(&self) -> Option<Result<String, String>> {
        report::readiness(&self.list.load(), self.metrics())
    }

    /// Every server, as operators see it.
    pub fn status(&self) -> Vec<ServerStatus> {
        report::status(&self.list.load(), &self.seats)
    }

    /// Connects to `scripted` in place of the server with this index.
    #[cfg(test)]
    pub(crate) fn script(&self, index: usize, scripted: Scripted) {
        self.list.load()[index].script(scripted);
    }

    fn metrics(&self) -> &Metrics {
        &self.list.context.metrics
    }
}
