//! The random run: creates and calls with random faults of the client, the upstream, or both. The
//! journal decides what is wrong.

mod client;
mod judge;
pub mod resolving;
mod server;

use std::sync::Arc;

use fastrand::Rng;
use tokio::task::JoinSet;

use crate::lab::{Lab, Outcome, Size};
use crate::peers::Protocol;
use crate::peers::upstream::script;
use crate::proxy::Configuration;

use client::Client;
use judge::Judge;

cases![
    faults_over_an_http1_upstream,
    faults_over_an_http2_upstream,
    faults_over_two_http2_upstreams
];

/// The number of requests in flight at the same time.
const WORKERS: usize = 24;

/// After this many unanswered requests the run ends early, because more would show nothing new.
const ENOUGH_UNANSWERED: usize = 24;

async fn faults_over_an_http1_upstream(size: Size) -> Outcome {
    run(size, &[Protocol::Http1]).await
}

async fn faults_over_an_http2_upstream(size: Size) -> Outcome {
    run(size, &[Protocol::Http2]).await
}

async fn faults_over_two_http2_upstreams(size: Size) -> Outcome {
    run(size, &[Protocol::Http2, Protocol::Http2]).await
}

/// The seed of this run, which is printed. It can be set to repeat a run.
fn seed() -> u64 {
    let given = std::env::var("KUBE_RETRY_PROXY_SEED").ok();
    let seed = given.map_or_else(
        || fastrand::u64(..),
        |seed| seed.parse().expect("KUBE_RETRY_PROXY_SEED is a number"),
    );
    println!("KUBE_RETRY_PROXY_SEED={seed}");
    seed
}

/// The random numbers for request `number` of a run, on one side.
fn rng(seed: u64, number: usize, side: u64) -> Rng {
    Rng::with_seed(
        seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ side.wrapping_mul(0xd1b5_4a32_d192_ed03),
    )
}

async fn run(size: Size, upstreams: &[Protocol]) -> Outcome {
    let seed = seed();
    let configuration = Configuration {
        replay: "baseDelay: 5ms, maxDelay: 50ms".to_owned(),
        ..Configuration::default()
    };
    let mut lab = Lab::with(
        size,
        upstreams,
        configuration,
        script(move |exchange| server::answer(exchange, seed)),
    )
    .await;
    for upstream in &lab.upstreams {
        upstream.refuse_every(20);
    }
    let judge = Arc::new(Judge::default());
    let requests = size.of(500, 14_000);
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (dialer, judge) = (lab.dialer().clone(), Arc::clone(&judge));
        workers.spawn(async move {
            let mut client = Client::new(dialer);
            for number in (worker..requests).step_by(WORKERS) {
                if judge.unanswered() >= ENOUGH_UNANSWERED {
                    return;
                }
                let sent = client.ask(number, seed).await;
                judge.note(sent);
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
    judge.judge(&mut lab);
    lab.note(format!("KUBE_RETRY_PROXY_SEED={seed}"));
    lab.finish(()).await
}
