//! Connections to upstreams: the proxy opens only as many as it needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::lab::{Lab, Outcome, Size, in_time, ordinary};
use crate::peers::upstream::{BreakOff, Exchange};
use crate::peers::{Ask, Protocol, http1, pod};

cases![
    an_upstream_that_closes_after_each_answer_meets_no_storm,
    an_upstream_that_resets_everything_meets_no_storm
];

/// Clients that send one request after another, each on its own connection. Returns how many
/// answers they got.
async fn calls(lab: &Lab, clients: usize, each: usize) -> (usize, usize) {
    let (answers, silent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut asking = JoinSet::new();
    for number in 0..clients {
        let (dialer, answers, silent) = (
            lab.dialer().clone(),
            Arc::clone(&answers),
            Arc::clone(&silent),
        );
        asking.spawn(async move {
            let mut client = http1::Client::connect(&dialer).await.unwrap();
            for turn in 0..each {
                let ask = Ask::get(format!("/api/v1/namespaces/abuse/pods/{number}-{turn}"));
                match in_time(client.call(&ask, b"")).await {
                    Some(Ok(answer)) if answer.whole => {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(_) => client = http1::Client::connect(&dialer).await.unwrap(),
                    None => {
                        silent.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
        });
    }
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }
    (
        answers.load(Ordering::Relaxed),
        silent.load(Ordering::Relaxed),
    )
}

async fn an_upstream_that_closes_after_each_answer_meets_no_storm(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http1, |mut exchange: Exchange| async move {
        exchange.body().await;
        exchange.answer_and_close(200, "{}").await;
    })
    .await;
    lab.neighbours().await;
    let (clients, each) = (size.of(10, 40), size.of(10, 40));
    let before = lab.upstreams[0].accepted();
    let (answers, silent) = calls(&lab, clients, each).await;
    let connections = lab.upstreams[0].accepted() - before;
    lab.note(format!(
        "{answers} answers of {} for {connections} connections",
        clients * each
    ));
    lab.require(
        answers == clients * each,
        format!(
            "{answers} of {} answered, {silent} got nothing at all",
            clients * each
        ),
    );
    // The factor two is generous, because the neighbours have connections too.
    lab.require(
        connections <= 2 * clients * each + 50,
        format!("{connections} connections for {answers} answers"),
    );
    lab.finish(()).await
}

async fn an_upstream_that_resets_everything_meets_no_storm(size: Size) -> Outcome {
    let mut lab = Lab::start(size, Protocol::Http1, |mut exchange: Exchange| async move {
        if exchange.path.contains("honest") {
            return ordinary(exchange).await;
        }
        exchange.body().await;
        exchange.break_off(BreakOff::TcpReset);
    })
    .await;
    lab.neighbours().await;
    let before = lab.upstreams[0].accepted();
    let (clients, each) = (20, size.of(10, 40));
    let dialer = lab.dialer().clone();
    let honest = tokio::spawn(async move {
        let mut client = http1::Client::connect(&dialer).await.unwrap();
        let mut answered = 0;
        for number in 0..10 {
            let ask = Ask::create("honest");
            if let Some(Ok(answer)) =
                in_time(client.call(&ask, &pod(&format!("honest-{number}"), 500))).await
            {
                answered += usize::from(answer.status == 201);
            }
        }
        answered
    });
    let (_, silent) = calls(&lab, clients, each).await;
    let answered = honest.await.unwrap();
    let connections = lab.upstreams[0].accepted() - before;
    lab.note(format!("{answered} of 10 honest creates, {connections} connections for {} requests that were reset", clients * each));
    lab.require(
        answered == 10,
        format!("{answered} of 10 honest creates answered"),
    );
    lab.require(silent == 0, format!("{silent} requests never answered"));
    lab.require(
        connections <= 2 * clients * each + 50,
        format!("{connections} connections for {} requests", clients * each),
    );
    lab.finish(()).await
}
