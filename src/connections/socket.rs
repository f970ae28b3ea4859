//! Accepts and dials every TCP connection of the proxy, and sets the socket options that all of
//! them have.

pub mod cork;
pub mod read_ahead;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};

/// The values of Go's listener and dialer. A peer that disappears without closing (a node that
/// died, a NAT that forgot the connection) is noticed after two and a half minutes.
/// <https://github.com/golang/go/blob/go1.24.0/src/net/tcpsock.go#L22-L28>
const IDLE: Duration = Duration::from_secs(15);
const INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 9;

/// Accepts the next connection.
///
/// # Errors
/// The system's: about this connection, or because there are no file descriptors.
pub async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    prepare(&stream)?;
    Ok((stream, peer))
}

/// Connects to the first address that accepts. [`super::dial`] gives up on those that are dead.
///
/// # Errors
/// The system's.
pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    prepare(&stream)?;
    Ok(stream)
}

/// Sends small writes at once, and finds dead peers.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keep_alive = TcpKeepalive::new()
        .with_time(IDLE)
        .with_interval(INTERVAL)
        .with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keep_alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keep_alive_uses_the_values_of_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = accept(&listener).await.unwrap();
        for stream in [dialled, accepted] {
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
            assert_eq!(
                (
                    socket.tcp_keepalive_time().unwrap(),
                    socket.tcp_keepalive_interval().unwrap()
                ),
                (IDLE, INTERVAL)
            );
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
        }
    }
}
