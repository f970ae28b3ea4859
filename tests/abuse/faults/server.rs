//! The upstream's side of the random run.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use h2::Reason;
use http::Method;

use super::rng;
use crate::cases::quota_conflict;
use crate::peers::upstream::{BreakOff, Exchange, Gone};

/// Reset codes for a request that was started. REFUSED_STREAM would promise that it was not.
const REASONS: [Reason; 8] = [
    Reason::NO_ERROR,
    Reason::NO_ERROR,
    Reason::NO_ERROR,
    Reason::PROTOCOL_ERROR,
    Reason::INTERNAL_ERROR,
    Reason::CANCEL,
    Reason::ENHANCE_YOUR_CALM,
    Reason::STREAM_CLOSED,
];

/// Answers a request. The seed, its number and its attempt determine how.
pub async fn answer(mut exchange: Exchange, seed: u64) {
    let Some(number) = exchange
        .headers
        .get("lab-number")
        .and_then(|number| number.to_str().ok()?.parse::<usize>().ok())
    else {
        return exchange.answer(400, "{}").await;
    };
    let attempt = exchange.journal.attempt(number);
    let mut rng = rng(seed, number, 1 + attempt);
    // From the third attempt on, half of the requests succeed.
    let fault = if attempt > 2 && rng.bool() {
        0
    } else {
        rng.u8(..100)
    };
    match fault {
        50..58 => return exchange.break_off(before_anything(&mut rng)),
        58..60 => {
            // Answers before the request is complete.
            return exchange.answer(409, quota_conflict()).await;
        }
        60..62 => {
            tokio::time::sleep(Duration::from_millis(rng.u64(20..200))).await;
            return exchange.break_off(BreakOff::Close);
        }
        _ => {}
    }
    let (body, whole) = exchange.body().await;
    if !whole {
        return;
    }
    let created = exchange.method == Method::POST;
    match fault {
        62..72 if created => return exchange.answer(409, quota_conflict()).await,
        72..73 if created => {
            return answered_again(exchange, 429, "Too many requests, please try again later.")
                .await;
        }
        73..74 if created => {
            let text = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"apiserver is shutting down","reason":"ServiceUnavailable","code":503}"#;
            return answered_again(exchange, 503, text).await;
        }
        74..76 => {
            return exchange
                .answer(409, Bytes::from(vec![b' '; 100 << 10]))
                .await;
        }
        76..80 => return exchange.break_off(after_it(&mut rng)),
        _ => {}
    }
    // From here on the request has taken effect, even if the answer is lost.
    if let Some(name) = exchange.journal.record(exchange.entry).name {
        exchange.journal.store(&name);
    }
    let body = if body.is_empty() {
        Bytes::from_static(br#"{"kind":"Pod"}"#)
    } else {
        body
    };
    let status = if created { 201 } else { 200 };
    match fault {
        80..84 => exchange.break_off(after_it(&mut rng)),
        84..96 => half(exchange, status, body, &mut rng).await,
        96..97 => {
            let big = Bytes::from([&body[..], &vec![b' '; 3 << 20]].concat());
            exchange.answer(status, big).await;
        }
        97..99 => {
            let _left = bytewise(exchange, status, body).await;
        }
        _ if rng.u8(..30) == 0 => exchange.answer_and_close(status, body).await,
        _ => exchange.answer(status, body).await,
    }
}

/// The request had no effect, so the reset may say so.
fn before_anything(rng: &mut Rng) -> BreakOff {
    if rng.u8(..3) == 0 {
        BreakOff::Reset(Reason::REFUSED_STREAM)
    } else {
        after_it(rng)
    }
}

fn after_it(rng: &mut Rng) -> BreakOff {
    match rng.u8(..12) {
        0 => BreakOff::Close,
        1 => BreakOff::TcpReset,
        2 => BreakOff::Goaway(Reason::ENHANCE_YOUR_CALM),
        3 => BreakOff::Goaway(Reason::INTERNAL_ERROR),
        _ => BreakOff::Reset(REASONS[rng.usize(..REASONS.len())]),
    }
}

/// Sends a head, a part of the body, and no end.
async fn half(mut exchange: Exchange, status: u16, body: Bytes, rng: &mut Rng) {
    let length = body.len().to_string();
    let headers: &[(&str, &str)] = if rng.bool() {
        &[("content-length", &length)]
    } else {
        &[]
    };
    // With a declared length, all bytes without an end are a complete body.
    let sent = if headers.is_empty() {
        rng.usize(..=body.len())
    } else {
        rng.usize(..body.len())
    };
    if exchange.head(status, headers).await.is_err()
        || (sent > 0 && exchange.send(body.slice(..sent)).await.is_err())
    {
        return;
    }
    if rng.bool() {
        // The wait lets the bytes leave before the reset. h2 discards unwritten data at a reset.
        tokio::time::sleep(Duration::from_millis(rng.u64(1..30))).await;
    }
    exchange.break_off(after_it(rng));
}

async fn bytewise(mut exchange: Exchange, status: u16, body: Bytes) -> Result<(), Gone> {
    exchange.head(status, &[]).await?;
    let (single, rest) = body.split_at(body.len().min(200));
    for byte in single {
        exchange.send(Bytes::copy_from_slice(&[*byte])).await?;
    }
    if !rest.is_empty() {
        exchange.send(Bytes::copy_from_slice(rest)).await?;
    }
    exchange.end().await;
    Ok(())
}

async fn answered_again(mut exchange: Exchange, status: u16, text: &'static str) {
    let length = text.len().to_string();
    if exchange
        .head(status, &[("retry-after", "1"), ("content-length", &length)])
        .await
        .is_ok()
        && exchange.send(text).await.is_ok()
    {
        exchange.end().await;
    }
}
