//! One server: its address, its lanes, its health. Sends one request to it, and asks it whether it
//! is ready.

use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{HOST, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::sync::Notify;

use super::connect::Connector;
use super::health::{Answer, Health};
use super::lane::{Kind, Lane, Lease};
use super::pins::Key;
use super::upgrades::Upgrades;
use super::{LaneKind, SendError, UNSENT_TRIES};
use crate::body::{Body, BodyError, Flows, Returned, collect_bounded};
use crate::config::{self, Pin};
use crate::headers;
use crate::metrics::Metrics;
use crate::telemetry::chain;
use crate::verdict::{Class, classify};

/// How long a probe may take. An apiserver that is alive answers in milliseconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of the body of a call is remembered until it is answered: more than most, and little
/// beside a connection's own buffers.
const MAX_KEPT: usize = 16 << 10;
/// More than the list of checks that a failing `/readyz` answers with.
const MAX_PROBE_ANSWER: u64 = 64 << 10;

/// Answers to creates are small.
const CREATE: Kind = Kind {
    name: "create",
    spread: 1,
    window: 64 << 10,
    max_served: usize::MAX,
};
/// Lists of megabytes among them: 256 MiB/s of one list at a round trip of a millisecond.
const CALL: Kind = Kind {
    name: "call",
    spread: 1,
    window: 256 << 10,
    max_served: usize::MAX,
};
/// Watches, logs: slow, but many, and read by anybody. Each that is cancelled may use up some of
/// what h2 allows of small frames for the life of a connection (see `connect::CONNECTION_WINDOW`),
/// so connections are renewed.
const STREAM: Kind = Kind {
    name: "stream",
    spread: 1,
    window: 64 << 10,
    max_served: 1000,
};

/// See the module.
pub(super) struct Server {
    /// `host:port`: what replicas rank, what metrics and logs name.
    pub(super) name: Box<str>,
    pub(super) key: Key,
    pub(super) health: Arc<Health>,
    target: Target,
    connector: Arc<Connector>,
    flows: Arc<Flows>,
    /// Slots: each keeps to one connection for as long as its streams suffice.
    creates: Box<[(Key, Arc<Lane>)]>,
    call: Arc<Lane>,
    stream: Arc<Lane>,
    upgrades: Upgrades,
    /// Whether `/readyz` may be read without credentials.
    anonymous: AtomicBool,
    /// The connection of probes, between two of them.
    probing: Mutex<Option<http1::SendRequest<Body>>>,
}

/// What a request must name to be at the right server.
#[derive(Debug)]
struct Target {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
}

/// What all servers have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    /// Told when one goes up or down, or is down for another reason.
    pub(super) changed: Arc<Notify>,
    /// Their answers under way.
    pub(super) flows: Arc<Flows>,
}

/// A request without an answer.
pub(super) struct Failed {
    pub(super) error: SendError,
    /// The request as it was, where it never left.
    pub(super) unsent: Option<Request<Body>>,
    /// Its connection was one that had been idle, and ended without an answer: the server may have
    /// closed it before the request came.
    idle_closed: bool,
}

impl Server {
    /// The server that `connector` reaches. Connects when the first request comes.
    pub(super) fn new(connector: Connector, settings: &config::Upstream, shared: &Shared) -> Self {
        let Shared {
            metrics,
            changed,
            flows,
        } = shared;
        let connector = Arc::new(connector);
        let lane = |kind: Kind| {
            Lane::new(
                kind,
                Arc::clone(&connector),
                settings,
                metrics.lane(kind.name),
            )
        };
        let connections = settings.connections_per_lane.size();
        // One address may stand for several apiservers, which only a connection tells apart. Where
        // each has an address of its own, one connection would line up the creates of a
        // namespace, so that they come in smaller batches and cost more quota writes.
        let one_address = settings.discover.is_none() && settings.addresses().len() == 1;
        let (slots, spread) = match settings.pin {
            Pin::Namespace if one_address => (connections, 1),
            Pin::Namespace | Pin::None => (1, connections),
        };
        let name = connector.name();
        Self {
            key: Key::of(&name),
            health: Arc::new(Health::new(&name, Arc::clone(changed))),
            name,
            target: Target::of(&connector),
            creates: (0..slots)
                .map(|slot| (Key::of(&slot.to_string()), lane(Kind { spread, ..CREATE })))
                .collect(),
            call: lane(Kind {
                spread: connections,
                ..CALL
            }),
            stream: lane(Kind {
                spread: connections,
                ..STREAM
            }),
            upgrades: Upgrades::new(),
            connector,
            flows: Arc::clone(flows),
            anonymous: true.into(),
            probing: Mutex::default(),
        }
    }

