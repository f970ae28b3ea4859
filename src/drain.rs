//! The order of stopping: serve, drain, release, cut. One sender in `app`, a watcher wherever
//! something must end.
//!
//! `Draining`: no new connections, idle ones close, requests finish. `Releasing`: creates that are
//! held answer what they have. `Cut`: what still streams is dropped.

use tokio::sync::watch;

/// How far the stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Everything is served.
    Serving,
    /// Nothing new is accepted.
    Draining,
    /// Held creates answer the last answer they have.
    Releasing,
    /// Streams and tunnels end.
    Cut,
}

/// Moves everyone who watches to the next stage.
#[derive(Debug)]
pub struct Drain(watch::Sender<Stage>);

/// Waits for a stage. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watcher(watch::Receiver<Stage>);

impl Drain {
    /// In stage `Serving`, with a first watcher.
    pub fn new() -> (Self, Watcher) {
        let (sender, receiver) = watch::channel(Stage::Serving);
        (Self(sender), Watcher(receiver))
    }

    /// Goes on to `stage`; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }
}

impl Watcher {
    /// Returns when `stage` or a later one has been reached. Without a sender nothing more can be
    /// decided, so that counts as the last.
    pub async fn reached(&self, stage: Stage) {
        let mut receiver = self.0.clone();
        // An error means that the sender is gone.
        let _stage = receiver.wait_for(|now| *now >= stage).await;
    }

    /// The stage now.
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_only_go_forward_and_later_ones_include_earlier() {
        let (drain, watcher) = Drain::new();
        drain.advance(Stage::Releasing);
        drain.advance(Stage::Draining);
        assert_eq!(watcher.stage(), Stage::Releasing);
        watcher.reached(Stage::Draining).await;
        drop(drain);
        watcher.reached(Stage::Cut).await;
    }
}
