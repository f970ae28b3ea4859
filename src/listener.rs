//! The downstream side: accepts a connection, does the TLS handshake, and serves HTTP/1.1 or HTTP/2
//! as ALPN chose. Each connection is a task.
//!
//! There are limits on the number of connections, of all clients and of one address, on the time of
//! a handshake, on the time without a request, and on the size of a request's head. There is no
//! limit on the time of a response.

mod head;
mod refusal;
mod socket;
mod turns;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::ACCEPT;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::body::{Body, ConnectionShare};
use crate::config;
use crate::connections::socket::cork::corked;
use crate::connections::socket::read_ahead::ReadAhead;
use crate::connections::{self, ConnectionLimits, Connections, Place, RequestInFlight};
use crate::drain::{Stage, Watcher};
use crate::error::ProxyError;
use crate::identity::ClientCertificate;
use crate::metrics::{GaugeGuard, Metrics, Port, RouteLabel};
use crate::proxy::{Peer, Proxy};
use crate::status::Encoding;
use crate::tls;
use crate::upstream::Lease;
use head::HeadLimit;
use socket::{ReadAllowance, Socket};
pub use turns::Turns;

/// The value of kube-apiserver's `http.Server.ReadHeaderTimeout`, which also limits the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(32);

/// Go's default. client-go opens another connection when it needs more streams.
const MAX_STREAMS: u32 = 250;

/// How many bytes a client may send ahead on one HTTP/2 stream. The connection's window is the sum
/// of the windows of its streams, so that an upload that the apiserver does not read cannot stop
/// the other streams.
const STREAM_WINDOW: u32 = 64 << 10;

/// How many bytes may wait to be sent on one HTTP/2 stream to a client that does not read.
const MAX_SEND_BUFFER: usize = 64 << 10;
/// How many requests one read of an HTTP/2 connection may bring that are already cancelled. A
/// client that exits cancels all its requests, and its library may send and cancel as many more
/// that waited for a stream. Beyond this the connection is a flood (CVE-2023-44487) and is closed.
/// A slower flood costs no more than other requests, because the proxy handles what it has read
/// before it reads more.
const MAX_UNSEEN_RESETS: usize = 2 * MAX_STREAMS as usize;

/// If a connection has at least this many requests in flight, the next one may be part of a flood.
const CROWD: usize = 32;

/// How long a connection may take to close after the proxy has begun a graceful shutdown of it. The
/// GOAWAY of HTTP/2 needs a round trip.
const GRACEFUL_CLOSE: Duration = Duration::from_secs(2);

/// How often to log that connections cannot be accepted.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// The port for clients, with the parts that all connections share.
pub struct Listener {
    /// Answers the requests.
    pub proxy: Arc<Proxy>,
    /// The serving certificate and ALPN.
    pub tls: Arc<ServerConfig>,
    /// The turns of TLS handshakes.
    pub turns: Turns,
    /// The limits for clients.
    pub limits: ListenerLimits,
    /// Counts connections and refused requests.
    pub metrics: Arc<Metrics>,
    /// Says when to stop.
    pub drain: Watcher,
    /// Every connection is one task.
    pub connections: TaskTracker,
}

/// The limits for clients.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// How long a request's head may take, and how long a connection may be idle.
    idle: Duration,
    head: HeadLimit,
    connections: ConnectionLimits,
}

impl From<&config::ServingConfig> for ListenerLimits {
    fn from(serving: &config::ServingConfig) -> Self {
        let max = serving.max_connections.size();
        let per_address = serving
            .max_connections_per_address
            .map_or(max - max / 5, config::ConnectionCount::size);
        Self {
            idle: serving.head_timeout.get(),
            head: HeadLimit::of(serving.max_head),
            connections: ConnectionLimits {
                max,
                per_address,
                close_busy: false,
                requests: serving.max_requests.size(),
            },
        }
    }
}

