//! Whether the cost of a request stays the same with many connections, many namespaces and many
//! requests.

use std::cell::Cell as Shared;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use tokio::task::JoinSet;

use crate::accounting;
use crate::client::{PreparedRequest, Target};
use crate::contestant::Running;
use crate::measure::{self, Cell};

/// How many connections are open and busy, one request each.
pub(crate) const CONNECTIONS: [usize; 3] = [32, 1000, 5000];
/// Over how many namespaces creates go in turn.
pub(crate) const NAMESPACES: [usize; 3] = [1, 100, 10_000];
/// After how many creates the memory is read.
pub(crate) const CREATES: [u32; 4] = [10_000, 100_000, 500_000, 1_000_000];

/// How many requests are in flight where it is not the question.
const AT_A_TIME: usize = 32;
/// 5,000 connections need this long to take several turns.
const AT_LEAST: Duration = Duration::from_secs(3);

/// Processor seconds for 10,000 requests on so many connections.
pub(crate) async fn connections(
    running: &Running,
    target: &Target,
    count: usize,
    slice: Duration,
) -> Result<f64> {
    let cell = Cell {
        method: "GET",
        protocol: target.protocol,
        concurrency: count,
    };
    let cost = measure::cost(running, target, cell, slice.max(AT_LEAST)).await?;
    Ok(cost.per_10k)
}

/// Processor seconds for 10,000 creates that go to so many namespaces in turn.
pub(crate) async fn namespaces(
    running: &Running,
    target: &Target,
    count: usize,
    slice: Duration,
) -> Result<f64> {
    let requests = (0..count)
        .map(|n| PreparedRequest::new(Method::POST, &format!("/api/v1/namespaces/team-{n}/pods")))
        .collect::<Result<Rc<[_]>>>()?;
    let cost = measure::cost_of(running, target, AT_A_TIME, &requests, slice.max(AT_LEAST));
    Ok(cost.await?.per_10k)
}

/// MiB that the contestant occupies after so many creates. `running` is new.
pub(crate) async fn memory(running: &Running, target: &Target) -> Result<Vec<f64>> {
    let process = running.process().context("a proxy")?;
    let request = PreparedRequest::new(Method::POST, "/api/v1/namespaces/argo/pods")?;
    let mut connections = target.connections(AT_A_TIME).await?;
    let (mut done, mut occupied) = (0, Vec::new());
    for count in CREATES {
        let left = Rc::new(Shared::new(count - done));
        let mut workers = JoinSet::new();
        for mut connection in connections.drain(..) {
            let (request, left) = (request.clone(), Rc::clone(&left));
            workers.spawn_local(async move {
                while let Some(fewer) = left.get().checked_sub(1) {
                    left.set(fewer);
                    let (status, _) = connection.exchange(&request).await?;
                    ensure!(status.is_success(), "an answer of {status}");
                }
                Ok(connection)
            });
        }
        while let Some(ended) = workers.join_next().await {
            connections.push(ended??);
        }
        done = count;
        occupied.push(accounting::resident(process)? / 1024.0);
        eprintln!("scale: {count} creates");
    }
    Ok(occupied)
}
