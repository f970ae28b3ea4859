//! OpenTelemetry traces of creates, where they are asked for: one server span for each create, one
//! client span for each attempt.
//!
//! The caller's W3C trace is continued, and each attempt tells the apiserver its own span as the
//! parent. Nothing waits for a collector: ended spans go into a bounded queue, and are dropped and
//! counted where it is full. `decisions` tells a [`Trace`] what it records itself. No
//! names of objects, no tokens and no bodies: codes, classes, servers and the namespace only.
//!
//! Written here rather than with the OpenTelemetry SDK: its batch processor exports from a thread
//! without tokio and counts what it drops in a log line only, and the wire format needs little
//! beyond the protobuf that `status` has already.

mod context;
mod export;
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
use otlp::{Attributes, Kind, Span};

/// Begins traces. Made only where they are asked for.
#[derive(Debug)]
pub struct Tracer {
    ratio: f64,
    queue: Queue,
}

impl Tracer {
    /// The tracer and what carries its spans to the collector; None where no collector is
    /// configured.
    pub fn new(config: &config::Tracing, metrics: &Arc<Metrics>) -> Option<(Arc<Self>, Exporter)> {
        let (queue, exporter) =
            export::to(config.endpoint.as_ref()?, &config.service_name, metrics);
        Some((
            Arc::new(Self {
                ratio: config.sample_ratio.get(),
                queue,
            }),
            exporter,
        ))
    }

    /// Begins the span of a create of `resource` that came at `received`. None where it is not
    /// sampled: the caller decides that where it has a trace, chance otherwise.
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
        let route = route(
            head.uri.path(),
            !namespace.is_empty(),
            resource,
            &head.method,
        );
        Some(Box::new(Trace {
            tracer: Arc::clone(self),
            context,
            // Not zero, which stands for none.
            span_id: fastrand::u64(1..),
            method: head.method.clone(),
            name: format!("{} {route}", head.method),
            namespace: namespace.into(),
            received,
            // Instants have no date: all times of a trace are counted from this one.
            since_epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .saturating_sub(received.elapsed()),
            answer: None,
            sending: None,
            resends: 0,
            last_ended: None,
            ended: Vec::new(),
        }))
    }
}

/// The spans of one create under way.
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
    /// The code that the caller gets.
    answer: Option<StatusCode>,
    /// The attempt under way.
    sending: Option<Sending>,
    resends: u32,
    last_ended: Option<Instant>,
    ended: Vec<Message>,
}

/// An attempt under way.
#[derive(Debug)]
struct Sending {
    span_id: u64,
    sent: Instant,
    /// Since the end of the attempt before.
    pause: Option<Duration>,
    /// Host and port, once it has begun to answer.
    server: Option<(Box<str>, u16)>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    class: &'static str,
    code: Option<u16>,
}

impl Trace {
    /// An attempt is about to be sent with these headers: they get its span for their parent.
    pub fn sending(&mut self, headers: &mut HeaderMap) {
        let span_id = fastrand::u64(1..);
        self.context.tell(span_id, headers);
        let sent = Instant::now();
        self.sending = Some(Sending {
            span_id,
            sent,
            pause: self.last_ended.map(|ended| sent - ended),
            server: None,
        });
    }

    /// The attempt is being answered by this server.
    pub fn answered_by(&mut self, (host, port): (&str, u16)) {
        if let Some(sending) = &mut self.sending {
            sending.server = Some((host.trim_matches(['[', ']']).into(), port));
        }
    }

    /// The attempt ended with an answer of this code, or with none.
    pub fn attempt(&mut self, class: &'static str, code: Option<u16>) {
        self.end_attempt(Some(Ended { class, code }));
        self.last_ended = Some(Instant::now());
        self.resends += 1;
    }

    /// The caller gets an answer of this code.
    pub fn answer(&mut self, code: StatusCode) {
        self.answer = Some(code);
    }

    /// The create is over: its spans go on their way.
    pub fn end(mut self, outcome: &str, held: Duration) {
        self.end_attempt(None);
        let mut attributes = Attributes::default();
        attributes.text("http.request.method", self.method.as_str());
        attributes.text("http.route", self.route());
        attributes.text("url.scheme", "https");
        if !self.namespace.is_empty() {
            attributes.text("k8s.namespace.name", &self.namespace);
        }
        attributes.text("kube_retry_proxy.outcome", outcome);
        attributes.seconds("kube_retry_proxy.hold", held);
        if let Some(code) = self.answer {
            attributes.int("http.response.status_code", code.as_u16().into());
        }
        // Of a server's span only what is the server's fault is an error.
        let failed = self.answer.is_none_or(|code| code.is_server_error());
        self.ended.push(
            self.span(
                Kind::Server,
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

    /// Without `ended` it was cut short, because the client left.
    fn end_attempt(&mut self, ended: Option<Ended>) {
        let Some(Sending {
            span_id,
            sent,
            pause,
            server,
        }) = self.sending.take()
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
        if let Some(Ended { class, .. }) = ended {
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
            Kind::Client,
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
        kind: Kind,
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

/// The path with a word in place of each name: few enough to be the name of a span.
fn route(path: &str, namespaced: bool, resource: &str, method: &Method) -> String {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let root = segments.next().unwrap_or_default();
    // /api/VERSION, /apis/GROUP/VERSION
    let rest = segments.take(if root == "api" { 1 } else { 2 });
    let mut route = rest.fold(format!("/{root}"), |route, segment| route + "/" + segment);
    if namespaced {
        route.push_str("/namespaces/{namespace}");
    }
    route = route + "/" + resource;
    // A server-side-apply names the object.
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
        let of = |path, namespaced, method| route(path, namespaced, "pods", &method);
        assert_eq!(
            of("/api/v1/namespaces/team/pods", true, Method::POST),
            "/api/v1/namespaces/{namespace}/pods"
        );
        assert_eq!(
            of(
                "/apis/batch/v1/namespaces/team/pods/mine",
                true,
                Method::PATCH
            ),
            "/apis/batch/v1/namespaces/{namespace}/pods/{name}"
        );
        assert_eq!(
            of("/apis/g/v1/pods", false, Method::POST),
            "/apis/g/v1/pods"
        );
        assert_eq!(
            of("//api//v1/namespaces/team/pods/", true, Method::POST),
            "/api/v1/namespaces/{namespace}/pods"
        );
    }
}
