//! Upgrades: exec, attach and port-forward over SPDY or WebSocket. The 101 is relayed, then bytes
//! are copied both ways until both sides have ended; one side's end is passed on as a half-close. A
//! tunnel leaves hyper's own tracking, so it is tracked here for the drain.

use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::body::Body;
use crate::drain::{Stage, Watcher};
use crate::headers;
use crate::metrics::GaugeGuard;
use crate::upstream::{Lease, SendError, Upstream};

/// The open tunnels, and the drain that ends them.
#[derive(Clone, Debug)]
pub struct Tunnels {
    /// Every open tunnel is a task of it.
    pub tasks: TaskTracker,
    /// Cuts them at the deadline.
    pub drain: Watcher,
}

/// Sends an upgrade request, and joins the two sides if the upstream agrees. `open` is held for as
/// long as the tunnel is.
///
/// # Errors
/// As [`Upstream::upgrade`].
pub async fn upgrade(
    upstream: &Upstream,
    tunnels: &Tunnels,
    mut request: Request<Body>,
    open: GaugeGuard,
) -> Result<Response<Body<Lease>>, SendError> {
    let downstream = hyper::upgrade::on(&mut request);
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
        headers::strip_hop_by_hop(response.headers_mut(), headers::Upgrade::Keep);
        return Ok(response.map(|_| Body::empty()));
    }
    headers::strip_hop_by_hop(response.headers_mut(), headers::Upgrade::Strip);
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