impl Listener {
    /// Accepts connections until the drain begins. The open connections remain as tasks of
    /// `connections`.
    pub async fn serve(self, socket: TcpListener) {
        let places = Connections::new(Port::Serving, self.limits.connections, &self.metrics);
        let listener = Arc::new(self);
        let draining = listener.drain.clone();
        let mut logged = None;
        loop {
            let next = async {
                let (stream, peer) = accept(&socket, &mut logged).await;
                (stream, peer, places.admit(peer.ip().to_canonical()).await)
            };
            let (stream, peer, place) = tokio::select! {
                next = next => next,
                () = draining.reached(Stage::Draining) => return,
            };
            let Some(place) = place else {
                debug!(%peer, "Refused a connection: its address already has its share");
                continue;
            };
            let open = listener.metrics.downstream_connection();
            listener.connections.spawn(Arc::clone(&listener).connection(
                stream,
                peer,
                Arc::new(place),
                open,
            ));
        }
    }

    async fn connection(
        self: Arc<Self>,
        tcp: TcpStream,
        peer: SocketAddr,
        place: Arc<Place>,
        open: GaugeGuard,
    ) {
        let handshake = TlsAcceptor::from(Arc::clone(&self.tls)).accept(ReadAhead::new(tcp));
        // In a box, since the task would otherwise keep room for it, twice.
        let handshake = timeout(HANDSHAKE_TIMEOUT, self.turns.take(Box::pin(handshake)));
        let stream = tokio::select! {
            done = handshake => match done {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => return debug!(%peer, "TLS handshake timed out"),
            },
            () = place.told_to_close() => return debug!(%peer, "Closed a connection during the TLS handshake to make room"),
            () = self.drain.reached(Stage::Draining) => return,
        };
        let session = stream.get_ref().1;
        let peer = Peer {
            ip: peer.ip(),
            forwarded_for: peer.ip().into(),
            certificate: session
                .peer_certificates()
                .map(|chain| Arc::new(ClientCertificate::new(chain.into()))),
            buffered: ConnectionShare::default(),
        };
        let http2 = session.alpn_protocol() == Some(tls::H2);
        let allowance = ReadAllowance::default();
        let socket = Socket::new(stream, allowance.clone(), Arc::clone(&place), open);
        let service = service_fn(|request| {
            let (listener, peer, in_flight) = (Arc::clone(&self), peer.clone(), place.request());
            // hyper and tokio move this future several times before it first runs, and an HTTP/1.1
            // connection keeps room for it.
            Box::pin(
                async move { Ok::<_, Infallible>(listener.answer(peer, in_flight, request).await) },
            )
        });
        let ended = if http2 {
            let (socket, cork) = corked(socket);
            let connection = self.http2().serve_connection(TokioIo::new(socket), service);
            // In boxes, since the task is otherwise as large as the larger of the two, twice.
            self.attend(
                Box::pin(connection),
                |connection, cx| cork.poll(cx, |cx| connection.poll(cx)),
                http2::Connection::graceful_shutdown,
                &allowance,
                &place,
            )
            .await
        } else {
            let socket = socket.refusing(self.limits.head, &self.metrics);
            let connection = self
                .http1()
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades();
            let ended = self
                .attend(
                    Box::pin(connection),
                    Future::poll,
                    http1::UpgradeableConnection::graceful_shutdown,
                    &allowance,
                    &place,
                )
                .await;
            // If the socket is still open, it has become a tunnel.
            allowance.lift();
            place.keep();
            ended
        };
        if let Err(error) = ended {
            debug!(ip = %peer.ip, error = %crate::telemetry::chain(&error), "Connection ended");
        }
    }

