//! The measurements: each takes one contestant once.

use std::cell::{Cell as Shared, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::accounting;
use crate::client::{Connection, PreparedRequest, Protocol, Target};
use crate::contestant::Running;
use crate::instructions::Counter;
use crate::stub::{CONFLICTS, LIST, LIST_BYTES, WATCH};

const PODS: &str = "/api/v1/namespaces/argo/pods";
const POD_PATH: &str = "/api/v1/namespaces/argo/pods/step-1";
/// How long the contestant is warmed up before each measurement that takes time.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long a request takes at most on average when many connections are busy.
const FIRST_TURN: Duration = Duration::from_micros(200);
/// How long a watch may take to open.
const OPENS: Duration = Duration::from_secs(30);
/// The requests a second of the measurement of latency.
pub(crate) const RATE: u32 = 2000;
/// How many connections or handles wait for the next request there.
const READY: usize = 64;

/// A cell of the table of processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) method: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) concurrency: usize,
}

impl Cell {
    /// The eight cells: POST and GET, over HTTP/1.1 and HTTP/2, 32 and 128 at a time.
    pub(crate) fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for method in ["POST", "GET"] {
            for protocol in Protocol::ALL {
                for concurrency in [32, 128] {
                    cells.push(Self {
                        method,
                        protocol,
                        concurrency,
                    });
                }
            }
        }
        cells
    }

    pub(crate) fn name(self) -> String {
        let Self {
            method,
            protocol,
            concurrency,
        } = self;
        format!("{method} {} c{concurrency}", protocol.as_str())
    }

    /// Without the concurrency.
    pub(crate) fn short_name(self) -> String {
        format!("{} {}", self.method, self.protocol.as_str())
    }

    fn request(self) -> Result<PreparedRequest> {
        match self.method {
            "POST" => PreparedRequest::new(Method::POST, PODS),
            _ => PreparedRequest::new(Method::GET, POD_PATH),
        }
    }
}

/// What a contestant took for a number of requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Processor seconds for 10,000 requests. 0 without a proxy.
    pub(crate) per_10k: f64,
    pub(crate) per_second: f64,
}

/// Keeps `cell.concurrency` requests in flight for `slice`.
pub(crate) async fn cost(
    running: &Running,
    target: &Target,
    cell: Cell,
    slice: Duration,
) -> Result<Cost> {
    let request = Rc::from([cell.request()?]);
    cost_of(running, target, cell.concurrency, &request, slice).await
}

/// Keeps so many requests in flight for `slice`, each of `requests` in turn.
pub(crate) async fn cost_of(
    running: &Running,
    target: &Target,
    concurrency: usize,
    requests: &Rc<[PreparedRequest]>,
    slice: Duration,
) -> Result<Cost> {
    let connections = target.connections(concurrency).await?;
    // What a connection needs once, it has after its first request.
    let warm_up = WARM_UP.max(FIRST_TURN * u32::try_from(concurrency)?);
    let connections = closed_loop(connections, requests, warm_up)
        .await?
        .connections;
    let before = processor_time(running)?;
    let run = closed_loop(connections, requests, slice).await?;
    let took = processor_time(running)? - before;
    Ok(Cost {
        per_10k: took / f64::from(run.requests) * 1e4,
        per_second: f64::from(run.requests) / run.elapsed.as_secs_f64(),
    })
}

/// The instructions of one request of `cell`, the mean of many that come one after another.
pub(crate) async fn instructions(
    running: &Running,
    target: &Target,
    cell: Cell,
    counter: &Counter,
) -> Result<f64> {
    const REQUESTS: u32 = 500;
    const FIRST: u32 = 100;
    let process = running.process().context("a proxy")?;
    let request = cell.request()?;
    let mut connection = target.connect().await?;
    for n in 0..FIRST + REQUESTS {
        if n == FIRST {
            counter.begin(process)?;
        }
        let (status, _) = connection.exchange(&request).await?;
        ensure!(status.is_success(), "an answer of {status}");
    }
    Ok(counter.end(process)? / f64::from(REQUESTS))
}

