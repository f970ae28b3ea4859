//! Lets few TLS handshakes compute at a time.
//!
//! A handshake takes as long as several requests, and costs a client next to nothing that sends the first
//! message and leaves. If hundreds were ready at the same time, every request would wait for all of
//! them, several times.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;

/// The turns of all handshakes.
#[derive(Debug)]
pub struct Turns(Semaphore);

impl Turns {
    /// As many turns at a time as the runtime has threads that runs this.
    pub fn of_runtime() -> Self {
        Self(Semaphore::new(Handle::current().metrics().num_workers()))
    }

    /// Runs a handshake. Each time that it can go on, it waits for its turn, and whatever else is
    /// ready runs before the next handshake's turn.
    pub async fn take<T>(&self, mut handshake: Pin<Box<impl Future<Output = T>>>) -> T {
        loop {
            // An error would mean that the semaphore is closed, and nothing closes it.
            let turn = self.0.acquire().await;
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let polled = handshake.as_mut().poll(&mut Context::from_waker(&waker));
            yield_now().await;
            drop(turn);
            match polled {
                Poll::Ready(done) => return done,
                Poll::Pending => woken.0.notified().await,
            }
        }
    }
}

/// Remembers that a handshake can go on. The waker of its task would not do: that task is also woken
/// for its turn.
#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn turns() -> Arc<Turns> {
        Arc::new(Turns::of_runtime())
    }

    #[tokio::test]
    async fn other_tasks_run_between_two_handshakes() {
        let (turns, computed) = (turns(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..100 {
            let (turns, computed) = (Arc::clone(&turns), Arc::clone(&computed));
            tokio::spawn(async move {
                turns
                    .take(Box::pin(async { computed.fetch_add(1, Ordering::Relaxed) }))
                    .await
            });
        }
        let mut between = Vec::new();
        while computed.load(Ordering::Relaxed) < 100 {
            let before = computed.load(Ordering::Relaxed);
            yield_now().await;
            between.push(computed.load(Ordering::Relaxed) - before);
        }
        assert!(between.iter().all(|computed| *computed <= 1), "{between:?}");
    }

    #[tokio::test]
    async fn a_handshake_that_is_woken_during_its_turn_goes_on() {
        let mut polls = 0;
        let done = turns();
        let done = done.take(Box::pin(poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready("done")
            }
        })));
        assert_eq!(done.await, "done");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_for_its_client_takes_no_turns() {
        let (turns, mut polls) = (turns(), 0);
        let silent = Box::pin(poll_fn(|_| {
            polls += 1;
            Poll::<()>::Pending
        }));
        let waited = tokio::time::timeout(Duration::from_secs(9), turns.take(silent)).await;
        assert!(waited.is_err());
        assert_eq!(polls, 1);
        turns.take(Box::pin(async {})).await;
    }

    #[tokio::test]
    async fn one_that_is_dropped_gives_its_turn_back() {
        let turns = turns();
        for _ in 0..3 {
            let mut turn = Box::pin(turns.take(Box::pin(std::future::pending::<()>())));
            let polled = poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
        }
        turns.take(Box::pin(async {})).await;
    }
}