    /// Runs a connection to its end. Shuts it down when it is idle for too long, when its place is
    /// needed, or when the proxy stops. A request that crosses the shutdown is still answered.
    async fn attend<C>(
        &self,
        mut connection: Pin<Box<C>>,
        poll: impl Fn(Pin<&mut C>, &mut Context<'_>) -> Poll<C::Output>,
        shut_down: impl FnOnce(Pin<&mut C>),
        allowance: &ReadAllowance,
        place: &Place,
    ) -> Result<(), hyper::Error>
    where
        C: Future<Output = Result<(), hyper::Error>>,
    {
        let poll = |connection: Pin<&mut C>, cx: &mut Context<'_>| {
            allowance.renew();
            poll(connection, cx)
        };
        loop {
            tokio::select! {
                ended = poll_fn(|cx| poll(connection.as_mut(), cx)) => return ended,
                () = place.idle_for(self.limits.idle) => break,
                () = place.told_to_close() => match (place.is_busy(), place.has_served()) {
                    (true, _) => place.stay(),
                    (false, true) => break,
                    // No request ever came, so no request can cross a graceful shutdown.
                    (false, false) => return Ok(()),
                },
                () = self.drain.reached(Stage::Draining) => break,
            }
        }
        shut_down(connection.as_mut());
        loop {
            tokio::select! {
                ended = poll_fn(|cx| poll(connection.as_mut(), cx)) => return ended,
                () = sleep(GRACEFUL_CLOSE), if self.drain.stage() == Stage::Serving => {
                    if !place.is_busy() {
                        return Ok(());
                    }
                    place.stay();
                }
                () = self.drain.reached(Stage::Cut) => {
                    debug!("A connection was cut at the deadline of the drain");
                    return Ok(());
                }
            }
        }
    }

    /// Answers one request. The request is in flight until the body of the response has been sent
    /// or dropped.
    async fn answer(
        &self,
        peer: Peer,
        in_flight: RequestInFlight,
        request: Request<Incoming>,
    ) -> Response<Body<(Option<Lease>, RequestInFlight)>> {
        if in_flight.others() >= CROWD {
            // hyper notices a cancelled request when the request has to wait. So a cancelled
            // request of a flood ends here and costs nothing more.
            tokio::task::yield_now().await;
        }
        let refused = if in_flight.exceeds() {
            Err(ProxyError::TooManyRequests)
        } else {
            self.limits.head.check(&request)
        };
        let answer = match refused {
            Ok(()) => self.proxy.handle(peer, request).await,
            Err(error) => {
                let code = error.code(request.method());
                self.metrics
                    .request(RouteLabel::Call, code.as_u16(), Duration::ZERO);
                error.into_response(
                    request.method(),
                    Encoding::of_accept(request.headers().get(ACCEPT)),
                )
            }
        };
        answer.map(|mut body| {
            let lease = body.take_guard();
            body.guarded((lease, in_flight))
        })
    }

    fn http1(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            // `attend` limits the time.
            .header_read_timeout(None)
            .max_header_size(self.limits.head.bytes())
            .max_buf_size(self.limits.head.buffer())
            .max_headers(self.limits.head.lines())
            .auto_date_header(false);
        http
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(MAX_STREAMS * STREAM_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
            .max_header_list_size(self.limits.head.list())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(15))
            .auto_date_header(false);
        http
    }
}

/// Accepts the next connection. `logged` is when a failure was last logged.
async fn accept(socket: &TcpListener, logged: &mut Option<Instant>) -> (TcpStream, SocketAddr) {
    let mut pause = Duration::from_millis(5);
    loop {
        match connections::socket::accept(socket).await {
            Ok(accepted) => return accepted,
            Err(error) if concerns_one_connection(&error) => {
                debug!(%error, "A connection failed before it was accepted")
            }
            Err(error) => {
                // The process is probably out of file descriptors. Trying again at once would spin.
                if logged.is_none_or(|then| then.elapsed() > LOG_AGAIN) {
                    warn!(%error, "Cannot accept connections, trying again");
                    *logged = Some(Instant::now());
                }
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput
    )
}
