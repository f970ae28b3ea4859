//! The downstream side: accept, TLS handshake, then HTTP/1.1 or HTTP/2 as ALPN chose, one task a
//! connection.
//!
//! Bounded: connections, and those of an address; time for a handshake, time without a request;
//! size of a request's head. Never bounded: the time of an answer.

mod head;
mod refusal;
mod socket;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
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
use crate::connections::{self, Connections, Place, UnderWay};
use crate::drain::{Stage, Watcher};
use crate::error::ProxyError;
use crate::metrics::{GaugeGuard, Metrics, Port, RouteLabel};
use crate::proxy::{Peer, Proxy};
use crate::status::Encoding;
use crate::tls;
use crate::upstream::Lease;
use head::Head;
use socket::{Socket, Turn};

/// As kube-apiserver: `http.Server.ReadHeaderTimeout` is 32 s there, which bounds the handshake
/// too.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(32);

/// Go's default; client-go opens a further connection by itself.
const MAX_STREAMS: u32 = 250;

/// How many bytes a client may send ahead on one HTTP/2 stream. The connection's window is that of
/// all its streams, so that an upload which the apiserver does not read cannot stop the others.
const STREAM_WINDOW: u32 = 64 << 10;

/// What may wait to be sent on one HTTP/2 stream, to a client that does not read.
const MAX_SEND_BUFFER: usize = 64 << 10;
/// Requests that were cancelled before anybody looked at them, in one turn of an HTTP/2 connection:
/// a client that ends cancels all that it has, and its library may send and cancel as many more
/// that waited for a stream. A connection that floods (CVE-2023-44487) ends here; one that floods
/// slower does the work of any other, for what is read in a turn is looked at before more is read.
const MAX_UNSEEN_RESETS: usize = 2 * MAX_STREAMS as usize;

/// From how many requests under way on its connection on a request may be one of a flood.
const CROWD: usize = 32;

/// How long a connection may take to leave when it has been told to: the farewell of HTTP/2
/// (GOAWAY) needs a round trip.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often the log is told that connections cannot be accepted.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What every connection shares.
pub struct Listener {
    /// The path of a request.
    pub proxy: Arc<Proxy>,
    /// The serving certificate and ALPN.
    pub tls: Arc<ServerConfig>,
    /// What a client may have.
    pub limits: Limits,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
    /// When to stop.
    pub drain: Watcher,
    /// Every connection is a task of it.
    pub connections: TaskTracker,
}

/// What a client may have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a request's head, and for a connection without a request.
    idle: Duration,
    head: Head,
    connections: connections::Limits,
}

impl From<&config::Serving> for Limits {
    fn from(serving: &config::Serving) -> Self {
        let max = serving.max_connections.size();
        let per_address = serving
            .max_connections_per_address
            .map_or(max - max / 5, config::Connections::size);
        Self {
            idle: serving.head_timeout.get(),
            head: Head::of(serving.max_head),
            connections: connections::Limits {
                max,
                per_address,
                answered_too: false,
                requests: serving.max_requests.size(),
            },
        }
    }
}

