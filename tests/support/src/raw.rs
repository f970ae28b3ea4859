//! HTTP/1.1 byte by byte, for behaviour that a client or server library would correct.

use std::net::SocketAddr;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::soon;

/// One HTTP/1.1 connection as plain bytes, on the client or the server side.
pub struct Raw<S> {
    pub stream: S,
    read: Vec<u8>,
}

/// The head of a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The request line or status line.
    pub line: String,
    /// The headers in the order of arrival. Names are in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn status(&self) -> StatusCode {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub fn parse(text: &[u8]) -> Self {
        let text: String = text.iter().copied().map(char::from).collect();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        Self {
            line,
            headers: headers.collect(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
        soon(self.stream.flush()).await.unwrap();
    }

    /// Reads the next head, up to its empty line.
    pub async fn head(&mut self) -> Head {
        self.head_if_any()
            .await
            .expect("a head before the connection ends")
    }

    /// As [`Raw::head`], but returns `None` at the end of the connection.
    pub async fn head_if_any(&mut self) -> Option<Head> {
        loop {
            if let Some(end) = self
                .read
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                return Some(Head::parse(&head));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads exactly `length` bytes.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(
                self.more().await,
                "ended after {} of {length} bytes",
                self.read.len()
            );
        }
        self.read.drain(..length).collect()
    }

    /// Reads until the peer closes its side.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// Reads a head and the body that its `Content-Length` announces.
    pub async fn answer(&mut self) -> (Head, Vec<u8>) {
        self.message()
            .await
            .expect("a head before the connection ends")
    }

    /// Reads a head and its body, which has a `Content-Length` or is chunked. Returns `None` if the
    /// connection ends first.
    pub async fn message(&mut self) -> Option<(Head, Vec<u8>)> {
        let head = self.head_if_any().await?;
        if !head.all("transfer-encoding").is_empty() {
            let mut body = Vec::new();
            while !body.ends_with(b"0\r\n\r\n") {
                body.extend(self.exactly(1).await);
            }
            return Some((head, body));
        }
        let length = head
            .all("content-length")
            .first()
            .map_or(0, |length| length.parse().unwrap());
        let body = self.exactly(length).await;
        Some((head, body))
    }

    /// Closes this side of the connection. The other side stays open.
    pub async fn shutdown(&mut self) {
        soon(self.stream.shutdown()).await.unwrap();
    }

    async fn more(&mut self) -> bool {
        // A peer that closes without TLS close_notify has also reached its end.
        soon(self.stream.read_buf(&mut self.read))
            .await
            .unwrap_or(0)
            > 0
    }
}

/// An upstream without TLS whose answers the test writes as bytes. It adds no `Date` and does not
/// sort headers.
pub struct Upstream {
    listener: TcpListener,
}

impl Upstream {
    pub async fn bind() -> Self {
        Self {
            listener: TcpListener::bind(("127.0.0.1", 0)).await.unwrap(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Accepts the next connection with a request, and reads the head. It answers the proxy's
    /// probes with 200.
    pub async fn request(&self) -> (Head, Raw<TcpStream>) {
        let mut open = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = soon(self.listener.accept()) => {
                    let mut connection = Raw::new(accepted.unwrap().0);
                    open.spawn(async move {
                        loop {
                            let head = connection.head_if_any().await?;
                            if !head.line.starts_with("GET /readyz ") {
                                return Some((head, connection));
                            }
                            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                        }
                    });
                }
                Some(arrived) = open.join_next() => if let Some(arrived) = arrived.unwrap() {
                    return arrived;
                },
            }
        }
    }
}
