//! HTTP/2 frame by frame, for what the `h2` crate is too tidy to send. Header blocks are written
//! without compression, and never read.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::tls::{ClientStream, Dialer};
use super::{Ask, Protocol};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;

pub const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Frame {
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// One frame, as it goes over the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request's head.
pub fn request(stream: u32, ask: &Ask, end: bool) -> Vec<u8> {
    let mut block = Vec::new();
    let pseudo = [
        (":method", ask.method.as_str()),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", &ask.path),
    ];
    let headers = ask
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in pseudo.into_iter().chain(headers) {
        literal(&mut block, name, value);
    }
    frame(
        HEADERS,
        END_HEADERS | if end { END_STREAM } else { 0 },
        stream,
        &block,
    )
}

pub fn rst_stream(stream: u32, reason: h2::Reason) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes())
}

/// A literal header field that is not indexed, with a name that is not either (RFC 7541 §6.2.2).
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        let mut left = text.len();
        if left < 127 {
            block.push(u8::try_from(left).unwrap());
        } else {
            block.push(127);
            left -= 127;
            while left >= 128 {
                block.push(u8::try_from(left % 128).unwrap() | 128);
                left /= 128;
            }
            block.push(u8::try_from(left).unwrap());
        }
        block.extend_from_slice(text.as_bytes());
    }
}

/// A connection that reads and writes frames. SETTINGS and PINGs of the peer are answered while
/// frames are read.
pub struct Frames<S> {
    pub stream: S,
}

impl Frames<ClientStream> {
    /// A client's connection, with its preface sent.
    pub async fn connect(dialer: &Dialer) -> io::Result<Self> {
        let mut frames = Self {
            stream: dialer.dial(Protocol::Http2, false).await?,
        };
        frames
            .write(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
            .await?;
        Ok(frames)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Waits until the peer has read all that was sent so far.
    pub async fn ping(&mut self) -> io::Result<()> {
        self.write(&frame(PING, 0, 0, &[0; 8])).await?;
        loop {
            let frame = self.any().await?;
            if frame.kind == PING && frame.flags & ACK != 0 {
                return Ok(());
            }
        }
    }

    /// The next frame that is not about the connection itself; an error when the connection is
    /// over.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.any().await?;
            if !matches!(frame.kind, SETTINGS | PING) {
                return Ok(frame);
            }
        }
    }

    async fn any(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & (u32::MAX >> 1);
        let (kind, flags) = (head[3], head[4]);
        match kind {
            SETTINGS if flags & ACK == 0 => self.write(&frame(SETTINGS, ACK, 0, &[])).await?,
            PING if flags & ACK == 0 => self.write(&frame(PING, ACK, 0, &payload)).await?,
            _ => {}
        }
        Ok(Frame {
            kind,
            flags,
            stream,
        })
    }
}
