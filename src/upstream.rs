//! The way to kube-apiserver: the servers, which of them a request goes to, and connections kept in
//! lanes, so that watches, which never end, can never use up what creates need.
//!
//! Calls and streams are spread over the servers that are up; the creates of a namespace keep to
//! one. A request that provably did not reach a server goes on to the next; where none is left it
//! is given back as an error that says so, and whether to send it again is for the caller. Nothing
//! here repeats what may have been processed.

mod choice;
mod connect;
mod discover;
mod health;
mod lane;
mod pins;
mod seats;
mod send_error;
mod server;
mod token;
mod upgrades;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::body::{Body, Flows};
use crate::config::rules::MAX_SERVERS;
use crate::config::{self, Discover, Pin};
use crate::metrics::Metrics;
use crate::telemetry::chain;
use crate::tls::TlsError;
use choice::{Tried, least_loaded, pinned};
use connect::Connectors;
pub use connect::{AddressError, ConnectError};
use discover::Discovery;
use health::Standing;
pub use lane::Lease;
use pins::Key;
use seats::Seats;
pub use send_error::SendError;
use server::{Server, Shared};
pub use token::{TokenError, bearer};

/// How often a request that never left is offered to another connection of the same server. A
/// connection closes between two requests now and then, several in a row only while a server goes
/// away.
const UNSENT_TRIES: usize = 3;

/// How often connections are looked through for idle ones.
const CLOSE_IDLE_EVERY: Duration = Duration::from_secs(5);

/// How often answers that nobody reads are looked for.
const LET_GO_EVERY: Duration = Duration::from_secs(1);

/// Which connections a request may use. Creates have their own, see [`Upstream::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// Short requests.
    Call,
    /// Watches and other answers without an end.
    Stream,
}

/// The servers, and the pins of namespaces to them.
pub struct Upstream {
    /// Never empty. Replaced as a whole when other servers are found.
    servers: ArcSwap<Vec<Arc<Server>>>,
    /// Told when it has been replaced.
    listed: Notify,
    discovery: Option<Discovery>,
    connectors: Connectors,
    settings: config::Upstream,
    pin: Pin,
    seats: Seats,
    shared: Shared,
}

/// A server as operators see it.
#[derive(Clone, Debug)]
pub struct ServerStatus {
    /// `host:port`.
    pub address: String,
    /// Whether requests go there.
    pub healthy: bool,
    /// Since when it is so.
    pub since: SystemTime,
    /// Its last failure, also when that is past.
    pub last_error: Option<String>,
    /// Open connections, without upgraded ones.
    pub connections: usize,
    /// Requests in flight, watches included.
    pub in_flight: usize,
    /// The namespaces whose creates went there last, in order; those idle for minutes are
    /// forgotten, and 10,000 are remembered over all servers.
    pub namespaces: Vec<String>,
}

/// Why the upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is none.
    #[error("no upstream is configured")]
    NoServer,
    /// A URL is of no use.
    #[error("the upstream {url} is not usable")]
    Address {
        /// The URL.
        url: String,
        /// Why not.
        source: Box<AddressError>,
    },
    /// The CA.
    #[error("the upstream cannot be verified")]
    Tls(#[from] TlsError),
}

impl Upstream {
    /// The servers of `settings`. Connects when the first request comes, or when it is run.
    ///
    /// # Errors
    /// An address or the CA cannot be used, or there is no server at all.
    pub fn new(settings: &config::Upstream, metrics: &Arc<Metrics>) -> Result<Self, SetupError> {
        let urls = settings.addresses();
        let connectors = Connectors::new(settings, &urls)?;
        let flows = Flows::new(settings.max_unread, metrics);
        let shared = Shared {
            metrics: Arc::clone(metrics),
            changed: Arc::default(),
            flows,
        };
        let mut servers = Vec::new();
        for url in urls.into_iter().take(MAX_SERVERS) {
            let connector = connectors.to(&url).map_err(|source| SetupError::Address {
                url: url.to_string(),
                source: Box::new(source),
            })?;
            servers.push(Arc::new(Server::new(connector, settings, &shared)));
        }
        let Some(service) = servers.first().map(Arc::clone) else {
            return Err(SetupError::NoServer);
        };
        let discovery = |Discover::Kubernetes| Discovery {
            service,
            token_file: settings.discover_token_file.clone(),
        };
        servers
            .iter()
            .for_each(|server| metrics.upstream_up(&server.name, false));
        Ok(Self {
            servers: ArcSwap::from_pointee(servers),
            listed: Notify::new(),
            discovery: settings.discover.map(discovery),
            connectors,
            settings: settings.clone(),
            pin: settings.pin,
            seats: Seats::new(metrics),
            shared,
        })
    }

