//! One request to the scripted server, and everything that a script can do with it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Response};
use tokio::sync::{mpsc, oneshot};

use super::{Order, TcpReset};
use crate::journal::{Entry, Journal};
use crate::peers::http1::{Framing, Wire};
use crate::peers::http2;
use crate::peers::tls::ServerStream;

/// How an upstream ends an exchange that it does not finish.
#[derive(Clone, Copy, Debug)]
pub enum BreakOff {
    /// RST_STREAM; over HTTP/1.1 the connection is closed.
    Reset(Reason),
    /// The connection is closed as it stands.
    Close,
    /// The connection is reset.
    TcpReset,
    /// GOAWAY with that reason, then the connection is closed.
    Goaway(Reason),
}

#[expect(
    clippy::large_enum_variant,
    reason = "few of them, and none is moved on a hot path"
)]
pub(super) enum Side {
    Http1 {
        wire: Option<Wire<ServerStream>>,
        incoming: Framing,
        outgoing: Option<Framing>,
        back: Option<oneshot::Sender<Wire<ServerStream>>>,
        reset: Arc<TcpReset>,
        answered: bool,
    },
    Http2 {
        body: RecvStream,
        respond: SendResponse<Bytes>,
        stream: Option<SendStream<Bytes>>,
        orders: mpsc::UnboundedSender<Order>,
    },
}

/// The other side is gone.
#[derive(Debug)]
pub struct Gone;

/// One request and what is said to it. Dropped without an answer it is broken off.
pub struct Exchange {
    pub method: Method,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
    /// Its place in the journal.
    pub entry: Entry,
    pub journal: Arc<Journal>,
    pub(super) side: Side,
}

impl Exchange {
    /// The next piece of the request's body; None at its end, Some(Err) where it broke off.
    pub async fn piece(&mut self) -> Option<Result<Bytes, Gone>> {
        match &mut self.side {
            Side::Http1 { wire, incoming, .. } => wire
                .as_mut()?
                .piece(incoming)
                .await
                .map_err(|_| Gone)
                .transpose(),
            Side::Http2 { body, .. } => {
                http2::next(body).await.map(|piece| piece.map_err(|_| Gone))
            }
        }
    }

    /// All of the request's body, which the journal then has, and whether its end came.
    pub async fn body(&mut self) -> (Bytes, bool) {
        let mut all = BytesMut::new();
        let mut whole = loop {
            match self.piece().await {
                Some(Ok(piece)) => all.extend_from_slice(&piece),
                Some(Err(Gone)) => break false,
                None => break true,
            }
        };
        if let Side::Http2 { body, .. } = &mut self.side {
            whole = whole && body.trailers().await.is_ok();
        }
        let body = all.freeze();
        self.journal.read(self.entry, &body, whole);
        (body, whole)
    }

    /// The head of an answer. Without a `content-length` it is chunked over HTTP/1.1.
    pub async fn head(&mut self, status: u16, headers: &[(&str, &str)]) -> Result<(), Gone> {
        self.journal.began(self.entry, status);
        let number = self.entry.to_string();
        let marked: Vec<_> = headers
            .iter()
            .copied()
            .chain([("lab-entry", number.as_str())])
            .collect();
        match &mut self.side {
            Side::Http1 { wire, outgoing, .. } => {
                let mut head = format!("HTTP/1.1 {status} Lab\r\n");
                let length = headers
                    .iter()
                    .find(|(name, _)| *name == "content-length")
                    .and_then(|(_, length)| length.parse().ok());
                for (name, value) in marked {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str(if length.is_some() {
                    "\r\n"
                } else {
                    "transfer-encoding: chunked\r\n\r\n"
                });
                *outgoing = Some(length.map_or(Framing::Chunked, Framing::Length));
                wire.as_mut()
                    .ok_or(Gone)?
                    .write(head.as_bytes())
                    .await
                    .map_err(|_| Gone)
            }
            Side::Http2 {
                respond, stream, ..
            } => {
                let mut answer = Response::builder().status(status);
                for (name, value) in marked {
                    answer = answer.header(name, value);
                }
                *stream = Some(
                    respond
                        .send_response(answer.body(()).unwrap(), false)
                        .map_err(|_| Gone)?,
                );
                Ok(())
            }
        }
    }

    /// A part of the answer's body: one chunk, or as few DATA frames as the windows allow.
    pub async fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        let bytes = bytes.into();
        if !self.path.contains("neighbour") {
            self.journal.moves(bytes.len());
        }
        match &mut self.side {
            Side::Http1 { wire, outgoing, .. } => {
                let wire = wire.as_mut().ok_or(Gone)?;
                let bytes = match outgoing {
                    Some(Framing::Chunked) => {
                        [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"]
                            .concat()
                            .into()
                    }
                    _ => bytes,
                };
                wire.write(&bytes).await.map_err(|_| Gone)
            }
            Side::Http2 { stream, .. } => {
                http2::send_data(stream.as_mut().ok_or(Gone)?, bytes, false)
                    .await
                    .map_err(|_| Gone)
            }
        }
    }

    /// The end of the answer's body.
    pub async fn end(mut self) {
        // Before it leaves: whoever has it may look into the journal at once.
        self.journal.ended(self.entry);
        match &mut self.side {
            Side::Http1 {
                wire,
                incoming,
                outgoing,
                answered,
                ..
            } => {
                if let (Some(wire), Some(Framing::Chunked)) = (wire.as_mut(), outgoing) {
                    *answered = wire.write(b"0\r\n\r\n").await.is_ok();
                } else {
                    *answered = true;
                }
                // What was not read of the request is in the way of the next one.
                *answered = *answered && matches!(incoming, Framing::Done | Framing::Length(0));
            }
            Side::Http2 { stream, .. } => {
                if let Some(stream) = stream {
                    let _gone = stream.send_data(Bytes::new(), true);
                }
            }
        }
    }

    /// A whole answer, with its length.
    pub async fn answer(mut self, status: u16, body: impl Into<Bytes>) {
        let body = body.into();
        let length = body.len().to_string();
        if self
            .head(
                status,
                &[
                    ("content-type", "application/json"),
                    ("content-length", &length),
                ],
            )
            .await
            .is_ok()
            && (body.is_empty() || self.send(body).await.is_ok())
        {
            self.end().await;
        }
    }

    /// Ends it in another way than with an end.
    pub fn break_off(mut self, how: BreakOff) {
        match &mut self.side {
            Side::Http1 { reset, .. } => {
                if matches!(how, BreakOff::TcpReset) {
                    reset.arm();
                }
            }
            Side::Http2 {
                respond,
                stream,
                orders,
                ..
            } => {
                let order = match how {
                    BreakOff::Reset(reason) => {
                        match stream {
                            Some(stream) => stream.send_reset(reason),
                            None => respond.send_reset(reason),
                        }
                        return;
                    }
                    BreakOff::Close => Order::Close,
                    BreakOff::TcpReset => Order::TcpReset,
                    BreakOff::Goaway(Reason::NO_ERROR) => Order::Goaway,
                    BreakOff::Goaway(reason) => Order::Abrupt(reason),
                };
                let _closed_already = orders.send(order);
            }
        }
    }

    /// An answer that ends its HTTP/1.1 connection without having said so.
    pub async fn answer_and_close(mut self, status: u16, body: impl Into<Bytes>) {
        if let Side::Http1 { back, .. } = &mut self.side {
            *back = None;
        }
        self.answer(status, body).await;
    }
}
