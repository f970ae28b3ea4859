//! The upstream's side: an apiserver that loses answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use h2::Reason;
use http::Method;
use serde_json::{Value, json};

use super::super::rng;
use super::objects::{Objects, date};
use crate::cases::quota_conflict;
use crate::peers::upstream::{BreakOff, Exchange};

/// How long after its loss a create is stored at the latest.
pub const LATEST: Duration = Duration::from_millis(60);

/// Answers a request. The seed, its number and how often it came determine how.
pub async fn answer(mut exchange: Exchange, seed: u64, objects: Arc<Objects>) {
    let number = exchange.headers.get("lab-number");
    let number = number.and_then(|number| number.to_str().ok()?.parse::<usize>().ok());
    let Some(number) = number else {
        // A probe of the proxy.
        return exchange.answer(200, "ok").await;
    };
    let came = exchange.journal.attempt(number);
    let mut rng = rng(seed, number, 1 + came);
    let (body, whole) = exchange.body().await;
    if !whole {
        return;
    }
    if exchange.method == Method::GET {
        return look(exchange, &objects, &mut rng).await;
    }
    let fault = if came > 6 { 99 } else { rng.u8(..100) };
    match fault {
        0..12 => return exchange.break_off(lost(&mut rng)),
        12..18 => {
            store_late(objects, number, body, &mut rng);
            return exchange.break_off(lost(&mut rng));
        }
        18..26 => return told(exchange, 409, quota_conflict()).await,
        26..32 => return told(exchange, 504, failure(504, "Timeout", "Timeout: no answer")).await,
        32..36 => {
            store_late(objects, number, body, &mut rng);
            let failure = failure(504, "Timeout", "Timeout: no answer");
            return told(exchange, 504, failure).await;
        }
        _ => {}
    }
    let Some(object) = objects.create(number, &body) else {
        let sent: Value = serde_json::from_slice(&body).unwrap();
        let name = sent["metadata"]["name"].as_str().unwrap();
        let exists = about(409, "AlreadyExists", name, "already exists");
        return if fault < 60 {
            exchange.break_off(lost(&mut rng))
        } else {
            told(exchange, 409, exists).await
        };
    };
    let object = Bytes::from(object.to_string());
    match fault {
        36..50 => exchange.break_off(lost(&mut rng)),
        50..54 => {
            told(
                exchange,
                500,
                failure(500, "", "etcdserver: request timed out"),
            )
            .await
        }
        54..62 => half(exchange, object, &mut rng).await,
        _ => told(exchange, 201, object).await,
    }
}

/// Answers a lookup.
async fn look(exchange: Exchange, objects: &Objects, rng: &mut Rng) {
    let name = exchange
        .path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    match rng.u8(..100) {
        0..8 => exchange.break_off(lost(rng)),
        8..12 => told(exchange, 500, failure(500, "InternalError", "no")).await,
        12..16 => told(exchange, 404, "<html>not found</html>").await,
        16..18 => told(exchange, 403, failure(403, "Forbidden", "no")).await,
        _ => match objects.get(&name) {
            Some(object) => told(exchange, 200, object.to_string()).await,
            None => told(exchange, 404, about(404, "NotFound", &name, "not found")).await,
        },
    }
}

/// Stores the object after the proxy has lost its answer.
fn store_late(objects: Arc<Objects>, number: usize, body: Bytes, rng: &mut Rng) {
    let after = Duration::from_millis(rng.u64(..LATEST.as_millis() as u64 / 2));
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        let _taken = objects.create(number, &body);
    });
}

/// A whole answer with its `Date`.
async fn told(mut exchange: Exchange, status: u16, body: impl Into<Bytes>) {
    let body = body.into();
    let (length, date) = (body.len().to_string(), date());
    let headers = [
        ("content-type", "application/json"),
        ("content-length", &length),
        ("date", &date),
    ];
    if exchange.head(status, &headers).await.is_ok() && exchange.send(body).await.is_ok() {
        exchange.end().await;
    }
}

/// Half of a 201.
async fn half(mut exchange: Exchange, body: Bytes, rng: &mut Rng) {
    let length = body.len().to_string();
    let headers = [("content-length", length.as_str())];
    if exchange.head(201, &headers).await.is_ok() {
        let _gone = exchange.send(body.slice(..body.len() / 2)).await;
        tokio::time::sleep(Duration::from_millis(rng.u64(1..10))).await;
        exchange.break_off(lost(rng));
    }
}

fn lost(rng: &mut Rng) -> BreakOff {
    match rng.u8(..10) {
        0 => BreakOff::Close,
        1 => BreakOff::TcpReset,
        2 => BreakOff::Goaway(Reason::INTERNAL_ERROR),
        _ => BreakOff::Reset(Reason::INTERNAL_ERROR),
    }
}

fn failure(code: u16, reason: &str, message: &str) -> String {
    status(code, reason, message, json!({}))
}

/// A Status about the pod of this name.
fn about(code: u16, reason: &str, name: &str, says: &str) -> String {
    let message = format!("pods \"{name}\" {says}");
    status(
        code,
        reason,
        &message,
        json!({ "name": name, "kind": "pods" }),
    )
}

fn status(code: u16, reason: &str, message: &str, details: Value) -> String {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    })
    .to_string()
}
