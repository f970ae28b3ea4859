//! A collector of traces on loopback. The proxy encodes spans by hand, so the collector decodes
//! them with OpenTelemetry's own types.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// The behaviour of a collector.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CollectorMode {
    /// Accepts every span, but reports this number as rejected.
    Rejecting(i64),
    /// Answers every export with this status code.
    Refusing(StatusCode),
    /// Closes every connection.
    Closing,
    /// Never answers.
    Silent,
}

pub struct Collector {
    pub url: String,
    got: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Collector {
    /// Starts a collector that accepts everything.
    pub async fn start() -> Self {
        Self::with(CollectorMode::Rejecting(0)).await
    }

    pub async fn with(collecting: CollectorMode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let serving = serve(listener, collecting, Arc::clone(&got));
        Self {
            url,
            got,
            _serving: AbortOnDropHandle::new(tokio::spawn(serving)),
        }
    }

    /// The bodies of all exports so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.got
            .lock()
            .unwrap()
            .iter()
            .flat_map(|(_, _, body)| body.clone())
            .collect()
    }

    /// All spans so far, in the order in which they were sent.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for (path, headers, body) in &*self.got.lock().unwrap() {
            assert_eq!(
                (&**path, headers[CONTENT_TYPE].to_str().unwrap()),
                ("/v1/traces", "application/x-protobuf")
            );
            let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
            for resource in request.resource_spans {
                assert_eq!(
                    text(&resource.resource.unwrap().attributes, "service.name"),
                    "kube-retry-proxy"
                );
                for scope in resource.scope_spans {
                    assert_eq!(scope.scope.unwrap().name, "kube-retry-proxy");
                    spans.extend(scope.spans);
                }
            }
        }
        spans
    }
}

async fn serve(
    listener: TcpListener,
    collecting: CollectorMode,
    got: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if collecting == CollectorMode::Closing {
            continue;
        }
        let got = Arc::clone(&got);
        let answering = service_fn(move |request| answer(request, collecting, Arc::clone(&got)));
        // If the proxy gives up an export, it closes the connection early.
        tokio::spawn(async move {
            drop(
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answering)
                    .await,
            )
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "the proxy's batches are bounded")]
async fn answer(
    request: Request<Incoming>,
    collecting: CollectorMode,
    got: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(Response::default());
    };
    got.lock()
        .unwrap()
        .push((head.uri.path().to_owned(), head.headers, body.to_bytes()));
    let mut response = ExportTraceServiceResponse::default();
    let code = match collecting {
        CollectorMode::Rejecting(spans) => {
            let partial = ExportTracePartialSuccess {
                rejected_spans: spans,
                error_message: "too many".into(),
            };
            response.partial_success = Some(partial).filter(|_| spans > 0);
            StatusCode::OK
        }
        CollectorMode::Refusing(code) => code,
        CollectorMode::Closing | CollectorMode::Silent => std::future::pending().await,
    };
    let mut answer = Response::new(Full::new(response.encode_to_vec().into()));
    *answer.status_mut() = code;
    Ok(answer)
}

/// The value of an attribute as text; empty if the attribute is missing.
pub fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .and_then(|attribute| attribute.value.clone()?.value);
    match found {
        None => String::new(),
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(other) => panic!("{key}: {other:?}"),
    }
}
