//! kube-controller-manager itself, with the client certificate that kubeadm gives it: a Job and a
//! ReplicaSet of 500 pods each, in namespaces with quotas, directly and through the proxy.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::certificates::Issuer;
use crate::contention::Contention;
use crate::control_plane::{ControlPlane, program};
use crate::process::{Running, within};
use crate::proxy::Proxy;
use crate::table::Table;

/// How many pods the Job and the ReplicaSet each have.
const PODS: usize = 500;

/// How long a run may take. Directly, the controllers back off after each refusal.
const LIMIT: Duration = Duration::from_secs(100);

/// How long the controllers may take to let all pods go.
const CLEANED: Duration = Duration::from_secs(120);

const NAME: &str = "kube-controller-manager";
const USER: &str = "system:kube-controller-manager";

pub fn trials() -> Vec<Trial> {
    // Seven minutes: `cargo test --test e2e -- --ignored controllers`.
    let trial = Trial::test(
        "controllers::kube_controller_manager_makes_its_pods_through_the_proxy",
        || {
            compared(&ControlPlane::own("controlplane-controllers"));
            Ok(())
        },
    );
    vec![trial.with_ignored_flag(true)]
}

/// How many pods there were at the end, and when.
#[derive(Debug, Clone, Copy, Default)]
struct Made {
    pods: usize,
    after: Duration,
}

/// What a run showed.
#[derive(Debug)]
struct Measured {
    job: Made,
    replica_set: Made,
    /// The quota conflicts that the proxy got, and the creates that it gave up.
    conflicts: Option<(u64, u64)>,
    /// The limits that ended replays there.
    not_replayed: Vec<String>,
    /// The refusals that `kubectl describe` shows. The controllers tell at most 25 of an object.
    failed_creates: u64,
}

fn compared(plane: &ControlPlane) {
    plane.component(&["stop", "controller-manager"]);
    let credentials = Issuer::of(plane).issue(NAME, &format!("/CN={USER}"), "", 2);
    let direct = credentials.kubeconfig(&plane.servers[0], &plane.ca_file(), None);
    let mut table = Table::new(
        "kube-controller-manager, a Job and a ReplicaSet of 500 pods each",
        &[
            "",
            "other writers",
            "pods of the Job",
            "pods of the ReplicaSet",
            "quota conflicts at the proxy",
            "creates given up",
            "at these limits",
            "FailedCreate events",
        ],
    );
    let mut proxied = Vec::new();
    for contended in [false, true] {
        let measured = run(plane, &direct, &[], contended, None);
        row(&mut table, "direct", contended, &measured);

        let proxy = Proxy::with_certificates(plane, &plane.servers, "", "");
        let kubeconfig = credentials.kubeconfig(&proxy.url, &proxy.ca_file(), None);
        let measured = run(plane, &kubeconfig, &[], contended, Some(&proxy));
        row(&mut table, "through the proxy", contended, &measured);
        proxied.push((measured, used(&proxy)));
        proxy.stop();
    }

    // All controllers are one user with the certificate, which needs the rights of all of them.
    plane.kubectl(&[
        "create",
        "clusterrolebinding",
        "controllers",
        "--clusterrole=cluster-admin",
        &format!("--user={USER}"),
    ]);
    let proxy = Proxy::with_certificates(plane, &plane.servers, "", "");
    let kubeconfig = credentials.kubeconfig(&proxy.url, &proxy.ca_file(), None);
    let flags = ["--use-service-account-credentials=false"];
    let measured = run(plane, &kubeconfig, &flags, false, Some(&proxy));
    row(&mut table, "through the proxy, one user", false, &measured);
    proxied.push((measured, used(&proxy)));
    proxy.stop();
    table.print();

    for (measured, [accepted, others]) in &proxied {
        assert_eq!([measured.job.pods, measured.replica_set.pods], [PODS; 2]);
        assert!(*accepted > 0, "nothing came with the certificate");
        assert_eq!(*others, 0);
        // Beside others that write so often, a create can use up its attempts.
        let (conflicts, given_up) = measured.conflicts.unwrap();
        assert!(given_up <= conflicts);
    }
    let conflicts = proxied[1].0.conflicts.unwrap().0;
    assert!(conflicts > 0, "this run proves nothing");
    assert!(
        proxied[2].1[0] > proxied[0].1[0],
        "the creates had the certificate"
    );
}

/// How many requests came in the name of the certificate, and how many with one that did not count.
fn used(proxy: &Proxy) -> [u64; 2] {
    let uses = |result: &str| {
        let labels = format!("result=\"{result}\"");
        proxy.metric("kube_retry_proxy_client_certificates_total", &labels)
    };
    [uses("accepted"), uses("refused") + uses("denied")]
}

