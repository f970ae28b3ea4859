//! A scripted apiserver over TLS. Each request becomes an [`Exchange`], which a script answers, or
//! does not, in any way that a server can.
//!
//! What it receives and answers is in its journal, whatever the script does.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Protocol;
use super::http1::{self, Framing, Wire};
use super::http2::{self, Windows};
use super::tls::{Pki, ServerStream};
use crate::journal::{Entry, Journal};

/// What an upstream does with a request.
pub type Script = Arc<dyn Fn(Exchange) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Makes a script of an async function.
pub fn script<F>(run: impl Fn(Exchange) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |exchange| Box::pin(run(exchange)))
}

/// A listening server. It ends when it is dropped.
pub struct Upstream {
    pub address: SocketAddr,
    /// How many TLS handshakes it completed.
    handshakes: Arc<AtomicUsize>,
    /// How many connections it accepted.
    accepted: Arc<AtomicUsize>,
    /// Of so many connections the last one is closed as soon as it is accepted; 0: of none.
    refusing: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

impl Upstream {
    /// Starts one that speaks `protocol`, and runs `script` for each request.
    pub async fn start(
        pki: &Pki,
        protocol: Protocol,
        journal: Arc<Journal>,
        script: Script,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = pki.acceptor(protocol);
        let (handshakes, refusing) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, refuse) = (Arc::clone(&handshakes), Arc::clone(&refusing));
        let accepted = Arc::new(AtomicUsize::new(0));
        let accepting = Arc::clone(&accepted);
        let listening = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (number, every) = (
                    accepting.fetch_add(1, Ordering::Relaxed) + 1,
                    refuse.load(Ordering::Relaxed),
                );
                if every > 0 && number % every == 0 {
                    continue;
                }
                let server = Server {
                    acceptor: acceptor.clone(),
                    script: Arc::clone(&script),
                    journal: Arc::clone(&journal),
                };
                let count = Arc::clone(&count);
                connections.spawn(async move {
                    let _nodelay = tcp.set_nodelay(true);
                    // For a reset, which goes below TLS.
                    let reset = TcpReset::of(&tcp);
                    let Ok(stream) = server.acceptor.accept(tcp).await else {
                        return;
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        server.http2(stream, reset).await;
                    } else {
                        server.http1(stream, reset).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            handshakes,
            accepted,
            refusing,
            listening,
        }
    }

    pub fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// From now on every `every`th connection is closed at once.
    pub fn refuse_every(&self, every: usize) {
        self.refusing.store(every, Ordering::Relaxed);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Makes the close of a connection a reset.
struct TcpReset(Option<TcpStream>);

impl TcpReset {
    fn of(tcp: &TcpStream) -> Self {
        use std::os::fd::AsFd;
        let copy = tcp
            .as_fd()
            .try_clone_to_owned()
            .map(std::net::TcpStream::from);
        Self(copy.and_then(TcpStream::from_std).ok())
    }

    fn arm(&self) {
        if let Some(tcp) = &self.0 {
            let _closed = tcp.set_zero_linger();
        }
    }
}

struct Server {
    acceptor: tokio_rustls::TlsAcceptor,
    script: Script,
    journal: Arc<Journal>,
}

/// What an exchange can tell its HTTP/2 connection to do.
#[derive(Debug)]
enum Order {
    Goaway,
    Abrupt(Reason),
    Close,
    TcpReset,
}

impl Server {
    async fn http1(&self, stream: ServerStream, reset: TcpReset) {
        let mut wire = Wire::new(stream);
        let reset = Arc::new(reset);
        while let Ok(Some((first, headers))) = wire.head().await {
            let mut words = first.split(' ');
            let method = words
                .next()
                .and_then(|method| method.parse().ok())
                .unwrap_or(Method::GET);
            let path = words.next().unwrap_or_default().to_owned();
            let (back, returned) = oneshot::channel();
            let incoming = http1::framing(&headers, false);
            let side = Side::Http1 {
                wire: Some(wire),
                incoming,
                outgoing: None,
                back: Some(back),
                reset: Arc::clone(&reset),
                answered: false,
            };
            (self.script)(self.exchange(method, path, headers, side)).await;
            let Ok(next) = returned.await else { return };
            wire = next;
        }
    }

    async fn http2(&self, stream: ServerStream, reset: TcpReset) {
        let Windows {
            stream: window,
            connection: whole,
        } = Windows {
            stream: 256 << 10,
            connection: 25 << 20,
        };
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(window)
            .initial_connection_window_size(whole)
            .max_concurrent_streams(250);
        builder
            .max_concurrent_reset_streams(10_000)
            .max_pending_accept_reset_streams(10_000)
            .max_header_list_size(4 << 20);
        let Ok(mut http2) = builder.handshake::<_, Bytes>(stream).await else {
            return;
        };
        let (orders, mut ordered) = mpsc::unbounded_channel();
        let mut exchanges = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = http2.accept() => {
                    let Some(Ok((request, respond))) = accepted else { return };
                    let (head, body) = request.into_parts();
                    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
                    let side = Side::Http2 { body, respond, stream: None, orders: orders.clone() };
                    exchanges.spawn((self.script)(self.exchange(head.method, path, head.headers, side)));
                }
                Some(order) = ordered.recv() => match order {
                    Order::Goaway => http2.graceful_shutdown(),
                    Order::Abrupt(reason) => http2.abrupt_shutdown(reason),
                    Order::Close => return,
                    Order::TcpReset => return reset.arm(),
                },
            }
            while exchanges.try_join_next().is_some() {}
        }
    }

    fn exchange(&self, method: Method, path: String, headers: HeaderMap, side: Side) -> Exchange {
        let number = headers
            .get("lab-number")
            .and_then(|number| number.to_str().ok()?.parse().ok());
        let entry = self.journal.received(method.as_str(), &path, number);
        Exchange {
            method,
            path,
            headers,
            entry,
            journal: Arc::clone(&self.journal),
            side,
        }
    }
}

/// How an upstream ends an exchange that it does not finish.
#[derive(Clone, Copy, Debug)]
pub enum BreakOff {
    /// RST_STREAM; over HTTP/1.1 the connection is closed.
    Reset(Reason),
    /// The connection is closed as it stands.
    Close,
    /// The connection is reset.
    TcpReset,
    /// GOAWAY with that reason, then the connection is closed.
    Goaway(Reason),
}

#[expect(
    clippy::large_enum_variant,
    reason = "few of them, and none is moved on a hot path"
)]
enum Side {
    Http1 {
        wire: Option<Wire<ServerStream>>,
        incoming: Framing,
        outgoing: Option<Framing>,
        back: Option<oneshot::Sender<Wire<ServerStream>>>,
        reset: Arc<TcpReset>,
        answered: bool,
    },
    Http2 {
        body: RecvStream,
        respond: SendResponse<Bytes>,
        stream: Option<SendStream<Bytes>>,
        orders: mpsc::UnboundedSender<Order>,
    },
}

