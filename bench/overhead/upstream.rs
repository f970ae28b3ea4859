//! A minimal replacement for kube-apiserver: TLS, both protocols, and answers from memory. It has
//! its own thread.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use model_control_plane::certificate;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;

use crate::load::Server;

/// Identifies a watch, so that the benchmark can send events on it.
pub(crate) const WATCH_ID: HeaderName = HeaderName::from_static("x-watch");

/// A pod of 3 KiB, about the size of one step of a workflow.
pub(crate) const POD: Bytes = Bytes::from_static(include_bytes!("pod.json"));
const LEASE: Bytes = Bytes::from_static(include_bytes!("lease.json"));

/// A running upstream. It ends with the process.
pub(crate) struct Upstream {
    server: Server,
    watches: Arc<Watches>,
}

/// The sending side of one watch.
pub(crate) struct Watch(mpsc::UnboundedSender<Bytes>);

#[derive(Default)]
struct Watches {
    next: AtomicU64,
    expected: Mutex<HashMap<u64, oneshot::Sender<Watch>>>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let made = certificate::make(true).expect("a certificate");
        let acceptor = TlsAcceptor::from(made.server);
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a socket that does not block");
        let server = Server {
            address: listener.local_addr().expect("an address"),
            ca_pem: made.ca_pem,
        };
        let watches = Arc::<Watches>::default();
        let serving = serve(listener, acceptor, Arc::clone(&watches));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(serving);
        });
        Self { server, watches }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// An id for [`WATCH_ID`], and the sending side of the watch that comes with it.
    pub(crate) fn expect_watch(&self) -> (u64, oneshot::Receiver<Watch>) {
        let id = self.watches.next.fetch_add(1, Ordering::Relaxed);
        let (opened, watching) = oneshot::channel();
        self.watches
            .expected
            .lock()
            .expect("no thread has panicked")
            .insert(id, opened);
        (id, watching)
    }
}

impl Watch {
    /// Sends one event, a pod that changed; returns its length.
    pub(crate) fn tell(&self) -> usize {
        self.0.send(POD).expect("the watch is open");
        POD.len()
    }
}

async fn serve(listener: std::net::TcpListener, acceptor: TlsAcceptor, watches: Arc<Watches>) {
    let listener = TcpListener::from_std(listener).expect("a socket for the runtime");
    loop {
        let (tcp, _) = listener.accept().await.expect("a connection");
        tcp.set_nodelay(true).expect("a TCP socket");
        let (acceptor, watches) = (acceptor.clone(), Arc::clone(&watches));
        tokio::spawn(async move {
            let tls = acceptor.accept(tcp).await.expect("a TLS handshake");
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(100);
            let service = service_fn(|request| answer(request, Arc::clone(&watches)));
            // The client disconnects at the end of its scenario.
            let _ended = builder.serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    watches: Arc<Watches>,
) -> Result<Response<Either<Full<Bytes>, Events>>, Infallible> {
    let watch = request
        .headers()
        .get(WATCH_ID)
        .and_then(|id| id.to_str().ok()?.parse().ok());
    let created = request.method() == Method::POST;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame.expect("the request is whole");
    }
    let body = match watch.and_then(|id: u64| {
        watches
            .expected
            .lock()
            .expect("no thread has panicked")
            .remove(&id)
    }) {
        Some(opened) => {
            let (sender, events) = mpsc::unbounded_channel();
            // Sending fails if the client has left, which does not matter.
            let _sent = opened.send(Watch(sender));
            Either::Right(Events(events))
        }
        None => Either::Left(Full::new(if created { POD } else { LEASE })),
    };
    let mut response = Response::new(body);
    *response.status_mut() = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        "audit-id",
        HeaderValue::from_static("5f3c3a0e-8e6d-4d2b-9f57-0d6c2a7e1b44"),
    );
    headers.insert(
        "cache-control",
        HeaderValue::from_static("no-cache, private"),
    );
    headers.insert(
        "x-kubernetes-pf-flowschema-uid",
        HeaderValue::from_static("0f1d9c0e-6c55-4b76-8f21-5d0f5b6f1a11"),
    );
    headers.insert(
        "x-kubernetes-pf-prioritylevel-uid",
        HeaderValue::from_static("6d2a7c34-16c0-4d0f-9a2e-93f1b1c0de22"),
    );
    Ok(response)
}

/// The body of a watch.
struct Events(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|event| event.map(|data| Ok(Frame::data(data))))
    }
}
