//! The stages of a shutdown: serve, drain, release, cut. `app` has the sender. Everything that must
//! end has a watcher.

use tokio::sync::watch;

/// How far the shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// There is no shutdown.
    Serving,
    /// The proxy accepts no new connections, closes idle ones, and finishes requests.
    Draining,
    /// A held create stops waiting and relays the last response.
    Releasing,
    /// Open streams and tunnels are dropped.
    Cut,
}

/// Moves all watchers to the next stage.
#[derive(Debug)]
pub struct Drain(watch::Sender<Stage>);

/// Waits for a stage. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watcher(watch::Receiver<Stage>);

impl Drain {
    /// Starts in stage `Serving`.
    pub fn new() -> (Self, Watcher) {
        let (sender, receiver) = watch::channel(Stage::Serving);
        (Self(sender), Watcher(receiver))
    }

    /// Goes on to `stage`, but never back.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }
}

impl Watcher {
    /// Returns when `stage` or a later one has been reached. If the sender was dropped, this also
    /// returns, because no further stage can come.
    pub async fn reached(&self, stage: Stage) {
        let mut receiver = self.0.clone();
        // An error means that the sender was dropped.
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
