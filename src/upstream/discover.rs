//! Discovers the apiservers: lists and then watches the EndpointSlice of the Service `kubernetes`,
//! through the Service's own address.
//!
//! The requests carry the proxy's own token. It needs `list` and `watch` on
//! `endpointslices.discovery.k8s.io` in the namespace `default`, for the name `kubernetes` only:
//! RBAC takes the name from the field selector
//! (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources>). Each
//! apiserver keeps itself in that slice while it serves
//! (<https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/controlplane/reconcilers/endpointsadapter.go>).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use serde::Deserialize;
use tracing::{debug, warn};

use super::lines::{LineError, WatchLines};
use super::server::Server;
use super::token::{TokenError, bearer};
use super::{LaneKind, Lease, SendError};
use crate::body::{Body, BodyError, collect_bounded};
use crate::telemetry::chain;

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?fieldSelector=metadata.name%3Dkubernetes";
/// How long one watch lasts. The apiserver itself ends watches after 30 to 60 minutes.
const WATCH_SECONDS: u32 = 600;
/// A slice has at most 1,000 endpoints.
const MAX_RESPONSE: u64 = 1 << 20;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Discovery {
    /// Reaches some apiserver through the Service's address.
    pub(super) service: Arc<Server>,
    pub(super) token_file: PathBuf,
}

