//! Stalled readers: data that they do not read must not block streams of other clients.

use bytes::Bytes;
use h2::RecvStream;
use http::Method;

use crate::lab::{Lab, Outcome, Size, in_time, ordinary};
use crate::peers::http2::{self, GO, LEAST, Windows};
use crate::peers::upstream::Exchange;
use crate::peers::{Ask, Protocol, http1, pod};

cases![
    three_readers_come_before_anybody_else,
    followers_of_logs_over_http2_stand_still,
    followers_of_logs_over_http1_stand_still,
    lists_over_http2_are_not_read,
    lists_over_http1_are_not_read,
    a_client_reads_its_log_at_no_window_and_calls_on,
    uploads_that_the_upstream_does_not_read,
];

/// Endless logs, lists of 4.5 MiB, and uploads that the upstream does not read.
async fn abused(mut exchange: Exchange) {
    if exchange.path.contains("follow=true") {
        if exchange
            .head(200, &[("content-type", "text/plain")])
            .await
            .is_ok()
        {
            let line = Bytes::from(vec![b'l'; 16 << 10]);
            while exchange.send(line.clone()).await.is_ok() {}
        }
    } else if exchange.path.contains("list=") {
        exchange.answer(200, vec![b'i'; 4_500_000]).await;
    } else if exchange.path.contains("unread") {
        std::future::pending().await
    } else {
        ordinary(exchange).await;
    }
}

fn follow(number: usize) -> Ask {
    Ask::get(format!(
        "/api/v1/namespaces/abuse/pods/pod-{number}/log?follow=true"
    ))
}

fn list(number: usize) -> Ask {
    Ask::get(format!("/api/v1/namespaces/abuse/pods?list={number}"))
}

/// Opens requests over HTTP/2, each on its own connection, and reads only the heads of the answers.
async fn unread2(
    lab: &mut Lab,
    count: usize,
    ask: fn(usize) -> Ask,
) -> Vec<(http2::Client, RecvStream)> {
    let mut unread = Vec::new();
    for number in 0..count {
        let client = http2::Client::connect_with(lab.dialer(), LEAST)
            .await
            .unwrap();
        let answer = client.send(&ask(number), b"").await.unwrap();
        match in_time(answer).await {
            Some(Ok(answer)) => unread.push((client, answer.into_body())),
            other => lab.require(false, format!("reader {number} got no head: {other:?}")),
        }
    }
    unread
}

async fn unread1(lab: &mut Lab, count: usize, ask: fn(usize) -> Ask) -> Vec<http1::Client> {
    let mut unread = Vec::new();
    for number in 0..count {
        let mut client = http1::Client::connect_small(lab.dialer()).await.unwrap();
        client.send(&ask(number), b"").await.unwrap();
        match in_time(client.answer_head(&Method::GET)).await {
            Some(Ok(_)) => unread.push(client),
            other => lab.require(false, format!("reader {number} got no head: {other:?}")),
        }
    }
    unread
}

/// Three readers while a lane opens its first connections: requests that arrive with them must not
/// share the first connection.
async fn three_readers_come_before_anybody_else(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    let client = http2::Client::connect_with(lab.dialer(), LEAST)
        .await
        .unwrap();
    let own = http2::Client::connect(&lab.proxy.dialer).await.unwrap();
    let (mut unread, mut opening) = (Vec::new(), Vec::new());
    for number in 0..12 {
        if number < 3 {
            unread.push(client.send(&follow(number), b"").await.unwrap());
        }
        opening.push(
            own.send(
                &Ask::get(format!("/api/v1/namespaces/own/pods?watch=true&{number}")),
                b"",
            )
            .await
            .unwrap(),
        );
    }
    lab.arrived("/abuse/", 3).await;
    let mut watches = Vec::new();
    for answer in opening {
        watches.extend(in_time(answer).await.and_then(Result::ok));
    }
    lab.wait_until_stalled().await;
    lab.journal.events.send("event".to_owned()).unwrap();
    let mut told = 0;
    // One time limit for all watches together.
    let _over = in_time(async {
        for watch in &mut watches {
            told += usize::from(
                matches!(http2::next(watch.body_mut()).await, Some(Ok(event)) if event == "event"),
            );
        }
    })
    .await;
    lab.note(format!("{told} of 12 watches got their event"));
    lab.require(told == 12, format!("{told} of 12 watches got their event"));
    lab.neighbours().await;
    lab.finish((client, unread)).await
}

async fn followers_of_logs_over_http2_stand_still(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    lab.neighbours().await;
    let unread = unread2(&mut lab, size.of(24, 120), follow).await;
    lab.wait_until_stalled().await;
    lab.neighbours_go_round(1).await;
    lab.finish(unread).await
}

async fn followers_of_logs_over_http1_stand_still(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    lab.neighbours().await;
    let unread = unread1(&mut lab, size.of(24, 120), follow).await;
    lab.wait_until_stalled().await;
    lab.neighbours_go_round(1).await;
    lab.finish(unread).await
}

async fn lists_over_http2_are_not_read(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    lab.neighbours().await;
    let unread = unread2(&mut lab, size.of(24, 120), list).await;
    lab.wait_until_stalled().await;
    lab.neighbours_go_round(1).await;
    lab.finish(unread).await
}

async fn lists_over_http1_are_not_read(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http1, abused).await;
    lab.neighbours().await;
    let unread = unread1(&mut lab, size.of(24, 120), list).await;
    lab.wait_until_stalled().await;
    lab.neighbours_go_round(1).await;
    lab.finish(unread).await
}

/// One connection carries both the followers without a window and the neighbour.
async fn a_client_reads_its_log_at_no_window_and_calls_on(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    let windows = Windows {
        stream: 65_535,
        connection: GO.connection,
    };
    let client = http2::Client::connect_with(lab.dialer(), windows)
        .await
        .unwrap();
    lab.neighbour_on(&client).await;
    let mut unread = Vec::new();
    for number in 0..size.of(24, 90) {
        let answer = client.send(&follow(number), b"").await.unwrap();
        unread.push(
            in_time(answer)
                .await
                .map(|answer| answer.unwrap().into_body()),
        );
    }
    lab.wait_until_stalled().await;
    lab.neighbours_go_round(1).await;
    lab.finish(unread).await
}

/// Uploads of 2 MiB each, over HTTP/1.1 and on the neighbour's HTTP/2 connection, to an upstream
/// that gives no window for them.
async fn uploads_that_the_upstream_does_not_read(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    let client = http2::Client::connect(lab.dialer()).await.unwrap();
    lab.neighbours().await;
    lab.neighbour_on(&client).await;
    let body = pod("upload", 2 << 20);
    let mut uploads = tokio::task::JoinSet::new();
    let count = size.of(3, 24);
    for number in 0..count {
        let (client, dialer, body) = (client.clone(), lab.dialer().clone(), body.clone());
        let ask = Ask::put(format!(
            "/api/v1/namespaces/abuse/configmaps/unread-{number}"
        ));
        uploads.spawn(async move {
            if number % 2 == 0 {
                let _never = client.call(&ask, &body).await;
            } else {
                let _never = http1::Client::connect(&dialer)
                    .await
                    .unwrap()
                    .call(&ask, &body)
                    .await;
            }
        });
    }
    lab.arrived("unread", count).await;
    lab.neighbours_go_round(2).await;
    lab.finish(uploads).await
}
