//! Truncated bodies: the other side must see that they are truncated, and never a complete body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tokio::task::JoinSet;

use crate::journal::Journal;
use crate::lab::{Lab, Outcome, Size, eventually, in_time, ordinary};
use crate::peers::raw::{self, Frames};
use crate::peers::tls::Dialer;
use crate::peers::upstream::{BreakOff, Exchange};
use crate::peers::{Ask, Protocol, http1, http2, pod};

cases![
    half_requests_that_end_with_no_error_do_not_arrive_as_whole_over_http2,
    half_requests_that_end_with_no_error_do_not_arrive_as_whole_over_http1,
    half_answers_that_end_with_no_error_do_not_arrive_as_whole,
];

const REASONS: [Reason; 3] = [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR];

/// A request with a truncated body, and how it is truncated.
struct Half {
    ask: Ask,
    name: String,
    sent: Bytes,
    reason: Reason,
    /// When it is reset: together with the last bytes, after the proxy has read them, or after the
    /// upstream has received a part.
    reset: Reset,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reset {
    AtOnce,
    WhenRead,
    WhenUpstream,
}

impl Half {
    fn new(number: usize) -> Self {
        let name = format!("half-{number}");
        let whole = pod(&name, [300, 20_000, 60_000][number % 3]);
        let (create, ask) = (
            number.is_multiple_of(2),
            Ask::put(format!("/api/v1/namespaces/abuse/configmaps/{name}")),
        );
        let ask = if create { Ask::create("abuse") } else { ask };
        Self {
            // Some requests declare a length.
            ask: if number.is_multiple_of(5) {
                ask.with("content-length", whole.len())
            } else {
                ask
            },
            name,
            // Some requests send every byte, so that only the end is missing.
            sent: if number % 7 == 3 {
                whole
            } else {
                whole.slice(..whole.len() / 2)
            },
            reason: if number % 8 == 7 {
                REASONS[number % 3]
            } else {
                Reason::NO_ERROR
            },
            reset: match number % 6 {
                0 => Reset::AtOnce,
                5 if !create => Reset::WhenUpstream,
                _ => Reset::WhenRead,
            },
        }
    }

    /// Sends the request and another one after it. Returns whether the second one was answered.
    async fn send(self, dialer: Dialer, journal: Arc<Journal>) -> bool {
        let mut frames = Frames::connect(&dialer).await.unwrap();
        let mut flight = raw::request(1, &self.ask, false);
        for piece in self.sent.chunks(16 << 10) {
            flight.extend_from_slice(&raw::frame(raw::DATA, 0, 1, piece));
        }
        if self.reset != Reset::AtOnce {
            frames.write(&flight).await.unwrap();
            flight.clear();
            frames.ping().await.unwrap();
        }
        if self.reset == Reset::WhenUpstream {
            eventually(|| journal.count(&self.name) > 0).await;
        }
        flight.extend_from_slice(&raw::rst_stream(1, self.reason));
        flight.extend_from_slice(&raw::request(3, &Ask::get("/version?after"), true));
        frames.write(&flight).await.unwrap();
        let answered = async {
            while let Ok(frame) = frames.next().await {
                if frame.stream == 3 && frame.ends_stream() {
                    return true;
                }
            }
            false
        };
        in_time(answered).await == Some(true)
    }
}

/// Creates and calls with truncated bodies.
async fn half_requests(size: Size, upstream: Protocol) -> Outcome {
    let mut lab = Lab::start(size, upstream, ordinary).await;
    lab.neighbours().await;
    lab.forbid("whose clients broke off arrived as whole", |record| {
        record.path.contains("/abuse/") && matches!(record.body, Some((_, true)))
    });
    let (count, mut answered) = (size.of(150, 3000), 0);
    let mut clients = JoinSet::new();
    for number in 0..count {
        clients.spawn(Half::new(number).send(lab.dialer().clone(), Arc::clone(&lab.journal)));
        if clients.len() >= 16 || number + 1 == count {
            answered += usize::from(clients.join_next().await.unwrap().unwrap());
        }
    }
    while let Some(done) = clients.join_next().await {
        answered += usize::from(done.unwrap());
    }
    lab.require(
        answered == count,
        format!("{answered} of {count} requests behind them answered"),
    );
    lab.finish(()).await
}

async fn half_requests_that_end_with_no_error_do_not_arrive_as_whole_over_http2(
    size: Size,
) -> Outcome {
    half_requests(size, Protocol::Http2).await
}

async fn half_requests_that_end_with_no_error_do_not_arrive_as_whole_over_http1(
    size: Size,
) -> Outcome {
    half_requests(size, Protocol::Http1).await
}

/// Half an answer and RST_STREAM(NO_ERROR), for creates, calls and watches, to clients of both
/// protocols.
async fn half_answers_that_end_with_no_error_do_not_arrive_as_whole(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, |mut exchange: Exchange| {
        async move {
            let (body, _) = exchange.body().await;
            let numbers: Vec<_> = exchange.path.chars().filter(char::is_ascii_digit).collect();
            let declared = (body.len().max(1000) * 2).to_string();
            let headers: &[(&str, &str)] = if numbers.len() % 2 == 0 {
                &[("content-length", &declared)]
            } else {
                &[]
            };
            if exchange
                .head(if body.is_empty() { 200 } else { 201 }, headers)
                .await
                .is_ok()
                && exchange.send(Bytes::from(vec![b'h'; 1000])).await.is_ok()
            {
                // Before a reset, h2 discards the data it has not written. The wait only makes the
                // abuse; no check depends on it.
                tokio::time::sleep(Duration::from_millis(20)).await;
                exchange.break_off(BreakOff::Reset(Reason::NO_ERROR));
            }
        }
    })
    .await;
    lab.neighbours().await;
    let mut cut = Vec::new();
    let total = size.of(48, 480);
    for number in 0..total {
        let ask = match number % 3 {
            0 => Ask::create("abuse"),
            1 => Ask::get(format!("/api/v1/namespaces/abuse/pods/{number}")),
            _ => Ask::get(format!("/api/v1/namespaces/abuse/pods?watch=true&{number}")),
        };
        let body = if number % 3 == 0 {
            pod(&format!("answered-{number}"), 500)
        } else {
            Bytes::new()
        };
        let dialer = lab.dialer().clone();
        let answered = async {
            if number % 2 == 0 {
                http2::Client::connect(&dialer)
                    .await?
                    .call(&ask, &body)
                    .await
            } else {
                http1::Client::connect(&dialer)
                    .await?
                    .call(&ask, &body)
                    .await
            }
        };
        let outcome = in_time(answered).await;
        let protocol = if number % 2 == 0 {
            "HTTP/2"
        } else {
            "HTTP/1.1"
        };
        match outcome {
            None => cut.push(format!("{protocol} {} hung", ask.path)),
            // An answer of the proxy itself is allowed.
            Some(Ok(answer)) if answer.whole && answer.headers.contains_key("lab-entry") => {
                cut.push(format!("{protocol} {} whole", ask.path))
            }
            Some(_) => {}
        }
    }
    lab.note(format!(
        "{} of {total} half answers hung or arrived as whole",
        cut.len()
    ));
    lab.require(
        cut.is_empty(),
        format!("{} of {total} half answers: {}", cut.len(), cut.join(", ")),
    );
    lab.finish(()).await
}
