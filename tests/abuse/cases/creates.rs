//! Creates that hold memory: only bytes that have arrived count against the limit, and conflicts of
//! other clients are still replayed.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::lab::{Lab, Outcome, Size, in_time, ordinary};
use crate::peers::upstream::Exchange;
use crate::peers::{Ask, Protocol, http1, http2, pod};

cases![
    creates_that_send_nothing_leave_replay_on,
    creates_that_send_a_byte_leave_replay_on,
    creates_that_stop_before_their_end_leave_replay_on,
    creates_over_one_http2_connection_that_send_nothing_leave_replay_on,
    answers_to_creates_are_not_read,
];

/// The answer of a real apiserver to a create that lost the race for its quota.
pub fn quota_conflict() -> &'static str {
    include_str!("../../samples/quota_conflict_409.http")
        .split_once("\r\n\r\n")
        .or_else(|| include_str!("../../samples/quota_conflict_409.http").split_once("\n\n"))
        .unwrap()
        .1
}

/// Answers the first attempt of each name with a conflict.
pub async fn conflict_once(exchange: Exchange) {
    let journal = Arc::clone(&exchange.journal);
    let mut exchange = exchange;
    let (_, whole) = exchange.body().await;
    let Some(name) = journal.record(exchange.entry).name.filter(|_| whole) else {
        return;
    };
    let first = format!("refused {name}");
    if journal.is_stored(&first) {
        journal.store(&name);
        exchange.answer(201, "{}").await;
    } else {
        journal.store(&first);
        exchange.answer(409, quota_conflict()).await;
    }
}

/// Counts the replays of 20 creates that meet a conflict, while other creates are stalled.
async fn replayed(lab: &mut Lab) {
    let mut clients = JoinSet::new();
    for number in 0..20 {
        let dialer = lab.dialer().clone();
        clients.spawn(async move {
            let mut client = http1::Client::connect(&dialer).await.unwrap();
            let create = Ask::create("honest");
            in_time(client.call(&create, &pod(&format!("replayed-{number}"), 1000)))
                .await
                .is_some_and(|answer| answer.is_ok_and(|answer| answer.status == 201))
        });
    }
    let mut replayed = 0;
    while let Some(done) = clients.join_next().await {
        replayed += usize::from(done.unwrap());
    }
    lab.note(format!("{replayed} of 20 conflicts replayed"));
    lab.require(
        replayed == 20,
        format!("{replayed} of 20 conflicts replayed"),
    );
}

/// Together 256 MiB, the limit of all bodies, in creates of 3 MiB.
fn declared(number: usize) -> usize {
    if number < 85 { 3 << 20 } else { 1 << 20 }
}

/// 86 creates over HTTP/1.1 that declare 3 MiB and stop after `sent` bytes.
async fn stalled(size: Size, sent: usize) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, |exchange: Exchange| async move {
        if exchange.path.contains("honest") {
            conflict_once(exchange).await
        } else {
            ordinary(exchange).await
        }
    })
    .await;
    lab.neighbours().await;
    let mut open = Vec::new();
    for number in 0..86 {
        let mut client = http1::Client::connect(lab.dialer()).await.unwrap();
        let ask = Ask::create("abuse").with("content-length", declared(number));
        client.head(&ask).await.unwrap();
        let body = pod(&format!("stalled-{number}"), 3 << 20);
        let sent = sent.min(declared(number) - 1);
        // The proxy need not accept all of these bytes.
        let _closed = in_time(client.wire.write(&body[..sent])).await;
        open.push(client);
    }
    if sent > 1 << 20 {
        let told = lab.proxy.metric("buffered_bytes", "").await;
        lab.note(format!("buffered_bytes {told}"));
        lab.require(told > 0.0, "buffered_bytes does not show what has arrived");
    }
    replayed(&mut lab).await;
    lab.finish(open).await
}

async fn creates_that_send_nothing_leave_replay_on(size: Size) -> Outcome {
    stalled(size, 0).await
}

async fn creates_that_send_a_byte_leave_replay_on(size: Size) -> Outcome {
    stalled(size, 1).await
}

async fn creates_that_stop_before_their_end_leave_replay_on(size: Size) -> Outcome {
    stalled(size, 2_900_000).await
}

async fn creates_over_one_http2_connection_that_send_nothing_leave_replay_on(
    size: Size,
) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, |exchange: Exchange| async move {
        if exchange.path.contains("honest") {
            conflict_once(exchange).await
        } else {
            ordinary(exchange).await
        }
    })
    .await;
    lab.neighbours().await;
    let client = http2::Client::connect(lab.dialer()).await.unwrap();
    let mut open = Vec::new();
    for number in 0..86 {
        open.push(
            client
                .open(
                    &Ask::create("abuse").with("content-length", declared(number)),
                    false,
                )
                .await
                .unwrap(),
        );
    }
    // A call on the same connection shows that the creates have arrived.
    let behind = in_time(client.call(&Ask::get("/version?behind"), b"")).await;
    lab.require(
        matches!(behind, Some(Ok(_))),
        format!("a call behind them: {behind:?}"),
    );
    replayed(&mut lab).await;
    lab.finish((client, open)).await
}

/// Large answers to small creates, of which the client reads only the heads. Full, they are more
/// than one address may occupy: the rest streams and counts among the answers that nobody reads.
async fn answers_to_creates_are_not_read(size: Size) -> Outcome {
    const ANSWER: usize = 60_000;
    const CREATES: usize = 230;
    let mut lab = Lab::start(size, Protocol::Http2, |mut exchange: Exchange| async move {
        if exchange.path.contains("abuse") {
            let _read = exchange.body().await;
            exchange.answer(201, vec![b' '; ANSWER]).await;
        } else {
            ordinary(exchange).await
        }
    })
    .await;
    lab.neighbours().await;
    let windows = http2::Windows {
        stream: 1000,
        connection: 65_535,
    };
    let connections = size.of(2, 10);
    let mut open = Vec::new();
    for _ in 0..connections {
        let client = http2::Client::connect_with(lab.dialer(), windows)
            .await
            .unwrap();
        for number in 0..CREATES {
            let body = pod(&format!("unread-{number}"), 500);
            let answer = client.send(&Ask::create("abuse"), &body).await.unwrap();
            match in_time(answer).await {
                Some(Ok(answer)) => open.push(answer.into_body()),
                other => lab.require(false, format!("create {number} got no head: {other:?}")),
            }
        }
    }
    let (least, most) = (100 << 20, 128 << 20);
    let told = lab.proxy.metric("buffered_bytes", "").await;
    lab.note(format!("buffered_bytes {told}"));
    let least = least.min(connections * CREATES * ANSWER) as f64;
    lab.require(
        (least..=f64::from(most)).contains(&told),
        format!("{told} bytes are reserved for answers that nobody reads"),
    );
    lab.neighbours_go_round(1).await;
    drop(open);
    let mut left = told;
    for _ in 0..100 {
        left = lab.proxy.metric("buffered_bytes", "").await;
        if left < ANSWER as f64 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    lab.require(left < ANSWER as f64, format!("{left} bytes stay reserved"));
    lab.finish(()).await
}