    /// The lane of a create.
    pub(super) fn slot(&self, namespace: Key) -> &Arc<Lane> {
        // There is at least one; the calls' lane would do too.
        namespace
            .choose(self.creates.iter().map(|(key, lane)| (*key, lane)))
            .unwrap_or(&self.call)
    }

    pub(super) fn lane(&self, kind: LaneKind) -> &Arc<Lane> {
        match kind {
            LaneKind::Call => &self.call,
            LaneKind::Stream => &self.stream,
        }
    }

    /// Every lane.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.creates
            .iter()
            .map(|(_, lane)| lane)
            .chain([&self.call, &self.stream])
    }

    /// Sends one request and returns the head of its answer; the body streams and holds its place
    /// in the lane.
    pub(super) async fn send(
        &self,
        lane: &Arc<Lane>,
        mut request: Request<Body>,
    ) -> Result<Response<Body<Lease>>, Box<Failed>> {
        for _ in 0..UNSENT_TRIES {
            let mut lease = match lane.acquire().await {
                Ok(lease) => lease,
                Err(error) => return Err(self.failed(SendError::Connect(error), Some(request))),
            };
            self.target.address(&mut request, lease.is_http2());
            let reused = lease.is_reused();
            match lease.try_send(request).await {
                // What comes behind it is no HTTP, and nobody knows what.
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
                    Some(unsent) => request = unsent,
                    None => {
                        let error = classified(failed.into_error());
                        let idle_closed =
                            reused && matches!(&error, SendError::Lost(why) if is_closed(why));
                        match &error {
                            // It is going away, and may not know it yet.
                            SendError::Refused(_) => lease.retire(),
                            SendError::Lost(why) => lease.lost(why),
                            SendError::Request(_)
                            | SendError::Connect(_)
                            | SendError::Unsent
                            | SendError::Switched => {}
                        }
                        return Err(Box::new(Failed {
                            error,
                            unsent: None,
                            idle_closed,
                        }));
                    }
                },
            }
        }
        Err(self.failed(SendError::Unsent, Some(request)))
    }

    /// As [`Server::send`], but what the server refused unprocessed is sent again, over another
    /// connection: with `--goaway-chance`, a server refuses whatever crosses its GOAWAY. And a
    /// read that crosses the close of an idle HTTP/1.1 connection is sent once more: whether the
    /// server saw it is not known, but to ask twice changes nothing (RFC 9110 §9.2.2). Go's own
    /// client does both: <https://github.com/golang/go/blob/go1.24.0/src/net/http/transport.go#L775>. Unlike it, this takes no client's word (`Idempotency-Key`)
    /// for a write, as kube-apiserver knows no such header.
    pub(super) async fn send_again(
        &self,
        lane: &Arc<Lane>,
        mut request: Request<Body>,
    ) -> Result<Response<Body<Lease>>, Box<Failed>> {
        let mut tries = UNSENT_TRIES;
        let mut once_more = request.method().is_safe() && request.body().is_end_stream();
        loop {
            let (sent, copy) = copied(request);
            let failed = match self.send(lane, sent).await {
                Err(failed) if matches!(failed.error, SendError::Refused(_)) => failed,
                Err(failed) if failed.idle_closed && std::mem::take(&mut once_more) => failed,
                done => return done,
            };
            tries -= 1;
            let (head, returned) = *copy;
            match returned.body().await {
                Some(body) if tries > 0 => request = Request::from_parts(head, body),
                _ => return Err(failed),
            }
        }
    }

    /// Sends an upgrade request over an HTTP/1.1 connection of its own, which a 101 turns into a
    /// tunnel.
    pub(super) async fn upgrade(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Box<Failed>> {
        let turn = self.upgrades.turn().await;
        let asked: Vec<_> = request.headers().get_all(UPGRADE).iter().cloned().collect();
        loop {
            let (mut sender, fresh) = match self.upgrades.left() {
                Some(sender) => (sender, false),
                None => match self.connector.http1().await {
                    Ok(sender) => (sender, true),
                    Err(error) => {
                        return Err(self.failed(SendError::Connect(Arc::new(error)), Some(request)));
                    }
                },
            };
            self.target.address(&mut request, false);
            match sender.try_send_request(request).await {
                Ok(answer) if answer.status() != StatusCode::SWITCHING_PROTOCOLS => {
                    self.upgrades.refused(sender, turn);
                    return Ok(answer);
                }
                Ok(answer) if !headers::is_agreed(&asked, answer.headers()) => {
                    return Err(self.failed(SendError::Switched, None));
                }
                Ok(answer) => return Ok(answer),
                Err(mut failed) => match failed.take_message() {
                    // One that was left may have been closed since.
                    Some(unsent) if !fresh => request = unsent,
                    Some(unsent) => return Err(self.failed(SendError::Unsent, Some(unsent))),
                    None => return Err(self.failed(classified(failed.into_error()), None)),
                },
            }
        }
    }

    /// Asks the server whether it is ready, and says so to its health.
    pub(super) async fn probe(&self) {
        let ready = tokio::time::timeout(PROBE_TIMEOUT, self.ready()).await;
        let result = ready
            .unwrap_or_else(|_| Err(format!("/readyz was not answered within {PROBE_TIMEOUT:?}")));
        if self.health.probed(result) {
            self.leave_connections();
        }
    }

    /// A request or an answer found that the server is not to be used.
    pub(super) fn leave(&self, error: &dyn std::fmt::Display) {
        if self.health.failed(error) {
            self.leave_connections();
        }
    }

    /// Requests to come make connections anew: those of a server that failed may be dead without a
    /// word.
    fn leave_connections(&self) {
        self.lanes().for_each(|lane| lane.leave_connections());
        self.upgrades.forget();
    }

    /// The probe itself: `/readyz` fails as soon as a shutdown is announced, before connections
    /// break. Whoever may not read it without credentials (`--anonymous-auth=false`) is told so
    /// by a server that is alive, and does not ask again. <https://kubernetes.io/docs/reference/using-api/health-checks/>
    async fn ready(&self) -> Result<Answer, String> {
        if !self.anonymous.load(Ordering::Relaxed) {
            return self
                .call
                .acquire()
                .await
                .map(|_place| Answer::Alive)
                .map_err(|error| chain(&*error).to_string());
        }
        let (sender, answer) = self.ask_ready().await?;
        let (head, mut body) = Body::<()>::of_answer(answer).into_parts();
        // Read to its end, so that the connection can be used again.
        let body = match collect_bounded(&mut body, MAX_PROBE_ANSWER).await {
            Ok(body) => body.unwrap_or_default().data,
            Err(error) => return Err(chain(&error).to_string()),
        };
        if head.status == StatusCode::UNAUTHORIZED {
            self.anonymous.store(false, Ordering::Relaxed);
        } else {
            *self.probing.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        }
        match (
            classify(head.status, &head.headers, &body).class,
            head.status,
        ) {
            (Class::ShuttingDown, _) => Err("it is shutting down".to_owned()),
            (Class::StartingUp, _) => Err("it is starting up".to_owned()),
            (_, StatusCode::LOOP_DETECTED) => Err("it leads back to this proxy".to_owned()),
            // A 101 was not asked for.
            (_, status) if status.is_server_error() || status.is_informational() => {
                Err(format!("/readyz answered {status}"))
            }
            (_, status) if status.is_success() => Ok(Answer::Ready),
            (_, StatusCode::FORBIDDEN) => Ok(Answer::Forbidden),
            // One that is busy, for example.
            _ => Ok(Answer::Alive),
        }
    }

    /// Over HTTP/1.1 and a connection of its own: kube-apiserver ends an HTTP/2 connection as soon
    /// as anybody without credentials has asked something over it, whoever else shares it.
    /// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/filters/authentication.go#L110-L122>
    async fn ask_ready(&self) -> Result<(http1::SendRequest<Body>, Response<Incoming>), String> {
        let mut kept = self
            .probing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        loop {
            let (mut sender, fresh) = match kept.take() {
                Some(sender) => (sender, false),
                None => (
                    self.connector
                        .http1()
                        .await
                        .map_err(|error| chain(&error).to_string())?,
                    true,
                ),
            };
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = Uri::from_static("/readyz");
            self.target.address(&mut request, false);
            match sender.send_request(request).await {
                Ok(answer) => return Ok((sender, answer)),
                // One that was kept may have been closed since.
                Err(_) if !fresh => {}
                Err(error) => return Err(chain(&error).to_string()),
            }
        }
    }

    fn failed(&self, error: SendError, unsent: Option<Request<Body>>) -> Box<Failed> {
        if let SendError::Connect(_) | SendError::Unsent = &error {
            self.leave(&chain(&error));
        }
        Box::new(Failed {
            error,
            unsent,
            idle_closed: false,
        })
    }
}

