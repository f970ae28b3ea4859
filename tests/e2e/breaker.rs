//! A TCP relay before an apiserver that breaks its connections after requests were sent. TLS passes
//! through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A listening relay. It ends with the test.
pub struct Breaker {
    /// `https://127.0.0.1:port`.
    pub url: String,
    connections: Arc<Mutex<Vec<Connection>>>,
    /// How many connections with traffic were broken.
    pub broken: AtomicUsize,
}

/// One relayed connection.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Whether answers are thrown away.
    deaf: Arc<AtomicBool>,
    /// Bytes of requests so far.
    sent: Arc<AtomicUsize>,
    /// The same when it was last looked at.
    seen: usize,
}

impl Breaker {
    /// Relays to the apiserver at this URL.
    pub fn before(server: &str) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let to = server.strip_prefix("https://").unwrap().to_owned();
        let connections: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let open = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&to) else {
                    continue;
                };
                let _nodelay = (client.set_nodelay(true), server.set_nodelay(true));
                open.lock().unwrap().push(Connection::relay(client, server));
            }
        });
        Arc::new(Self {
            url,
            connections,
            broken: AtomicUsize::new(0),
        })
    }

    /// Breaks every connection that has had requests since the last time. For `deaf`, requests still
    /// reach the apiserver and their answers are lost.
    pub fn cut(&self, deaf: Duration) {
        let mut connections = std::mem::take(&mut *self.connections.lock().unwrap());
        let (busy, idle): (Vec<_>, Vec<_>) = connections.drain(..).partition(Connection::is_busy);
        self.connections
            .lock()
            .unwrap()
            .extend(idle.into_iter().map(Connection::looked_at));
        busy.iter()
            .for_each(|each| each.deaf.store(true, Ordering::Relaxed));
        thread::sleep(deaf);
        self.broken.fetch_add(busy.len(), Ordering::Relaxed);
        busy.iter().for_each(Connection::close);
    }
}

impl Connection {
    fn relay(client: TcpStream, server: TcpStream) -> Self {
        let (deaf, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let copy = |stream: &TcpStream| stream.try_clone().unwrap();
        let (from, to, counted) = (copy(&client), copy(&server), Arc::clone(&sent));
        thread::spawn(move || {
            pump(from, to, |bytes| {
                counted.fetch_add(bytes, Ordering::Relaxed);
                true
            });
        });
        let (from, to, hears) = (copy(&server), copy(&client), Arc::clone(&deaf));
        thread::spawn(move || pump(from, to, |_| !hears.load(Ordering::Relaxed)));
        Self {
            client,
            server,
            deaf,
            sent,
            seen: 0,
        }
    }

    /// A request is some hundred bytes, and the acknowledgement of a window or a ping is less.
    fn is_busy(&self) -> bool {
        self.sent.load(Ordering::Relaxed) > self.seen + 200
    }

    fn looked_at(self) -> Self {
        Self {
            seen: self.sent.load(Ordering::Relaxed),
            ..self
        }
    }

    fn close(&self) {
        for stream in [&self.client, &self.server] {
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Copies bytes until one side ends. `passes` hears of them and says whether they go on.
fn pump(mut from: TcpStream, mut to: TcpStream, passes: impl Fn(usize) -> bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if passes(read) && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _closed = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
