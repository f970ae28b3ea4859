//! The tasks of one control plane: every one is counted, told to stop, and a panic in any of them
//! is kept until the end.
//!
//! A fake that dies quietly makes a test pass for the wrong reason; [`Tasks::finish`] therefore
//! panics again when a task did.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns and awaits the tasks of one control plane. Clones share the same set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    panicked: Arc<AtomicBool>,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Runs `future` to its end, also past a stop: for work that ends by itself.
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

    /// Runs `future` until it ends or the control plane stops: for work that would go on for ever.
    pub fn spawn_until_stop(&self, future: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn(async move {
            stop.run_until_cancelled(future).await;
        });
    }

    /// Cancelled when the control plane stops.
    pub fn stopped(&self) -> &CancellationToken {
        &self.stop
    }

    /// Tells every task to stop, without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops every task, waits for them, and panics if one of them had panicked.
    pub async fn finish(&self) {
        self.stop();
        self.tracker.close();
        self.tracker.wait().await;
        if self.panicked.load(Ordering::SeqCst) {
            // The panic's own message went through the panic hook when it happened.
            std::panic::resume_unwind(Box::new("a task of the model control plane panicked"));
        }
    }
}

/// Notices that its task is unwinding.
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
    async fn a_panic_in_a_task_surfaces_at_the_end() {
        let tasks = Tasks::new();
        tasks.spawn(async { panic!("deliberate") });
        let finished = tokio::spawn(async move { tasks.finish().await }).await;
        assert!(finished.is_err_and(|error| error.is_panic()));
    }

    #[tokio::test]
    async fn endless_tasks_end_with_the_stop() {
        let tasks = Tasks::new();
        tasks.spawn_until_stop(std::future::pending());
        tasks.finish().await;
    }
}
