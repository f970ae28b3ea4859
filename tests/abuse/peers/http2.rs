//! HTTP/2 clients on the `h2` crate itself, which reads, gives windows and resets only when it is
//! told to.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use tokio::task::JoinHandle;

use super::tls::Dialer;
use super::{Answer, Ask, Broken, Protocol};

/// One connection. Clones share it; it ends with the last one of them and of its streams.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Bytes>,
}

/// The two windows that a client gives.
#[derive(Clone, Copy)]
pub struct Windows {
    pub stream: u32,
    pub connection: u32,
}

/// As Go's transport: 4 MiB for a stream and 1 GiB for the connection.
pub const GO: Windows = Windows {
    stream: 4 << 20,
    connection: 1 << 30,
};

/// As RFC 9113 has it where nobody says anything.
pub const LEAST: Windows = Windows {
    stream: 65_535,
    connection: 65_535,
};

impl Client {
    pub async fn connect(dialer: &Dialer) -> Result<Self, Broken> {
        Self::connect_with(dialer, GO).await
    }

    pub async fn connect_with(dialer: &Dialer, windows: Windows) -> Result<Self, Broken> {
        Ok(Self::connect_and_watch(dialer, windows).await?.0)
    }

    /// Also gives what the connection ends with.
    pub async fn connect_and_watch(
        dialer: &Dialer,
        windows: Windows,
    ) -> Result<(Self, JoinHandle<Result<(), h2::Error>>), Broken> {
        let stream = dialer.dial(Protocol::Http2, false).await?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(windows.stream)
            .initial_connection_window_size(windows.connection)
            .max_concurrent_reset_streams(10_000)
            .handshake(stream)
            .await?;
        Ok((Self { sender }, tokio::spawn(connection)))
    }

    /// Sends a head; with `end`, that is all of the request.
    pub async fn open(
        &self,
        ask: &Ask,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Broken> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(format!("https://localhost{}", ask.path));
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let mut sender = self.sender.clone().ready().await?;
        Ok(sender.send_request(request.body(()).unwrap(), end)?)
    }

    /// Sends a whole request.
    pub async fn send(&self, ask: &Ask, body: &[u8]) -> Result<ResponseFuture, Broken> {
        let (answer, mut stream) = self.open(ask, body.is_empty()).await?;
        if !body.is_empty() {
            send_data(&mut stream, Bytes::copy_from_slice(body), true).await?;
        }
        Ok(answer)
    }

    /// One whole request and its answer, to its end.
    pub async fn call(&self, ask: &Ask, body: &[u8]) -> Result<Answer, Broken> {
        let (answer, mut stream) = self.open(ask, body.is_empty()).await?;
        if body.is_empty() {
            return read(answer).await;
        }
        // An answer may come before the upload is through, as a 409 does.
        let body = Bytes::copy_from_slice(body);
        let upload = async {
            let _answered_before = send_data(&mut stream, body, true).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = read(answer) => answer,
            () = upload => unreachable!(),
        }
    }
}

/// Reads an answer to its end, however it ends.
pub async fn read(answer: ResponseFuture) -> Result<Answer, Broken> {
    let (head, mut body) = answer.await?.into_parts();
    let mut all = BytesMut::new();
    let whole = loop {
        match next(&mut body).await {
            Some(Ok(piece)) => all.extend_from_slice(&piece),
            Some(Err(_)) => break false,
            None => break body.trailers().await.is_ok(),
        }
    };
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: all.freeze(),
        whole,
    })
}

/// The next piece of a body, with its window given back.
pub async fn next(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let piece = body.data().await;
    if let Some(Ok(piece)) = &piece {
        let _ended = body.flow_control().release_capacity(piece.len());
    }
    piece
}

/// Sends as the windows allow.
pub async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    end: bool,
) -> Result<(), h2::Error> {
    if bytes.is_empty() {
        return stream.send_data(bytes, end);
    }
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let granted = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let some = match granted {
            Some(granted) => bytes.split_to(granted?.min(bytes.len())),
            None => return Err(Reason::CANCEL.into()),
        };
        stream.send_data(some, end && bytes.is_empty())?;
    }
    Ok(())
}
