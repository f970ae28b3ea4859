//! The tasks of one control plane. The set counts them, stops them, and remembers whether one has
//! panicked.
//!
//! A fake server that dies silently can make a test pass for the wrong reason. Therefore
//! [`Tasks::finish`] panics if a task did.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The set of tasks of one control plane. All clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    panicked: Arc<AtomicBool>,
}

impl Tasks {
    /// Creates an empty set.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Runs `future` to its end, even after a stop. For work that ends without a signal.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let watch = PanicWatch(self.panicked.clone());
        self.tracker.spawn(async move {
            let _watch = watch;
            future.await
        })
    }

    /// Runs `future` until it ends or the control plane stops. For work that may never end.
    pub fn spawn_until_stop(&self, future: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn(async move {
            stop.run_until_cancelled(future).await;
        });
    }

    /// A token that is cancelled when the control plane stops.
    pub fn stopped(&self) -> &CancellationToken {
        &self.stop
    }

    /// Signals every task to stop, without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops every task and waits for it. Panics if a task has panicked.
    pub async fn finish(&self) {
        self.stop();
        self.tracker.close();
        self.tracker.wait().await;
        if self.panicked.load(Ordering::SeqCst) {
            // The panic hook has already printed the original message.
            std::panic::resume_unwind(Box::new("a task of the model control plane panicked"));
        }
    }
}

/// Records that its task is unwinding.
struct PanicWatch(Arc<AtomicBool>);

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finish_panics_if_a_task_has_panicked() {
        let tasks = Tasks::new();
        tasks.spawn(async { panic!("deliberate") });
        let finished = tokio::spawn(async move { tasks.finish().await }).await;
        assert!(finished.is_err_and(|error| error.is_panic()));
    }

    #[tokio::test]
    async fn endless_tasks_end_at_a_stop() {
        let tasks = Tasks::new();
        tasks.spawn_until_stop(std::future::pending());
        tasks.finish().await;
    }
}
