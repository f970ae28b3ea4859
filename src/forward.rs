//! Pass-through: one request streamed to the upstream and its answer streamed back, with nothing
//! changed but what RFC 9110 §7.6.1 asks of an intermediary. No buffering, and no timeout but the
//! client's own, which ends with the head of an answer. `proxy` calls it for calls and
//! streams; `create` has its own way to the upstream, but the same to do with the answer.

use http::{Request, Response, Version};
use tokio::time::{Instant, timeout_at};

use crate::body::Body;
use crate::error::ProxyError;
use crate::headers;
use crate::upstream::{LaneKind, Lease, SendError, Upstream};

/// Forwards `request`, whose headers are already fit for the upstream.
///
/// # Errors
/// As [`Upstream::send`].
pub async fn forward(
    upstream: &Upstream,
    lane: LaneKind,
    request: Request<Body>,
) -> Result<Response<Body<Lease>>, SendError> {
    Ok(to_client(upstream.send(lane, request).await?))
}

/// What comes of `answering`, unless that takes until after the client's own timeout: then it is
/// dropped, and the apiserver told so.
///
/// # Errors
/// [`ProxyError::TimedOut`].
pub async fn until<T>(
    deadline: Option<Instant>,
    answering: impl Future<Output = T>,
) -> Result<T, ProxyError> {
    match deadline {
        Some(deadline) => timeout_at(deadline, answering)
            .await
            .map_err(|_| ProxyError::TimedOut),
        None => Ok(answering.await),
    }
}

/// Makes an answer of the upstream fit for the client.
pub fn to_client<B>(mut response: Response<B>) -> Response<B> {
    // Ours to the client, whatever a server or balancer upstream speaks.
    *response.version_mut() = Version::HTTP_11;
    headers::strip_hop_by_hop(response.headers_mut(), headers::Upgrade::Strip);
    response
}
