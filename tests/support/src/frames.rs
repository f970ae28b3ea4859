//! HTTP/2 frame by frame, for behaviour that a client library would prevent.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::{Protocol, soon, tls_stream};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The largest payload that a server accepts with default settings.
const MAX_PAYLOAD: usize = 16 << 10;

/// The header fields of a frame, including pseudo-headers.
pub type Fields<'a> = &'a [(&'a str, &'a str)];

/// The client side of a connection.
pub struct Frames<S = TlsStream<TcpStream>> {
    stream: S,
    authority: String,
    token: String,
    next: u32,
    pings: u64,
    /// The data of all bodies received so far, in one buffer.
    pub data: Vec<u8>,
    /// The code and the debug data of a GOAWAY with an error.
    pub error: Option<(u32, String)>,
    /// Whether a GOAWAY without an error has arrived.
    pub goaway: bool,
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// With an answer that has this body. The head is not decoded, because that would need HPACK.
    Answered(Vec<u8>),
    /// With RST_STREAM and this code.
    Reset(u32),
}

impl Frames {
    pub async fn connect(address: SocketAddr, ca: &str, token: &str) -> Self {
        let mut frames = Self::over(tls_stream(address, ca, Protocol::Http2).await).await;
        (frames.authority, frames.token) = (address.to_string(), token.to_owned());
        frames
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// Uses an open connection. The requests on it must contain authority and token.
    pub async fn over(mut stream: S) -> Self {
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self {
            stream,
            authority: String::new(),
            token: String::new(),
            next: 1,
            pings: 0,
            data: Vec::new(),
            error: None,
            goaway: false,
        }
    }

    /// Sends a request and waits for the end of its stream.
    pub async fn ask(
        &mut self,
        head: Fields<'_>,
        body: &[u8],
        trailers: Option<Fields<'_>>,
    ) -> StreamEnd {
        let id = self.next;
        self.next += 2;
        let last = |last: bool| if last { END_STREAM } else { 0 };
        let flags = END_HEADERS | last(body.is_empty() && trailers.is_none());
        let mut frames = frame(HEADERS, flags, id, &block(head));
        if !body.is_empty() {
            frames.extend(frame(DATA, last(trailers.is_none()), id, body));
        }
        if let Some(trailers) = trailers {
            frames.extend(frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                id,
                &block(trailers),
            ));
        }
        self.write(&frames).await;
        let mut body = Vec::new();
        loop {
            let frame = self
                .frame()
                .await
                .expect("a frame before the connection ends");
            assert_eq!((&self.error, self.goaway), (&None, false), "GOAWAY");
            match frame {
                Frame { id: of, .. } if of != id => continue,
                Frame {
                    kind: RST_STREAM,
                    payload,
                    ..
                } => return StreamEnd::Reset(u32::from_be_bytes(payload.try_into().unwrap())),
                Frame {
                    kind: DATA,
                    ref payload,
                    ..
                } => body.extend_from_slice(payload),
                _ => {}
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                return StreamEnd::Answered(body);
            }
        }
    }

    /// The frames of a complete GET request, and its stream id.
    pub fn get(&mut self, path: &str) -> (u32, Vec<u8>) {
        self.get_with(path, &[])
    }

    /// As [`Frames::get`], with further headers encoded in HPACK.
    pub fn get_with(&mut self, path: &str, headers: &[u8]) -> (u32, Vec<u8>) {
        let id = self.next;
        self.next += 2;
        // Indexed: GET, https. Literal: path, authority, authorization (https://www.rfc-editor.org/rfc/rfc7541#appendix-A).
        let mut block = vec![0x82, 0x87];
        for (index, value) in [
            (&[0x04][..], path),
            (&[0x01], &self.authority),
            (&[0x0f, 0x08], &format!("Bearer {}", self.token)),
        ] {
            block.extend_from_slice(index);
            block.extend(length(value.len()));
            block.extend_from_slice(value.as_bytes());
        }
        block.extend_from_slice(headers);
        let mut frames = Vec::new();
        let (mut kind, mut flags) = (HEADERS, END_STREAM);
        let mut pieces = block.chunks(MAX_PAYLOAD).peekable();
        while let Some(piece) = pieces.next() {
            flags |= if pieces.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            frames.extend(frame(kind, flags, id, piece));
            (kind, flags) = (CONTINUATION, 0);
        }
        (id, frames)
    }

