//! Live updates of the status page as server-sent events: once a second, the sections that have
//! changed. <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::page;
use crate::snapshot::Snapshot;

/// Pages that are kept live at the same time. Far below the connections of the port, which probes
/// need.
pub(super) const MAX_VIEWERS: usize = 8;
/// As often as a person can read.
const EVERY: Duration = Duration::from_secs(1);
/// When the browser tries again after the connection was lost.
const RETRY: &str = "retry: 2000\n\n";

/// A body that goes on until its reader leaves or `stop`.
pub(super) fn stream(
    snapshot: impl Fn() -> Snapshot + Send + 'static,
    viewer: OwnedSemaphorePermit,
    stop: CancellationToken,
) -> Channel<Bytes> {
    // One in the making and one on its way: a slow reader gets fewer updates, not a queue of them.
    let (sender, body) = Channel::new(1);
    tokio::spawn(async move {
        // Whether it was the reader or the stop that ended it, the body ends with its sender.
        let _ = stop.run_until_cancelled(send(sender, snapshot)).await;
        drop(viewer);
    });
    body
}

/// Returns when the reader has left.
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
        // The headline tells the time, so that there is something to send each time, and a reader
        // that has left is noticed.
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

/// One event; each line of `data` has the name of the field before it.
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
