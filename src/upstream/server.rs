//! One server: its address, its lanes and its health. Sends one request to it, and probes it.

mod lanes;
mod origin;
mod probe;

use std::sync::Arc;

use http::header::UPGRADE;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::Notify;

use super::connect::Connector;
use super::health::Health;
use super::lane::{Lane, Lease};
use super::pins::Key;
use super::{LaneKind, SendError, UNSENT_TRIES};
use crate::body::{Body, Flows, Returned};
use crate::config;
use crate::headers;
use crate::metrics::Metrics;
use crate::telemetry::chain;
use lanes::Lanes;
use origin::Origin;
use probe::Prober;

/// How much of a call's request body is kept until the response comes. This is more than most
/// bodies, and little compared with the buffers of a connection.
const MAX_KEPT: usize = 16 << 10;

pub(super) struct Server {
    /// `host:port`. Replicas rank this name; metrics and logs show it.
    pub(super) name: Box<str>,
    pub(super) key: Key,
    pub(super) health: Arc<Health>,
    origin: Origin,
    flows: Arc<Flows>,
    /// For requests with credentials of their own, or none, and for the proxy's own requests.
    plain: Lanes,
    /// For requests in the name of clients with a certificate. None: there are no such requests.
    identified: Option<Lanes>,
    prober: Prober,
}

/// The parts that all servers share.
#[derive(Debug)]
pub(super) struct ServerContext {
    pub(super) metrics: Arc<Metrics>,
    /// Notified when a server goes up or down, or is down for another reason.
    pub(super) changed: Arc<Notify>,
    /// The responses in progress.
    pub(super) flows: Arc<Flows>,
}

/// A request that got no response.
pub(super) struct FailedSend {
    pub(super) error: SendError,
    /// The unchanged request, if it was never sent.
    pub(super) unsent: Option<Box<Request<Body>>>,
    /// Whether a reused idle connection closed without a response. The server may have closed it
    /// before the request arrived.
    closed_while_idle: bool,
}

impl Server {
    /// The server that `connector` reaches. It connects for the first request.
    pub(super) fn new(
        connector: Connector,
        settings: &config::UpstreamConfig,
        context: &ServerContext,
    ) -> Self {
        let ServerContext {
            metrics,
            changed,
            flows,
        } = context;
        let identified = connector.as_front_proxy();
        let connector = Arc::new(connector);
        let lanes = |connector| Lanes::new(connector, settings, metrics);
        let name = connector.name();
        Self {
            key: Key::of(&name),
            health: Arc::new(Health::new(&name, Arc::clone(changed))),
            name,
            origin: Origin::of(&connector),
            plain: lanes(Arc::clone(&connector)),
            identified: identified.map(|connector| lanes(Arc::new(connector))),
            prober: Prober::new(connector),
            flows: Arc::clone(flows),
        }
    }

    /// Connects to `scripted` in place of a socket.
    #[cfg(test)]
    pub(super) fn script(&self, scripted: super::connect::Scripted) {
        self.plain.connector.script(scripted);
    }

    /// The lanes for a request.
    ///
    /// **Invariant:** a connection that shows the certificate of the front proxy carries only
    /// requests that say for whom the proxy asks, and no other connection carries those. The
    /// apiserver would take another request there for an invalid one, or for one of the proxy
    /// itself. `only_identified_requests_see_the_certificate` fails otherwise.
    pub(super) fn lanes_for<B>(&self, request: &Request<B>) -> &Lanes {
        match &self.identified {
            Some(lanes) if headers::is_identified(request.headers()) => lanes,
            _ => &self.plain,
        }
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.both().flat_map(Lanes::all)
    }

    /// Makes later requests in the name of clients show the certificate that is in use now.
    pub(super) fn retire_identified(&self) {
        if let Some(lanes) = &self.identified {
            lanes.retire_connections();
        }
    }

    fn both(&self) -> impl Iterator<Item = &Lanes> {
        std::iter::once(&self.plain).chain(&self.identified)
    }