/// The other side is gone.
#[derive(Debug)]
pub struct Gone;

/// One request and what is said to it. Dropped without an answer it is broken off.
pub struct Exchange {
    pub method: Method,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
    /// Its place in the journal.
    pub entry: Entry,
    pub journal: Arc<Journal>,
    side: Side,
}

impl Exchange {
    /// The next piece of the request's body; None at its end, Some(Err) where it broke off.
    pub async fn piece(&mut self) -> Option<Result<Bytes, Gone>> {
        match &mut self.side {
            Side::Http1 { wire, incoming, .. } => wire
                .as_mut()?
                .piece(incoming)
                .await
                .map_err(|_| Gone)
                .transpose(),
            Side::Http2 { body, .. } => {
                http2::next(body).await.map(|piece| piece.map_err(|_| Gone))
            }
        }
    }

    /// All of the request's body, which the journal then has, and whether its end came.
    pub async fn body(&mut self) -> (Bytes, bool) {
        let mut all = BytesMut::new();
        let mut whole = loop {
            match self.piece().await {
                Some(Ok(piece)) => all.extend_from_slice(&piece),
                Some(Err(Gone)) => break false,
                None => break true,
            }
        };
        if let Side::Http2 { body, .. } = &mut self.side {
            whole = whole && body.trailers().await.is_ok();
        }
        let body = all.freeze();
        self.journal.read(self.entry, &body, whole);
        (body, whole)
    }