struct Run {
    connections: Vec<Connection>,
    requests: u32,
    elapsed: Duration,
}

async fn closed_loop(
    connections: Vec<Connection>,
    requests: &Rc<[PreparedRequest]>,
    slice: Duration,
) -> Result<Run> {
    let started = Instant::now();
    let next = Rc::new(Shared::new(0));
    let mut workers = JoinSet::new();
    for mut connection in connections {
        let (requests, next) = (Rc::clone(requests), Rc::clone(&next));
        workers.spawn_local(async move {
            let mut done = 0;
            while started.elapsed() < slice {
                let request = &requests[next.get() % requests.len()];
                next.set(next.get() + 1);
                let (status, _) = connection.exchange(request).await?;
                ensure!(status.is_success(), "an answer of {status}");
                done += 1;
            }
            Ok((connection, done))
        });
    }
    let mut run = Run {
        connections: Vec::new(),
        requests: 0,
        elapsed: Duration::ZERO,
    };
    while let Some(ended) = workers.join_next().await {
        let (connection, requests) = ended??;
        run.connections.push(connection);
        run.requests += requests;
    }
    run.elapsed = started.elapsed();
    Ok(run)
}

fn processor_time(running: &Running) -> Result<f64> {
    running
        .process()
        .map_or(Ok(0.0), accounting::processor_time)
}

/// Latencies in microseconds, sorted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    pub(crate) fn of(mut micros: Vec<f64>) -> Self {
        micros.sort_unstable_by(f64::total_cmp);
        Self(micros)
    }

    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        let at = (self.0.len() as f64 * quantile) as usize;
        self.0.get(at).copied().unwrap_or_default()
    }
}

/// Creates at a fixed rate for `slice`. A create that finds no free connection counts from when it
/// was due.
pub(crate) async fn latency(target: &Target, slice: Duration) -> Result<Latencies> {
    let request = PreparedRequest::new(Method::POST, PODS)?;
    let free = Rc::new(RefCell::new(target.connections(READY).await?));
    let measured = Rc::new(RefCell::new(Vec::new()));
    // tokio's timers have a resolution of a millisecond.
    let each_tick = RATE.div_ceil(1000);
    let mut every = interval(Duration::from_millis(1));
    every.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let started = Instant::now();
    let mut sent = JoinSet::new();
    while started.elapsed() < slice + WARM_UP {
        let due = every.tick().await;
        let counts = started.elapsed() > WARM_UP;
        for _ in 0..each_tick {
            let (request, free, measured) =
                (request.clone(), Rc::clone(&free), Rc::clone(&measured));
            sent.spawn_local(async move {
                let mut begun = Instant::now();
                let mut connection = loop {
                    if let Some(connection) = free.borrow_mut().pop() {
                        break connection;
                    }
                    begun = due;
                    sleep(Duration::from_millis(1)).await;
                };
                let (status, _) = connection.exchange(&request).await?;
                ensure!(status == StatusCode::CREATED, "an answer of {status}");
                if counts {
                    measured
                        .borrow_mut()
                        .push(begun.elapsed().as_secs_f64() * 1e6);
                }
                free.borrow_mut().push(connection);
                Ok(())
            });
        }
        while let Some(ended) = sent.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = sent.join_next().await {
        ended??;
    }
    let measured = measured.take();
    Ok(Latencies::of(measured))
}

/// What a contestant occupies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// MiB before any request.
    pub(crate) idle: f64,
    /// MiB with all watches open.
    pub(crate) open: f64,
    /// KiB for each watch.
    pub(crate) each: f64,
}

