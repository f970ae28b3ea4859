//! The path of a request on one screen: route it, clean it, then create, forward or upgrade, clean
//! the response, and observe.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::ACCEPT;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::Instant;
use tracing::debug;

use crate::body::{Body, ConnectionShare, Reservation};
use crate::create::Creates;
use crate::error::ProxyError;
use crate::forward::forward;
use crate::headers::{self, ForwardedFor, IdentityFields, Via};
use crate::identity::{ByCertificate, ClientCertificate, Identities};
use crate::metrics::{CertificateUse, Metrics, RouteLabel, StreamKind};
use crate::route::{CreateTarget, MatchedResources, Route, timeout};
use crate::status::Encoding;
use crate::upgrade::{Tunnels, upgrade};
use crate::upstream::{LaneKind, Lease, Upstream};

/// Heads up to this size are not counted. Controllers send some hundred bytes and a token.
const SMALL_HEAD: usize = 8 << 10;

/// Answers requests, with the parts that each route needs.
pub struct Proxy {
    /// The resources whose creates are replayed.
    pub matched: MatchedResources,
    /// Replays creates.
    pub creates: Creates,
    /// The servers.
    pub upstream: Arc<Upstream>,
    /// Upgraded connections.
    pub tunnels: Tunnels,
    /// Says who clients are by their certificates. None: a certificate cannot pass.
    pub identities: Option<Identities>,
    /// Recognises requests that have passed this proxy before.
    pub via: Via,
    /// The metrics for Prometheus.
    pub metrics: Arc<Metrics>,
}

/// The client that sent a request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address of the TCP connection.
    pub ip: IpAddr,
    /// The address as the apiserver is told it.
    pub forwarded_for: ForwardedFor,
    /// The certificate that the client presented. The proxy can pass on only who it names.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The memory that the creates on this connection occupy.
    pub buffered: ConnectionShare,
}

impl Proxy {
    /// Answers one request. hyper drops the future when the client disconnects, and that stops all
    /// work for the request.
    pub async fn handle(
        &self,
        peer: Peer,
        mut request: Request<Incoming>,
    ) -> Response<Body<Lease>> {
        let started = Instant::now();
        let method = request.method().clone();
        let accept = request.headers().get(ACCEPT).cloned();
        if request.version() == Version::HTTP_10 {
            headers::strip_upgrade(request.headers_mut());
        }
        let (label, step) = match Route::of(
            request.method(),
            request.uri(),
            request.headers(),
            &self.matched,
        ) {
            Route::Create(target) => (RouteLabel::Create, Step::Create(target)),
            Route::Call => (RouteLabel::Call, Step::Forward(LaneKind::Call)),
            Route::Stream => (RouteLabel::Stream, Step::Forward(LaneKind::Stream)),
            Route::Upgrade => (RouteLabel::Upgrade, Step::Upgrade),
        };
        let answered = match self.admit(&peer, &request) {
            Err(error) => Err(error),
            Ok(identity) => {
                self.clean(&peer, &mut request, &step);
                if let Some(identity) = &identity {
                    identity.assert(request.headers_mut());
                }
                let request = Box::new(Body::of_request(request, &self.creates.drain));
                let is_identified = identity.is_some();
                let answered = self
                    .take(step, &peer, is_identified, request, started)
                    .await;
                if is_identified {
                    self.watch_for_disbelief(&answered);
                }
                answered
            }
        };
        let cleaned = answered.map(|mut response| {
            headers::to_client(&mut response);
            response
        });
        let response = cleaned.unwrap_or_else(|error| {
            debug!(route = label.as_str(), error = %crate::telemetry::chain(&error), "The proxy answers itself");
            error.into_response(&method, Encoding::of_accept(accept.as_ref()))
        });
        self.metrics
            .request(label, response.status().as_u16(), started.elapsed());
        response
    }

    /// Makes the head of a request fit for the apiserver. [`headers::to_client`] does the same for
    /// the response.
    fn clean(&self, peer: &Peer, request: &mut Request<Incoming>, step: &Step) {
        let upgrade = if matches!(step, Step::Upgrade) {
            headers::Upgrade::Keep
        } else {
            headers::Upgrade::Strip
        };
        let version = request.version();
        headers::to_upstream(request.headers_mut(), &peer.forwarded_for, upgrade);
        self.via.append(request.headers_mut(), version);
    }

    /// Refuses requests that the proxy must not pass on by any route. Returns for whom the proxy
    /// must ask, if a certificate says it.
    fn admit(
        &self,
        peer: &Peer,
        request: &Request<Incoming>,
    ) -> Result<Option<Arc<IdentityFields>>, ProxyError> {
        if self.via.has_passed(request.headers()) {
            return Err(ProxyError::Loop);
        }
        if request.method() == Method::CONNECT {
            return Err(ProxyError::Connect);
        }
        let (uri, version, headers) = (request.uri(), request.version(), request.headers());
        let identity = match &peer.certificate {
            Some(certificate) => self.identify(certificate, headers)?,
            None => None,
        };
        match identity {
            Some(_) => headers::check_identified(uri, version, headers)?,
            None => headers::check(uri, version, headers)?,
        }
        Ok(identity)
    }

