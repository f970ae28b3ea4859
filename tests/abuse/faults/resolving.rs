//! The random run with `replay.ambiguous: Resolve` and `replay.completeGenerateName`: answers are
//! lost before the object is stored, after it, and long before it; two clients want one name; some
//! clients leave. What the upstreams stored is the judge.

mod objects;
mod server;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{WORKERS, rng, seed};
use crate::lab::{Lab, Outcome, Size, in_time};
use crate::peers::tls::Dialer;
use crate::peers::upstream::script;
use crate::peers::{Answer, Ask, Broken, Protocol, http1, http2};
use crate::proxy::Configuration;
use objects::Objects;

cases![
    ambiguous_creates_over_an_http1_upstream,
    ambiguous_creates_over_two_http2_upstreams
];

/// How a create can have become ambiguous, in the proxy's metric.
const RESULTS: [&str; 10] = [
    "found",
    "sent_again",
    "exists",
    "refused",
    "gave_up",
    "unproven",
    "forbidden",
    "failed",
    "unnamed",
    "client_gone",
];

async fn ambiguous_creates_over_an_http1_upstream(size: Size) -> Outcome {
    run(size, &[Protocol::Http1]).await
}

async fn ambiguous_creates_over_two_http2_upstreams(size: Size) -> Outcome {
    run(size, &[Protocol::Http2, Protocol::Http2]).await
}

/// One create, with everything that its client knows.
struct Sent {
    number: usize,
    /// None: the client gave only a `generateName`.
    name: Option<String>,
    /// Whether another client wants the same name.
    has_twin: bool,
    /// None: the client left.
    answer: Option<Result<Answer, Broken>>,
}

async fn run(size: Size, upstreams: &[Protocol]) -> Outcome {
    let seed = seed();
    let configuration = Configuration {
        replay: "baseDelay: 5ms, maxDelay: 50ms, maxAttempts: 12, ambiguous: Resolve, \
                 completeGenerateName: true, budget: {other: {ratio: 10, perSecond: 10000}}"
            .to_owned(),
        ..Configuration::default()
    };
    let objects = Arc::new(Objects::default());
    let served = Arc::clone(&objects);
    let mut lab = Lab::with(
        size,
        upstreams,
        configuration,
        script(move |exchange| server::answer(exchange, seed, Arc::clone(&served))),
    )
    .await;
    let requests = size.of(600, 14_000);
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let dialer = lab.dialer().clone();
        workers.spawn(async move {
            let mut all = Vec::new();
            for number in (worker..requests).step_by(WORKERS) {
                all.push(ask(&dialer, number, seed).await);
            }
            all
        });
    }
    let mut sent = Vec::new();
    while let Some(done) = workers.join_next().await {
        sent.extend(done.unwrap());
    }
    // What is stored late is stored by now.
    tokio::time::sleep(server::LATEST).await;
    judge(&mut lab, &objects, &sent);
    let mut told = Vec::new();
    for result in RESULTS {
        let label = format!("result=\"{result}\"");
        told.push((result, lab.proxy.metric("ambiguous_total", &label).await));
    }
    let all: f64 = told.iter().map(|(_, count)| count).sum();
    let resolved: f64 = told[..4].iter().map(|(_, count)| count).sum();
    lab.require(told[0].1 > 0.0, "no ambiguous create was found");
    lab.note(format!("ambiguous {all}, resolved {resolved}: {told:?}"));
    lab.note(format!("KUBE_RETRY_PROXY_SEED={seed}"));
    lab.finish(()).await
}

async fn ask(dialer: &Dialer, number: usize, seed: u64) -> Sent {
    let mut rng = rng(seed, number, 0);
    let has_twin = number % 8 < 2;
    let (name, meta) = if number % 4 == 3 {
        (None, r#""generateName":"step-""#.to_owned())
    } else {
        let name = format!("r-{}", if has_twin { number & !1 } else { number });
        let meta = format!(r#""name":"{name}""#);
        (Some(name), meta)
    };
    // Twins send the same bytes.
    let fill = if has_twin {
        10
    } else {
        [10, 3_000, 90_000][rng.usize(..3)]
    };
    let body: Bytes = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{{meta},"annotations":{{"fill":"{}"}}}},
           "spec":{{"containers":[{{"name":"main","image":"busybox"}}]}}}}"#,
        "x".repeat(fill)
    )
    .into();
    let ask = Ask::create("faults").with("lab-number", number);
    let (over_http2, leaves) = (rng.bool(), Duration::from_millis(rng.u64(..400)));
    let asked = async {
        if over_http2 {
            http2::Client::connect(dialer)
                .await?
                .call(&ask, &body)
                .await
        } else {
            let ask = ask.with("content-length", body.len());
            http1::Client::connect(dialer)
                .await?
                .call(&ask, &body)
                .await
        }
    };
    let answer = if number % 12 == 5 {
        tokio::select! {
            answer = asked => Some(answer),
            () = tokio::time::sleep(leaves) => None,
        }
    } else {
        Some(
            in_time(asked)
                .await
                .unwrap_or(Err(Broken("no answer".to_owned()))),
        )
    };
    Sent {
        number,
        name,
        has_twin,
        answer,
    }
}

fn judge(lab: &mut Lab, objects: &Objects, sent: &[Sent]) {
    let mut owners: HashMap<String, usize> = HashMap::new();
    let mut codes: HashMap<u16, usize> = HashMap::new();
    for create in sent {
        let Some(answer) = &create.answer else {
            continue;
        };
        let number = create.number;
        let answer = match answer {
            Ok(answer) => answer,
            Err(broken) => {
                lab.require(false, format!("create {number} has no answer: {broken:?}"));
                continue;
            }
        };
        *codes.entry(answer.status).or_default() += 1;
        let object: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let stored = objects.stored_by(number);
        match answer.status {
            201 => {
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
                lab.require(
                    objects.has(uid),
                    format!("create {number} was told what is not stored"),
                );
                *owners.entry(uid.to_owned()).or_default() += 1;
            }
            409 if object["reason"] == "AlreadyExists" => {
                lab.require(
                    create.has_twin && create.name.is_some(),
                    format!("create {number} was told that its own object exists: {object}"),
                );
            }
            400..=499 => lab.require(
                stored == 0 || create.has_twin,
                format!("create {number} was told {} and is stored", answer.status),
            ),
            504 | 500 => {}
            other => lab.require(false, format!("create {number} was told {other}")),
        }
    }
    for create in sent {
        let stored = objects.stored_by(create.number);
        lab.require(
            stored < 2,
            format!("create {} is stored {stored} times", create.number),
        );
    }
    let twice = owners.iter().filter(|(_, told)| **told > 1).count();
    lab.require(
        twice == 0,
        format!("{twice} objects were told to two creates"),
    );
    let left = sent.iter().filter(|create| create.answer.is_none()).count();
    let mut codes: Vec<_> = codes.into_iter().collect();
    codes.sort_unstable();
    lab.note(format!(
        "{} creates, {left} left, answers {codes:?}",
        sent.len()
    ));
}
