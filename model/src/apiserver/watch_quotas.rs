//! Watches of quotas, in JSON. They start from a revision, as after a list.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::super::store::Store;
use super::super::wire;
use super::Apiserver;
use super::answer::{self, Answer, Body};
use super::query::Query;
use super::watch::{WATCH_TIMEOUT, event_type};
use crate::encoding::Encoding;
use crate::status::Status;

/// The number of events read from the store at a time.
const CHUNK: usize = 500;

impl Apiserver {
    /// `GET …/resourcequotas?watch=true`.
    pub(super) fn watch_quotas(
        &self,
        head: &Parts,
        namespace: Option<String>,
        query: &Query,
    ) -> Answer {
        let from = query.value("resourceVersion").unwrap_or_default();
        let seen = from.parse().unwrap_or(0);
        let limit = query.watch_timeout().unwrap_or(WATCH_TIMEOUT);
        let (store, latency) = (self.store.clone(), self.watch_latency);
        let (frames, body) = mpsc::channel(16);
        self.tasks.spawn_until_stop(async move {
            let watch = watch(&store, namespace, seen, latency, &frames);
            // The result does not matter: the watch ended at its timeout or because the client
            // left.
            let _ = timeout(limit, watch).await;
        });
        let content_type = HeaderValue::from_static("application/json");
        let body = Body::stream(body);
        answer::headed(head, &self.dice, StatusCode::OK, content_type, body)
    }
}

/// None: the client has disconnected.
async fn watch(
    store: &Arc<Store>,
    namespace: Option<String>,
    mut seen: u64,
    latency: std::time::Duration,
    frames: &mpsc::Sender<Bytes>,
) -> Option<()> {
    let mut changes = store.subscribe();
    loop {
        changes.mark_unchanged();
        let Ok(events) = store.quota_events(seen, CHUNK) else {
            let message = format!("too old resource version: {seen}");
            let status = Status::new(410, "Expired", message).encode(Encoding::Json);
            let expired = wire::watch_frame_json("ERROR", &status);
            return frames.send(expired).await.ok();
        };
        if events.is_empty() {
            tokio::select! {
                // The store outlives this watch.
                _ = changes.changed() => {}
                () = frames.closed() => return None,
            }
        }
        for event in events {
            seen = event.revision;
            let quota = &event.object;
            if namespace
                .as_ref()
                .is_none_or(|wanted| *wanted == quota.namespace)
            {
                sleep_until(event.at + latency).await;
                let object = wire::to_bytes(&wire::quota_json(quota));
                let frame = wire::watch_frame_json(event_type(event.change), &object);
                frames.send(frame).await.ok()?;
            }
        }
    }
}
