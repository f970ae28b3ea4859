//! The client's side of the random run.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use h2::Reason;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::rng;
use crate::lab::in_time;
use crate::peers::tls::Dialer;
use crate::peers::{Answer, Ask, Broken, http1, http2, pod};

/// One request, with everything that its client knows.
#[derive(Debug)]
pub struct Sent {
    pub name: String,
    pub number: usize,
    /// Whether the client sent the complete request. Otherwise nobody may take it as complete.
    pub whole: bool,
    /// Whether the client waited for an answer.
    pub waited: bool,
    /// `None` if nothing arrived in time.
    pub answer: Option<Result<Answer, Broken>>,
    /// A description of the client's behaviour, for the report.
    pub how: String,
    /// The duration, for the report only.
    pub took: Duration,
}

/// The behaviour of a client in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Sends the request in small pieces.
    Bytewise,
    /// Sends half of it, pauses, and sends the rest.
    Slow,
    /// Disconnects after the complete request.
    Leaves,
    /// Truncates the body with a reset.
    Breaks(Reason),
    /// Declares more bytes than it sends, and ends the stream.
    TooShort,
    /// Closes its sending side after half of the body; HTTP/1.1 only.
    HalfClosed,
}

impl Fault {
    fn draw(rng: &mut Rng) -> Self {
        let reasons = [
            Reason::NO_ERROR,
            Reason::NO_ERROR,
            Reason::CANCEL,
            Reason::INTERNAL_ERROR,
        ];
        match rng.u8(..100) {
            ..60 => Self::None,
            60..66 => Self::Bytewise,
            66..70 => Self::Slow,
            70..78 => Self::Leaves,
            78..92 => Self::Breaks(reasons[rng.usize(..4)]),
            92..96 => Self::TooShort,
            _ => Self::HalfClosed,
        }
    }
}

/// Sends one request after another over connections that it keeps open.
pub struct Client {
    dialer: Dialer,
    http1: Option<http1::Client>,
    http2: Option<http2::Client>,
}

impl Client {
    pub fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            http1: None,
            http2: None,
        }
    }

    pub async fn ask(&mut self, number: usize, seed: u64) -> Sent {
        let mut rng = rng(seed, number, 0);
        let name = format!("random-{number}");
        let namespace = format!("faults-{}", number % 5);
        let size = [200, 1500, 1500, 30_000, 200_000][rng.usize(..5)];
        let (ask, body) = match rng.u8(..10) {
            0 => (
                Ask::get(format!("/api/v1/namespaces/{namespace}/pods/{name}")),
                Bytes::new(),
            ),
            1 | 2 => (
                Ask::put(format!("/api/v1/namespaces/{namespace}/configmaps/{name}")),
                pod(&name, size),
            ),
            _ => (Ask::create(&namespace), pod(&name, size)),
        };
        let ask = ask.with("lab-number", number);
        let fault = if body.is_empty() {
            Fault::None
        } else {
            Fault::draw(&mut rng)
        };
        let http2 = rng.bool();
        // Over HTTP/2 a client cannot close its sending side without ending the request.
        let fault = if http2 && fault == Fault::HalfClosed {
            Fault::None
        } else {
            fault
        };
        let how = format!(
            "{} {} {fault:?}",
            if http2 { "HTTP/2" } else { "HTTP/1.1" },
            ask.method
        );
        let asked = async {
            if http2 {
                self.over_http2(&ask, &body, fault, &mut rng).await
            } else {
                self.over_http1(&ask, &body, fault, &mut rng).await
            }
        };
        let since = Instant::now();
        let answer = in_time(asked).await;
        let took = since.elapsed();
        if !matches!(&answer, Some(Ok(answer)) if answer.whole) {
            // The connection may still have bytes of this request, so it is not reused.
            self.http1 = None;
        }
        if matches!(answer, None | Some(Err(_))) {
            self.http2 = None;
        }
        let whole = matches!(
            fault,
            Fault::None | Fault::Bytewise | Fault::Slow | Fault::Leaves
        );
        Sent {
            name,
            number,
            whole,
            waited: fault != Fault::Leaves,
            answer,
            how,
            took,
        }
    }

    async fn over_http2(
        &mut self,
        ask: &Ask,
        body: &Bytes,
        fault: Fault,
        rng: &mut Rng,
    ) -> Result<Answer, Broken> {
        if self.http2.is_none() {
            self.http2 = Some(http2::Client::connect(&self.dialer).await?);
        }
        let client = self.http2.as_ref().unwrap();
        let declared = match fault {
            Fault::TooShort => Some(body.len() + rng.usize(1..1000)),
            _ => rng.bool().then_some(body.len()),
        };
        let ask = declared.map_or_else(
            || ask.clone(),
            |length| ask.clone().with("content-length", length),
        );
        if fault == Fault::None {
            return client.call(&ask, body).await;
        }
        let (answer, mut stream) = client.open(&ask, false).await?;
        let half = rng.usize(..body.len());
        match fault {
            Fault::Bytewise => {
                let (single, rest) = body.split_at(body.len().min(200));
                for byte in single {
                    http2::send_data(&mut stream, Bytes::copy_from_slice(&[*byte]), false).await?;
                }
                http2::send_data(&mut stream, Bytes::copy_from_slice(rest), true).await?;
            }
            Fault::Slow => {
                http2::send_data(&mut stream, body.slice(..half), false).await?;
                pause(rng).await;
                http2::send_data(&mut stream, body.slice(half..), true).await?;
            }
            Fault::Leaves => {
                http2::send_data(&mut stream, body.clone(), true).await?;
                pause(rng).await;
                return Err(Broken("left".to_owned()));
            }
            Fault::Breaks(reason) => {
                http2::send_data(&mut stream, body.slice(..half), false).await?;
                pause(rng).await;
                stream.send_reset(reason);
            }
            _ => http2::send_data(&mut stream, body.clone(), true).await?,
        }
        http2::read(answer).await
    }

    async fn over_http1(
        &mut self,
        ask: &Ask,
        body: &Bytes,
        fault: Fault,
        rng: &mut Rng,
    ) -> Result<Answer, Broken> {
        let mut client = match self.http1.take() {
            Some(client) => client,
            None => http1::Client::connect(&self.dialer).await?,
        };
        let half = if body.is_empty() {
            0
        } else {
            rng.usize(..body.len())
        };
        let sent = send_over_http1(&mut client, ask, body, half, fault, rng).await;
        // An answer may arrive before the request is complete, and the connection may then close.
        match client.answer(&ask.method).await {
            Err(Broken(why)) => Err(Broken(sent.err().map_or(why, |error| error.to_string()))),
            Ok(answer) => {
                if sent.is_ok() && fault == Fault::None {
                    self.http1 = Some(client);
                }
                Ok(answer)
            }
        }
    }
}

