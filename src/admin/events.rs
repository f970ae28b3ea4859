//! Live updates of the status page as server-sent events. Once a second, a page gets the sections
//! that have changed. <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::page;
use crate::snapshot::Snapshot;

/// Pages that are kept live at the same time. They must leave most connections of the port to
/// probes.
pub(super) const MAX_VIEWERS: usize = 8;
/// The time between two updates.
const EVERY: Duration = Duration::from_secs(1);
/// Tells the browser to connect again two seconds after the connection was lost.
const RETRY: &str = "retry: 2000\n\n";

/// A body of updates that ends when its reader leaves or when `stop` is cancelled.
pub(super) fn stream(
    snapshot: impl Fn() -> Snapshot + Send + 'static,
    viewer: OwnedSemaphorePermit,
    stop: CancellationToken,
) -> Channel<Bytes> {
    // Only one update is buffered: a slow reader gets fewer updates, not a queue of old ones.
    let (sender, body) = Channel::new(1);
    tokio::spawn(async move {
        // Dropping the sender ends the body, whatever the reason.
        let _ = stop.run_until_cancelled(send(sender, snapshot)).await;
        drop(viewer);
    });
    body
}

/// Sends updates until the reader has left.
async fn send(mut sender: Sender<Bytes>, snapshot: impl Fn() -> Snapshot) {
    let mut sent: Vec<String> = Vec::new();
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if sender
        .send_data(Bytes::from_static(RETRY.as_bytes()))
        .await
        .is_err()
    {
        return;
    }
    loop {
        every.tick().await;
        // The headline has the time, so it changes with every update. This way each update sends
        // something, which is how the proxy notices that a reader has left.
        let sections = page::live(&snapshot());
        let changed = sections
            .iter()
            .enumerate()
            .filter(|(index, section)| sent.get(*index) != Some(*section));
        let events: String = changed.map(|(_, section)| event(section)).collect();
        if sender.send_data(events.into()).await.is_err() {
            return;
        }
        sent = sections;
    }
}

/// One event. Each line of `data` becomes a `data:` line.
fn event(data: &str) -> String {
    let mut event: String = data
        .trim_end()
        .lines()
        .flat_map(|line| ["data: ", line, "\n"])
        .collect();
    event.push('\n');
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_its_lines() {
        assert_eq!(event("<p>\na</p>\n"), "data: <p>\ndata: a</p>\n\n");
    }
}
