//! The connections for upgrades. Each upgrade has a separate connection, because a 101 turns it
//! into a tunnel. A client that may not upgrade gets an ordinary response instead, and then the
//! connection serves the next upgrade. So a client without rights that sends hundreds of upgrades
//! costs the apiserver only a few handshakes.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::body::Body;

/// How many upgrades wait for their response at the same time. Each dials a connection or takes an
/// idle one. Further upgrades wait.
const MAX_CONCURRENT: usize = 16;
/// How long those wait while none of the others gets its response. An apiserver can take long to
/// answer a legitimate exec, and that must not delay another one for longer.
const STALLED_AFTER: Duration = Duration::from_millis(250);
/// How many times as long they wait while others do. A machine that is busy gets through them too,
/// only later.
const MAX_WAITS: u32 = 20;
/// How long an idle connection is kept, and how long the rest of a refusal may take. This is far
/// below the apiserver's own idle timeout of 90 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct UpgradeConnections {
    permits: Arc<Semaphore>,
    /// How many permits were given back.
    returned: Arc<AtomicU64>,
    idle: Arc<Mutex<IdleConnections>>,
}

/// Connections over which an upgrade was refused, and since when they are idle.
type IdleConnections = Vec<(SendRequest<Body>, Instant)>;

/// Held by an upgrade that waits for its response. None if it waited too long for a permit and goes
/// on without one.
pub(super) struct UpgradePermit(Option<Permit>);

struct Permit {
    _permit: OwnedSemaphorePermit,
    returned: Arc<AtomicU64>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.returned.fetch_add(1, Ordering::Relaxed);
    }
}

impl UpgradeConnections {
    pub(super) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            returned: Arc::default(),
            idle: Arc::default(),
        }
    }

    /// Waits for a permit, but not for long.
    pub(super) async fn permit(&self) -> UpgradePermit {
        let mut acquired = pin!(Arc::clone(&self.permits).acquire_owned());
        for _ in 0..MAX_WAITS {
            let before = self.returned.load(Ordering::Relaxed);
            if let Ok(permit) = timeout(STALLED_AFTER, &mut acquired).await {
                let returned = Arc::clone(&self.returned);
                // The error cannot occur: nobody closes the semaphore.
                return UpgradePermit(permit.ok().map(|permit| Permit {
                    _permit: permit,
                    returned,
                }));
            }
            if self.returned.load(Ordering::Relaxed) == before {
                break;
            }
        }
        UpgradePermit(None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upgrade_waits_while_others_get_their_answers() {
        let connections = UpgradeConnections::new();
        let begun = Instant::now();
        let mut held = Vec::new();
        for _ in 0..MAX_CONCURRENT {
            held.push(connections.permit().await);
        }
        assert!(connections.permit().await.0.is_none(), "nobody is answered");
        assert_eq!(begun.elapsed(), STALLED_AFTER);

        // Each answer lets one of those go that came before.
        let mut before = Vec::new();
        for _ in 0..9 {
            before.push(tokio::spawn({
                let permits = Arc::clone(&connections.permits);
                async move { permits.acquire_owned().await.unwrap().forget() }
            }));
            tokio::task::yield_now().await;
        }
        let answers = tokio::spawn(async move {
            for permit in held.drain(..10) {
                tokio::time::sleep(STALLED_AFTER * 9 / 10).await;
                drop(permit);
            }
            held
        });
        assert!(connections.permit().await.0.is_some());
        assert!(begun.elapsed() > 8 * STALLED_AFTER);
        drop(answers.await);
    }

    #[tokio::test(start_paused = true)]
    async fn no_upgrade_waits_for_ever() {
        let connections = Arc::new(UpgradeConnections::new());
        let begun = Instant::now();
        let mut held = Vec::new();
        for _ in 0..MAX_CONCURRENT {
            held.push(connections.permit().await);
        }
        let returned = Arc::clone(&connections.returned);
        let answers = tokio::spawn(async move {
            loop {
                tokio::time::sleep(STALLED_AFTER / 2).await;
                returned.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(connections.permit().await.0.is_none());
        assert_eq!(begun.elapsed(), STALLED_AFTER * MAX_WAITS);
        answers.abort();
    }
}