/// Why the apiservers are not known, or why the watch ended.
#[derive(Debug, thiserror::Error)]
enum DiscoverError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the apiserver did not answer")]
    Send(#[source] SendError),
    #[error(
        "the apiserver answered {0}; it must be allowed to list and watch endpointslices.discovery.k8s.io kubernetes in default"
    )]
    Refused(StatusCode),
    #[error("the response broke off")]
    Broken(#[from] BodyError),
    #[error(transparent)]
    Lines(#[from] LineError),
    #[error("the response is not an EndpointSlice")]
    Json(#[from] serde_json::Error),
    #[error("the response is larger than any EndpointSlice")]
    TooLarge,
}

/// The content of one line of a watch.
#[derive(Debug, PartialEq, Eq)]
enum Update {
    Servers {
        urls: Vec<Uri>,
        version: String,
    },
    /// Nothing has changed up to this version.
    Version(String),
    /// The slice was deleted, or the watch cannot continue from any version.
    ListAgain,
}

#[derive(Debug, Deserialize)]
struct List {
    metadata: Metadata,
    #[serde(default)]
    items: Vec<Slice>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    resource_version: String,
}

#[derive(Debug, Deserialize)]
struct Slice {
    metadata: Metadata,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
}

#[derive(Debug, Default, Deserialize)]
struct Conditions {
    /// Absent means ready.
    ready: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Port {
    name: Option<String>,
    port: Option<u16>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: serde_json::Value,
}

impl Discovery {
    /// Calls `found` with the servers once and whenever they change. Never returns. The list can be
    /// empty.
    pub(super) async fn run(&self, found: impl Fn(Vec<Uri>)) {
        let mut pause = FIRST_PAUSE;
        let mut logged = None;
        loop {
            match self.follow(&found, &mut pause).await {
                Ok(()) => debug!("Listing the apiservers again"),
                Err(error) => {
                    let error = chain(&error).to_string();
                    if logged.as_ref() != Some(&error) {
                        warn!(
                            error,
                            "Cannot watch the list of apiservers, keeping the present ones"
                        );
                    }
                    logged = Some(error);
                }
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Lists, then watches until the watch cannot continue.
    async fn follow(
        &self,
        found: &impl Fn(Vec<Uri>),
        pause: &mut Duration,
    ) -> Result<(), DiscoverError> {
        let mut response = self.get(LaneKind::Call, SLICES).await?.into_body();
        let Some(whole) = collect_bounded(&mut response, MAX_RESPONSE).await? else {
            return Err(DiscoverError::TooLarge);
        };
        let list: List = serde_json::from_slice(&whole.data)?;
        found(list.items.iter().flat_map(Slice::urls).collect());
        let mut version = list.metadata.resource_version;
        loop {
            let query = format!(
                "&watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
            );
            let watch = format!("{SLICES}{query}");
            let watch = self.get(LaneKind::Stream, &watch).await?;
            let mut lines = WatchLines::of(watch, MAX_RESPONSE);
            while let Some(line) = lines.next().await? {
                *pause = FIRST_PAUSE;
                version = match update(&line)? {
                    Update::Servers { urls, version } => {
                        found(urls);
                        version
                    }
                    Update::Version(version) => version,
                    Update::ListAgain => return Ok(()),
                };
            }
            // If every watch ends as soon as it begins, this pause bounds the requests.
            tokio::time::sleep(FIRST_PAUSE.mul_f64(fastrand::f64())).await;
        }
    }

    async fn get(
        &self,
        lane: LaneKind,
        path: &str,
    ) -> Result<Response<Body<Lease>>, DiscoverError> {
        let token = bearer(&self.token_file).await?;
        let mut request = Box::new(Request::new(Body::empty()));
        *request.uri_mut() = path.parse().unwrap_or_default();
        request.headers_mut().insert(AUTHORIZATION, token);
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("application/json"));
        let lane = self.service.lanes_for(&request).lane(lane);
        let sent = self.service.send_with_retry(lane, request).await;
        let response = sent.map_err(|failed| DiscoverError::Send(failed.error))?;
        if response.status() == StatusCode::OK {
            Ok(response)
        } else {
            Err(DiscoverError::Refused(response.status()))
        }
    }
}

impl Slice {
    /// `https://address:port` of every apiserver that is ready, sorted.
    fn urls(&self) -> Vec<Uri> {
        let ports = self.ports.iter().flatten();
        let https = ports
            .clone()
            .find(|port| port.name.as_deref() == Some("https"))
            .or_else(|| ports.clone().next());
        let port = https.and_then(|port| port.port).unwrap_or(443);
        let serving = self
            .endpoints
            .iter()
            .flatten()
            .filter(|endpoint| endpoint.conditions.ready != Some(false));
        // apiservers enter their IP addresses. Anything else could change the meaning of the URL.
        let url = |address: &String| {
            let address = SocketAddr::new(address.parse().ok()?, port);
            format!("https://{address}").parse().ok()
        };
        let mut urls: Vec<Uri> = serving
            .filter_map(|endpoint| endpoint.addresses.first().and_then(url))
            .collect();
        urls.sort_unstable_by_key(Uri::to_string);
        urls.dedup();
        urls
    }
}

fn update(line: &[u8]) -> Result<Update, serde_json::Error> {
    let event: Event = serde_json::from_slice(line)?;
    Ok(match event.kind.as_str() {
        "ADDED" | "MODIFIED" => {
            let slice: Slice = serde_json::from_value(event.object)?;
            Update::Servers {
                urls: slice.urls(),
                version: slice.metadata.resource_version,
            }
        }
        "BOOKMARK" => Update::Version(
            serde_json::from_value::<Slice>(event.object)?
                .metadata
                .resource_version,
        ),
        // The slice is deleted only by mistake, and an apiserver soon writes it again. An error is
        // mostly 410: the version is too old to continue from.
        _ => Update::ListAgain,
    })
}

/// The servers that a line of the watch tells of. None: it tells of something else.
#[cfg(fuzzing)]
pub(super) fn servers_in(line: &[u8]) -> Option<Vec<Uri>> {
    match update(line) {
        Ok(Update::Servers { urls, .. }) => Some(urls),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kube-apiserver 1.34 writes it, with a second apiserver and one that has stopped.
    const SLICE: &str = r#"{"metadata":{"name":"kubernetes","namespace":"default","resourceVersion":"231","labels":{"kubernetes.io/service-name":"kubernetes"}},
        "addressType":"IPv4","endpoints":[{"addresses":["10.0.0.2"],"conditions":{"ready":true}},{"addresses":["10.0.0.1"],"conditions":{}},
        {"addresses":["10.0.0.3"],"conditions":{"ready":false}}],"ports":[{"name":"https","port":6443,"protocol":"TCP"}]}"#;

    fn event(kind: &str, object: &str) -> Result<Update, serde_json::Error> {
        update(format!(r#"{{"type":"{kind}","object":{object}}}"#).as_bytes())
    }

    #[test]
    fn reads_the_apiservers_that_serve() {
        let urls = ["https://10.0.0.1:6443", "https://10.0.0.2:6443"]
            .map(|url| url.parse().unwrap())
            .into();
        assert_eq!(
            event("MODIFIED", SLICE).unwrap(),
            Update::Servers {
                urls,
                version: "231".into()
            }
        );
        let slice = r#"{"metadata":{},"endpoints":[{"addresses":["fd00::1"]}],"ports":null}"#;
        let Update::Servers { urls, .. } = event("ADDED", slice).unwrap() else {
            panic!()
        };
        assert_eq!(urls[0].to_string(), "https://[fd00::1]:443/");
        let Update::Servers { urls, .. } =
            event("ADDED", r#"{"metadata":{},"endpoints":null}"#).unwrap()
        else {
            panic!()
        };
        assert!(urls.is_empty());
        for not_an_address in ["10.0.0./", "user@10.0.0.1", "localhost", ""] {
            let slice = format!(
                r#"{{"metadata":{{}},"endpoints":[{{"addresses":["{not_an_address}"]}}]}}"#
            );
            let Update::Servers { urls, .. } = event("ADDED", &slice).unwrap() else {
                panic!()
            };
            assert_eq!(urls, [""; 0], "{not_an_address}");
        }
    }

    #[test]
    fn deletions_and_errors_list_again() {
        assert_eq!(
            event("BOOKMARK", r#"{"metadata":{"resourceVersion":"9"}}"#).unwrap(),
            Update::Version("9".into())
        );
        assert_eq!(
            event(
                "ERROR",
                r#"{"kind":"Status","code":410,"reason":"Expired"}"#
            )
            .unwrap(),
            Update::ListAgain
        );
        assert_eq!(event("DELETED", SLICE).unwrap(), Update::ListAgain);
        event("MODIFIED", "5").unwrap_err();
    }
}
