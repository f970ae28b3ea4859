//! OpenTelemetry traces of creates, if they are configured: one server span for each create, and
//! one client span for each attempt.
//!
//! A trace continues the caller's W3C trace, and each attempt carries its own span to the apiserver
//! as the parent. `create` tells a [`Trace`] what happens to its create. No request waits for a
//! collector: ended spans go into a bounded queue, and spans that find it full are dropped and
//! counted. A span has codes, classes, servers and the namespace, never names of objects, tokens or
//! bodies.
//!
//! This module does not use the OpenTelemetry SDK. The SDK's batch processor exports from a thread
//! without tokio and reports dropped spans only in a log line, and the wire format needs little
//! more than the protobuf that `status` has already.

mod context;
mod export;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod otlp;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Method, StatusCode, request};
use tokio::time::Instant;

use crate::config;
use crate::metrics::Metrics;
use crate::status::protobuf::Message;
use context::Context;
pub use export::Exporter;
use export::Queue;
use otlp::{Attributes, Span, SpanKind};

/// Begins the traces of creates.
#[derive(Debug)]
pub struct Tracer {
    ratio: f64,
    queue: Queue,
}

impl Tracer {
    /// The tracer, and the exporter that sends its spans to the collector. None: no collector is
    /// configured.
    pub fn new(
        config: &config::TracingConfig,
        metrics: &Arc<Metrics>,
    ) -> Option<(Arc<Self>, Exporter)> {
        let (queue, exporter) =
            export::queue_to(config.endpoint.as_ref()?, &config.service_name, metrics);
        Some((
            Arc::new(Self {
                ratio: config.sample_ratio.get(),
                queue,
            }),
            exporter,
        ))
    }

    /// Begins the span of a create of `resource` that arrived at `received`. None: the create is
    /// not sampled. The caller's trace decides that; without one, `tracing.sampleRatio` does.
    #[must_use]
    pub fn begin(
        self: &Arc<Self>,
        head: &request::Parts,
        namespace: &str,
        resource: &str,
        received: Instant,
    ) -> Option<Box<Trace>> {
        let context = match Context::of(&head.headers) {
            Some(caller) => Some(caller).filter(Context::is_sampled),
            None => (fastrand::f64() < self.ratio).then(|| Context::root(fastrand::u128(1..))),
        }?;
        let route = route(head.uri.path(), resource, &head.method);
        Some(Box::new(Trace {
            tracer: Arc::clone(self),
            context,
            // A span id must not be zero.
            span_id: fastrand::u64(1..),
            method: head.method.clone(),
            name: format!("{} {route}", head.method),
            namespace: namespace.into(),
            received,
            // An Instant has no date, so all times of the trace are counted from this one.
            since_epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .saturating_sub(received.elapsed()),
            answer: None,
            open_attempt: None,
            resends: 0,
            last_ended: None,
            ended: Vec::new(),
        }))
    }
}

/// The spans of one create in progress.
#[derive(Debug)]
pub struct Trace {
    tracer: Arc<Tracer>,
    context: Context,
    span_id: u64,
    method: Method,
    name: String,
    namespace: Box<str>,
    received: Instant,
    since_epoch: Duration,
    /// The status code that the client gets.
    answer: Option<StatusCode>,
    open_attempt: Option<OpenAttempt>,
    resends: u32,
    last_ended: Option<Instant>,
    ended: Vec<Message>,
}

/// An attempt that has no answer yet.
#[derive(Debug)]
struct OpenAttempt {
    span_id: u64,
    sent: Instant,
    /// The time since the last attempt ended.
    pause: Option<Duration>,
    /// The host and port of the server, once its answer has begun.
    server: Option<(Box<str>, u16)>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
struct AttemptEnd {
    class: &'static str,
    code: Option<u16>,
}

impl Trace {
    /// Begins the span of an attempt, and makes it the parent in the headers of its request.
    pub fn sending(&mut self, headers: &mut HeaderMap) {
        let span_id = fastrand::u64(1..);
        self.context.set_parent(span_id, headers);
        let sent = Instant::now();
        self.open_attempt = Some(OpenAttempt {
            span_id,
            sent,
            pause: self.last_ended.map(|ended| sent - ended),
            server: None,
        });
    }

    /// Notes which server answers the attempt.
    pub fn answered_by(&mut self, (host, port): (&str, u16)) {
        if let Some(attempt) = &mut self.open_attempt {
            attempt.server = Some((host.trim_matches(['[', ']']).into(), port));
        }
    }

    /// Ends the span of the attempt, with the code of its answer if one came.
    pub fn attempt(&mut self, class: &'static str, code: Option<u16>) {
        self.end_attempt(Some(AttemptEnd { class, code }));
        self.last_ended = Some(Instant::now());
        self.resends += 1;
    }

