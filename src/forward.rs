//! Pass-through: sends one request to the upstream and streams the response back. Nothing is
//! buffered, and the only timeout is the client's own, which ends with the head of the response.
//! `proxy` calls this for calls and streams. `create` uses the same timeout.

use std::pin::pin;

use http::{Request, Response};
use tokio::time::{Instant, timeout_at};

use crate::body::Body;
use crate::error::ProxyError;
use crate::upstream::{LaneKind, Lease, Upstream};

/// Forwards `request` and waits for the head of the response until `deadline`.
///
/// # Errors
/// The deadline has passed, or as [`Upstream::send`].
pub async fn forward(
    upstream: &Upstream,
    lane: LaneKind,
    request: Box<Request<Body>>,
    deadline: Option<Instant>,
) -> Result<Response<Body<Lease>>, ProxyError> {
    let answering = pin!(upstream.send(lane, request));
    Ok(until(deadline, answering).await??)
}

/// Waits for `answering` until `deadline`. The caller then drops the future, which also cancels the
/// request to the apiserver. It is pinned, because a future that is passed by value occupies its
/// memory twice.
///
/// # Errors
/// [`ProxyError::TimedOut`].
pub async fn until<T>(
    deadline: Option<Instant>,
    answering: impl Future<Output = T> + Unpin,
) -> Result<T, ProxyError> {
    match deadline {
        Some(deadline) => timeout_at(deadline, answering)
            .await
            .map_err(|_| ProxyError::TimedOut),
        None => Ok(answering.await),
    }
}
