//! Bodies and heads that use memory. The memory table shows how much; these cases check that other
//! clients are served.

use tokio::task::JoinSet;

use super::creates::{conflict_once, quota_conflict};
use crate::lab::{Lab, Outcome, Size, ordinary};
use crate::peers::upstream::Exchange;
use crate::peers::{Answer, Ask, Broken, Protocol, http1, http2, pod};
use crate::proxy::PATIENCE;

cases![
    creates_in_chunks_of_one_byte_over_http1,
    creates_in_frames_of_one_byte_over_http2,
    creates_of_three_megabytes_that_all_conflict_over_http1,
    creates_of_three_megabytes_that_all_conflict_over_http2,
    held_creates_with_heads_of_64_kib,
    held_creates_with_heads_of_a_mebibyte,
];

/// Answers every create of an abuser with a conflict.
async fn conflicting(mut exchange: Exchange) {
    if exchange.path.contains("honest") {
        return conflict_once(exchange).await;
    }
    if exchange.path.contains("conflict") {
        if exchange.body().await.1 {
            exchange.answer(409, quota_conflict()).await;
        }
        return;
    }
    ordinary(exchange).await;
}

/// Adds the results of the abusers' own requests to the notes.
async fn tell(lab: &mut Lab, mut asked: JoinSet<Option<Result<Answer, Broken>>>) {
    let mut outcomes = std::collections::BTreeMap::<String, usize>::new();
    while let Some(done) = asked.join_next().await {
        let outcome = match done.unwrap() {
            None => "unanswered".to_owned(),
            Some(Err(_)) => "broken".to_owned(),
            Some(Ok(answer)) => answer.status.to_string(),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    lab.require(
        !outcomes.contains_key("unanswered"),
        format!("{outcomes:?}"),
    );
    lab.require(!outcomes.contains_key("504"), format!("{outcomes:?}"));
    lab.note(format!("{outcomes:?}"));
}

async fn creates_in_chunks_of_one_byte_over_http1(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, conflicting).await;
    lab.neighbours().await;
    let mut asked = JoinSet::new();
    for number in 0..8 {
        let (dialer, length) = (lab.dialer().clone(), size.of(100_000, 3_000_000));
        asked.spawn(in_time_of_many(async move {
            let mut client = http1::Client::connect(&dialer).await?;
            client
                .head(&Ask::create("abuse").with("transfer-encoding", "chunked"))
                .await?;
            for piece in pod(&format!("chunks-{number}"), length).chunks(1000) {
                let chunks: Vec<u8> = piece
                    .iter()
                    .flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n'])
                    .collect();
                client.wire.write(&chunks).await?;
            }
            client.wire.write(b"0\r\n\r\n").await?;
            client.answer(&http::Method::POST).await
        }));
    }
    tell(&mut lab, asked).await;
    lab.finish(()).await
}

async fn creates_in_frames_of_one_byte_over_http2(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, conflicting).await;
    lab.neighbours().await;
    let mut asked = JoinSet::new();
    for number in 0..8 {
        let (dialer, length) = (lab.dialer().clone(), size.of(50_000, 3_000_000));
        asked.spawn(in_time_of_many(async move {
            let client = http2::Client::connect(&dialer).await?;
            let (answer, mut stream) = client.open(&Ask::create("abuse"), false).await?;
            let body = pod(&format!("frames-{number}"), length);
            for at in 0..body.len() {
                http2::send_data(&mut stream, body.slice(at..=at), at + 1 == body.len()).await?;
            }
            http2::read(answer).await
        }));
    }
    tell(&mut lab, asked).await;
    lab.finish(()).await
}

/// Creates with large heads and bodies that always conflict, while conflicts of other clients are
/// replayed.
async fn all_conflict(
    size: Size,
    protocol: Protocol,
    count: usize,
    head: usize,
    body: usize,
) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http2, conflicting).await;
    lab.neighbours().await;
    let connections = if protocol == Protocol::Http1 {
        count
    } else {
        count.div_ceil(50)
    };
    let mut asked = JoinSet::new();
    for connection in 0..connections {
        let each = count / connections;
        let shared = match protocol {
            Protocol::Http2 => Some(http2::Client::connect(lab.dialer()).await.unwrap()),
            Protocol::Http1 => None,
        };
        for number in 0..each {
            let (dialer, shared) = (lab.dialer().clone(), shared.clone());
            let mut ask = Ask::create(&format!("conflict-{}", number % 10));
            // In header lines of 16 KiB, a size that every server accepts.
            for line in 0..head / (16 << 10) {
                ask = ask.with(&format!("x-lab-{line}"), "h".repeat((16 << 10) - 100));
            }
            let body = pod(&format!("large-{connection}-{number}"), body);
            asked.spawn(in_time_of_many(async move {
                match shared {
                    Some(client) => client.call(&ask, &body).await,
                    None => {
                        http1::Client::connect(&dialer)
                            .await?
                            .call(&ask, &body)
                            .await
                    }
                }
            }));
        }
    }
    tell(&mut lab, asked).await;
    lab.finish(()).await
}

/// Thousands of large requests take long on a slow machine; the case only requires that they end.
async fn in_time_of_many(
    asked: impl Future<Output = Result<Answer, Broken>>,
) -> Option<Result<Answer, Broken>> {
    tokio::time::timeout(PATIENCE * 10, asked).await.ok()
}

async fn creates_of_three_megabytes_that_all_conflict_over_http1(size: Size) -> Outcome {
    all_conflict(size, Protocol::Http1, size.of(20, 1000), 0, (3 << 20) - 100).await
}

async fn creates_of_three_megabytes_that_all_conflict_over_http2(size: Size) -> Outcome {
    all_conflict(size, Protocol::Http2, size.of(20, 1000), 0, (3 << 20) - 100).await
}

async fn held_creates_with_heads_of_64_kib(size: Size) -> Outcome {
    all_conflict(size, Protocol::Http1, size.of(20, 100), 48 << 10, 1000).await
}

async fn held_creates_with_heads_of_a_mebibyte(size: Size) -> Outcome {
    all_conflict(size, Protocol::Http1, size.of(20, 100), 1000 << 10, 1000).await
}