fn row(table: &mut Table, name: &str, contended: bool, measured: &Measured) {
    let shown = |made: Made| format!("{} in {:.1} s", made.pods, made.after.as_secs_f64());
    let [conflicts, given_up] = match measured.conflicts {
        Some((conflicts, given_up)) => [conflicts, given_up].map(|count| count.to_string()),
        None => ["–", "–"].map(str::to_owned),
    };
    eprintln!("{name}, other writers {contended}: {measured:?}");
    table.row(&[
        &name,
        &if contended { "yes" } else { "no" },
        &shown(measured.job),
        &shown(measured.replica_set),
        &conflicts,
        &given_up,
        &measured.not_replayed.join(", "),
        &measured.failed_creates,
    ]);
}

/// Runs kube-controller-manager with this kubeconfig until all pods exist.
fn run(
    plane: &ControlPlane,
    kubeconfig: &Path,
    flags: &[&str],
    contended: bool,
    proxy: Option<&Proxy>,
) -> Measured {
    let mut manager = started(plane, kubeconfig, flags);
    // These return when the quota controller of the new process works.
    let namespaces = [
        plane.namespace("controllers-job", 1),
        plane.namespace("controllers-set", 1),
    ];
    let writers = contended.then(|| {
        namespaces
            .each_ref()
            .map(|namespace| Contention::start(plane, namespace))
    });
    let started = Instant::now();
    plane.create(&objects(&namespaces));
    let mut made = [Made::default(); 2];
    while made.iter().any(|made| made.pods < PODS) && started.elapsed() < LIMIT {
        manager.assert_running();
        for (made, namespace) in made.iter_mut().zip(&namespaces) {
            if made.pods < PODS {
                *made = Made {
                    pods: pods(plane, namespace),
                    after: started.elapsed(),
                };
            }
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    writers.into_iter().flatten().for_each(Contention::stop);
    let conflicts = proxy.map(|proxy| {
        let given_up = proxy.metric("kube_retry_proxy_outcomes_total", "outcome=\"gave_up\"");
        (proxy.conflicts(), given_up)
    });
    let failed_creates = namespaces
        .iter()
        .map(|namespace| failed_creates(plane, namespace))
        .sum();
    let not_replayed = proxy.map(Proxy::not_replayed).unwrap_or_default();
    for namespace in &namespaces {
        plane.kubectl(&[
            "delete",
            "jobs,replicasets",
            "--all",
            "--cascade=orphan",
            "--wait=false",
            "--namespace",
            namespace,
        ]);
        plane.empty(namespace);
    }
    // A pod of a Job has a finalizer that only the Job controller takes away. A pod that is left
    // costs the next run a request.
    within(CLEANED, "the pods are gone", || {
        manager.assert_running();
        namespaces
            .iter()
            .all(|namespace| pods(plane, namespace) == 0)
    });
    drop(manager);
    Measured {
        job: made[0],
        replica_set: made[1],
        conflicts,
        not_replayed,
        failed_creates,
    }
}

/// A kube-controller-manager as the control plane starts it, except for these.
fn started(plane: &ControlPlane, kubeconfig: &Path, flags: &[&str]) -> Running {
    let line = plane.command_line("controller-manager");
    let kept = line[1..]
        .iter()
        .filter(|argument| !argument.starts_with("--kubeconfig="));
    let log: PathBuf = plane.logs().join(format!("{NAME}.log"));
    let mut command = Command::new(program(NAME));
    command
        .args(kept)
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .args(flags);
    Running::logging(NAME, &mut command, &log)
}

fn objects(namespaces: &[String; 2]) -> Value {
    let pod = json!({
        "metadata": {"labels": {"app": "made"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main", "image": "busybox",
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
            }],
        },
    });
    let mut always = pod.clone();
    always["spec"]["restartPolicy"] = "Always".into();
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "job", "namespace": namespaces[0]},
            "spec": {"parallelism": PODS, "completions": PODS, "template": pod},
        },
        {
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "set", "namespace": namespaces[1]},
            "spec": {
                "replicas": PODS, "selector": {"matchLabels": {"app": "made"}}, "template": always,
            },
        },
    ]})
}

fn pods(plane: &ControlPlane, namespace: &str) -> usize {
    let list = [
        "get",
        "pods",
        "--selector=app=made",
        "-o",
        "name",
        "--namespace",
    ];
    plane
        .kubectl(&[&list[..], &[namespace]].concat())
        .lines()
        .count()
}

fn failed_creates(plane: &ControlPlane, namespace: &str) -> u64 {
    let list = plane.kubectl(&[
        "get",
        "events",
        "--field-selector=reason=FailedCreate",
        "-o",
        "json",
        "--namespace",
        namespace,
    ]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let count = |event: &Value| event["count"].as_u64().unwrap_or(1);
    list["items"].as_array().unwrap().iter().map(count).sum()
}