    /// The frames of a request that is cancelled at once.
    pub fn cancelled(&mut self, path: &str) -> Vec<u8> {
        self.cancelled_with(path, &[])
    }

    /// As [`Frames::cancelled`], with further headers encoded in HPACK.
    pub fn cancelled_with(&mut self, path: &str, headers: &[u8]) -> Vec<u8> {
        const CANCEL: [u8; 4] = [0, 0, 0, 8];
        let (id, mut frames) = self.get_with(path, headers);
        frames.extend(frame(RST_STREAM, 0, id, &CANCEL));
        frames
    }

    pub async fn write(&mut self, frames: &[u8]) {
        self.try_write(frames).await.unwrap();
    }

    /// Writes frames. Returns an error if the other side has closed the connection.
    pub async fn try_write(&mut self, frames: &[u8]) -> std::io::Result<()> {
        soon(self.stream.write_all(frames)).await?;
        soon(self.stream.flush()).await
    }

    /// Waits until the other side has processed everything sent so far. Returns false if it ends
    /// the connection.
    pub async fn settled(&mut self) -> bool {
        self.pings += 1;
        let ping = self.pings.to_be_bytes();
        if self.try_write(&frame(PING, 0, 0, &ping)).await.is_err() {
            while self.frame().await.is_some() {}
            return false;
        }
        loop {
            match self.frame().await {
                Some(Frame {
                    kind: PING,
                    flags: ACK,
                    payload,
                    ..
                }) if payload == ping => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Sends a GET for `path` and waits for the complete answer, so that the proxy has processed
    /// everything sent earlier. Returns false if the connection ends.
    pub async fn answered(&mut self, path: &str) -> bool {
        let (id, request) = self.get(path);
        if self.try_write(&request).await.is_err() {
            while self.frame().await.is_some() {}
            return false;
        }
        loop {
            match self.frame().await {
                Some(Frame {
                    kind: DATA | HEADERS,
                    flags,
                    id: stream,
                    ..
                }) if stream == id && flags & END_STREAM != 0 => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Waits for a GOAWAY without an error. Returns false if the connection ends without one.
    pub async fn received_goaway(&mut self) -> bool {
        while !self.goaway {
            if self.frame().await.is_none() {
                return false;
            }
        }
        true
    }

    /// Waits until `text` arrives in a body. Returns false if the connection ends first.
    pub async fn data_with(&mut self, text: &str) -> bool {
        while !String::from_utf8_lossy(&self.data).contains(text) {
            if self.frame().await.is_none() {
                return false;
            }
        }
        true
    }

    /// Reads the next frame. Returns `None` at the end of the connection.
    async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon(self.stream.read_exact(&mut head)).await.ok()?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        soon(self.stream.read_exact(&mut payload)).await.ok()?;
        match kind {
            SETTINGS if flags & ACK == 0 => self.answer(&frame(SETTINGS, ACK, 0, &[])).await,
            PING if flags & ACK == 0 => self.answer(&frame(PING, ACK, 0, &payload)).await,
            DATA => self.data.extend_from_slice(&payload),
            GOAWAY if payload[4..8] != [0; 4] => {
                let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
                self.error = Some((code, String::from_utf8_lossy(&payload[8..]).into_owned()));
            }
            GOAWAY => self.goaway = true,
            _ => {}
        }
        Some(Frame {
            kind,
            flags,
            id: u32::from_be_bytes(id),
            payload,
        })
    }

    async fn answer(&mut self, frames: &[u8]) {
        // If the connection has ended, the next read reports it.
        let _ = self.try_write(frames).await;
    }
}

/// A received frame.
struct Frame {
    kind: u8,
    flags: u8,
    id: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

/// The HPACK length of a string without Huffman coding (RFC 7541 §5.1, a prefix of 7 bits).
fn length(length: usize) -> Vec<u8> {
    if length < 127 {
        return vec![length as u8];
    }
    let (mut rest, mut bytes) = (length - 127, vec![127]);
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// The simplest HPACK encoding: literals without indexing (RFC 7541 §6.2.2).
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