    /// Sends one request and returns the head of the response. The body streams, and holds its
    /// place in the lane until it ends.
    pub(super) async fn send(
        &self,
        lane: &Arc<Lane>,
        mut request: Box<Request<Body>>,
    ) -> Result<Response<Body<Lease>>, Box<FailedSend>> {
        for _ in 0..UNSENT_TRIES {
            let mut lease = match lane.acquire().await {
                Ok(lease) => lease,
                Err(error) => return Err(self.failed(SendError::Connect(error), Some(request))),
            };
            self.origin.address(&mut request, lease.is_http2());
            let reused = lease.is_reused();
            match lease.try_send(request).await {
                // The bytes after a 101 are not HTTP, and nobody asked for them.
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    lease.retire();
                    return Err(self.failed(SendError::Switched, None));
                }
                Ok(response) => {
                    let cost = lease.may_occupy();
                    return Ok(Body::<()>::of_answer(response)
                        .map(|body| body.counted(&self.flows, cost).guarded(lease)));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = Box::new(unsent),
                    None => {
                        let error = SendError::of_exchange(failed.into_error());
                        let closed_while_idle = reused && error.is_closed_connection();
                        match &error {
                            // The server is going away, perhaps without knowing it yet.
                            SendError::Refused(_) => lease.retire(),
                            SendError::Lost(why) => lease.lost(why),
                            SendError::Request(_)
                            | SendError::Connect(_)
                            | SendError::Unsent
                            | SendError::Switched => {}
                        }
                        return Err(Box::new(FailedSend {
                            error,
                            unsent: None,
                            closed_while_idle,
                        }));
                    }
                },
            }
        }
        Err(self.failed(SendError::Unsent, Some(request)))
    }

    /// Like [`Server::send`], but sends two kinds of failed requests again, over another
    /// connection.
    ///
    /// - A request that the server refused unprocessed. With `--goaway-chance`, a server refuses
    ///   every request that crosses its GOAWAY.
    /// - A read that crosses the close of an idle HTTP/1.1 connection, once. It is not known
    ///   whether the server saw it, but a second read changes nothing (RFC 9110 §9.2.2).
    ///
    /// Go's client does both:
    /// <https://github.com/golang/go/blob/go1.24.0/src/net/http/transport.go#L775>. Unlike Go, this
    /// does not repeat a write because the client sent `Idempotency-Key`: kube-apiserver ignores
    /// that header.
    pub(super) async fn send_with_retry(
        &self,
        lane: &Arc<Lane>,
        mut request: Box<Request<Body>>,
    ) -> Result<Response<Body<Lease>>, Box<FailedSend>> {
        let mut tries = UNSENT_TRIES;
        let mut may_repeat_read = request.method().is_safe() && request.body().is_end_stream();
        loop {
            let copy = copied(&mut request);
            let failed = match self.send(lane, request).await {
                Err(failed) if matches!(failed.error, SendError::Refused(_)) => failed,
                Err(failed) if failed.closed_while_idle && std::mem::take(&mut may_repeat_read) => {
                    failed
                }
                done => return done,
            };
            tries -= 1;
            let (head, returned) = copy.into_parts();
            match returned.body().await {
                Some(body) if tries > 0 => request = Box::new(Request::from_parts(head, body)),
                _ => return Err(failed),
            }
        }
    }

    /// Sends an upgrade request over a separate HTTP/1.1 connection. A 101 turns that connection
    /// into a tunnel.
    pub(super) async fn upgrade(
        &self,
        mut request: Box<Request<Body>>,
    ) -> Result<Response<Incoming>, Box<FailedSend>> {
        let lanes = self.lanes_for(&request);
        let permit = lanes.upgrades.permit().await;
        let asked: Vec<_> = request.headers().get_all(UPGRADE).iter().cloned().collect();
        loop {
            let (mut sender, fresh) = match lanes.upgrades.take_idle() {
                Some(sender) => (sender, false),
                None => match lanes.connector.http1().await {
                    Ok(sender) => (sender, true),
                    Err(error) => {
                        return Err(self.failed(SendError::Connect(Arc::new(error)), Some(request)));
                    }
                },
            };
            self.origin.address(&mut request, false);
            match sender.try_send_request(*request).await {
                Ok(response) if response.status() != StatusCode::SWITCHING_PROTOCOLS => {
                    lanes.upgrades.refused(sender, permit);
                    return Ok(response);
                }
                Ok(response) if !headers::is_agreed(&asked, response.headers()) => {
                    return Err(self.failed(SendError::Switched, None));
                }
                Ok(response) => return Ok(response),
                Err(mut failed) => match failed.take_message() {
                    // The server may have closed an idle connection meanwhile.
                    Some(unsent) if !fresh => request = Box::new(unsent),
                    Some(unsent) => {
                        let unsent = Some(Box::new(unsent));
                        return Err(self.failed(SendError::Unsent, unsent));
                    }
                    None => {
                        return Err(self.failed(SendError::of_exchange(failed.into_error()), None));
                    }
                },
            }
        }
    }

    /// Asks the server whether it is ready, and records the result in its health.
    pub(super) async fn probe(&self) {
        let result = self
            .prober
            .probe(&self.origin, self.plain.lane(LaneKind::Call))
            .await;
        if self.health.probed(result) {
            self.retire_connections();
        }
    }

    /// Marks the server down because of what a request or a response showed.
    pub(super) fn mark_down(&self, error: &dyn std::fmt::Display) {
        if self.health.request_failed(error) {
            self.retire_connections();
        }
    }

    /// Makes later requests dial. Connections to a server that failed can be dead without a sign of
    /// it.
    fn retire_connections(&self) {
        self.both().for_each(Lanes::retire_connections);
    }

    fn failed(&self, error: SendError, unsent: Option<Box<Request<Body>>>) -> Box<FailedSend> {
        if let SendError::Connect(_) | SendError::Unsent = &error {
            self.mark_down(&chain(&error));
        }
        Box::new(FailedSend {
            error,
            unsent,
            closed_while_idle: false,
        })
    }
}

/// A copy of the request. Its body comes back when the connection drops it.
fn copied(request: &mut Request<Body>) -> Box<Request<Returned>> {
    let mut copy = Box::new(Request::new(request.body_mut().keep(MAX_KEPT)));
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    copy
}