/// The request, and a copy of it; that of the body comes back when the connection lets go of it.
fn copied(request: Request<Body>) -> (Request<Body>, Box<(Parts, Returned)>) {
    let (head, body) = request.into_parts();
    let (kept, returned) = body.returning(MAX_KEPT);
    let copy = Box::new((head.clone(), returned));
    (Request::from_parts(head, kept), copy)
}

impl Target {
    fn of(connector: &Connector) -> Self {
        let (scheme, authority, host) = connector.target();
        Self {
            scheme,
            authority,
            host,
        }
    }

    /// Names the server in the form that the protocol wants: `:authority` in HTTP/2, `Host` in
    /// HTTP/1.1. Path and query stay as they are.
    fn address<B>(&self, request: &mut Request<B>, http2: bool) {
        let path = std::mem::take(request.uri_mut())
            .into_parts()
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        if http2 {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(self.scheme.clone());
            parts.authority = Some(self.authority.clone());
            parts.path_and_query = Some(path);
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            *request.version_mut() = Version::HTTP_2;
            // `Host` stands first in what clients send, so HeaderMap's swap-removal would move the
            // last header to the front.
            if request.headers().contains_key(HOST) {
                request.headers_mut().insert(HOST, self.host.clone());
            }
        } else {
            *request.uri_mut() = Uri::from(path);
            *request.version_mut() = Version::HTTP_11;
            request.headers_mut().insert(HOST, self.host.clone());
            headers::join_cookies(request.headers_mut());
        }
    }
}

/// Whether a connection ended, instead of carrying something that is no answer.
fn is_closed(error: &hyper::Error) -> bool {
    error.is_incomplete_message()
        || error
            .source()
            .is_some_and(|cause| cause.is::<std::io::Error>())
}

/// Tells what a failed exchange proves. h2 reports a remote GOAWAY only to streams above its last
/// stream id; those at or below it end with an I/O error when the connection closes
/// (`h2/src/proto/streams/streams.rs`, `recv_go_away` and `recv_eof`).
fn classified(error: hyper::Error) -> SendError {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<BodyError>() {
            return SendError::Request(error);
        }
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            // hyper resets the stream of a body that broke off.
            if h2.is_reset() && !h2.is_remote() && !h2.is_library() {
                return SendError::Request(error);
            }
            let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            if h2.is_remote() && (refused || h2.is_go_away()) {
                return SendError::Refused(error);
            }
        }
        source = cause.source();
    }
    SendError::Lost(error)
}
