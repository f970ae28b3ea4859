//! The downstream side: accept, TLS handshake, then HTTP/1.1 or HTTP/2 as ALPN chose, one task a connection.
//!
//! Bounded: connections, time for a handshake, time for a request's head, size of its headers. Never bounded: the time of an answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::body::ConnectionShare;
use crate::drain::{Stage, Watcher};
use crate::metrics::Metrics;
use crate::proxy::{Peer, Proxy};

/// As kube-apiserver: `http.Server.ReadHeaderTimeout` is 32 s there, which bounds the handshake too.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(32);

/// kube-apiserver accepts 1 MiB of headers.
const MAX_HEADER_BYTES: u32 = 1 << 20;

/// Go's default; client-go opens a further connection by itself.
const MAX_STREAMS: u32 = 250;

/// How many bytes a client may send ahead on one HTTP/2 stream. The connection's window is that of all its streams, so that an upload which
/// the apiserver does not read cannot stop the others.
const STREAM_WINDOW: u32 = 64 << 10;

/// What may wait to be sent on one HTTP/2 stream, to a client that does not read.
const MAX_SEND_BUFFER: usize = 64 << 10;

/// What every connection shares.
pub struct Listener {
    /// The path of a request.
    pub proxy: Arc<Proxy>,
    /// The serving certificate and ALPN.
    pub tls: Arc<ServerConfig>,
    /// For a request's head. hyper runs it on an idle keep-alive connection too.
    pub head_timeout: Duration,
    /// Connections open at the same time; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
    /// When to stop.
    pub drain: Watcher,
    /// Every connection is a task of it.
    pub connections: TaskTracker,
}

impl Listener {
    /// Accepts connections until the drain begins; those that are open are then tasks of `connections`.
    pub async fn serve(self, socket: TcpListener) {
        let listener = Arc::new(self);
        let permits = Arc::new(Semaphore::new(listener.max_connections));
        let http = Arc::new(http(listener.head_timeout));
        let draining = listener.drain.clone();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&socket, &permits) => accepted,
                () = draining.reached(Stage::Draining) => return,
            };
            let Some((stream, peer, permit)) = accepted else { return };
            let (listener, http) = (Arc::clone(&listener), Arc::clone(&http));
            let connections = listener.connections.clone();
            connections.spawn(async move {
                let _open = listener.metrics.downstream_connection();
                listener.connection(stream, peer, &http).await;
                drop(permit);
            });
        }
    }

    async fn connection(&self, tcp: TcpStream, peer: SocketAddr, http: &auto::Builder<TokioExecutor>) {
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(Arc::clone(&self.tls)).accept(tcp));
        let tls = tokio::select! {
            done = handshake => match done {
                Ok(Ok(tls)) => tls,
                Ok(Err(error)) => return debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => return debug!(%peer, "TLS handshake took too long"),
            },
            () = self.drain.reached(Stage::Draining) => return,
        };
        let peer = Peer { ip: peer.ip(), certificate: tls.get_ref().1.peer_certificates().is_some(), buffered: ConnectionShare::default() };
        let spoken = AtomicBool::new(false);
        let service = service_fn(|request| {
            spoken.store(true, Ordering::Relaxed);
            let (proxy, peer) = (Arc::clone(&self.proxy), peer.clone());
            async move { Ok::<_, std::convert::Infallible>(proxy.handle(peer, request).await) }
        });
        let mut connection = std::pin::pin!(http.serve_connection_with_upgrades(TokioIo::new(tls), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = silent(&spoken, self.head_timeout) => return debug!(ip = %peer.ip, "No request in time"),
            () = self.drain.reached(Stage::Draining) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.drain.reached(Stage::Cut) => return debug!(ip = %peer.ip, "Connection cut at the deadline of the drain"),
                }
            }
        };
        if let Err(error) = ended {
            debug!(ip = %peer.ip, error = %crate::telemetry::chain(&*error), "Connection ended");
        }
    }
}

/// The next connection, when there is room for one. None when the semaphore is closed, which nobody does.
async fn accept(socket: &TcpListener, permits: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    let mut pause = Duration::from_millis(5);
    loop {
        match socket.accept().await.and_then(|(stream, peer)| stream.set_nodelay(true).map(|()| (stream, peer))) {
            Ok((stream, peer)) => return Some((stream, peer, permit)),
            Err(error) if of_one_connection(&error) => debug!(%error, "A connection failed before it was accepted"),
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only spin.
                warn!(%error, ?pause, "Cannot accept connections, pausing");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput)
}

fn http(head_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEADER_BYTES as usize)
        .max_headers(1000)
        .auto_date_header(false);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(MAX_STREAMS * STREAM_WINDOW)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15))
        .auto_date_header(false);
    http
}

/// Returns when a connection has not brought one request in time. hyper has no bound of its own before it knows the protocol.
async fn silent(spoken: &AtomicBool, head_timeout: Duration) {
    tokio::time::sleep(head_timeout).await;
    if spoken.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}
