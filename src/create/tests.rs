//! The loop as a state machine, on paused time and without sockets: whatever apiservers answer, and
//! whatever happens meanwhile, each create ends in one final answer within its bounds, is never
//! sent again when it may have been stored, and leaves nothing behind.
//!
//! The runs are random; `PROPTEST_CASES` makes more of them. What is allowed after an answer stands
//! in `plan`, by hand.

#![expect(clippy::disallowed_methods, reason = "the bodies of a run are small")]

mod judge;
mod plan;
mod server;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::claims::Taken;
use super::{CreateSettings, Creates, HeldPlaces};
use crate::body::{Body, Buffers, ConnectionShare};
use crate::config::{Ambiguous, Rate, UpstreamConfig};
use crate::decisions::{Decision, Decisions};
use crate::drain::{Drain, Watcher};
use crate::error::ProxyError;
use crate::metrics::Metrics;
use crate::quotas::Quotas;
use crate::route::CreateTarget;
use crate::upstream::Upstream;
use crate::verdict::Class;
use plan::{Event, Plan, Reply, Run, any_run};
use server::{Arrived, INDEX, Script, Server};

/// The largest body that is buffered.
const MAX_BODY: u64 = 4096;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

proptest! {
    #[test]
    fn every_create_ends_once_within_its_bounds_and_leaves_nothing_behind(run in any_run()) {
        judge::judge(&run, &play(&run));
    }
}

/// A buffered and a streamed create that come long before their turn.
#[test]
fn a_create_waits_for_its_turn_no_longer_than_its_client() {
    let plan = |at, size, timeout| Plan {
        at,
        size,
        timeout,
        ..Plan::of(Vec::new())
    };
    let soon = Some(Duration::from_millis(500));
    let mut run = Run::of(vec![
        plan(0, 40, None),
        plan(20, 40, None),
        plan(30, 40, None),
        plan(40, 40, soon),
        plan(60, 70_000, soon),
    ]);
    run.limits.rate = Some(Rate::new(1.0, 1));
    let history = play(&run);
    judge::judge(&run, &history);
    for end in &history.ends[3..] {
        assert!(matches!(end.answer, Answer::Error(ProxyError::TimedOut)));
    }
}

/// A conflict after the wait for a full quota has the whole limit of attempts, and no more.
#[test]
fn the_limits_begin_anew_after_a_wait_for_a_full_quota() {
    let answered = |conflicts: usize| {
        let mut replies = vec![&plan::FULL_QUOTA];
        replies.resize(1 + conflicts, plan::CONFLICT);
        replies.push(plan::CREATED);
        let answers = replies.into_iter().map(|row| (Reply::Answer(row, None), 0));
        let mut run = Run::of(vec![Plan::of(answers.collect())]);
        run.limits.max_attempts = 2;
        run.limits.opt_ins = true;
        let history = play(&run);
        judge::judge(&run, &history);
        match history.ends[0].answer {
            Answer::Whole(status, _) => (status.as_u16(), history.arrived.len()),
            _ => panic!("it got no answer of a server"),
        }
    };
    assert_eq!(answered(1), (201, 3));
    assert_eq!(answered(2), (409, 3));
}

/// Of four places, two creates that wait for a full quota have theirs, and another one gets its
/// refusal. One that meets a conflict in another namespace finds a place.
#[test]
fn waits_for_full_quotas_leave_places_to_conflicts() {
    let mut creates = vec![Plan::of(Vec::new()); 4];
    for (index, plan) in creates.iter_mut().enumerate() {
        let (row, asked) = match index {
            3 => (plan::CONFLICT, None),
            _ => (&plan::FULL_QUOTA, Some(1)),
        };
        plan.at = 100 * index as u64;
        plan.namespace = index as u8 / 3;
        plan.replies = vec![(Reply::Answer(row, asked), 0)];
    }
    let mut run = Run::of(creates);
    run.limits.opt_ins = true;
    run.max_held = 4;
    let history = play(&run);
    judge::judge(&run, &history);
    let statuses = history.ends.iter().map(|end| match end.answer {
        Answer::Whole(status, _) => status.as_u16(),
        _ => panic!("it got no answer of a server"),
    });
    assert_eq!(Vec::from_iter(statuses), [201, 201, 403, 201]);
}

