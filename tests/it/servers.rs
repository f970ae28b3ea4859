//! Several servers: creates of a namespace use one server, and all other requests are distributed.
//! A server that fails or goes away causes no errors.

mod failover;
mod pins;
mod storms;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::StatusCode;
use model_control_plane::{Attempt, QuotaOutcome, Settings};
use tokio::task::JoinSet;

use crate::support::{Protocol, Rig, eventually, soon};

const SERVERS: usize = 3;

/// Three apiservers in which nothing takes time.
fn quick() -> Settings {
    Settings {
        apiservers: SERVERS,
        ..Settings::quick()
    }
}

/// Three apiservers with realistic times.
fn storming() -> Settings {
    Settings {
        seed: 1,
        ..Settings::default()
    }
}

/// Creates pods, `in_flight` at a time, until there are `pods` of them or `over` returns true.
/// Fails if a create fails. Returns the number of pods.
async fn storm(rig: &Rig, in_flight: usize, pods: usize, over: impl Fn() -> bool) -> usize {
    let (next, stop) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (mut client, next, stop) = (
            rig.client(Protocol::Http1).await,
            Arc::clone(&next),
            Arc::clone(&stop),
        );
        workers.spawn(async move {
            let mut acknowledged = 0;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= pods || stop.load(Ordering::Relaxed) {
                    return acknowledged;
                }
                let answer = client.create(&format!("pod-{n}")).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
                acknowledged += 1;
            }
        });
    }
    if pods == usize::MAX {
        eventually("the storm is over", over).await;
        stop.store(true, Ordering::Relaxed);
    }
    soon(workers.join_all()).await.into_iter().sum()
}

fn count(attempts: &[Attempt], is: impl Fn(&Attempt) -> bool) -> usize {
    attempts.iter().filter(|attempt| is(attempt)).count()
}

fn conflicts(attempts: &[Attempt]) -> usize {
    count(attempts, |attempt| attempt.quota == QuotaOutcome::Conflict)
}
