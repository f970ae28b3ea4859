//! The clients that people use, each by its published package and with its own defaults: creates
//! under contention, directly and through the proxy, and how each finds its token.
//!
//! The drivers are in `tests/clients`. `cargo test --test e2e clients` runs a short set,
//! `-- --include-ignored clients` all of them.

mod driver;
mod streams;
mod timeouts;
mod tokens;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use crate::contention::{Contention, QUOTAS};
use crate::control_plane::{ControlPlane, SERVERS};
use crate::process::within;
use crate::proxy::Proxy;
use crate::table::Table;
use driver::{CLIENTS, Client, Credentials, Outcome, PREFIX, kubeconfig};

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = CLIENTS.iter().map(creates_of).collect();
    trials.extend(tokens::trials());
    trials.extend(streams::trials());
    trials.extend(timeouts::trials());
    trials
}

/// A test for each client. Those outside of the short set run with `--include-ignored`.
fn creates_of(client: &'static Client) -> Trial {
    let name = format!("clients::creates::{}", client.name);
    Trial::test(name, move || {
        creates(ControlPlane::shared(), client);
        Ok(())
    })
    .with_ignored_flag(!client.short)
}

/// The rows of this run so far.
static ROWS: Mutex<Vec<Vec<String>>> = Mutex::new(Vec::new());

const COLUMNS: [&str; 12] = [
    "client",
    "version",
    "direct: creates",
    "created",
    "conflict",
    "other",
    "seconds",
    "proxied: creates",
    "created",
    "failed",
    "seconds",
    "conflicts absorbed",
];

/// How often a run is repeated at most until it shows a conflict. One run of a fast client is over
/// in a second, in which the other writers may win no race: in one of three it sees no conflict.
const ROUNDS: usize = 25;

/// A client with the same contention, first directly, then through the proxy.
fn creates(plane: &ControlPlane, client: &Client) {
    let token = Credentials::Token(plane.token("user"));
    let at_the_first = kubeconfig(&plane.servers[0], &plane.ca_file(), &token);
    let direct = contended(plane, client, at_the_first.path(), Outcome::conflicts);

    let proxy = Proxy::start(plane, &plane.servers[..SERVERS], "");
    let through = kubeconfig(&proxy.url, &proxy.ca_file(), &token);
    let absorbed = || usize::try_from(proxy.conflicts()).unwrap();
    let proxied = contended(plane, client, through.path(), |_| absorbed());
    let absorbed = absorbed();
    let limits = not_replayed(&proxy);
    proxy.stop();

    record(vec![
        client.name.to_owned(),
        direct.version.clone(),
        direct.creates().to_string(),
        direct.created.len().to_string(),
        direct.conflicts().to_string(),
        direct.others().to_string(),
        format!("{:.1}", direct.seconds),
        proxied.creates().to_string(),
        proxied.created.len().to_string(),
        proxied.failed.len().to_string(),
        format!("{:.1}", proxied.seconds),
        absorbed.to_string(),
    ]);
    assert!(
        proxied.failed.is_empty(),
        "through the proxy: {:?}, limits: {limits:?}",
        proxied.failed
    );
    assert!(
        absorbed > 0,
        "the proxy met no conflict, so this run proves nothing"
    );
    assert!(
        direct.conflicts() > 0 || client.retries,
        "the race was not reproduced: {:?}",
        direct.failed
    );
}

/// The limits that ended replays, as the metrics have them.
fn not_replayed(proxy: &Proxy) -> Vec<String> {
    let page = proxy.admin("/metrics");
    page.lines()
        .filter(|line| {
            line.starts_with("kube_retry_proxy_not_replayed_total") && !line.ends_with(" 0")
        })
        .map(str::to_owned)
        .collect()
}

/// Adds a row, and prints the table so far.
fn record(row: Vec<String>) {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push(row);
    let mut table = Table::new("Clients under contention", &COLUMNS);
    for row in rows.iter() {
        let cells: Vec<&dyn Display> = row.iter().map(|cell| cell as _).collect();
        table.row(&cells);
    }
    table.print();
}

/// Runs a client in a namespace of its own while others write the quotas there, and compares what
/// it was told with what is stored. Repeats that until it has met a conflict.
fn contended(
    plane: &ControlPlane,
    client: &Client,
    kubeconfig: &Path,
    conflicts: impl Fn(&Outcome) -> usize,
) -> Outcome {
    let namespace = plane.namespace("client", QUOTAS);
    count_objects(plane, &namespace);
    let contention = Contention::start(plane, &namespace);
    let mut all = Outcome::default();
    for round in 0..ROUNDS {
        all.add(client.storm(kubeconfig, &namespace, &format!("{PREFIX}-{round}")));
        if conflicts(&all) > 0 {
            break;
        }
    }
    contention.stop();
    judge(plane, client, &namespace, &all);
    plane.discard(&namespace);
    all
}

/// A quota on the objects other than pods that Helm charts create, as GKE puts one into every
/// namespace.
fn count_objects(plane: &ControlPlane, namespace: &str) {
    plane.create(&json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "namespace": namespace, "name": "objects" },
        "spec": { "hard": {
            "count/configmaps": "100000", "count/secrets": "100000", "count/services": "100000",
        } },
    }));
    let used = [
        "get",
        "quota",
        "objects",
        "--namespace",
        namespace,
        "-o",
        "jsonpath={.status.used}",
    ];
    within(Duration::from_secs(60), "the quota is counted", || {
        plane.kubectl(&used).contains("count/services")
    });
}

/// What was acknowledged is stored, once, and nothing else is, unless the client was told nothing.
fn judge(plane: &ControlPlane, client: &Client, namespace: &str, outcome: &Outcome) {
    let kinds = client.kinds();
    let listed = plane.kubectl(&[
        "get",
        &kinds.join(","),
        "--namespace",
        namespace,
        "-o",
        "name",
    ]);
    let stored: BTreeSet<String> = listed
        .lines()
        .filter(|line| line.contains(PREFIX) && !line.contains("sh.helm.release"))
        .map(str::to_owned)
        .collect();
    let acknowledged: BTreeSet<String> = outcome
        .created
        .iter()
        .flat_map(|name| kinds.iter().map(move |kind| format!("{kind}/{name}")))
        .collect();
    assert_eq!(
        acknowledged.len(),
        outcome.created.len() * kinds.len(),
        "{}: the client got a name twice",
        client.name
    );
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(
        lost.is_empty(),
        "{}: acknowledged and not stored: {lost:?}",
        client.name
    );
    // A release that failed leaves what it had created; a timeout tells nothing.
    let unclear = if kinds.len() > 1 {
        outcome.failed.len() * kinds.len()
    } else {
        outcome.others()
    };
    let more: Vec<_> = stored.difference(&acknowledged).collect();
    assert!(
        more.len() <= unclear,
        "{}: stored and not acknowledged: {more:?}",
        client.name
    );
}
