//! Kubernetes Events for creates that were given up at a limit, where they are asked for: `kubectl
//! get events` tells whoever owns the namespace.
//!
//! `decisions` hands over each such create. At most one Event for a namespace in half a minute,
//! which says how many it stands for; what the apiserver does not take is dropped and counted, as
//! Events are best effort everywhere in Kubernetes. With a token of the proxy's own, which
//! must be allowed to `create` `events` of `events.k8s.io` in the namespaces of the creates.

use std::collections::HashMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::iso8601::{self, Iso8601, TimePrecision};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::body::{Body, collect_bounded};
use crate::config;
use crate::decisions::Decision;
use crate::metrics::Metrics;
use crate::telemetry::chain;
use crate::upstream::{LaneKind, SendError, TokenError, Upstream, bearer};

/// Creates that wait to be told of.
const MAX_QUEUED: usize = 256;
/// A namespace gets no more than one Event in this time.
const EVERY: Duration = Duration::from_secs(30);
/// Namespaces remembered for that.
const MAX_NAMESPACES: usize = 1000;
/// How long the apiserver may take for one Event.
const TIMEOUT: Duration = Duration::from_secs(10);
/// More than an answer has: the Event itself, or a Status.
const MAX_ANSWER: u64 = 64 << 10;
/// A note is at most so long, <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>.
const MAX_NOTE: usize = 1024;
/// A reporting instance is at most so long.
const MAX_INSTANCE: usize = 128;
/// Where Events of objects without a namespace are kept.
const NO_NAMESPACE: &str = "default";

const CONTROLLER: &str = "kube-retry-proxy";

/// Writes the Events.
pub struct Recorder {
    given_up: mpsc::Receiver<Decision>,
    upstream: Arc<Upstream>,
    token_file: PathBuf,
    /// The pod, in a cluster.
    instance: String,
    told: HashMap<Box<str>, Told>,
    failing: bool,
    metrics: Arc<Metrics>,
}

/// What a namespace has been told.
#[derive(Debug)]
struct Told {
    last: Instant,
    /// Creates given up since.
    left_out: u32,
}

/// Why the apiserver did not take an Event.
#[derive(Debug, thiserror::Error)]
enum EventError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("no answer")]
    Send(#[from] SendError),
    #[error("the apiserver answered {0}; it must be allowed to create events.events.k8s.io in {1}")]
    Refused(StatusCode, Box<str>),
    #[error("the apiserver did not answer within {TIMEOUT:?}")]
    Timeout,
}

impl Recorder {
    /// Where `decisions` puts creates that were given up, and what tells of them; None where nobody
    /// asked for it.
    pub fn new(
        config: &config::Events,
        upstream: &Arc<Upstream>,
        metrics: &Arc<Metrics>,
    ) -> Option<(mpsc::Sender<Decision>, Self)> {
        let (sender, given_up) = mpsc::channel(MAX_QUEUED);
        let recorder = Self {
            given_up,
            upstream: Arc::clone(upstream),
            token_file: config.token_file.clone(),
            instance: instance(),
            told: HashMap::new(),
            failing: false,
            metrics: Arc::clone(metrics),
        };
        config.enabled.then_some((sender, recorder))
    }