    /// The head of an answer. Without a `content-length` it is chunked over HTTP/1.1.
    pub async fn head(&mut self, status: u16, headers: &[(&str, &str)]) -> Result<(), Gone> {
        self.journal.began(self.entry, status);
        let number = self.entry.to_string();
        let marked: Vec<_> = headers
            .iter()
            .copied()
            .chain([("lab-entry", number.as_str())])
            .collect();
        match &mut self.side {
            Side::Http1 { wire, outgoing, .. } => {
                let mut head = format!("HTTP/1.1 {status} Lab\r\n");
                let length = headers
                    .iter()
                    .find(|(name, _)| *name == "content-length")
                    .and_then(|(_, length)| length.parse().ok());
                for (name, value) in marked {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str(if length.is_some() {
                    "\r\n"
                } else {
                    "transfer-encoding: chunked\r\n\r\n"
                });
                *outgoing = Some(length.map_or(Framing::Chunked, Framing::Length));
                wire.as_mut()
                    .ok_or(Gone)?
                    .write(head.as_bytes())
                    .await
                    .map_err(|_| Gone)
            }
            Side::Http2 {
                respond, stream, ..
            } => {
                let mut answer = Response::builder().status(status);
                for (name, value) in marked {
                    answer = answer.header(name, value);
                }
                *stream = Some(
                    respond
                        .send_response(answer.body(()).unwrap(), false)
                        .map_err(|_| Gone)?,
                );
                Ok(())
            }
        }
    }

    /// A part of the answer's body: one chunk, or as few DATA frames as the windows allow.
    pub async fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        let bytes = bytes.into();
        if !self.path.contains("neighbour") {
            self.journal.moves(bytes.len());
        }
        match &mut self.side {
            Side::Http1 { wire, outgoing, .. } => {
                let wire = wire.as_mut().ok_or(Gone)?;
                let bytes = match outgoing {
                    Some(Framing::Chunked) => {
                        [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"]
                            .concat()
                            .into()
                    }
                    _ => bytes,
                };
                wire.write(&bytes).await.map_err(|_| Gone)
            }
            Side::Http2 { stream, .. } => {
                http2::send_data(stream.as_mut().ok_or(Gone)?, bytes, false)
                    .await
                    .map_err(|_| Gone)
            }
        }
    }

    /// The end of the answer's body.
    pub async fn end(mut self) {
        // Before it leaves: whoever has it may look into the journal at once.
        self.journal.ended(self.entry);
        match &mut self.side {
            Side::Http1 {
                wire,
                incoming,
                outgoing,
                answered,
                ..
            } => {
                if let (Some(wire), Some(Framing::Chunked)) = (wire.as_mut(), outgoing) {
                    *answered = wire.write(b"0\r\n\r\n").await.is_ok();
                } else {
                    *answered = true;
                }
                // What was not read of the request is in the way of the next one.
                *answered = *answered && matches!(incoming, Framing::Done | Framing::Length(0));
            }
            Side::Http2 { stream, .. } => {
                if let Some(stream) = stream {
                    let _gone = stream.send_data(Bytes::new(), true);
                }
            }
        }
    }

    /// A whole answer, with its length.
    pub async fn answer(mut self, status: u16, body: impl Into<Bytes>) {
        let body = body.into();
        let length = body.len().to_string();
        if self
            .head(
                status,
                &[
                    ("content-type", "application/json"),
                    ("content-length", &length),
                ],
            )
            .await
            .is_ok()
            && (body.is_empty() || self.send(body).await.is_ok())
        {
            self.end().await;
        }
    }

    /// Ends it in another way than with an end.
    pub fn break_off(mut self, how: BreakOff) {
        match &mut self.side {
            Side::Http1 { reset, .. } => {
                if matches!(how, BreakOff::TcpReset) {
                    reset.arm();
                }
            }
            Side::Http2 {
                respond,
                stream,
                orders,
                ..
            } => {
                let order = match how {
                    BreakOff::Reset(reason) => {
                        match stream {
                            Some(stream) => stream.send_reset(reason),
                            None => respond.send_reset(reason),
                        }
                        return;
                    }
                    BreakOff::Close => Order::Close,
                    BreakOff::TcpReset => Order::TcpReset,
                    BreakOff::Goaway(Reason::NO_ERROR) => Order::Goaway,
                    BreakOff::Goaway(reason) => Order::Abrupt(reason),
                };
                let _closed_already = orders.send(order);
            }
        }
    }

    /// An answer that ends its HTTP/1.1 connection without having said so.
    pub async fn answer_and_close(mut self, status: u16, body: impl Into<Bytes>) {
        if let Side::Http1 { back, .. } = &mut self.side {
            *back = None;
        }
        self.answer(status, body).await;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Side::Http1 {
            wire,
            back,
            answered: true,
            ..
        } = &mut self.side
            && let (Some(wire), Some(back)) = (wire.take(), back.take())
        {
            let _closed = back.send(wire);
        }
    }
}
