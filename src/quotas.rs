//! Creates that wait for full quotas: a queue for each namespace, and the watch of its quotas.
//!
//! `create` enters a create at its first 403 of a full quota. With a watch, the queue wakes it when
//! the status of the quotas says that it fits, oldest first, and as many as fit. Without one the
//! create polls. The watch runs only while creates of the namespace wait. It uses the proxy's own
//! token, which must be allowed to `list` and `watch` `resourcequotas`; `create` then sends the
//! create with the caller's credentials, as before.

mod limits;
mod queue;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::FullQuotas;
use crate::metrics::{Metrics, QuotaWait, QuotaWake};
use crate::upstream::Upstream;
use crate::verdict::Exceeded;
pub use queue::NeverFits;
use queue::{Queue, Standing, Ticket};
use watch::Failing;

/// All creates that wait for full quotas.
pub struct Quotas {
    upstream: Arc<Upstream>,
    metrics: Arc<Metrics>,
    /// Each has at least one create.
    namespaces: Mutex<HashMap<Box<str>, Arc<Namespace>>>,
    next_id: AtomicU64,
    watches: AtomicUsize,
    failing: Mutex<Failing>,
}

/// The creates of one namespace.
struct Namespace {
    name: Box<str>,
    inner: Mutex<Inner>,
    /// Tells the watch's task that something has changed.
    changed: Notify,
    /// Cancelled when the last create has left.
    empty: CancellationToken,
}

#[derive(Default)]
struct Inner {
    queue: Queue,
    /// Tells each create that its standing has changed, by the id of its ticket.
    told: HashMap<u64, Arc<Notify>>,
    is_watched: bool,
}

/// Too many creates of the namespace wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

/// The place of one create in the queue of its namespace. Dropping it leaves the queue.
pub struct Place {
    quotas: Arc<Quotas>,
    namespace: Arc<Namespace>,
    ticket: Ticket,
    told: Arc<Notify>,
    entered: Instant,
}

impl Quotas {
    /// No create waits yet.
    #[must_use]
    pub fn new(upstream: &Arc<Upstream>, metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            upstream: Arc::clone(upstream),
            metrics: Arc::clone(metrics),
            namespaces: Mutex::default(),
            next_id: AtomicU64::new(0),
            watches: AtomicUsize::new(0),
            failing: Mutex::default(),
        })
    }

    /// A place for a create of `namespace` that arrived at this time, and that a full quota has just
    /// refused.
    ///
    /// # Errors
    /// As many creates of the namespace wait as may.
    pub fn enter(
        self: &Arc<Self>,
        settings: &FullQuotas,
        namespace: &str,
        arrived: Instant,
    ) -> Result<Place, QueueFull> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket { arrived, id };
        let told = Arc::new(Notify::new());
        let mut namespaces = lock(&self.namespaces);
        let namespace = match namespaces.get(namespace) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(Namespace::new(namespace));
                namespaces.insert(namespace.into(), Arc::clone(&new));
                new
            }
        };
        let mut inner = namespace.lock();
        if inner.queue.len() >= settings.max_waiting.size() {
            return Err(QueueFull);
        }
        inner.queue.enter(ticket, settings.watch);
        inner.told.insert(id, Arc::clone(&told));
        let watches = self.watches.load(Ordering::Relaxed);
        if settings.watch && !inner.is_watched && watches < settings.max_watches.size() {
            inner.is_watched = true;
            inner.queue.starts();
            // Only this thread adds one now: the map is locked.
            self.watches.fetch_add(1, Ordering::Relaxed);
            let watch = watch::run(
                Watching(Arc::clone(self)),
                Arc::clone(&namespace),
                settings.token_file.clone(),
            );
            tokio::spawn(namespace.empty.clone().run_until_cancelled_owned(watch));
        }
        drop(inner);
        Ok(Place {
            quotas: Arc::clone(self),
            namespace,
            ticket,
            told,
            entered: Instant::now(),
        })
    }
}

/// Counts one watch until it is dropped.
struct Watching(Arc<Quotas>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Namespace {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            inner: Mutex::default(),
            changed: Notify::new(),
            empty: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Changes the queue, and lets the task of the watch look whom to wake.
    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.lock().queue);
        self.changed.notify_one();
    }

    /// Wakes creates whenever something has changed. Never returns.
    async fn wake(&self) {
        loop {
            let next = {
                let mut inner = self.lock();
                let (changed, next) = inner.queue.advance(Instant::now());
                for told in changed.iter().filter_map(|each| inner.told.get(&each.id)) {
                    told.notify_one();
                }
                next
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until_some(next) => {}
            }
        }
    }
}

impl Place {
    /// A quota refused the create. None: the message of the refusal could not be read.
    ///
    /// # Errors
    /// It can never fit, so it must not wait again.
    pub fn refused(&self, by: Option<&Exceeded>) -> Result<(), NeverFits> {
        let mut inner = self.namespace.lock();
        inner.queue.refused(self.ticket, by, Instant::now())
    }

    /// Waits until the create is to be sent again, and returns why. `pause` returns the pause before
    /// the next poll.
    pub async fn wait(&self, mut pause: impl FnMut() -> Duration) -> QuotaWake {
        self.namespace.change(|queue| queue.waits(self.ticket));
        let mut poll_at = None;
        loop {
            let standing = self
                .namespace
                .lock()
                .queue
                .take(self.ticket, Instant::now());
            let how = match standing {
                Standing::Woken(why) => {
                    self.quotas.metrics.quota_wake(why);
                    return why;
                }
                Standing::Waits => {
                    poll_at = None;
                    QuotaWait::Watch
                }
                Standing::Polls => {
                    // A new pause after each change, so that a watch that breaks off does not make
                    // all creates poll at once.
                    poll_at = poll_at.or_else(|| Some(Instant::now() + pause()));
                    QuotaWait::Poll
                }
            };
            let _waiting = self.quotas.metrics.quota_waiting(how);
            tokio::select! {
                () = self.told.notified() => {}
                () = sleep_until_some(poll_at) => {
                    self.namespace.change(|queue| queue.polls(self.ticket));
                    self.quotas.metrics.quota_wake(QuotaWake::Poll);
                    return QuotaWake::Poll;
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.quotas.metrics.quota_waited(self.entered.elapsed());
        let mut namespaces = lock(&self.quotas.namespaces);
        let mut inner = self.namespace.lock();
        inner.queue.leave(self.ticket, Instant::now());
        inner.told.remove(&self.ticket.id);
        let is_empty = inner.queue.len() == 0;
        drop(inner);
        if is_empty {
            namespaces.remove(&self.namespace.name);
            self.namespace.empty.cancel();
        }
        drop(namespaces);
        self.namespace.changed.notify_one();
    }
}

async fn sleep_until_some(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