impl Listener {
    /// Accepts connections until the drain begins; those that are open are then tasks of
    /// `connections`.
    pub async fn serve(self, socket: TcpListener) {
        let places = Connections::new(Port::Serving, self.limits.connections, &self.metrics);
        let listener = Arc::new(self);
        let draining = listener.drain.clone();
        let mut told = None;
        loop {
            let next = async {
                let (stream, peer) = accept(&socket, &mut told).await;
                (stream, peer, places.admit(peer.ip().to_canonical()).await)
            };
            let (stream, peer, place) = tokio::select! {
                next = next => next,
                () = draining.reached(Stage::Draining) => return,
            };
            let Some(place) = place else {
                debug!(%peer, "Refused: its address has its share of the connections already");
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
        let handshake = timeout(
            HANDSHAKE_TIMEOUT,
            TlsAcceptor::from(Arc::clone(&self.tls)).accept(tcp),
        );
        let stream = tokio::select! {
            done = handshake => match done {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => return debug!(%peer, "TLS handshake took too long"),
            },
            () = place.told_to_leave() => return debug!(%peer, "Its place was needed before it had finished the TLS handshake"),
            () = self.drain.reached(Stage::Draining) => return,
        };
        let session = stream.get_ref().1;
        let peer = Peer {
            ip: peer.ip(),
            certificate: session.peer_certificates().is_some(),
            buffered: ConnectionShare::default(),
        };
        let http2 = session.alpn_protocol() == Some(tls::H2);
        let turn = Turn::default();
        let socket = Socket::new(stream, turn.clone(), Arc::clone(&place), open);
        let service = service_fn(|request| {
            let (listener, peer, under_way) = (Arc::clone(&self), peer.clone(), place.request());
            async move { Ok::<_, Infallible>(listener.answer(peer, under_way, request).await) }
        });
        let ended = if http2 {
            let connection = self.http2().serve_connection(TokioIo::new(socket), service);
            self.attend(
                connection,
                http2::Connection::graceful_shutdown,
                &turn,
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
                    connection,
                    http1::UpgradeableConnection::graceful_shutdown,
                    &turn,
                    &place,
                )
                .await;
            // If there is still a socket, it has become a tunnel.
            turn.end();
            place.keep();
            ended
        };
        if let Err(error) = ended {
            debug!(ip = %peer.ip, error = %crate::telemetry::chain(&error), "Connection ended");
        }
    }

    /// Runs a connection to its end, or ends it: when it was without a request for too long, when
    /// its place is needed, when the proxy stops. A request that crosses the farewell is still
    /// answered.
    async fn attend<C, F>(
        &self,
        connection: C,
        farewell: F,
        turn: &Turn,
        place: &Place,
    ) -> Result<(), hyper::Error>
    where
        C: Future<Output = Result<(), hyper::Error>>,
        F: FnOnce(Pin<&mut C>),
    {
        let mut connection = std::pin::pin!(connection);
        let poll = |connection: Pin<&mut C>, cx: &mut Context<'_>| {
            turn.begin();
            connection.poll(cx)
        };
        loop {
            tokio::select! {
                ended = poll_fn(|cx| poll(connection.as_mut(), cx)) => return ended,
                () = place.idle_for(self.limits.idle) => break,
                () = place.told_to_leave() => match (place.is_busy(), place.was_asked()) {
                    (true, _) => place.stay(),
                    (false, true) => break,
                    // It has waited for its first request longer than any other for one: there is nothing to bid farewell to.
                    (false, false) => return Ok(()),
                },
                () = self.drain.reached(Stage::Draining) => break,
            }
        }
        farewell(connection.as_mut());
        loop {
            tokio::select! {
                ended = poll_fn(|cx| poll(connection.as_mut(), cx)) => return ended,
                () = sleep(FAREWELL), if self.drain.stage() == Stage::Serving => {
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

    /// Answers one request. It is under way until the body of its answer has been taken, or is
    /// dropped.
    async fn answer(
        &self,
        peer: Peer,
        under_way: UnderWay,
        request: Request<Incoming>,
    ) -> Response<Body<(Option<Lease>, UnderWay)>> {
        if under_way.others() >= CROWD {
            // hyper looks whether a request has been cancelled when it has to wait: one of a flood
            // has been, and costs nothing more.
            tokio::task::yield_now().await;
        }
        let refused = if under_way.exceeds() {
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
            body.guarded((lease, under_way))
        })
    }

    fn http1(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            // `attend` keeps the time.
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

/// The next connection. `told` is when the log was last told that there is none to be had.
async fn accept(socket: &TcpListener, told: &mut Option<Instant>) -> (TcpStream, SocketAddr) {
    let mut pause = Duration::from_millis(5);
    loop {
        match connections::socket::accept(socket).await {
            Ok(accepted) => return accepted,
            Err(error) if of_one_connection(&error) => {
                debug!(%error, "A connection failed before it was accepted")
            }
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only spin.
                if told.is_none_or(|then| then.elapsed() > TELL_AGAIN) {
                    warn!(%error, "Cannot accept connections, trying again");
                    *told = Some(Instant::now());
                }
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput
    )
}