async fn send_over_http1(
    client: &mut http1::Client,
    ask: &Ask,
    body: &Bytes,
    half: usize,
    fault: Fault,
    rng: &mut Rng,
) -> io::Result<()> {
    let declared = ask.clone().with("content-length", body.len());
    let chunked = ask.clone().with("transfer-encoding", "chunked");
    match fault {
        Fault::None if body.is_empty() => client.send(ask, b"").await,
        Fault::None if rng.bool() => client.send(ask, body).await,
        Fault::None => {
            client.head(&chunked).await?;
            client.chunk(body).await?;
            client.wire.write(b"0\r\n\r\n").await
        }
        Fault::Bytewise => {
            client.head(&chunked).await?;
            let (single, rest) = body.split_at(body.len().min(200));
            for byte in single {
                client.chunk(&[*byte]).await?;
            }
            if !rest.is_empty() {
                client.chunk(rest).await?;
            }
            client.wire.write(b"0\r\n\r\n").await
        }
        Fault::Slow => {
            client.head(&declared).await?;
            client.wire.write(&body[..half]).await?;
            pause(rng).await;
            client.wire.write(&body[half..]).await
        }
        Fault::Leaves => {
            client.send(ask, body).await?;
            pause(rng).await;
            left(client).await
        }
        Fault::Breaks(_) if half > 0 && rng.bool() => {
            client.head(&chunked).await?;
            client.chunk(&body[..half]).await?;
            pause(rng).await;
            left(client).await
        }
        Fault::Breaks(_) => {
            client.head(&declared).await?;
            client.wire.write(&body[..half]).await?;
            pause(rng).await;
            left(client).await
        }
        Fault::TooShort => {
            client
                .head(
                    &ask.clone()
                        .with("content-length", body.len() + rng.usize(1..1000)),
                )
                .await?;
            client.wire.write(body).await?;
            left(client).await
        }
        Fault::HalfClosed => {
            client.head(&declared).await?;
            client.wire.write(&body[..half]).await?;
            client.wire.stream.shutdown().await
        }
    }
}

/// Disconnects like a killed process: below TLS, without close_notify.
async fn left(client: &mut http1::Client) -> io::Result<()> {
    client.wire.stream.get_mut().0.shutdown().await?;
    Err(io::Error::other("left"))
}

async fn pause(rng: &mut Rng) {
    tokio::time::sleep(Duration::from_millis(rng.u64(..15))).await;
}
