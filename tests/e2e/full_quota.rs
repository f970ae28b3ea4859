//! 500 creates at once against a real quota of 50 pods, of which 10 end each second: the proxy wakes
//! them, they poll, or the client asks again itself after a fixed time.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use kube_retry_proxy_support::{Answer, Client, Protocol, pod};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::control_plane::ControlPlane;
use crate::process::within;
use crate::proxy::Proxy;
use crate::table::Table;

const CREATES: usize = 500;
const PODS: u64 = 50;
const END_EVERY: Duration = Duration::from_millis(100);
/// What Argo's workflow-controller waits by default before it asks again.
const REQUEUE: Duration = Duration::from_secs(10);
const PER_CONNECTION: usize = 50;

pub fn trials() -> Vec<Trial> {
    // Three minutes: `cargo test --test e2e -- --ignored full_quota`.
    vec![crate::trial("full_quota::creates_are_woken_in_order", woken).with_ignored_flag(true)]
}

/// What a run has sent, and the order in which the pods were stored.
struct Ran {
    took: Duration,
    sent: u64,
    stored: Vec<usize>,
}

fn woken(plane: &'static ControlPlane) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let waiting = |watch: bool| {
        format!(
            "replay:\n  exceededQuota: {{enabled: true, maxAttempts: 1000, maxHold: 10m}}\n  \
             fullQuotas: {{watch: {watch}, tokenFile: {}}}\n  budget: {{other: {{perSecond: 10000}}}}\n",
            plane.token_file("admin").display()
        )
    };
    let mut table = Table::new(
        "500 creates against a quota of 50 pods, of which 10 end each second",
        &[
            "",
            "seconds to the last",
            "creates sent",
            "places from the order of arrival: mean",
            "most late",
            "most early",
        ],
    );
    for (name, replays, more) in [
        (
            "the client asks again after 10 s",
            false,
            "mode: Off\n".to_owned(),
        ),
        ("proxied, polling", true, waiting(false)),
        ("proxied, woken", true, waiting(true)),
    ] {
        let proxy = Proxy::start(plane, &plane.servers[..1], &more);
        let namespace = plane.namespace("full-quota", 0);
        fill(plane, &namespace);
        let ran = runtime.block_on(run(plane, &proxy, &namespace, replays));
        let places = ran.stored.iter().enumerate();
        let late = places.map(|(place, index)| place.cast_signed() - index.cast_signed());
        let distances = late.clone().map(isize::unsigned_abs);
        let mean = distances.sum::<usize>() as f64 / CREATES as f64;
        let seconds = format!("{:.1}", ran.took.as_secs_f64());
        let most_late = late.clone().max().unwrap_or_default();
        // Pods end while creates still arrive, and the first attempt of a new create can take the
        // room of one that waits.
        let most_early = -late.min().unwrap_or_default();
        let mean = format!("{mean:.1}");
        table.row(&[&name, &seconds, &ran.sent, &mean, &most_late, &most_early]);
        let mut stored = ran.stored;
        stored.sort_unstable();
        assert_eq!(stored, Vec::from_iter(0..CREATES), "{name}");
        assert_eq!(proxy.metric("kube_retry_proxy_quota_watches", ""), 0);
        assert_eq!(proxy.metric("kube_retry_proxy_held", ""), 0);
        if name == "proxied, woken" {
            assert!(
                proxy.metric("kube_retry_proxy_quota_wakes_total", "fits") > 0,
                "nothing was woken, so this run proves nothing"
            );
        }
        proxy.stop();
        plane.discard(&namespace);
    }
    table.print();
}

/// Makes the quota, and waits until it is counted.
fn fill(plane: &ControlPlane, namespace: &str) {
    plane.create(&json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": { "name": "few", "namespace": namespace },
        "spec": { "hard": { "pods": PODS.to_string() } },
    }));
    within(Duration::from_secs(60), "the quota is counted", || {
        let used = plane.kubectl(&[
            "get",
            "resourcequota",
            "few",
            "-n",
            namespace,
            "-o",
            "jsonpath={.status.used.pods}",
        ]);
        used.trim() == "0"
    });
}

async fn run(plane: &ControlPlane, proxy: &Proxy, namespace: &str, replays: bool) -> Ran {
    let address: SocketAddr = proxy.url.trim_start_matches("https://").parse().unwrap();
    let (ca, token) = (
        fs::read_to_string(proxy.ca_file()).unwrap(),
        plane.token("user"),
    );
    let mut clients = Vec::new();
    for _ in 0..=CREATES.div_ceil(PER_CONNECTION) {
        clients.push(Client::connect(address, &ca, &token, Protocol::Http2).await);
    }
    let exist = Arc::new(Mutex::new(VecDeque::new()));
    let ender = clients.pop().unwrap();
    let ending = tokio::spawn(end_pods(ender, namespace.to_owned(), Arc::clone(&exist)));
    let started = Instant::now();
    let mut creates = JoinSet::new();
    for index in 0..CREATES {
        let client = clients[index / PER_CONNECTION].share();
        creates.spawn(create(
            client,
            namespace.to_owned(),
            index,
            Arc::clone(&exist),
            replays,
        ));
        sleep(Duration::from_millis(2)).await;
    }
    let (mut stored, mut sent) = (Vec::new(), 0);
    while let Some(created) = creates.join_next().await {
        let (index, requests) = created.unwrap();
        stored.push(index);
        sent += requests;
    }
    let took = started.elapsed();
    ending.abort();
    Ran {
        took,
        sent: sent.max(proxy.metric("kube_retry_proxy_attempts_total", "")),
        stored,
    }
}

/// Creates one pod. Returns its place of arrival and the number of requests.
async fn create(
    mut client: Client,
    namespace: String,
    index: usize,
    exist: Arc<Mutex<VecDeque<String>>>,
    replays: bool,
) -> (usize, u64) {
    let name = format!("step-{index}");
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    for requests in 1.. {
        // Not `ask`, which gives up after half a minute: the last ones wait longer.
        let request = client.request(Method::POST, &path, pod(&name));
        let answer = Answer::of(client.send(request).await).await;
        if answer.status.is_success() {
            exist.lock().unwrap().push_back(name);
            return (index, requests);
        }
        let refusal: Value = answer.json();
        let message = refusal["message"].as_str().unwrap_or_default();
        // Deletions cause conflicts too, which a proxy that replays nothing relays.
        let conflict = !replays && message.contains("the object has been modified");
        assert!(conflict || message.contains("exceeded quota"), "{message}");
        sleep(REQUEUE).await;
    }
    unreachable!()
}

/// Deletes the oldest pod ten times a second.
async fn end_pods(mut client: Client, namespace: String, exist: Arc<Mutex<VecDeque<String>>>) {
    let mut every = interval(END_EVERY);
    loop {
        every.tick().await;
        let oldest = exist.lock().unwrap().pop_front();
        if let Some(name) = oldest {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0");
            let request = client.request(Method::DELETE, &path, "");
            assert!(client.ask(request).await.status.is_success(), "{name}");
        }
    }
}