/// Opens this many watches, and leaves them alone. `running` is new.
pub(crate) async fn watches(running: &Running, target: &Target, count: usize) -> Result<Memory> {
    let process = running.process().context("a proxy")?;
    sleep(Duration::from_millis(500)).await;
    let before = accounting::resident(process)?;
    let request = PreparedRequest::new(Method::GET, WATCH)?;
    let mut open = Vec::with_capacity(count);
    for mut connection in target.connections(count).await? {
        let mut answer = timeout(OPENS, connection.send(&request))
            .await
            .with_context(|| format!("watch {} of {count} got no answer", open.len()))??;
        ensure!(answer.status() == StatusCode::OK, "{answer:?}");
        let event = timeout(OPENS, answer.body_mut().frame()).await;
        let event = event.with_context(|| format!("watch {} got no event", open.len()))?;
        event.context("the watch ended")??;
        open.push((connection, answer));
    }
    sleep(Duration::from_secs(2)).await;
    let after = accounting::resident(process)?;
    ensure!(open.len() == count, "{} watches are open", open.len());
    Ok(Memory {
        idle: before / 1024.0,
        open: after / 1024.0,
        each: (after - before) / count as f64,
    })
}

/// Throughput of large answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Throughput {
    pub(crate) mib_per_second: f64,
    /// Processor seconds for each GiB. 0 without a proxy.
    pub(crate) per_gib: f64,
}

/// Lists of 5 MiB, `concurrency` at a time, for `slice`.
pub(crate) async fn lists(
    running: &Running,
    target: &Target,
    concurrency: usize,
    slice: Duration,
) -> Result<Throughput> {
    let request = PreparedRequest::new(Method::GET, LIST)?;
    let connections = target.connections(concurrency).await?;
    let before = processor_time(running)?;
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for mut connection in connections {
        let request = request.clone();
        workers.spawn_local(async move {
            let mut lists = 0;
            while started.elapsed() < slice {
                let (_, bytes) = connection.exchange(&request).await?;
                ensure!(bytes == LIST_BYTES, "a list of {bytes} bytes");
                lists += 1;
            }
            Ok(lists)
        });
    }
    let mut lists = 0;
    while let Some(ended) = workers.join_next().await {
        lists += ended??;
    }
    let mib = f64::from(lists) * LIST_BYTES as f64 / f64::from(1 << 20);
    let elapsed = started.elapsed().as_secs_f64();
    Ok(Throughput {
        mib_per_second: mib / elapsed,
        per_gib: (processor_time(running)? - before) / (mib / 1024.0),
    })
}

/// How creates ended that met conflicts first.
#[derive(Debug, Clone)]
pub(crate) struct Conflicts {
    pub(crate) creates: usize,
    pub(crate) created: usize,
    pub(crate) latencies: Latencies,
    /// Processor seconds for 10,000 creates. 0 without a proxy.
    pub(crate) per_10k: f64,
}

/// Creates that each meet two conflicts, 32 at a time. `salt` keeps their names apart from those of
/// other calls.
pub(crate) async fn conflicts(
    running: &Running,
    target: &Target,
    creates: usize,
    salt: usize,
) -> Result<Conflicts> {
    const AT_A_TIME: usize = 32;
    let request = PreparedRequest::new(Method::POST, PODS)?;
    let before = processor_time(running)?;
    let mut workers = JoinSet::new();
    for (worker, mut connection) in target.connections(AT_A_TIME).await?.into_iter().enumerate() {
        let mut request = request.clone();
        workers.spawn_local(async move {
            let mut ended = Vec::new();
            for n in 0..creates / AT_A_TIME {
                let name = HeaderValue::try_from(format!("{salt}-{worker}-{n}"))?;
                request.headers.insert(CONFLICTS, name);
                let begun = Instant::now();
                let (status, _) = connection.exchange(&request).await?;
                ended.push((status, begun.elapsed().as_secs_f64() * 1e6));
            }
            anyhow::Ok(ended)
        });
    }
    let mut ended = Vec::new();
    while let Some(worker) = workers.join_next().await {
        ended.extend(worker??);
    }
    let created = ended
        .iter()
        .filter(|(status, _)| *status == StatusCode::CREATED);
    Ok(Conflicts {
        creates: ended.len(),
        created: created.count(),
        per_10k: (processor_time(running)? - before) / ended.len() as f64 * 1e4,
        latencies: Latencies::of(ended.into_iter().map(|(_, micros)| micros).collect()),
    })
}