#[test]
fn a_streamed_answer_may_break_in_the_instant_in_which_it_comes() {
    let mut create = Plan::of(vec![(Reply::Large(plan::CONFLICT), 1171)]);
    create.at = 216;
    let mut run = Run::of(vec![create]);
    let down = plan::Event::Down {
        server: 0,
        silent: false,
    };
    run.events = vec![(1387, down)];
    judge::judge(&run, &play(&run));
}

/// Their names are not known.
#[tokio::test(start_paused = true)]
async fn the_creates_before_a_reload_leave_all_objects_in_doubt_until_they_have_ended() {
    let run = Run::of(Vec::new());
    let metrics = Arc::new(Metrics::new(100, &[]));
    let servers = [Server::new(&Script::new(Vec::new()))];
    let upstream = Arc::new(upstream(&run, &servers, &metrics));
    let (_drain, watcher) = Drain::new();
    let creates = creates(&run, upstream, &metrics, watcher);
    // A create keeps the settings that it started with.
    let create = creates.settings.load_full();
    let mut resolve = run.limits.config();
    resolve.replay.ambiguous = Ambiguous::Resolve;
    creates.reload(CreateSettings::new(&run.limits.config()));
    creates.reload(CreateSettings::new(&resolve));
    let take = |uid| {
        let mut claim = creates.claims.named(&CreateTarget::of("ns", "pods"), "a");
        claim.sending();
        claim.take(uid, Instant::now())
    };
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert_eq!(take("u"), Err(Taken::Unknown));
    drop(create);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(take("v"), Ok(()));
}