    /// Writes Events until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let until_stopped = async {
            while let Some(decision) = self.given_up.recv().await {
                if let Some(left_out) = self.due(&decision.namespace, Instant::now()) {
                    self.tell(&decision, left_out).await;
                }
            }
        };
        stop.run_until_cancelled(until_stopped).await;
    }

    /// How many creates of `namespace` its next Event stands for besides its own; None while it is
    /// too soon for one.
    fn due(&mut self, namespace: &str, now: Instant) -> Option<u32> {
        if let Some(told) = self.told.get_mut(namespace) {
            if now < told.last + EVERY {
                told.left_out += 1;
                return None;
            }
            told.last = now;
            return Some(std::mem::take(&mut told.left_out));
        }
        if self.told.len() >= MAX_NAMESPACES {
            self.told.retain(|_, told| now < told.last + EVERY);
        }
        // Nobody gets here with namespaces that he makes up: the apiserver would refuse those for
        // good. Metrics tell of a thousand at once.
        (self.told.len() < MAX_NAMESPACES).then(|| {
            self.told.insert(
                namespace.into(),
                Told {
                    last: now,
                    left_out: 0,
                },
            );
            0
        })
    }

    async fn tell(&mut self, decision: &Decision, left_out: u32) {
        let namespace = if decision.namespace.is_empty() {
            NO_NAMESPACE
        } else {
            &decision.namespace
        };
        let event = event(
            decision,
            namespace,
            left_out,
            &self.instance,
            SystemTime::now(),
        );
        let taken = timeout(TIMEOUT, self.post(namespace, event))
            .await
            .unwrap_or(Err(EventError::Timeout));
        self.metrics.event(taken.is_ok());
        match &taken {
            Err(error) if !self.failing => {
                warn!(error = %chain(error), "Cannot write Events of creates that were given up")
            }
            Ok(()) if self.failing => info!("Events are written again"),
            _ => {}
        }
        self.failing = taken.is_err();
    }

    async fn post(&self, namespace: &str, event: Value) -> Result<(), EventError> {
        let token = bearer(&self.token_file).await?;
        let mut request = Request::new(Body::full(Bytes::from(event.to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
            .parse()
            .unwrap_or_default();
        request.headers_mut().insert(AUTHORIZATION, token);
        for name in [ACCEPT, CONTENT_TYPE] {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static("application/json"));
        }
        let answer = self.upstream.send(LaneKind::Call, request).await?;
        let code = answer.status();
        // To its end, or the connection could not be used again. What it says is known.
        let _read = collect_bounded(&mut answer.into_body(), MAX_ANSWER).await;
        if code.is_success() {
            Ok(())
        } else {
            Err(EventError::Refused(code, namespace.into()))
        }
    }
}

/// The Event, as events.k8s.io/v1 wants it.
fn event(
    decision: &Decision,
    namespace: &str,
    left_out: u32,
    instance: &str,
    now: SystemTime,
) -> Value {
    let attempts = decision.attempts.len();
    let times = if attempts == 1 {
        "once".to_owned()
    } else {
        format!("{attempts} times")
    };
    let held = decision.held.as_secs_f64();
    let mut note = format!(
        "Sent {times}, held for {held:.1} s, given up: {}.",
        decision.why
    );
    if let Some(last) = decision.attempts.last() {
        let said = last
            .answer
            .map_or_else(str::to_owned, |code| code.to_string());
        note += &format!(" The last answer was {said} ({}).", last.class);
    }
    if left_out > 0 {
        note += &format!(" So were {left_out} more of this namespace since its last event.");
    }
    note.truncate(note.floor_char_boundary(MAX_NOTE));
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "generateName": format!("{CONTROLLER}-"), "namespace": namespace },
        "eventTime": micro_time(now),
        "type": "Warning",
        "reason": "CreateGivenUp",
        "action": "Create",
        "note": note,
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "regarding": { "kind": decision.kind, "namespace": decision.namespace, "name": decision.name },
    })
}

/// `metav1.MicroTime`: RFC 3339 with exactly six digits of a second.
fn micro_time(time: SystemTime) -> String {
    const SIX_DIGITS: TimePrecision = TimePrecision::Second {
        decimal_digits: NonZero::new(6),
    };
    const MICRO_TIME: Iso8601<
        {
            iso8601::Config::DEFAULT
                .set_time_precision(SIX_DIGITS)
                .encode()
        },
    > = Iso8601;
    OffsetDateTime::from(time)
        .format(&MICRO_TIME)
        .unwrap_or_default()
}

/// The name of the pod, which is its host name.
fn instance() -> String {
    let mut name = std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| CONTROLLER.to_owned());
    name.truncate(name.floor_char_boundary(MAX_INSTANCE));
    name
}

#[cfg(test)]
mod tests;
