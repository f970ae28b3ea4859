//! Tracks the responses in progress, and cancels those that nobody reads when they occupy too much
//! memory.
//!
//! An unread response occupies what the server may send ahead, so all unread responses together
//! have a limit. Beyond it the proxy lets go of (cancels) those that have been unread the longest:
//! it resets their streams to the apiserver, and their readers see them break off. kube-apiserver
//! does the same with watches that do not keep up. A response that is complete with its first
//! frame, as most are, is not counted.

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

/// A response that was read within this time counts as read.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// All responses in progress.
#[derive(Debug)]
pub struct Flows {
    limit: u64,
    began: Instant,
    next: AtomicU64,
    /// The bytes that unread responses may occupy.
    unread: AtomicU64,
    open: Mutex<HashMap<u64, Arc<FlowState>>>,
    metrics: Unread,
}

/// One response in progress.
#[derive(Debug)]
pub(super) struct Flow {
    flows: Arc<Flows>,
    id: u64,
    state: Arc<FlowState>,
}

#[derive(Debug)]
struct FlowState {
    /// None after the proxy has cancelled it.
    rest: Mutex<Option<Inflow>>,
    /// When a frame was last read, in milliseconds and at least 1. 0 while everything that came has
    /// been read.
    unread_since: AtomicU64,
    /// The bytes that the server may send ahead, and those that may wait for the client.
    cost: u64,
}

impl Flows {
    /// Unread responses may occupy `limit` bytes.
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

    /// Cancels the responses that have been unread the longest, until the others are within the
    /// limit. The caller does this about every second.
    pub fn let_go(&self) {
        let unread = self.unread.load(Ordering::Relaxed);
        if unread <= self.limit {
            return;
        }
        let latest = self
            .now()
            .saturating_sub(u64::try_from(STALLED_AFTER.as_millis()).unwrap_or(u64::MAX));
        let mut stalled: Vec<_> = lock(&self.open).values().cloned().collect();
        stalled.retain(|state| (1..=latest).contains(&state.unread_since.load(Ordering::Relaxed)));
        stalled.sort_unstable_by_key(|state| state.unread_since.load(Ordering::Relaxed));
        let mut excess = unread - self.limit;
        for state in stalled {
            let mut rest = lock(&state.rest);
            // The reader may have read everything just now.
            if state.unread_since.load(Ordering::Relaxed) == 0 {
                continue;
            }
            self.all_read(&state);
            *rest = None;
            self.metrics.let_go();
            excess = excess.saturating_sub(state.cost);
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

    /// A frame was read. More may have come after it, so the response counts as unread.
    fn frame_read(&self, state: &FlowState) {
        if state.unread_since.swap(self.now(), Ordering::Relaxed) == 0 {
            self.unread.fetch_add(state.cost, Ordering::Relaxed);
            self.metrics.bytes.rise(state.cost);
        }
    }

    /// Everything that came has been read, or the response has ended.
    fn all_read(&self, state: &FlowState) {
        if state.unread_since.swap(0, Ordering::Relaxed) != 0 {
            self.unread.fetch_sub(state.cost, Ordering::Relaxed);
            self.metrics.bytes.fall(state.cost);
        }
    }
}

impl Flow {
    /// Counts a response whose first frame was read.
    pub(super) fn new(flows: Arc<Flows>, rest: Inflow, cost: u64) -> Self {
        let state = Arc::new(FlowState {
            rest: Mutex::new(Some(rest)),
            unread_since: AtomicU64::new(0),
            cost,
        });
        let id = flows.next.fetch_add(1, Ordering::Relaxed);
        lock(&flows.open).insert(id, Arc::clone(&state));
        flows.frame_read(&state);
        Self { flows, id, state }
    }

    /// Stops counting and returns the parts. None if the proxy has cancelled the response.
    pub(super) fn stop(&mut self) -> Option<(Inflow, Arc<Flows>, u64)> {
        let rest = lock(&self.state.rest).take()?;
        Some((rest, Arc::clone(&self.flows), self.state.cost))
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut rest = lock(&self.state.rest);
        let Some(inflow) = rest.as_mut() else {
            return Poll::Ready(Some(Err(BodyError::LetGo)));
        };
        let polled = inflow.poll_frame(cx);
        if polled.is_pending() {
            self.flows.all_read(&self.state);
        }
        let frame = ready!(polled);
        match &frame {
            Some(Ok(_)) => self.flows.frame_read(&self.state),
            Some(Err(_)) | None => self.flows.all_read(&self.state),
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        lock(&self.state.rest)
            .as_ref()
            .is_some_and(Inflow::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        lock(&self.state.rest)
            .as_ref()
            .map_or_else(SizeHint::default, Inflow::size_hint)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.flows.all_read(&self.state);
        lock(&self.flows.open).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
