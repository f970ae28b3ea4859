//! A scripted apiserver over TLS. Each request becomes an [`Exchange`], which a script answers, or
//! does not, in any way that a server can.
//!
//! What it receives and answers is in its journal, whatever the script does.

mod exchange;

use exchange::Side;
pub use exchange::{BreakOff, Exchange, Gone};

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Method};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Protocol;
use super::http1::{self, Wire};
use super::http2::Windows;
use super::tls::{Pki, ServerStream};
use crate::journal::Journal;

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
