//! A proxy made of hyper and nothing else: TLS and HTTP on both sides, streamed bodies, a pool of
//! connections. It has no health checks, limits, metrics or replay, and it forwards headers as they
//! are. What it costs is the floor for any proxy on this stack.
//!
//! `bare PORT UPSTREAM_PORT h1|h2 DIRECTORY`, with `server.pem` and `ca.pem` in the directory.

#![expect(clippy::print_stderr, reason = "a command reports its errors")]

use std::env;
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How many requests share a connection to an HTTP/2 upstream.
const STREAMS: usize = 100;

struct Upstream {
    port: u16,
    tls: TlsConnector,
    is_http2: bool,
    idle: Mutex<Vec<http1::SendRequest<Incoming>>>,
    shared: Mutex<Vec<Shared>>,
}

#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<Incoming>,
    streams: Arc<AtomicUsize>,
}

/// What the body of an answer gives back when it ends.
enum Lease {
    Http1(Arc<Upstream>, Option<http1::SendRequest<Incoming>>),
    Http2(Arc<AtomicUsize>),
}

struct Leased {
    body: Incoming,
    _lease: Lease,
}

fn main() -> ExitCode {
    let served = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("a runtime")
        .and_then(|runtime| runtime.block_on(serve()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [port, upstream_port, protocol, directory] = args
        .try_into()
        .map_err(|_| anyhow!("usage: bare PORT UPSTREAM_PORT h1|h2 DIRECTORY"))?;
    let (server, client) = tls(Path::new(&directory), protocol == "h2")?;
    let upstream = Arc::new(Upstream {
        port: upstream_port.parse()?,
        tls: TlsConnector::from(Arc::new(client)),
        is_http2: protocol == "h2",
        idle: Mutex::default(),
        shared: Mutex::default(),
    });
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse::<u16>()?)).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let (acceptor, upstream) = (acceptor.clone(), Arc::clone(&upstream));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else {
                return;
            };
            let service = service_fn(|request| Upstream::forward(Arc::clone(&upstream), request));
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(250);
            let _closed = builder.serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

fn tls(directory: &Path, http2: bool) -> Result<(ServerConfig, ClientConfig)> {
    let server_pem = directory.join("server.pem");
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&server_pem)?],
            PrivateKeyDer::from_pem_file(&server_pem)?,
        )?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("ca.pem"))?)?;
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![if http2 {
        b"h2".to_vec()
    } else {
        b"http/1.1".to_vec()
    }];
    Ok((server, client))
}

/// rustls's default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Upstream {
    async fn forward(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Leased>> {
        let (response, lease) = if self.is_http2 {
            let Shared {
                mut sender,
                streams,
            } = self.shared().await?;
            let lease = Lease::Http2(streams);
            (sender.send_request(for_http2(request)?).await?, lease)
        } else {
            let mut sender = self.idle().await?;
            let response = sender.send_request(for_http1(request)?).await?;
            (response, Lease::Http1(self, Some(sender)))
        };
        let (mut head, body) = response.into_parts();
        head.version = Version::HTTP_11;
        head.headers.remove(CONNECTION);
        let body = Leased {
            body,
            _lease: lease,
        };
        Ok(Response::from_parts(head, body))
    }

    async fn idle(&self) -> Result<http1::SendRequest<Incoming>> {
        while let Some(mut sender) = self.pop() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let (sender, connection) = http1::handshake(self.connect().await?).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn pop(&self) -> Option<http1::SendRequest<Incoming>> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    async fn shared(&self) -> Result<Shared> {
        if let Some(shared) = self.with_room() {
            return Ok(shared);
        }
        let io = self.connect().await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(100 << 20)
            .handshake(io)
            .await?;
        tokio::spawn(connection);
        let shared = Shared {
            sender,
            streams: Arc::new(AtomicUsize::new(1)),
        };
        let mut all = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(shared.clone());
        Ok(shared)
    }

    fn with_room(&self) -> Option<Shared> {
        let mut all = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|shared| !shared.sender.is_closed());
        let found = all
            .iter()
            .find(|shared| shared.streams.load(Ordering::Relaxed) < STREAMS)?;
        found.streams.fetch_add(1, Ordering::Relaxed);
        Some(found.clone())
    }

    async fn connect(&self) -> Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        Ok(TokioIo::new(self.tls.connect(name, tcp).await?))
    }
}

fn for_http1(mut request: Request<Incoming>) -> Result<Request<Incoming>> {
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::try_from(authority.as_str())?;
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    *request.version_mut() = Version::HTTP_11;
    Ok(request)
}

fn for_http2(mut request: Request<Incoming>) -> Result<Request<Incoming>> {
    request.headers_mut().remove(HOST);
    request.headers_mut().remove(CONNECTION);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(Authority::from_static("localhost"));
    *request.uri_mut() = Uri::from_parts(parts)?;
    *request.version_mut() = Version::HTTP_2;
    Ok(request)
}

impl Body for Leased {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self {
            Self::Http1(upstream, sender) => {
                let mut idle = upstream.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.extend(sender.take());
            }
            Self::Http2(streams) => {
                streams.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}
