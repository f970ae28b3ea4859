//! The sockets of one apiserver: accepts connections, speaks TLS with HTTP/1.1 or HTTP/2, and
//! applies the faults that concern connections.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::apiserver::{Apiserver, Connection};
use super::tasks::Tasks;

/// `http.Server.MaxHeaderBytes`; kube-apiserver uses Go's default.
const MAX_HEADER_BYTES: u32 = 1 << 20;
/// Go only limits the bytes; hyper needs a limit for the number of headers too.
const MAX_HEADERS: usize = 10_000;

/// The settings of all connections.
#[derive(Clone)]
pub(super) struct Serving {
    /// Terminates TLS.
    pub(super) tls: TlsAcceptor,
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub(super) max_streams: u32,
    /// The idle time after which the server closes a connection, as Go does.
    pub(super) idle_timeout: Duration,
}

/// Binds a free port of the loopback interface.
pub(super) async fn bind() -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

/// Binds listeners for `count` servers. Each has a free port of 127.0.0.1, or each has the same
/// port of its own address.
pub(super) async fn bind_all(
    count: usize,
    own_addresses: bool,
) -> std::io::Result<Vec<TcpListener>> {
    if own_addresses {
        return bind_one_port(count).await;
    }
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(bind().await?);
    }
    Ok(listeners)
}

/// A port that is free on 127.0.0.1 can be in use on one of the other addresses.
async fn bind_one_port(count: usize) -> std::io::Result<Vec<TcpListener>> {
    let mut tries = 0;
    loop {
        let first = bind().await?;
        let port = first.local_addr()?.port();
        let mut listeners = vec![first];
        for index in 1..count {
            let last = u8::try_from(index + 1).map_err(std::io::Error::other)?;
            match TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).await {
                Ok(listener) => listeners.push(listener),
                Err(error) if error.kind() == ErrorKind::AddrInUse && tries < 16 => break,
                Err(error) => return Err(error),
            }
        }
        if listeners.len() == count {
            return Ok(listeners);
        }
        tries += 1;
    }
}

/// Accepts connections until the control plane stops, except while the server is down.
pub(super) async fn serve(
    mut listener: TcpListener,
    address: SocketAddr,
    apiserver: Arc<Apiserver>,
    serving: Serving,
) {
    let mut down = apiserver.faults.watch_down();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = down.wait_for(|down| *down) => None,
            accepted = listener.accept() => Some(accepted),
        };
        match accepted {
            Some(Ok((stream, _))) => {
                let served = connection(stream, apiserver.clone(), serving.clone());
                apiserver.tasks.spawn_until_stop(served);
            }
            // The process is most likely out of file descriptors, which become free again.
            Some(Err(_)) => sleep(Duration::from_millis(50)).await,
            None => {
                // Without a listener the kernel refuses connections.
                drop(listener);
                if down.wait_for(|down| !*down).await.is_err() {
                    return;
                }
                listener = rebind(address).await;
            }
        }
    }
}

/// Binds the same port again. If another process has taken it, this waits.
async fn rebind(address: SocketAddr) -> TcpListener {
    loop {
        let bound = TcpSocket::new_v4().and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(1024)
        });
        match bound {
            Ok(listener) => return listener,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(stream: TcpStream, apiserver: Arc<Apiserver>, serving: Serving) {
    let signals = apiserver.faults.signals();
    let connection = Connection {
        id: apiserver.journal.next_connection(),
        go_away: signals.go_away.child_token(),
        cut: signals.cut.child_token(),
    };
    let _ = stream.set_nodelay(true);
    let cut = connection.cut.clone();
    // A connection ends because the client closed it or a test asked for it.
    cut.run_until_cancelled(async move {
        if let Ok(stream) = serving.tls.accept(stream).await {
            http(TokioIo::new(stream), apiserver, connection, &serving).await;
        }
    })
    .await;
}

async fn http(
    io: TokioIo<tokio_rustls::server::TlsStream<TcpStream>>,
    apiserver: Arc<Apiserver>,
    connection: Connection,
    serving: &Serving,
) {
    let mut builder = Builder::new(StreamTasks(apiserver.tasks.clone()));
    builder
        .http1()
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(serving.idle_timeout);
    builder
        .http1()
        .max_buf_size(MAX_HEADER_BYTES as usize)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .max_concurrent_streams(serving.max_streams)
        .max_header_list_size(MAX_HEADER_BYTES)
        .timer(TokioTimer::new());
    let go_away = connection.go_away.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        apiserver.clone().handle(request, connection.clone())
    });
    let served = builder.serve_connection_with_upgrades(io, service);
    tokio::pin!(served);
    tokio::select! {
        _ = served.as_mut() => return,
        () = go_away.cancelled() => served.as_mut().graceful_shutdown(),
    }
    let _ = served.await;
}

/// Runs hyper's tasks (one for each HTTP/2 stream) in our own set, so that a panic in a handler is
/// reported.
#[derive(Clone)]
struct StreamTasks(Tasks);

impl<F> hyper::rt::Executor<F> for StreamTasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_until_stop(async {
            future.await;
        });
    }
}
