//! Watches of pods. A watch starts from a revision or with all pods, and each event arrives after
//! the watch latency. It ends when the client leaves or at its timeout.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::super::object::Pod;
use super::super::store::{Change, Store};
use super::super::wire;
use super::Apiserver;
use super::answer::{self, Answer, Body};
use super::query::Query;
use super::target::{Resource, Target};
use crate::encoding::Encoding;
use crate::envelope;
use crate::status::Status;

/// The number of events read from the store at a time.
const CHUNK: usize = 500;

/// The duration of a watch without `timeoutSeconds`. A real apiserver chooses 30 to 60 minutes.
pub(super) const WATCH_TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// The state of one watch.
struct Watch {
    store: Arc<Store>,
    namespace: Option<String>,
    query: Query,
    encoding: Encoding,
    latency: Duration,
    frames: mpsc::Sender<Bytes>,
    /// The latest revision that the client has seen.
    seen: u64,
}

/// The client has disconnected.
struct Disconnected;

impl Apiserver {
    /// `GET …?watch=true`.
    pub(super) fn watch(&self, head: &Parts, target: &Target, query: &Query) -> Answer {
        if let Target::Collection {
            resource: Resource::ResourceQuotas,
            namespace,
        } = target
        {
            return self.watch_quotas(head, namespace.clone(), query);
        }
        let (namespace, query) = match target {
            Target::Collection {
                resource: Resource::Pods,
                namespace,
            } => (namespace.clone(), query.clone()),
            _ => return self.failure(head, answer::method_not_allowed()),
        };
        let encoding = match Encoding::accepted(&head.headers) {
            Encoding::Protobuf => Encoding::Protobuf,
            Encoding::Json | Encoding::Yaml => Encoding::Json,
        };
        let content_type = match encoding {
            Encoding::Protobuf => {
                HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch")
            }
            Encoding::Json | Encoding::Yaml => HeaderValue::from_static("application/json"),
        };
        let limit = query.watch_timeout().unwrap_or(WATCH_TIMEOUT);
        let (frames, body) = mpsc::channel(16);
        let watch = Watch {
            store: self.store.clone(),
            namespace,
            query,
            encoding,
            latency: self.watch_latency,
            frames,
            seen: 0,
        };
        self.tasks.spawn_until_stop(async move {
            // The result does not matter: the watch ended at its timeout or because the client
            // left.
            let _ = timeout(limit, watch.run()).await;
        });
        answer::headed(
            head,
            &self.dice,
            StatusCode::OK,
            content_type,
            Body::stream(body),
        )
    }
}

impl Watch {
    async fn run(mut self) -> Result<(), Disconnected> {
        let mut changes = self.store.subscribe();
        self.start().await?;
        loop {
            changes.mark_unchanged();
            let Ok(events) = self.store.pod_events(self.seen, CHUNK) else {
                return self.expired().await;
            };
            if events.is_empty() {
                let frames = self.frames.clone();
                tokio::select! {
                    // The store outlives this watch.
                    _ = changes.changed() => {}
                    () = frames.closed() => return Err(Disconnected),
                }
            }
            for event in events {
                self.seen = event.revision;
                if self.selects(&event.object) {
                    sleep_until(event.at + self.latency).await;
                    self.send(event_type(event.change), self.object(&event.object))
                        .await?;
                }
            }
        }
    }

    /// Sends the existing pods, if the client asks for them.
    async fn start(&mut self) -> Result<(), Disconnected> {
        let from = self
            .query
            .value("resourceVersion")
            .unwrap_or_default()
            .to_owned();
        let initial = self.query.is_set("sendInitialEvents");
        if !initial && !from.is_empty() && from != "0" {
            self.seen = from.parse().unwrap_or(0);
            return Ok(());
        }
        let (pods, revision) = self.store.pods(self.namespace.as_deref());
        self.seen = revision;
        for pod in pods.iter().filter(|pod| self.selects(pod)) {
            self.send("ADDED", self.object(pod)).await?;
        }
        if initial {
            self.send("BOOKMARK", self.bookmark()).await?;
        }
        Ok(())
    }

    /// Tells the client that it has to list again.
    async fn expired(&self) -> Result<(), Disconnected> {
        let status = Status::new(
            410,
            "Expired",
            format!("too old resource version: {}", self.seen),
        );
        self.send("ERROR", status.encode(self.encoding)).await
    }

    fn selects(&self, pod: &Pod) -> bool {
        self.namespace
            .as_deref()
            .is_none_or(|namespace| namespace == pod.namespace())
            && self.query.selects(pod)
    }

    fn object(&self, pod: &Pod) -> Bytes {
        match self.encoding {
            Encoding::Protobuf => wire::pod_protobuf(pod),
            Encoding::Json | Encoding::Yaml => wire::pod_json(pod),
        }
    }

    /// The bookmark that marks the end of the initial events of a streaming list.
    fn bookmark(&self) -> Bytes {
        const END: &str = "k8s.io/initial-events-end";
        match self.encoding {
            Encoding::Protobuf => wire::bookmark_protobuf(self.seen, END),
            Encoding::Json | Encoding::Yaml => wire::to_bytes(&json!({
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": { "resourceVersion": self.seen.to_string(), "annotations": { END: "true" } },
                "spec": { "containers": null },
                "status": {},
            })),
        }
    }

    async fn send(&self, event: &str, object: Bytes) -> Result<(), Disconnected> {
        let frame = match self.encoding {
            Encoding::Protobuf => envelope::watch_frame(event, &object),
            Encoding::Json | Encoding::Yaml => wire::watch_frame_json(event, &object),
        };
        self.frames.send(frame).await.map_err(|_| Disconnected)
    }
}

pub(super) fn event_type(change: Change) -> &'static str {
    match change {
        Change::Added => "ADDED",
        Change::Modified => "MODIFIED",
        Change::Deleted => "DELETED",
    }
}
