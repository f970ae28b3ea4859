//! Sends ended spans to a collector: a bounded queue, and batches by OTLP over HTTP, one at a time,
//! each on a new connection.
//!
//! A batch that the collector does not accept is dropped, since waiting spans cost memory. Dropped
//! spans are counted. The log has one line when batches begin to fail, and one when they succeed
//! again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::otlp;
use crate::body::{Body, BodyError, collect_bounded};
use crate::connections::dial::{DialError, dial};
use crate::metrics::Metrics;
use crate::status::protobuf::Message;
use crate::telemetry::chain;

/// The most spans in the queue, about 2 MiB.
const MAX_QUEUED: usize = 4096;
/// The most spans in one batch.
const MAX_BATCH: usize = 512;
/// How long a batch waits for more spans if it is not full.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take for one batch, and in total for the spans that remain at
/// shutdown.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How much of that connecting may take. A collector's name can have dead addresses.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// The default port of OTLP over HTTP.
const DEFAULT_PORT: u16 = 4318;
/// The largest answer of a collector that is read.
const MAX_ANSWER: u64 = 64 << 10;

/// The sending end of the queue.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<Message>,
    metrics: Arc<Metrics>,
}

/// Takes spans from the queue and sends them to the collector.
#[derive(Debug)]
pub struct Exporter {
    spans: mpsc::Receiver<Message>,
    batch: Vec<Message>,
    collector: Collector,
    service_name: String,
    failing: bool,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Collector {
    host: String,
    port: u16,
    header: HeaderValue,
}

/// Why the collector did not get a batch.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("cannot connect")]
    Connect(#[source] DialError<Infallible>),
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
    #[error("the answer of the collector is not complete")]
    Answer(#[from] BodyError),
    #[error("the collector answered {0}")]
    Status(StatusCode),
    #[error("the collector did not answer within {TIMEOUT:?}")]
    Timeout,
}

/// A queue, and the exporter that sends its spans to the collector at `endpoint`.
pub(super) fn queue_to(
    endpoint: &Uri,
    service_name: &str,
    metrics: &Arc<Metrics>,
) -> (Queue, Exporter) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED);
    let exporter = Exporter {
        spans: receiver,
        batch: Vec::new(),
        collector: Collector::at(endpoint),
        service_name: service_name.to_owned(),
        failing: false,
        metrics: Arc::clone(metrics),
    };
    (
        Queue {
            spans: sender,
            metrics: Arc::clone(metrics),
        },
        exporter,
    )
}

impl Queue {
    /// Queues all spans, or drops all if there is no room: half a trace would mislead.
    pub(super) fn push(&self, spans: Vec<Message>) {
        match self.spans.try_reserve_many(spans.len()) {
            Ok(places) => places.zip(spans).for_each(|(place, span)| place.send(span)),
            Err(_) => self.metrics.spans(false, spans.len() as u64),
        }
    }
}

impl Exporter {
    /// Exports until `stop` is cancelled. Then exports the remaining spans within two seconds.
    pub async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.gather()).await.is_some() {
            self.export().await;
        }
        self.spans.close();
        let _flushed = tokio::time::timeout(TIMEOUT, self.flush()).await;
        self.metrics
            .spans(false, (self.batch.len() + self.spans.len()) as u64);
    }

    /// Fills the batch. If it is cancelled, the batch keeps its spans for the next call.
    async fn gather(&mut self) {
        if self.batch.is_empty() {
            self.fill().await;
        }
        let _full = tokio::time::timeout(GATHER, async {
            while self.batch.len() < MAX_BATCH {
                self.fill().await;
            }
        })
        .await;
    }

    /// Waits for spans. Never returns once the queue is closed and empty.
    async fn fill(&mut self) {
        let room = MAX_BATCH - self.batch.len();
        if self.spans.recv_many(&mut self.batch, room).await == 0 {
            std::future::pending().await
        }
    }

    async fn flush(&mut self) {
        loop {
            while self.batch.len() < MAX_BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                self.batch.push(span);
            }
            if self.batch.is_empty() {
                break;
            }
            self.export().await;
        }
    }

    async fn export(&mut self) {
        let body = otlp::request(&self.service_name, &self.batch);
        let exported = tokio::time::timeout(TIMEOUT, self.collector.post(body))
            .await
            .unwrap_or(Err(ExportError::Timeout));
        let spans = self.batch.len() as u64;
        let dropped = exported
            .as_ref()
            .map_or(spans, |rejected| spans.min(*rejected));
        self.batch.clear();
        self.metrics.spans(true, spans - dropped);
        self.metrics.spans(false, dropped);
        match &exported {
            Err(error) if !self.failing => {
                warn!(collector = ?self.collector.header, error = %chain(error), "The collector does not accept traces, dropping them");
            }
            Ok(_) if self.failing => {
                info!(collector = ?self.collector.header, "The collector accepts traces again")
            }
            _ => {}
        }
        self.failing = exported.is_err();
    }
}

impl Collector {
    fn at(endpoint: &Uri) -> Self {
        let host = endpoint.host().unwrap_or_default();
        Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: endpoint.port_u16().unwrap_or(DEFAULT_PORT),
            header: endpoint
                .authority()
                .map(Authority::as_str)
                .and_then(|text| text.parse().ok())
                .unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// Sends one batch; returns how many spans of it were rejected.
    async fn post(&self, body: Bytes) -> Result<u64, ExportError> {
        let connected = async |tcp| Ok::<_, Infallible>(tcp);
        let tcp = dial((&*self.host, self.port), CONNECT_TIMEOUT, connected)
            .await
            .map_err(ExportError::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request = Request::new(Body::<()>::full(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/v1/traces");
        request.headers_mut().insert(HOST, self.header.clone());
        request.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(ExportError::Status(response.status()));
        }
        let mut answer = Body::<()>::of_answer(response).into_body();
        // An answer that cannot be decoded rejects no spans.
        let answer = collect_bounded(&mut answer, MAX_ANSWER).await?;
        Ok(answer
            .and_then(|answer| otlp::rejected(&answer.data).ok())
            .unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_finds_no_room_is_dropped_whole_and_counted() {
        let metrics = Arc::new(Metrics::new(1, &[]));
        let (queue, exporter) = queue_to(&Uri::from_static("http://localhost"), "test", &metrics);
        assert_eq!(
            (&*exporter.collector.host, exporter.collector.port),
            ("localhost", 4318)
        );
        queue.push(vec![Message::new(); MAX_QUEUED - 1]);
        queue.push(vec![Message::new(); 2]);
        queue.push(vec![Message::new(); MAX_QUEUED + 1]);
        assert_eq!(exporter.spans.len(), MAX_QUEUED - 1);
        let dropped = format!(
            "trace_spans_total{{result=\"failure\"}} {}\n",
            MAX_QUEUED + 3
        );
        assert!(metrics.render().contains(&dropped), "{}", metrics.render());
    }
}
