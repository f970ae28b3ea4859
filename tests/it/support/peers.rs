//! HTTP/2 frame by frame: a client that may say what no library would, and an upstream with a
//! library's manners.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use http::Request;
use kube_retry_proxy::tls;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::raw::Raw;
use super::soon;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Header lines of a frame, pseudo-headers included.
pub type Fields<'a> = &'a [(&'a str, &'a str)];

/// One HTTP/2 connection of a client, in bare frames.
pub struct Frames<S> {
    stream: S,
    next: u32,
}

/// How a stream of [`Frames`] ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer of this body. Its head would take a decoder of HPACK.
    Answered(Vec<u8>),
    /// By RST_STREAM with this code.
    Reset(u32),
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Frames<S> {
    pub async fn over(mut stream: S) -> Self {
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        let mut frames = Self { stream, next: 1 };
        frames.write(SETTINGS, 0, 0, &[]).await;
        frames
    }

    /// Sends a request and reads how its stream ends.
    pub async fn ask(
        &mut self,
        head: Fields<'_>,
        body: &[u8],
        trailers: Option<Fields<'_>>,
    ) -> Ended {
        let id = self.next;
        self.next += 2;
        let last = |last: bool| if last { END_STREAM } else { 0 };
        self.write(
            HEADERS,
            END_HEADERS | last(body.is_empty() && trailers.is_none()),
            id,
            &block(head),
        )
        .await;
        if !body.is_empty() {
            self.write(DATA, last(trailers.is_none()), id, body).await;
        }
        if let Some(trailers) = trailers {
            self.write(HEADERS, END_HEADERS | END_STREAM, id, &block(trailers))
                .await;
        }
        soon(self.ended(id)).await
    }

    async fn ended(&mut self, of: u32) -> Ended {
        let mut body = Vec::new();
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.unwrap();
            match kind {
                SETTINGS if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await,
                GOAWAY => panic!("GOAWAY {payload:?}"),
                RST_STREAM if id == of => {
                    return Ended::Reset(u32::from_be_bytes(payload.try_into().unwrap()));
                }
                DATA if id == of => body.extend_from_slice(&payload),
                _ => {}
            }
            if id == of && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return Ended::Answered(body);
            }
        }
    }

    async fn write(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&id.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await.unwrap();
        self.stream.flush().await.unwrap();
    }
}

/// HPACK's plainest form: literals without indexing (RFC 7541 §6.2.2).
fn block(fields: Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An upstream over TLS that speaks HTTP/2 as the test tells it to. Probes, which come in HTTP/1.1,
/// find it ready.
pub struct Http2Upstream {
    listener: TcpListener,
    tls: TlsAcceptor,
    pub ca_pem: String,
}

impl Http2Upstream {
    pub async fn bind() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
        config.alpn_protocols = vec![tls::H2.to_vec(), tls::HTTP1.to_vec()];
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self {
            listener,
            tls: Arc::new(config).into(),
            ca_pem: certificate.pem(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// The next HTTP/2 connection.
    pub async fn connection(&self) -> Connection<TlsStream<TcpStream>, Bytes> {
        loop {
            let (tcp, _) = soon(self.listener.accept()).await.unwrap();
            let tls = soon(self.tls.accept(tcp)).await.unwrap();
            if tls.get_ref().1.alpn_protocol() == Some(tls::H2) {
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

    /// The next request on a connection of its own, which lives on until the test ends.
    pub async fn request(&self) -> (Request<h2::RecvStream>, SendResponse<Bytes>) {
        let mut connection = self.connection().await;
        let request = soon(connection.accept()).await.unwrap().unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        request
    }
}
