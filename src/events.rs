//! Writes Kubernetes Events for creates that were given up at a limit, if this is configured. The
//! owner of a namespace sees them with `kubectl get events`.
//!
//! `decisions` sends each such create. A namespace gets at most one Event in half a minute, which
//! also counts the creates that got no Event since the last one. Events are best effort, as
//! everywhere in Kubernetes: one that the apiserver does not accept is dropped and counted. The
//! requests use the proxy's own token, which must be allowed to `create` `events` of
//! `events.k8s.io` in the namespaces of the creates.

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
use crate::decisions::{Decision, Report};
use crate::metrics::Metrics;
use crate::telemetry::chain;
use crate::upstream::{LaneKind, SendError, TokenError, Upstream, bearer};

/// The most creates that wait for their Event.
const MAX_QUEUED: usize = 256;
/// A namespace gets at most one Event in this time.
const EVERY: Duration = Duration::from_secs(30);
/// The most namespaces that the recorder remembers.
const MAX_NAMESPACES: usize = 1000;
/// How long the apiserver may take for one Event.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read. It is the Event or a Status, so it is smaller.
const MAX_ANSWER: u64 = 64 << 10;
/// The longest note that the API accepts: <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>.
const MAX_NOTE: usize = 1024;
/// The longest reporting instance that the API accepts.
const MAX_INSTANCE: usize = 128;

const CONTROLLER: &str = "kube-retry-proxy";

/// Writes the Events.
pub struct Recorder {
    reports: mpsc::Receiver<Report>,
    upstream: Arc<Upstream>,
    token_file: PathBuf,
    /// The name of the pod.
    instance: String,
    /// By namespace and reason.
    last_events: HashMap<(Box<str>, &'static str), LastEvent>,
    failing: bool,
    metrics: Arc<Metrics>,
}

/// The last Event of a namespace with one reason.
#[derive(Debug)]
struct LastEvent {
    written: Instant,
    /// Creates since then that have no Event yet.
    without_event: u32,
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
    /// The channel for what Events tell of, and the recorder that reads it. None: Events are not
    /// enabled.
    pub fn new(
        config: &config::EventsConfig,
        upstream: &Arc<Upstream>,
        metrics: &Arc<Metrics>,
    ) -> Option<(mpsc::Sender<Report>, Self)> {
        let (sender, reports) = mpsc::channel(MAX_QUEUED);
        let recorder = Self {
            reports,
            upstream: Arc::clone(upstream),
            token_file: config.token_file.clone(),
            instance: instance(),
            last_events: HashMap::new(),
            failing: false,
            metrics: Arc::clone(metrics),
        };
        config.enabled.then_some((sender, recorder))
    }

    /// Writes Events until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let until_stopped = async {
            while let Some(report) = self.reports.recv().await {
                let namespace = &report.decision().namespace;
                if let Some(earlier) = self.due(namespace, reason(&report), Instant::now()) {
                    self.write(&report, earlier).await;
                }
            }
        };
        stop.run_until_cancelled(until_stopped).await;
    }

    /// How many earlier creates of `namespace` have no Event. The next Event counts them. None: it
    /// is too soon for another Event.
    fn due(&mut self, namespace: &str, reason: &'static str, now: Instant) -> Option<u32> {
        let key = (namespace.into(), reason);
        if let Some(last) = self.last_events.get_mut(&key) {
            if now < last.written + EVERY {
                last.without_event += 1;
                return None;
            }
            last.written = now;
            return Some(std::mem::take(&mut last.without_event));
        }
        if self.last_events.len() >= MAX_NAMESPACES {
            self.last_events
                .retain(|_, last| now < last.written + EVERY);
        }
        // A caller cannot fill the map with invented namespaces, because only creates that were
        // authorized come here. If creates in a thousand real ones are given up at once, the
        // metrics show it.
        (self.last_events.len() < MAX_NAMESPACES).then(|| {
            self.last_events.insert(
                key,
                LastEvent {
                    written: now,
                    without_event: 0,
                },
            );
            0
        })
    }

    async fn write(&mut self, report: &Report, earlier: u32) {
        let event = event(report, earlier, &self.instance, SystemTime::now());
        let written = timeout(TIMEOUT, self.post(&report.decision().namespace, event))
            .await
            .unwrap_or(Err(EventError::Timeout));
        self.metrics.event(written.is_ok());
        match &written {
            Err(error) if !self.failing => {
                warn!(error = %chain(error), "Cannot write Events of creates")
            }
            Ok(()) if self.failing => info!("The apiserver accepts Events again"),
            _ => {}
        }
        self.failing = written.is_err();
    }

    async fn post(&self, namespace: &str, event: Value) -> Result<(), EventError> {
        let token = bearer(&self.token_file).await?;
        let mut request = Box::new(Request::new(Body::full(Bytes::from(event.to_string()))));
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
        // Reads the answer to its end, so that the connection can be used again. The code is
        // enough.
        let _read = collect_bounded(&mut answer.into_body(), MAX_ANSWER).await;
        if code.is_success() {
            Ok(())
        } else {
            Err(EventError::Refused(code, namespace.into()))
        }
    }
}

/// The Event as an object of events.k8s.io/v1. `earlier` creates of the namespace have none.
fn event(report: &Report, earlier: u32, instance: &str, now: SystemTime) -> Value {
    let decision = report.decision();
    let namespace = &decision.namespace;
    let (kind, mut note) = match report {
        Report::GaveUp(decision) => ("Warning", given_up(decision, earlier)),
        Report::Waits(_, quota) => ("Normal", waits(quota, earlier)),
    };
    note.truncate(note.floor_char_boundary(MAX_NOTE));
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "generateName": format!("{CONTROLLER}-"), "namespace": namespace },
        "eventTime": micro_time(now),
        "type": kind,
        "reason": reason(report),
        "action": "Create",
        "note": note,
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "regarding": {
            "apiVersion": decision.api_version,
            "kind": decision.kind,
            "namespace": namespace,
            "name": decision.name,
        },
    })
}

fn reason(report: &Report) -> &'static str {
    match report {
        Report::GaveUp(_) => "CreateGivenUp",
        Report::Waits(..) => "CreateWaitsForQuota",
    }
}

fn waits(quota: &str, earlier: u32) -> String {
    let mut note = format!("Waits for the quota {quota}.");
    if earlier > 0 {
        note += &format!(
            " {earlier} more creates of this namespace have waited for a quota since its last Event."
        );
    }
    note
}

fn given_up(decision: &Decision, earlier: u32) -> String {
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
        let answer = last
            .answer
            .map_or_else(str::to_owned, |code| code.to_string());
        note += &format!(" The last answer was {answer} ({}).", last.class);
    }
    if earlier > 0 {
        note += &format!(
            " {earlier} more creates of this namespace were given up since its last Event."
        );
    }
    note
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

/// The name of the pod, which is the host name in a pod.
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
