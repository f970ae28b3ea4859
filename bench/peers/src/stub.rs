//! A server that answers from memory, in place of kube-apiserver.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The pod that clients send, 3 KiB.
pub(crate) const POD: Bytes = Bytes::from_static(include_bytes!("../../overhead/pod.json"));
/// What the stub answers to a create or a get.
const ANSWER_BYTES: usize = 2560;
/// What it answers to a list.
pub(crate) const LIST_BYTES: usize = 5 << 20;
/// How many conflicts each create with [`CONFLICTS`] meets.
const CONFLICTS_EACH: u32 = 2;
/// Names a create that is to meet conflicts first.
pub(crate) const CONFLICTS: HeaderName = HeaderName::from_static("x-conflicts");
const CONFLICT: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Operation cannot be fulfilled on resourcequotas \"compute-quota\": the object has been modified; please apply your changes to the latest version and try again","reason":"Conflict","details":{"name":"compute-quota","kind":"resourcequotas"},"code":409}
"#;
/// The only event of a watch. nginx holds back the head of an answer over HTTP/2 until data follow.
const BOOKMARK: &[u8] = b"{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"1\"}}}\n";
/// The paths of the answers that are not small.
pub(crate) const LIST: &str = "/api/v1/pods";
pub(crate) const WATCH: &str = "/api/v1/pods?watch=true";

type Answer = Response<Either<Full<Bytes>, Channel<Bytes>>>;

struct Stub {
    headers: HeaderMap,
    small: Bytes,
    list: Bytes,
    /// How often each create with [`CONFLICTS`] came.
    seen: RefCell<HashMap<HeaderValue, u32>>,
}

/// Serves on a port of its own, in the local tasks of this thread.
pub(crate) async fn start(tls: Arc<ServerConfig>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let stub = Rc::new(Stub {
        headers: headers(),
        small: object(ANSWER_BYTES),
        list: object(LIST_BYTES),
        seen: RefCell::default(),
    });
    tokio::task::spawn_local(async move {
        let acceptor = TlsAcceptor::from(tls);
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                // Out of file descriptors for the moment.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let (acceptor, stub) = (acceptor.clone(), Rc::clone(&stub));
            tokio::task::spawn_local(async move {
                let _nodelay = tcp.set_nodelay(true);
                let Ok(tls) = acceptor.accept(tcp).await else {
                    return;
                };
                let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(move |request| answer(Rc::clone(&stub), request));
                let io = TokioIo::new(tls);
                // A contestant closes its connections when it ends.
                if is_http2 {
                    let _closed = http2::Builder::new(LocalExecutor)
                        .timer(TokioTimer::new())
                        .max_concurrent_streams(250)
                        .serve_connection(io, service)
                        .await;
                } else {
                    let _closed = http1::Builder::new().serve_connection(io, service).await;
                }
            });
        }
    });
    Ok(address)
}

async fn answer(stub: Rc<Stub>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, mut body) = request.into_parts();
    while let Some(Ok(_)) = body.frame().await {}
    let (code, body) = if head.method == Method::POST {
        match head.headers.get(CONFLICTS) {
            Some(name) if stub.conflicts(name) => (
                StatusCode::CONFLICT,
                Full::new(Bytes::from_static(CONFLICT.as_bytes())),
            ),
            _ => (StatusCode::CREATED, Full::new(stub.small.clone())),
        }
    } else if head
        .uri
        .query()
        .is_some_and(|query| query.contains("watch=true"))
    {
        let (mut sender, body) = Channel::new(1);
        tokio::task::spawn_local(async move {
            // The client may have left already.
            let _sent = sender.send_data(Bytes::from_static(BOOKMARK)).await;
            std::future::pending::<()>().await;
        });
        return Ok(stub.response(StatusCode::OK, Either::Right(body)));
    } else if head.uri.path() == LIST {
        (StatusCode::OK, Full::new(stub.list.clone()))
    } else {
        (StatusCode::OK, Full::new(stub.small.clone()))
    };
    Ok(stub.response(code, Either::Left(body)))
}

impl Stub {
    fn response(&self, code: StatusCode, body: Either<Full<Bytes>, Channel<Bytes>>) -> Answer {
        let mut response = Response::new(body);
        *response.status_mut() = code;
        *response.headers_mut() = self.headers.clone();
        response
    }

    /// Whether this create meets a conflict now.
    fn conflicts(&self, name: &HeaderValue) -> bool {
        let mut seen = self.seen.borrow_mut();
        let times = seen.entry(name.clone()).or_default();
        *times += 1;
        *times <= CONFLICTS_EACH
    }
}

/// Those of kube-apiserver.
fn headers() -> HeaderMap {
    [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-cache, private"),
        (
            HeaderName::from_static("audit-id"),
            "5f3c3a0e-8e6d-4d2b-9f57-0d6c2a7e1b44",
        ),
        (
            HeaderName::from_static("x-kubernetes-pf-flowschema-uid"),
            "0f1d9c0e-6c55-4b76-8f21-5d0f5b6f1a11",
        ),
        (
            HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid"),
            "6d2a7c34-16c0-4d0f-9a2e-93f1b1c0de22",
        ),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
    .into_iter()
    .collect()
}

/// An object of this size.
fn object(bytes: usize) -> Bytes {
    let head = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","annotations":{"text":""#;
    let tail = "\"}}}\n";
    let filling = "abcdefghijklmnopqrstuvwxyz012345 ".repeat(bytes / 33 + 1);
    Bytes::from(format!(
        "{head}{}{tail}",
        &filling[..bytes - head.len() - tail.len()]
    ))
}

/// Runs the tasks of HTTP/2 connections on this thread.
#[derive(Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
