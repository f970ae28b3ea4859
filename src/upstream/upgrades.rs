//! The connections for upgrades. Each upgrade has a separate connection, because a 101 turns it
//! into a tunnel. A client that may not upgrade gets an ordinary response instead, and then the
//! connection serves the next upgrade. So a client without rights that sends hundreds of upgrades
//! costs the apiserver only a few handshakes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::body::Body;

/// How many upgrades wait for their response at the same time. Each dials a connection or takes an
/// idle one. Further upgrades wait.
const MAX_CONCURRENT: usize = 16;
/// How long those wait at most. An apiserver can take long to answer a legitimate exec, and that
/// must not delay another one for longer.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// How long an idle connection is kept, and how long the rest of a refusal may take. This is far
/// below the apiserver's own idle timeout of 90 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct UpgradeConnections {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<IdleConnections>>,
}

/// Connections over which an upgrade was refused, and since when they are idle.
type IdleConnections = Vec<(SendRequest<Body>, Instant)>;

/// Held by an upgrade that waits for its response. None if it waited too long for a permit and goes
/// on without one.
pub(super) struct UpgradePermit(Option<OwnedSemaphorePermit>);

impl UpgradeConnections {
    pub(super) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            idle: Arc::default(),
        }
    }

    /// Waits for a permit, but not for long.
    pub(super) async fn permit(&self) -> UpgradePermit {
        // The inner error cannot occur: nobody closes the semaphore.
        UpgradePermit(
            timeout(MAX_WAIT, Arc::clone(&self.permits).acquire_owned())
                .await
                .ok()
                .and_then(Result::ok),
        )
    }

    /// The connection that became idle last, if one is still usable.
    pub(super) fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = lock(&self.idle);
        idle.retain(|(sender, since)| sender.is_ready() && since.elapsed() < IDLE_TIMEOUT);
        idle.pop().map(|(sender, _)| sender)
    }

    /// Keeps the connection of a refused upgrade for the next one, as soon as the response has been
    /// read.
    pub(super) fn refused(&self, mut sender: SendRequest<Body>, permit: UpgradePermit) {
        let Some(permit) = permit.0 else { return };
        let idle = Arc::clone(&self.idle);
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(IDLE_TIMEOUT, sender.ready()).await {
                lock(&idle).push((sender, Instant::now()));
            }
            drop(permit);
        });
    }

    /// Drops the idle connections, because their server failed.
    pub(super) fn clear(&self) {
        lock(&self.idle).clear();
    }
}

fn lock(idle: &Mutex<IdleConnections>) -> MutexGuard<'_, IdleConnections> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
