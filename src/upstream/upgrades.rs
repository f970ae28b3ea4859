//! The connections of upgrades. Each has one of its own, for a 101 turns it into a tunnel; but
//! whoever may not upgrade is told so by an answer like any other, and then the connection serves
//! the next one. A stranger with hundreds of upgrades thus costs the apiserver a few handshakes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::body::Body;

/// Upgrades that wait for their answer at the same time, before the next ones wait too: each brings
/// a connection, or takes one that is left.
const AT_ONCE: usize = 16;
/// How long those wait at most. An apiserver may take long to answer an honest exec, and that is no
/// reason to hold another one up.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// How long a connection is kept for another upgrade, and how long the rest of a refusal may take.
/// Far below the apiserver's own 90 s.
const KEPT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Upgrades {
    turns: Arc<Semaphore>,
    left: Arc<Mutex<Left>>,
}

/// Connections over which an upgrade was refused, and since when they are idle.
type Left = Vec<(SendRequest<Body>, Instant)>;

/// One of those that wait for their answer; None: it did not want to wait for the others any
/// longer.
pub(super) struct Turn(Option<OwnedSemaphorePermit>);

impl Upgrades {
    pub(super) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            left: Arc::default(),
        }
    }

    /// Waits for a turn, though not for long.
    pub(super) async fn turn(&self) -> Turn {
        // It is never closed.
        Turn(
            timeout(MAX_WAIT, Arc::clone(&self.turns).acquire_owned())
                .await
                .ok()
                .and_then(Result::ok),
        )
    }

    /// A connection that is left of a refusal.
    pub(super) fn left(&self) -> Option<SendRequest<Body>> {
        let mut left = lock(&self.left);
        left.retain(|(sender, since)| sender.is_ready() && since.elapsed() < KEPT);
        left.pop().map(|(sender, _)| sender)
    }

    /// An upgrade was refused. The connection is left for the next one as soon as the answer has
    /// been read.
    pub(super) fn refused(&self, mut sender: SendRequest<Body>, turn: Turn) {
        let Some(permit) = turn.0 else { return };
        let left = Arc::clone(&self.left);
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(KEPT, sender.ready()).await {
                lock(&left).push((sender, Instant::now()));
            }
            drop(permit);
        });
    }

    /// Nothing is left of a server that failed.
    pub(super) fn forget(&self) {
        lock(&self.left).clear();
    }
}

fn lock(left: &Mutex<Left>) -> MutexGuard<'_, Left> {
    left.lock().unwrap_or_else(PoisonError::into_inner)
}
