//! Answers under way, and what is done about those that nobody reads: each occupies what its server
//! may send ahead, so together they are bounded. Beyond the bound the answers that have stood still
//! the longest are let go: their streams to the apiserver end, and their readers find them broken
//! off. kube-apiserver does the same with watches that do not keep up.
//!
//! An answer that is whole with its first frame, as most are, is not counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::BodyError;
use super::inflow::Inflow;
use crate::metrics::{Metrics, Unread};

/// An answer that was read within this time does not stand still.
const STILL: Duration = Duration::from_secs(5);

/// All answers under way.
#[derive(Debug)]
pub struct Flows {
    limit: u64,
    began: Instant,
    next: AtomicU64,
    /// What those that are not drained may occupy.
    unread: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Shared>>>,
    metrics: Unread,
}

/// One answer under way.
#[derive(Debug)]
pub(super) struct Flow {
    flows: Arc<Flows>,
    id: u64,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// None once it was let go.
    rest: Mutex<Option<Inflow>>,
    /// When a frame was last taken, in milliseconds and at least 1; 0 while all that came has been
    /// taken.
    since: AtomicU64,
    /// What its server may send ahead, and what may wait for the client.
    cost: u64,
}

impl Flows {
    /// Lets answers that nobody reads occupy `limit` bytes.
    pub fn new(limit: u64, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            limit,
            began: Instant::now(),
            next: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            open: Mutex::default(),
            metrics: metrics.unread(),
        })
    }

    /// Lets go of what has stood still the longest, as long as all together are beyond the bound.
    /// To be called every second or so.
    pub fn let_go(&self) {
        let unread = self.unread.load(Ordering::Relaxed);
        if unread <= self.limit {
            return;
        }
        let latest = self
            .now()
            .saturating_sub(u64::try_from(STILL.as_millis()).unwrap_or(u64::MAX));
        let mut still: Vec<_> = lock(&self.open).values().cloned().collect();
        still.retain(|shared| (1..=latest).contains(&shared.since.load(Ordering::Relaxed)));
        still.sort_unstable_by_key(|shared| shared.since.load(Ordering::Relaxed));
        let mut excess = unread - self.limit;
        for shared in still {
            let mut rest = lock(&shared.rest);
            // Its reader may have been at it just now, and wait for what comes next.
            if shared.since.load(Ordering::Relaxed) == 0 {
                continue;
            }
            self.drained(&shared);
            *rest = None;
            self.metrics.let_go();
            excess = excess.saturating_sub(shared.cost);
            if excess == 0 {
                return;
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// A frame of it was taken: what comes behind it is not read yet.
    fn taken(&self, shared: &Shared) {
        if shared.since.swap(self.now(), Ordering::Relaxed) == 0 {
            self.unread.fetch_add(shared.cost, Ordering::Relaxed);
            self.metrics.bytes.rise(shared.cost);
        }
    }

    /// All that came of it has been taken, or it has ended.
    fn drained(&self, shared: &Shared) {
        if shared.since.swap(0, Ordering::Relaxed) != 0 {
            self.unread.fetch_sub(shared.cost, Ordering::Relaxed);
            self.metrics.bytes.fall(shared.cost);
        }
    }
}

impl Flow {
    /// An answer whose first frame was taken.
    pub(super) fn new(flows: Arc<Flows>, rest: Inflow, cost: u64) -> Self {
        let shared = Arc::new(Shared {
            rest: Mutex::new(Some(rest)),
            since: AtomicU64::new(0),
            cost,
        });
        let id = flows.next.fetch_add(1, Ordering::Relaxed);
        lock(&flows.open).insert(id, Arc::clone(&shared));
        flows.taken(&shared);
        Self { flows, id, shared }
    }

    /// Is not counted any more: gives back what it was made of, unless it was let go.
    pub(super) fn stop(&mut self) -> Option<(Inflow, Arc<Flows>, u64)> {
        let rest = lock(&self.shared.rest).take()?;
        Some((rest, Arc::clone(&self.flows), self.shared.cost))
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut rest = lock(&self.shared.rest);
        let Some(inflow) = rest.as_mut() else {
            return Poll::Ready(Some(Err(BodyError::LetGo)));
        };
        let polled = inflow.poll_frame(cx);
        if polled.is_pending() {
            self.flows.drained(&self.shared);
        }
        let frame = ready!(polled);
        match &frame {
            Some(Ok(_)) => self.flows.taken(&self.shared),
            Some(Err(_)) | None => self.flows.drained(&self.shared),
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        lock(&self.shared.rest)
            .as_ref()
            .is_some_and(Inflow::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        lock(&self.shared.rest)
            .as_ref()
            .map_or_else(SizeHint::default, Inflow::size_hint)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.flows.drained(&self.shared);
        lock(&self.flows.open).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
