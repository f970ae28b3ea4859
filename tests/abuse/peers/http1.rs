//! HTTP/1.1 byte by byte: what both sides read and write, and the client.

use std::io;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::tls::{ClientStream, Dialer};
use super::{Answer, Ask, Broken, Protocol};

/// How the end of a body shows.
#[derive(Clone, Copy, Debug)]
pub enum Framing {
    Length(u64),
    Chunked,
    /// The connection's end, of which nobody can tell whether the body is whole.
    UntilClose,
    Done,
}

/// One connection, and what has been read of it but not taken.
pub struct Wire<S> {
    pub stream: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The first line and the headers; None where the peer closed before one.
    pub async fn head(&mut self) -> io::Result<Option<(String, HeaderMap)>> {
        let end = loop {
            if let Some(end) = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break end;
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let head = self.buffer.split_to(end + 4);
        let text = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let name = HeaderName::try_from(name).map_err(io::Error::other)?;
            headers.append(
                name,
                HeaderValue::try_from(value.trim()).map_err(io::Error::other)?,
            );
        }
        Ok(Some((first, headers)))
    }

    /// The next piece of a body; None at its end, an error where it broke off.
    pub async fn piece(&mut self, framing: &mut Framing) -> io::Result<Option<Bytes>> {
        match *framing {
            Framing::Done | Framing::Length(0) => Ok(None),
            Framing::Length(left) => {
                let piece = self
                    .some(usize::try_from(left).unwrap_or(usize::MAX))
                    .await?;
                *framing = Framing::Length(left - piece.len() as u64);
                Ok(Some(piece))
            }
            Framing::UntilClose => match self.some(usize::MAX).await {
                Ok(piece) => Ok(Some(piece)),
                Err(_) => Ok(None),
            },
            Framing::Chunked => {
                let size = usize::from_str_radix(self.line().await?.trim(), 16)
                    .map_err(io::Error::other)?;
                if size == 0 {
                    while !self.line().await?.is_empty() {}
                    *framing = Framing::Done;
                    return Ok(None);
                }
                while self.buffer.len() < size + 2 {
                    self.more().await?;
                }
                let piece = self.buffer.split_to(size).freeze();
                let _end_of_line = self.buffer.split_to(2);
                Ok(Some(piece))
            }
        }
    }

    /// All of a body, and whether its end came.
    pub async fn body(&mut self, framing: &mut Framing) -> (Bytes, bool) {
        let mut all = BytesMut::new();
        loop {
            match self.piece(framing).await {
                Ok(Some(piece)) => all.extend_from_slice(&piece),
                Ok(None) => return (all.freeze(), true),
                Err(_) => return (all.freeze(), false),
            }
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = self.buffer.split_to(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more().await?;
        }
    }

    async fn some(&mut self, most: usize) -> io::Result<Bytes> {
        if self.buffer.is_empty() {
            self.more().await?;
        }
        Ok(self.buffer.split_to(most.min(self.buffer.len())).freeze())
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.fill().await? == 0 {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(16 << 10);
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// How a body with these headers ends; `answer` may also end with its connection.
pub fn framing(headers: &HeaderMap, answer: bool) -> Framing {
    if headers
        .get("transfer-encoding")
        .is_some_and(|coding| coding.as_bytes().ends_with(b"chunked"))
    {
        return Framing::Chunked;
    }
    match headers
        .get("content-length")
        .and_then(|length| length.to_str().ok()?.parse().ok())
    {
        Some(length) => Framing::Length(length),
        None if answer => Framing::UntilClose,
        None => Framing::Done,
    }
}

/// A client with one connection.
pub struct Client {
    pub wire: Wire<ClientStream>,
}

impl Client {
    pub async fn connect(dialer: &Dialer) -> io::Result<Self> {
        Ok(Self {
            wire: Wire::new(dialer.dial(Protocol::Http1, false).await?),
        })
    }

    /// As [`Client::connect`], with a kernel that takes little for it while it does not read.
    pub async fn connect_small(dialer: &Dialer) -> io::Result<Self> {
        Ok(Self {
            wire: Wire::new(dialer.dial(Protocol::Http1, true).await?),
        })
    }

    /// Sends the head only. Whoever wants a body declares it in the headers.
    pub async fn head(&mut self, ask: &Ask) -> io::Result<()> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: localhost\r\n",
            ask.method, ask.path
        );
        for (name, value) in &ask.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.wire.write(head.as_bytes()).await
    }

    /// Sends a request with a whole body.
    pub async fn send(&mut self, ask: &Ask, body: &[u8]) -> io::Result<()> {
        let ask = if body.is_empty() {
            ask.clone()
        } else {
            ask.clone().with("content-length", body.len())
        };
        self.head(&ask).await?;
        self.wire.write(body).await
    }

    /// Sends one chunk of a body that was announced as chunked.
    pub async fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.wire.write(&chunk).await
    }

    /// The head of the answer, and how its body ends.
    pub async fn answer_head(
        &mut self,
        method: &Method,
    ) -> Result<(u16, HeaderMap, Framing), Broken> {
        loop {
            let (first, headers) = self
                .wire
                .head()
                .await?
                .ok_or_else(|| Broken("closed without an answer".to_owned()))?;
            let status: u16 = first
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .ok_or_else(|| Broken(first.clone()))?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let empty = *method == Method::HEAD || status == 204 || status == 304 || status == 101;
            let framing = if empty {
                Framing::Done
            } else {
                framing(&headers, true)
            };
            return Ok((status, headers, framing));
        }
    }

    /// The answer, read to its end.
    pub async fn answer(&mut self, method: &Method) -> Result<Answer, Broken> {
        let (status, headers, mut framing) = self.answer_head(method).await?;
        let (body, whole) = self.wire.body(&mut framing).await;
        Ok(Answer {
            status,
            headers,
            body,
            whole,
        })
    }

    /// One whole request and its answer.
    pub async fn call(&mut self, ask: &Ask, body: &[u8]) -> Result<Answer, Broken> {
        self.send(ask, body).await?;
        self.answer(&ask.method).await
    }
}
