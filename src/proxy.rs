//! The path of a request, on one screen: route, then create, forward or upgrade, then observe.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION};
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tracing::debug;

use crate::body::Body;
use crate::create::{Creates, Target};
use crate::error::ProxyError;
use crate::forward::forward;
use crate::headers;
use crate::metrics::{Metrics, RouteLabel, StreamKind};
use crate::route::{Matched, Route};
use crate::status::Encoding;
use crate::upgrade::{Tunnels, upgrade};
use crate::upstream::{LaneKind, Lease, Upstream};

/// Everything a request meets.
pub struct Proxy {
    /// Which requests are creates.
    pub matched: Matched,
    /// The loop for those.
    pub creates: Creates,
    /// The way to the apiserver.
    pub upstream: Arc<Upstream>,
    /// Upgraded connections.
    pub tunnels: Tunnels,
    /// What is told to Prometheus.
    pub metrics: Arc<Metrics>,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The address of the TCP connection.
    pub ip: IpAddr,
    /// Whether it offered a client certificate, which ends here.
    pub certificate: bool,
}

impl Proxy {
    /// Answers one request. Dropping the future, as hyper does when the client leaves, stops everything that it does.
    pub async fn handle(&self, peer: Peer, mut request: Request<Incoming>) -> Response<Body<Lease>> {
        let started = Instant::now();
        let method = request.method().clone();
        let accept = request.headers().get(ACCEPT).cloned();
        let answer_to = |error: ProxyError| error.into_response(&method, Encoding::of_accept(accept.as_ref()));
        if peer.certificate && !request.headers().contains_key(AUTHORIZATION) {
            return answer_to(ProxyError::ClientCertificate);
        }
        let route = match Route::of(request.method(), request.uri(), request.headers(), &self.matched) {
            Route::Create(target) => Step::Create(Target::from(&target)),
            Route::Call => Step::Forward(RouteLabel::Call, LaneKind::Call),
            Route::Stream => Step::Forward(RouteLabel::Stream, LaneKind::Stream),
            Route::Upgrade => Step::Upgrade,
        };
        let keep = if matches!(route, Step::Upgrade) { headers::Upgrade::Keep } else { headers::Upgrade::Strip };
        headers::to_upstream(request.headers_mut(), peer.ip, keep);
        let (label, answer) = match route {
            Step::Create(target) => (RouteLabel::Create, self.creates.create(target, request).await),
            Step::Forward(label, lane) => (label, forward(&self.upstream, lane, request.map(Body::streamed)).await.map_err(ProxyError::from)),
            Step::Upgrade => {
                let open = self.metrics.stream_open(StreamKind::Upgrade);
                let answer = upgrade(&self.upstream, &self.tunnels, request.map(Body::streamed), open).await;
                (RouteLabel::Upgrade, answer.map_err(ProxyError::from))
            }
        };
        let response = answer.unwrap_or_else(|error| {
            debug!(route = label.as_str(), error = %crate::telemetry::chain(&error), "Answering by ourselves");
            answer_to(error)
        });
        self.metrics.request(label, response.status().as_u16(), started.elapsed());
        response
    }
}

/// A route without its borrows from the request, which moves on.
enum Step {
    Create(Target),
    Forward(RouteLabel, LaneKind),
    Upgrade,
}