/// What became of a run.
struct History {
    begun: Instant,
    arrived: Vec<Arrived>,
    ends: Vec<End>,
    decisions: Vec<Decision>,
    /// What was seen in use at the same time.
    most_held: usize,
    most_buffered: u64,
    replays: u64,
    outcomes: u64,
    /// What must have gone back to its beginning, each with a name.
    left: Vec<(&'static str, u64)>,
}

/// How a create ended for its client.
struct End {
    at: Instant,
    answer: Answer,
}

enum Answer {
    /// The client left.
    Left,
    /// The body is None if it broke off.
    Whole(StatusCode, Option<Bytes>),
    Error(ProxyError),
}

fn play(run: &Run) -> History {
    fastrand::seed(run.seed);
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(played(run))
}

async fn played(run: &Run) -> History {
    let begun = Instant::now();
    let labels: Vec<_> = Class::ALL.iter().map(|class| class.as_str()).collect();
    let metrics = Arc::new(Metrics::new(100, &labels));
    let script = Script::new(
        run.creates
            .iter()
            .map(|plan| plan.replies.clone())
            .collect(),
    );
    let servers: Vec<_> = (0..run.servers).map(|_| Server::new(&script)).collect();
    let upstream = Arc::new(upstream(run, &servers, &metrics));
    let stop = CancellationToken::new();
    let upkeep = tokio::spawn({
        let (upstream, stop) = (Arc::clone(&upstream), stop.clone());
        async move { upstream.run(stop).await }
    });
    let (drain, watcher) = Drain::new();
    let creates = Arc::new(creates(run, upstream, &metrics, watcher));

    let mut clients = JoinSet::new();
    for (index, plan) in run.creates.iter().enumerate() {
        let client = client(Arc::clone(&creates), index, plan.clone(), begun);
        clients.spawn(async move { (index, client.await) });
    }
    let mut events = run.events.iter().peekable();
    let mut ends: Vec<_> = run.creates.iter().map(|_| None).collect();
    let (mut most_held, mut most_buffered) = (0, 0);
    loop {
        let next = events
            .peek()
            .map(|(at, _)| begun + Duration::from_millis(*at));
        tokio::select! {
            biased;
            () = at(next) => match &events.next().unwrap().1 {
                Event::Reload(limits) => {
                    creates.reload(CreateSettings::new(&limits.config()));
                }
                Event::Drain(stage) => drain.advance(*stage),
                Event::Down { server, silent } => servers[*server].down(*silent),
                Event::Up { server } => servers[*server].up(),
            },
            ended = clients.join_next() => match ended {
                Some(ended) => {
                    let (index, end) = ended.unwrap();
                    ends[index] = Some(end);
                }
                None => break,
            },
            // Often enough to see what is in use.
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        most_held = most_held.max(run.max_held as usize - creates.held.free());
        most_buffered = most_buffered.max(creates.buffers.used());
    }
    // Connections take back their places.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.cancel();
    upkeep.await.unwrap();

    let readings = metrics.read();
    let ended = |reading: &crate::metrics::Reading| reading.outcomes.values().sum::<u64>();
    let streams = metrics.render();
    let streams = streams
        .lines()
        .filter(|line| line.starts_with("kube_retry_proxy_upstream_streams"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    let permits = run.max_held as usize - creates.held.free();
    History {
        begun,
        arrived: script.arrived.lock().unwrap().clone(),
        ends: ends.into_iter().map(Option::unwrap).collect(),
        decisions: creates.decisions.recent(usize::MAX, |_| true),
        most_held,
        most_buffered,
        replays: metrics.replays(),
        outcomes: readings.namespaces.values().map(ended).sum(),
        left: vec![
            ("the gauge of held creates", readings.held),
            ("the gauge of buffered bytes", readings.buffered_bytes),
            ("bytes reserved", creates.buffers.used()),
            ("places among the held creates", permits as u64),
            ("creates in flight", creates.in_flight.len() as u64),
            (
                "records of held creates",
                creates.decisions.held().len() as u64,
            ),
            ("requests to the upstream", streams.sum()),
        ],
    }
}

fn creates(run: &Run, upstream: Arc<Upstream>, metrics: &Arc<Metrics>, drain: Watcher) -> Creates {
    Creates {
        settings: ArcSwap::from_pointee(CreateSettings::new(&run.limits.config())),
        quotas: Quotas::new(&upstream, metrics),
        upstream,
        held: HeldPlaces::new(run.max_held as usize, run.max_buffered),
        in_flight: TaskTracker::new(),
        claims: Arc::default(),
        buffers: Buffers::new(run.max_buffered, MAX_BODY, metrics.buffered()),
        max_body: MAX_BODY,
        decisions: Arc::new(Decisions::new(1000)),
        tracer: None,
        metrics: Arc::clone(metrics),
        drain,
    }
}

fn upstream(run: &Run, servers: &[Arc<Server>], metrics: &Arc<Metrics>) -> Upstream {
    let urls = (0..servers.len()).map(|index| format!("http://server-{index}:1").parse().unwrap());
    let settings = UpstreamConfig {
        servers: urls.collect(),
        connect_timeout: CONNECT_TIMEOUT,
        ..UpstreamConfig::default()
    };
    let upstream = Upstream::new(&settings, metrics).unwrap();
    for (index, server) in servers.iter().enumerate() {
        upstream.script(index, server.scripted(run.http2));
    }
    upstream
}

/// The body of a create, which names it.
fn body(index: usize, size: usize) -> Bytes {
    let mut body = format!(r#"{{"kind":"Pod","metadata":{{"name":"p-{index}"}}}}"#);
    body.extend(std::iter::repeat_n(' ', size.saturating_sub(body.len())));
    body.into()
}

async fn client(creates: Arc<Creates>, index: usize, plan: Plan, begun: Instant) -> End {
    tokio::time::sleep_until(begun + Duration::from_millis(plan.at)).await;
    let target = CreateTarget::of(&format!("ns-{}", plan.namespace), "pods");
    let mut uri = format!("/api/v1/namespaces/{}/pods", target.namespace);
    if let Some(timeout) = plan.timeout {
        uri += &format!("?timeout={}ms", timeout.as_millis());
    }
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(INDEX, index)
        .body(Body::full(body(index, plan.size)))
        .unwrap();
    let room = creates
        .buffers
        .reserve([10, 0, 0, 1].into(), &ConnectionShare::default());
    let answered = async {
        match creates.create(target, None, room, Box::new(request)).await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                let body = body.collect().await.ok().map(|body| body.to_bytes());
                Answer::Whole(head.status, body)
            }
            Err(error) => Answer::Error(error),
        }
    };
    let answer = tokio::time::timeout(plan.patience, answered).await;
    End {
        at: Instant::now(),
        answer: answer.unwrap_or(Answer::Left),
    }
}

/// Returns at a time; without one, never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
