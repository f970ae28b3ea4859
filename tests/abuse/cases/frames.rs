//! Small DATA frames, and streams that are reset: the cost of one stream must not affect other
//! streams.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::lab::{Lab, Outcome, Size, in_time, ordinary};
use crate::peers::http2::{self, LEAST};
use crate::peers::raw::{self, Frames};
use crate::peers::upstream::Exchange;
use crate::peers::{Ask, Protocol, http1};

cases![
    a_follower_of_short_lines_falls_behind_over_http2,
    a_follower_of_short_lines_falls_behind_over_http1,
    cancelled_followers_get_late_frames,
    answers_whose_end_comes_in_a_frame_of_its_own_end_no_connection,
    an_upload_in_small_frames_is_not_read,
    a_burst_of_requests_is_cancelled_at_once,
    a_burst_of_watches_is_cancelled_at_once,
    rapid_reset_goes_on,
];

/// Logs with short lines of 2 to 60 bytes, each in its own DATA frame.
async fn abused(mut exchange: Exchange) {
    if exchange.path.contains("follow=true") {
        if exchange
            .head(200, &[("content-type", "text/plain")])
            .await
            .is_ok()
        {
            for number in 0.. {
                if exchange
                    .send(Bytes::from(vec![b'l'; 2 + number % 59]))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
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

/// The upstream sends as much as the proxy accepts: megabytes if its windows allow that.
async fn a_follower_of_short_lines_falls_behind_over_http2(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    lab.neighbours().await;
    let mut unread = Vec::new();
    for number in 0..size.of(2, 20) {
        let client = http2::Client::connect_with(lab.dialer(), LEAST)
            .await
            .unwrap();
        let answer = client.send(&follow(number), b"").await.unwrap();
        unread.push((client, in_time(answer).await));
    }
    lab.wait_until_stalled().await;
    lab.neighbours_go_round(2).await;
    lab.finish(unread).await
}

/// Answers in the frames of Go's server. A client library closes a connection after a hundred empty
/// frames.
async fn answers_whose_end_comes_in_a_frame_of_its_own_end_no_connection(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, ordinary).await;
    lab.neighbours().await;
    let client = http2::Client::connect(lab.dialer()).await.unwrap();
    let total = size.of(150, 1000);
    let mut answered = 0;
    for number in 0..total {
        let get = Ask::get(format!("/api/v1/namespaces/abuse/pods/{number}"));
        answered += usize::from(
            client
                .call(&get, b"")
                .await
                .is_ok_and(|answer| answer.whole && answer.body == "{}"),
        );
    }
    lab.require(
        answered == total,
        format!("{answered} of {total} answered over one connection"),
    );
    lab.finish(client).await
}

async fn a_follower_of_short_lines_falls_behind_over_http1(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    lab.neighbours().await;
    let mut unread = Vec::new();
    for number in 0..size.of(2, 20) {
        let mut client = http1::Client::connect_small(lab.dialer()).await.unwrap();
        client.send(&follow(number), b"").await.unwrap();
        let head = in_time(client.answer_head(&Method::GET)).await;
        lab.require(
            matches!(head, Some(Ok(_))),
            format!("follower {number} got no head"),
        );
        unread.push(client);
    }
    lab.wait_until_stalled().await;
    lab.neighbours_go_round(2).await;
    lab.finish(unread).await
}

/// Frames that the upstream has sent before it knows of the reset have no receiver.
async fn cancelled_followers_get_late_frames(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    lab.neighbours().await;
    let client = http2::Client::connect(lab.dialer()).await.unwrap();
    for number in 0..size.of(40, 1000) {
        let answer = client.send(&follow(number), b"").await.unwrap();
        let mut body = match in_time(answer).await {
            Some(Ok(answer)) => answer.into_body(),
            other => {
                lab.require(false, format!("follower {number} got no head: {other:?}"));
                break;
            }
        };
        let _line = in_time(body.data()).await;
    }
    lab.finish(client).await
}

/// The opposite direction: frames of the client, on the connection that its neighbour shares.
async fn an_upload_in_small_frames_is_not_read(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    let client = http2::Client::connect(lab.dialer()).await.unwrap();
    lab.neighbours().await;
    lab.neighbour_on(&client).await;
    let (answer, mut stream) = client
        .open(
            &Ask::put("/api/v1/namespaces/abuse/configmaps/unread"),
            false,
        )
        .await
        .unwrap();
    lab.arrived("unread", 1).await;
    let frames = size.of(20_000, 200_000);
    let upload = tokio::spawn(async move {
        for number in 0..frames {
            if http2::send_data(&mut stream, Bytes::from(vec![b'u'; 2 + number % 59]), false)
                .await
                .is_err()
            {
                break;
            }
        }
        stream
    });
    lab.wait_until_stalled().await;
    lab.neighbours_go_round(2).await;
    upload.abort();
    lab.finish((answer, client)).await
}

/// Cancels many requests of one connection at once, as a program does when it ends. The watches on
/// the connection must survive. `ask` makes the cancelled requests.
async fn cancelled(size: Size, ask: fn(usize) -> Ask, heads: bool) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    let client = http2::Client::connect(lab.dialer()).await.unwrap();
    lab.neighbour_on(&client).await;
    lab.neighbours().await;
    for burst in 0..size.of(2, 20) {
        let mut open = Vec::new();
        for number in 0..[100, 240][burst % 2] {
            match client.send(&ask(number), b"").await {
                Ok(answer) => open.push(answer),
                Err(broken) => lab.require(
                    false,
                    format!("burst {burst}, request {number}: {broken:?}"),
                ),
            }
        }
        if heads {
            let mut streams = Vec::new();
            for answer in open {
                streams.push(in_time(answer).await);
            }
            drop(streams);
        } else {
            lab.arrived("/abuse/", 50).await;
            drop(open);
        }
        lab.neighbours_go_round(1).await;
    }
    lab.finish(client).await
}

async fn a_burst_of_requests_is_cancelled_at_once(size: Size) -> Outcome {
    cancelled(
        size,
        |number| Ask::get(format!("/api/v1/namespaces/abuse/unread/{number}")),
        false,
    )
    .await
}

async fn a_burst_of_watches_is_cancelled_at_once(size: Size) -> Outcome {
    cancelled(
        size,
        |number| Ask::get(format!("/api/v1/namespaces/abuse/pods?watch=true&{number}")),
        true,
    )
    .await
}

/// CVE-2023-44487: an endless series of requests, each reset in the packet that starts it. The
/// proxy may close such connections.
async fn rapid_reset_goes_on(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, abused).await;
    lab.neighbours().await;
    let (total, dialer) = (size.of(4_000, 185_000), lab.dialer().clone());
    let mut connections = 0;
    let mut sent = 0;
    while sent < total {
        connections += 1;
        let Ok(mut frames) = Frames::connect(&dialer).await else {
            continue;
        };
        let mut stream = 1;
        while sent < total {
            let mut flight = Vec::new();
            for _ in 0..50 {
                flight.extend_from_slice(&raw::request(
                    stream,
                    &Ask::get("/api/v1/namespaces/abuse/unread/reset"),
                    true,
                ));
                flight.extend_from_slice(&raw::rst_stream(stream, h2::Reason::CANCEL));
                stream += 2;
            }
            sent += 50;
            if frames.write(&flight).await.is_err() || frames.ping().await.is_err() {
                break;
            }
            // The pause keeps the rate low, as an attacker does to stay unnoticed.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let reached = lab.journal.count("/reset");
    lab.note(format!(
        "{sent} resets over {connections} connections, {reached} requests reached the upstream"
    ));
    lab.finish(()).await
}