    /// Adds the span of a lookup of the object, which began at `began`.
    pub fn looked(&mut self, began: Instant, found: &str) {
        let mut attributes = Attributes::default();
        attributes.text("http.request.method", "GET");
        attributes.text("kube_retry_proxy.lookup", found);
        let id = fastrand::u64(1..);
        let failed = found == "failed";
        let span = Span {
            name: "lookup",
            ..self.span(
                SpanKind::Client,
                id,
                self.span_id,
                began,
                attributes,
                failed,
            )
        };
        let span = span.encode();
        self.ended.push(span);
    }

    /// Notes the status code that the client gets.
    pub fn answer(&mut self, code: StatusCode) {
        self.answer = Some(code);
    }

    /// Ends the span of the create and queues all spans for the collector.
    pub fn end(mut self, outcome: &str, held: Duration) {
        self.end_attempt(None);
        let mut attributes = Attributes::default();
        attributes.text("http.request.method", self.method.as_str());
        attributes.text("http.route", self.route());
        attributes.text("url.scheme", "https");
        attributes.text("k8s.namespace.name", &self.namespace);
        attributes.text("kube_retry_proxy.outcome", outcome);
        attributes.seconds("kube_retry_proxy.hold", held);
        if let Some(code) = self.answer {
            attributes.int("http.response.status_code", code.as_u16().into());
        }
        // A server span is an error only if the failure is the server's fault.
        let failed = self.answer.is_none_or(|code| code.is_server_error());
        self.ended.push(
            self.span(
                SpanKind::Server,
                self.span_id,
                self.context.parent,
                self.received,
                attributes,
                failed,
            )
            .encode(),
        );
        self.tracer.queue.push(self.ended);
    }

    /// Ends the span of the open attempt, if there is one. None: the client disconnected before the
    /// answer came.
    fn end_attempt(&mut self, ended: Option<AttemptEnd>) {
        let Some(OpenAttempt {
            span_id,
            sent,
            pause,
            server,
        }) = self.open_attempt.take()
        else {
            return;
        };
        let mut attributes = Attributes::default();
        attributes.text("http.request.method", self.method.as_str());
        if self.resends > 0 {
            attributes.int("http.request.resend_count", self.resends.into());
        }
        if let Some((host, port)) = &server {
            attributes.text("server.address", host);
            attributes.int("server.port", (*port).into());
        }
        let code = ended.and_then(|ended| ended.code);
        if let Some(code) = code {
            attributes.int("http.response.status_code", code.into());
        }
        if let Some(AttemptEnd { class, .. }) = ended {
            attributes.text("kube_retry_proxy.class", class);
        }
        let failed = code.is_none_or(|code| code >= 400);
        if failed {
            attributes.text(
                "error.type",
                &code.map_or_else(
                    || ended.map_or("canceled", |ended| ended.class).to_owned(),
                    |code| code.to_string(),
                ),
            );
        }
        let mut span = self.span(
            SpanKind::Client,
            span_id,
            self.span_id,
            sent,
            attributes,
            failed,
        );
        if let Some(pause) = pause {
            let mut attributes = Attributes::default();
            attributes.seconds("kube_retry_proxy.pause", pause);
            span.event = Some((span.start, "kube_retry_proxy.paused", attributes));
        }
        let span = span.encode();
        self.ended.push(span);
    }

    fn span(
        &self,
        kind: SpanKind,
        id: u64,
        parent: u64,
        began: Instant,
        attributes: Attributes,
        failed: bool,
    ) -> Span<'_> {
        Span {
            trace_id: self.context.trace_id,
            id,
            parent,
            state: &self.context.state,
            name: &self.name,
            kind,
            start: self.unix_nanos(began),
            end: self.unix_nanos(Instant::now()),
            attributes,
            event: None,
            failed,
        }
    }

    fn unix_nanos(&self, at: Instant) -> u64 {
        // Fits until the year 2554.
        (self.since_epoch + (at - self.received)).as_nanos() as u64
    }

    fn route(&self) -> &str {
        self.name.split_once(' ').map_or("", |(_, route)| route)
    }
}

/// The path with placeholders for names, so that there are few names of spans.
fn route(path: &str, resource: &str, method: &Method) -> String {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let root = segments.next().unwrap_or_default();
    // /api/VERSION, /apis/GROUP/VERSION
    let rest = segments.take(if root == "api" { 1 } else { 2 });
    let mut route = rest.fold(format!("/{root}"), |route, segment| route + "/" + segment);
    // The path has the group of `jobs.batch` already.
    let plural = resource.split('.').next().unwrap_or_default();
    route = route + "/namespaces/{namespace}/" + plural;
    // A server-side apply has the name of the object in its path.
    if method == Method::PATCH {
        route + "/{name}"
    } else {
        route
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_names_no_object() {
        assert_eq!(
            route("/api/v1/namespaces/team/pods", "pods", &Method::POST),
            "/api/v1/namespaces/{namespace}/pods"
        );
        assert_eq!(
            route(
                "/apis/batch/v1/namespaces/team/jobs/mine",
                "jobs.batch",
                &Method::PATCH
            ),
            "/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
        );
        assert_eq!(
            route("//api//v1/namespaces/team/pods/", "pods", &Method::POST),
            "/api/v1/namespaces/{namespace}/pods"
        );
    }
}
