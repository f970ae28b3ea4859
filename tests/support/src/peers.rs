//! An HTTP/2 upstream that the test controls, built on the h2 library.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use http::Request;
use model_control_plane::certificate;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::raw::Raw;
use crate::soon;

/// An upstream over TLS whose HTTP/2 answers the test writes. It answers the HTTP/1.1 probes of the
/// proxy with 200.
pub struct Http2Upstream {
    listener: TcpListener,
    tls: TlsAcceptor,
    pub ca_pem: String,
}

impl Http2Upstream {
    pub async fn bind() -> Self {
        let made = certificate::make(true).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self {
            listener,
            tls: made.server.into(),
            ca_pem: made.ca_pem,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// Accepts the next HTTP/2 connection.
    pub async fn connection(&self) -> Connection<TlsStream<TcpStream>, Bytes> {
        loop {
            let (tcp, _) = soon(self.listener.accept()).await.unwrap();
            let tls = soon(self.tls.accept(tcp)).await.unwrap();
            if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                return h2::server::handshake(tls).await.unwrap();
            }
            tokio::spawn(async move {
                let mut probes = Raw::new(tls);
                while probes.head_if_any().await.is_some() {
                    probes
                        .write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                        .await;
                }
            });
        }
    }

    /// Accepts the next request. Its connection is driven until the test ends.
    pub async fn request(&self) -> (Request<h2::RecvStream>, SendResponse<Bytes>) {
        let mut connection = self.connection().await;
        let request = soon(connection.accept()).await.unwrap().unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        request
    }
}
