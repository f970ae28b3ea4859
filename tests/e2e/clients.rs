//! The clients that people use, each by its published package and with its own defaults: creates
//! under contention, directly and through the proxy, and how each finds its token.
//!
//! The drivers are in `tests/clients`. `cargo test --test e2e clients` runs a short set,
//! `-- --ignored clients` all of them.

mod driver;
mod timeouts;
mod tokens;

use std::collections::BTreeSet;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use crate::contention::{Contention, QUOTAS};
use crate::control_plane::{ControlPlane, SERVERS};
use crate::process::within;
use crate::proxy::Proxy;
use crate::table::Table;
use driver::{CLIENTS, Client, Credentials, Outcome};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        crate::trial("clients::short_set_creates_everything", |plane| {
            creates(plane, "Clients under contention, short set", short())
        }),
        // Half an hour with the installation: `cargo test --test e2e -- --ignored clients`.
        crate::trial("clients::all_create_everything", |plane| {
            creates(plane, "Clients under contention", CLIENTS.iter())
        })
        .with_ignored_flag(true),
    ];
    trials.extend(tokens::trials());
    trials.extend(timeouts::trials());
    trials
}

/// The clients that every run of the suite includes: one of each language that is quick to install.
fn short() -> impl Iterator<Item = &'static Client> {
    CLIENTS.iter().filter(|client| client.short)
}

/// Until all namespaced creates are creates by default.
const RESOURCES: &str = "\
creates:
  resources:
    - { group: '', resource: pods }
    - { group: '', resource: services }
    - { group: '', resource: configmaps }
    - { group: '', resource: secrets }
  serverSideApply: true
";

/// Every client with the same contention, first directly, then through the proxy.
fn creates(
    plane: &ControlPlane,
    name: &'static str,
    clients: impl Iterator<Item = &'static Client>,
) {
    let mut table = Table::new(
        name,
        &[
            "client",
            "version",
            "creates",
            "direct: created",
            "conflict",
            "other",
            "seconds",
            "proxied: created",
            "conflict",
            "other",
            "seconds",
            "conflicts absorbed",
        ],
    );
    let (mut shown, mut absorbed) = (0, 0);
    let mut wrong = Vec::new();
    for client in clients {
        let at_the_first = driver::kubeconfig(
            &plane.servers[0],
            &plane.ca_file(),
            &Credentials::Token(plane.token("user")),
        );
        let direct = contended(plane, client, at_the_first.path());

        let proxy = Proxy::start(plane, &plane.servers[..SERVERS], RESOURCES);
        let through = driver::kubeconfig(
            &proxy.url,
            &proxy.ca_file(),
            &Credentials::Token(plane.token("user")),
        );
        let before = proxy.conflicts();
        let proxied = contended(plane, client, through.path());
        let conflicts = proxy.conflicts() - before;
        proxy.stop();

        shown += direct.conflicts();
        absorbed += conflicts;
        if !proxied.failed.is_empty() {
            wrong.push(format!("{}: {:?}", client.name, proxied.failed));
        }
        table.row(&[
            &client.name,
            &direct.version,
            &client.creates,
            &direct.created.len(),
            &direct.conflicts(),
            &direct.others(),
            &format!("{:.1}", direct.seconds),
            &proxied.created.len(),
            &proxied.conflicts(),
            &proxied.others(),
            &format!("{:.1}", proxied.seconds),
            &conflicts,
        ]);
    }
    table.print();
    assert!(
        wrong.is_empty(),
        "creates failed through the proxy:\n{}",
        wrong.join("\n")
    );
    assert!(
        shown > 0 && absorbed > 0,
        "no conflict, directly {shown} and through the proxy {absorbed}: this run proves nothing"
    );
}

/// Runs a client in a namespace of its own while others write the quotas there, and compares what
/// it was told with what is stored.
fn contended(plane: &ControlPlane, client: &Client, kubeconfig: &std::path::Path) -> Outcome {
    let namespace = plane.namespace("client", QUOTAS);
    count_objects(plane, &namespace);
    let contention = Contention::start(plane, &namespace);
    let outcome = client.storm(kubeconfig, &namespace);
    contention.stop();
    judge(plane, client, &namespace, &outcome);
    plane.discard(&namespace);
    outcome
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
        .filter(|line| line.contains(driver::PREFIX) && !line.contains("sh.helm.release"))
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