    /// Sends one request to the least loaded server and returns the head of its answer; the body
    /// streams and holds its place in the lane.
    ///
    /// # Errors
    /// See [`SendError`]; only `Lost` leaves open whether the request was processed.
    pub async fn send(
        &self,
        kind: LaneKind,
        mut request: Request<Body>,
    ) -> Result<Response<Body<Lease>>, SendError> {
        let servers = self.servers.load_full();
        let mut tried = Tried::default();
        loop {
            let (index, server) =
                least_loaded(&servers, tried, |server| server.lane(kind).in_flight());
            let failed = match server.send_again(server.lane(kind), request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            self.shared.metrics.upstream_error(failed.error.kind());
            request = tried.next(index, &servers, *failed)?;
        }
    }

    /// Sends one create to the server of its namespace. `settle` is how long news take from one
    /// server to another: a namespace that returns to a server waits for so long.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    pub async fn create(
        &self,
        namespace: &str,
        settle: Duration,
        mut request: Request<Body>,
    ) -> Result<Response<Body<Lease>>, SendError> {
        let key = Key::of(namespace);
        let servers = self.servers.load_full();
        let mut tried = Tried::default();
        loop {
            let pinned = match self.pin {
                Pin::Namespace => {
                    self.seats
                        .take(namespace, settle, || pinned(&servers, tried, key))
                        .await
                }
                Pin::None => None,
            };
            let ((index, server), _seated) = pinned.unwrap_or_else(|| {
                (
                    least_loaded(&servers, tried, |server| server.slot(key).in_flight()),
                    None,
                )
            });
            let failed = match server.send(server.slot(key), request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            self.shared.metrics.upstream_error(failed.error.kind());
            request = tried.next(index, &servers, *failed)?;
        }
    }

    /// Sends an upgrade request over an HTTP/1.1 connection of its own, which a 101 turns into a
    /// tunnel.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    pub async fn upgrade(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError> {
        let servers = self.servers.load_full();
        let mut tried = Tried::default();
        loop {
            let (index, server) = least_loaded(&servers, tried, |server| {
                server.lane(LaneKind::Stream).in_flight()
            });
            let failed = match server.upgrade(request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            self.shared.metrics.upstream_error(failed.error.kind());
            request = tried.next(index, &servers, *failed)?;
        }
    }

    /// The answer with this lease said that its server is going or coming: its connection is not
    /// used again, and where there are other servers neither is that one, until it is ready.
    /// Whether the next create surely goes to another server, which is up.
    pub fn leave(&self, lease: Lease, why: &str) -> bool {
        let servers = self.servers.load();
        let server = servers
            .iter()
            .find(|server| server.lanes().any(|lane| lease.is_of(lane)));
        lease.retire();
        // One address may be a balancer's, and its other servers be well.
        if servers.len() == 1 {
            return false;
        }
        if let Some(server) = server {
            server.leave(&why);
        }
        servers.iter().any(|server| server.health.is_usable())
    }

    /// Finds and probes the servers and closes idle connections in time (a server that closes first
    /// may do so just as a request is on its way), until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let discovering = async {
            match &self.discovery {
                Some(discovery) => discovery.run(|urls| self.found(&urls)).await,
                None => std::future::pending().await,
            }
        };
        stop.run_until_cancelled(async { tokio::join!(self.keep(), discovering) })
            .await;
    }

    async fn keep(&self) {
        let mut probing: Vec<(Arc<Server>, AbortOnDropHandle<()>)> = Vec::new();
        let mut every = tokio::time::interval(CLOSE_IDLE_EVERY);
        let mut let_go = tokio::time::interval(LET_GO_EVERY);
        loop {
            let servers = self.servers.load_full();
            probing.retain(|(server, _)| contains(&servers, server));
            for server in servers.iter() {
                if !probing
                    .iter()
                    .any(|(probed, _)| Arc::ptr_eq(probed, server))
                {
                    let probe = probe_for_ever(Arc::clone(server));
                    probing.push((
                        Arc::clone(server),
                        AbortOnDropHandle::new(tokio::spawn(probe)),
                    ));
                }
            }
            tokio::select! {
                _ = every.tick() => {
                    let service = self.discovery.iter().map(|discovery| &discovery.service);
                    servers.iter().chain(service).flat_map(|server| server.lanes()).for_each(|lane| lane.close_idle());
                }
                _ = let_go.tick() => self.shared.flows.let_go(),
                () = self.listed.notified() => {}
            }
        }
    }

    /// Uses the servers at `urls` from now on, and those of them that are known already as they
    /// are. Without any, nothing changes.
    fn found(&self, urls: &[Uri]) {
        let known = self.servers.load_full();
        let mut servers = Vec::new();
        for url in urls.iter().take(MAX_SERVERS) {
            let connector = match self.connectors.to(url) {
                Ok(connector) => connector,
                Err(error) => {
                    warn!(%url, error = %chain(&error), "An apiserver cannot be used");
                    continue;
                }
            };
            let same = known.iter().find(|server| server.name == connector.name());
            let new = || Arc::new(Server::new(connector, &self.settings, &self.shared));
            servers.push(same.map_or_else(new, Arc::clone));
        }
        if servers.is_empty() {
            warn!("No apiserver was found; the last ones known stay in use");
            return;
        }
        if servers.len() == known.len() && servers.iter().all(|server| contains(&known, server)) {
            return;
        }
        info!(
            servers = servers
                .iter()
                .map(|server| &*server.name)
                .collect::<Vec<_>>()
                .join(","),
            "Found the apiservers"
        );
        let servers = Arc::new(servers);
        self.servers.store(Arc::clone(&servers));
        for gone in known.iter().filter(|server| !contains(&servers, server)) {
            gone.health.remove();
            self.shared.metrics.upstream_gone(&gone.name);
        }
        self.listed.notify_one();
        self.shared.changed.notify_one();
    }

    /// Reads the CA that verifies the servers again; says whether it has changed, so that new
    /// connections are verified by another one.
    ///
    /// # Errors
    /// It cannot be read, or is none: the last good one stays in use.
    pub fn reload_ca(&self) -> Result<bool, TlsError> {
        self.connectors.reload_trust()
    }

    /// Returns when a server has gone up or down, or is down for another reason, since the last
    /// call. For one caller.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Whether a server is up, in words where there are several, or why none is; None as long as
    /// nothing is known of any. Tells metrics of each.
    pub fn condition(&self) -> Option<Result<String, String>> {
        let servers = self.servers.load();
        let states: Vec<_> = servers
            .iter()
            .map(|server| (server, server.health.state()))
            .collect();
        let is = |standing| states.iter().any(|(_, state)| state.standing == standing);
        let mut words = Vec::new();
        for (server, state) in &states {
            let up = state.standing == Standing::Up;
            self.shared.metrics.upstream_up(&server.name, up);
            words.push(match (&state.error, up) {
                (_, true) => format!("{} is up", server.name),
                (Some(error), false) => format!("{} is down: {error}", server.name),
                (None, false) => format!("{} has not been probed yet", server.name),
            });
        }
        match (is(Standing::Up), is(Standing::Down)) {
            (false, false) => None,
            (false, true) => Some(Err(format!("no healthy upstream: {}", words.join("; ")))),
            (true, _) if servers.len() == 1 => Some(Ok(String::new())),
            (true, _) => Some(Ok(words.join("; "))),
        }
    }

    /// Every server, for operators.
    pub fn status(&self) -> Vec<ServerStatus> {
        let mut seats = self.seats.all();
        seats.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let status = |server: &Arc<Server>| {
            let state = server.health.state();
            let here = seats
                .iter()
                .filter(|(_, at)| Arc::ptr_eq(at, &server.health));
            ServerStatus {
                address: server.name.to_string(),
                healthy: state.standing == Standing::Up,
                since: SystemTime::now() - state.since.elapsed(),
                last_error: state.error.map(|error| error.to_string()),
                connections: server.lanes().map(|lane| lane.connections()).sum(),
                in_flight: server.lanes().map(|lane| lane.in_flight()).sum(),
                namespaces: here.map(|(namespace, _)| namespace.to_string()).collect(),
            }
        };
        self.servers.load().iter().map(status).collect()
    }
}

async fn probe_for_ever(server: Arc<Server>) {
    loop {
        server.health.time_to_probe().await;
        server.probe().await;
    }
}

fn contains(servers: &[Arc<Server>], server: &Arc<Server>) -> bool {
    servers.iter().any(|other| Arc::ptr_eq(other, server))
}