    /// Decides between the credentials of a request as kube-apiserver does: a certificate that
    /// counts comes before a token; a token beside one that does not is enough; a certificate that
    /// does not count is no anonymous request.
    /// <https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/kubeapiserver/authenticator/config.go>
    fn identify(
        &self,
        certificate: &ClientCertificate,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<IdentityFields>>, ProxyError> {
        let identified = self
            .identities
            .as_ref()
            .map(|identities| identities.of(certificate, SystemTime::now()));
        let (used, result) = match identified {
            Some(Ok(identity)) => (CertificateUse::Accepted, Ok(Some(identity))),
            Some(Err(error)) if !error.lets_others_count() => {
                (CertificateUse::Denied, Err(ProxyError::Identity(error)))
            }
            _ if headers::has_token(headers) => (CertificateUse::Token, Ok(None)),
            Some(Err(error)) => (CertificateUse::Refused, Err(ProxyError::Identity(error))),
            None => (CertificateUse::Refused, Err(ProxyError::ClientCertificate)),
        };
        self.metrics.client_certificate(used);
        result
    }

    fn by_certificate<'a>(&'a self, peer: &'a Peer) -> Option<ByCertificate<'a>> {
        Some(ByCertificate {
            identities: self.identities.as_ref()?,
            certificate: peer.certificate.as_deref()?,
        })
    }

    fn watch_for_disbelief<B>(&self, answered: &Result<Response<B>, ProxyError>) {
        let is_refused = |response: &Response<B>| response.status() == StatusCode::UNAUTHORIZED;
        if let (Some(identities), Ok(response)) = (&self.identities, answered)
            && is_refused(response)
        {
            identities.not_believed();
        }
    }

    /// Reserves memory for a large head until the response comes. Creates reserve it together with
    /// their bodies.
    async fn room_for_head(
        &self,
        peer: &Peer,
        request: &Request<Body>,
    ) -> Result<Option<Reservation>, ProxyError> {
        let size = headers::size(request.headers());
        if size <= SMALL_HEAD {
            return Ok(None);
        }
        let mut room = self.creates.buffers.reserve(peer.ip, &peer.buffered);
        if room.grow(size as u64).await {
            Ok(Some(room))
        } else {
            Err(ProxyError::TooManyRequests)
        }
    }

    /// Each step is boxed. A future is as large as its largest step, and hyper and tokio move the
    /// future of a request a dozen times before it first runs.
    async fn take(
        &self,
        step: Step,
        peer: &Peer,
        is_identified: bool,
        request: Box<Request<Body>>,
        started: Instant,
    ) -> Result<Response<Body<Lease>>, ProxyError> {
        match step {
            Step::Create(target) => {
                let room = self.creates.buffers.reserve(peer.ip, &peer.buffered);
                let by = self.by_certificate(peer).filter(|_| is_identified);
                Box::pin(self.creates.create(target, by, room, request)).await
            }
            Step::Forward(lane) => {
                let open = (lane == LaneKind::Stream)
                    .then(|| self.metrics.stream_open(StreamKind::Stream));
                let label = if open.is_some() {
                    RouteLabel::Stream
                } else {
                    RouteLabel::Call
                };
                self.metrics.overhead(label, started.elapsed());
                let _head = self.room_for_head(peer, &request).await?;
                // A stream has no timeout, whatever its URL says.
                let deadline = if open.is_some() {
                    None
                } else {
                    timeout::deadline(request.uri(), started)
                };
                let response = Box::pin(forward(&self.upstream, lane, request, deadline)).await?;
                Ok(response.map(|body| body.map_guard(|lease| lease.keeping(open))))
            }
            Step::Upgrade => {
                let _head = self.room_for_head(peer, &request).await?;
                let open = self.metrics.stream_open(StreamKind::Upgrade);
                Ok(Box::pin(upgrade(&self.upstream, &self.tunnels, request, open)).await?)
            }
        }
    }
}

/// The next step for a request.
enum Step {
    Create(CreateTarget),
    Forward(LaneKind),
    Upgrade,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_of_a_request_is_small() {
        fn size_of_future<A, F>(_: impl FnOnce(A) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_future(
            |(proxy, peer, request): (&Proxy, Peer, Request<Incoming>)| proxy.handle(peer, request),
        );
        assert!(
            size < 4096,
            "{size} bytes, moved a dozen times for each request"
        );
    }
}
