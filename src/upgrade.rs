//! Upgrades: exec, attach and port-forward over SPDY or WebSocket. The proxy relays the 101 and
//! then copies bytes both ways until both sides have ended. When one side ends, the other side sees
//! a half-close. hyper does not track an upgraded connection, so this module tracks it for the
//! drain.

use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::body::Body;
use crate::drain::{Stage, Watcher};
use crate::metrics::GaugeGuard;
use crate::upstream::{Lease, SendError, Upstream};

/// The open tunnels, and the drain that cuts them.
#[derive(Clone, Debug)]
pub struct Tunnels {
    /// Every open tunnel is one task.
    pub tasks: TaskTracker,
    /// Its last stage cuts the tunnels.
    pub drain: Watcher,
}

/// Sends an upgrade request, and joins the two sides if the upstream agrees. The tunnel holds
/// `open` until it ends.
///
/// # Errors
/// As [`Upstream::upgrade`].
pub async fn upgrade(
    upstream: &Upstream,
    tunnels: &Tunnels,
    mut request: Box<Request<Body>>,
    open: GaugeGuard,
) -> Result<Response<Body<Lease>>, SendError> {
    let downstream = hyper::upgrade::on(&mut *request);
    let mut response = upstream.upgrade(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let joined = join(downstream, hyper::upgrade::on(&mut response));
        let drain = tunnels.drain.clone();
        tunnels.tasks.spawn(async move {
            let _open = open;
            tokio::select! {
                result = joined => if let Err(error) = result {
                    debug!(error = %crate::telemetry::chain(&error), "A tunnel ended");
                },
                () = drain.reached(Stage::Cut) => debug!("A tunnel was cut at the deadline of the drain"),
            }
        });
        return Ok(response.map(|_| Body::empty()));
    }
    Ok(Body::of_answer(response))
}

/// Why a tunnel ended before both sides had closed it.
#[derive(Debug, thiserror::Error)]
enum TunnelError {
    #[error("one side did not complete the upgrade")]
    Upgrade(#[from] hyper::Error),
    #[error("one side broke off")]
    Copy(#[from] std::io::Error),
}

async fn join(downstream: OnUpgrade, upstream: OnUpgrade) -> Result<(), TunnelError> {
    let (downstream, upstream) = tokio::try_join!(downstream, upstream)?;
    tokio::io::copy_bidirectional(&mut TokioIo::new(downstream), &mut TokioIo::new(upstream))
        .await?;
    Ok(())
}
