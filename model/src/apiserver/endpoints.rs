//! The EndpointSlice of the Service `kubernetes`, which lists the apiservers. Clients can list and
//! watch it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::super::wire;
use super::Apiserver;
use super::answer::{self, Answer, Body};
use super::query::Query;
use crate::encoding::Encoding;
use crate::status::Status;

/// The path of the collection that contains the slice.
pub(super) const PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// The listed apiservers, with the revision of the list.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    /// The addresses in the slice.
    pub addresses: Vec<SocketAddr>,
    /// The resource version of the slice.
    pub revision: u64,
    /// A watch that starts below this revision gets 410 and has to list again.
    pub compacted: u64,
}

impl Endpoints {
    fn slice(&self) -> Value {
        let endpoints = self
            .addresses
            .iter()
            .map(|address| json!({ "addresses": [address.ip()], "conditions": { "ready": true } }));
        let port = self.addresses.first().map_or(443, SocketAddr::port);
        json!({
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": {
                "name": "kubernetes", "namespace": "default", "resourceVersion": self.revision.to_string(),
                "labels": { "kubernetes.io/service-name": "kubernetes" },
            },
            "addressType": "IPv4",
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        })
    }
}

impl Apiserver {
    /// `GET` of the collection, with or without `?watch=true`.
    pub(super) fn endpoint_slices(&self, head: &Parts, query: &Query) -> Answer {
        let now = self.endpoints.borrow().clone();
        if !query.is_set("watch") {
            return self.json(
                head,
                StatusCode::OK,
                wire::to_bytes(&json!({
                    "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
                    "metadata": { "resourceVersion": now.revision.to_string() }, "items": [now.slice()],
                })),
            );
        }
        let seen = query
            .value("resourceVersion")
            .and_then(|version| version.parse().ok())
            .unwrap_or(0);
        let (frames, body) = mpsc::channel(16);
        self.tasks
            .spawn_until_stop(follow(self.endpoints.subscribe(), seen, frames));
        answer::headed(
            head,
            &self.dice,
            StatusCode::OK,
            Encoding::Json.content_type(),
            Body::stream(body),
        )
    }
}

/// Sends every change after revision `seen` until the client leaves.
async fn follow(
    mut changes: watch::Receiver<Endpoints>,
    mut seen: u64,
    frames: mpsc::Sender<Bytes>,
) {
    loop {
        let now = changes.borrow_and_update().clone();
        let frame = if seen < now.compacted {
            let status = Status::new(410, "Expired", format!("too old resource version: {seen}"));
            wire::watch_frame_json("ERROR", &status.encode(Encoding::Json))
        } else {
            wire::watch_frame_json("MODIFIED", &wire::to_bytes(&now.slice()))
        };
        if seen < now.revision && (frames.send(frame).await.is_err() || seen < now.compacted) {
            return;
        }
        seen = now.revision;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = frames.closed() => return,
        }
    }
}
