//! Argo's workflows to their end, in a namespace whose quotas are contended: directly and through
//! the proxy in front of all apiservers. kwok ends the pods, which frees their quota and makes the
//! quota controller write too.

use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::argo::{self, Controller, Version};
use crate::contention::{Contention, QUOTAS};
use crate::control_plane::ControlPlane;
use crate::process::within;
use crate::proxy::Proxy;
use crate::table::Table;

const WORKFLOWS: usize = 3;
const PODS: usize = 50;

/// What the controller logs when a create met a conflict. It then waits for its requeue.
const CONFLICT: &str = "Operation cannot be fulfilled on resourcequotas";

pub fn trials() -> Vec<Trial> {
    vec![
        crate::trial_with_nodes(
            "workflows::of_the_reported_argo_end_with_success",
            |plane| {
                to_the_end(
                    plane,
                    Version::Reported,
                    "Argo 3.4.17, workflows to their end",
                );
            },
        ),
        crate::trial_with_nodes("workflows::of_a_current_argo_end_with_success", |plane| {
            to_the_end(
                plane,
                Version::Current,
                "Argo 4.0.5, workflows to their end",
            );
        }),
    ]
}

/// The result of the workflows, which have all ended with success.
#[derive(Debug)]
struct Outcome {
    seconds: f64,
    /// Conflicts in the log of the controller.
    seen: usize,
}

fn to_the_end(plane: &'static ControlPlane, version: Version, title: &'static str) {
    argo::install(plane, version);
    let purpose = |how: &str| format!("ends-{}-{how}", version.name().replace('.', "-"));
    let kubeconfig = plane.kubeconfig("argo", "apiserver-0");
    let direct = outcome(plane, version, &purpose("direct"), &kubeconfig);

    let proxy = Proxy::start(plane, &plane.servers, "");
    let kubeconfig = proxy.kubeconfig(plane, "argo");
    let proxied = outcome(plane, version, &purpose("proxied"), &kubeconfig);
    let conflicts = proxy.conflicts();
    proxy.stop();

    let mut table = Table::new(
        title,
        &[
            "",
            "workflows",
            "pods of each",
            "seconds until all succeeded",
            "conflicts that the controller saw",
            "conflicts absorbed",
        ],
    );
    for (name, outcome, conflicts) in [
        ("direct", &direct, "–".to_owned()),
        ("through the proxy", &proxied, conflicts.to_string()),
    ] {
        let seconds = format!("{:.1}", outcome.seconds);
        table.row(&[
            &name,
            &WORKFLOWS,
            &PODS,
            &seconds,
            &outcome.seen,
            &conflicts,
        ]);
    }
    table.print();
    assert_eq!(proxied.seen, 0, "conflicts reached the controller");
    assert!(
        conflicts > 0,
        "the proxy met no conflict, so this run proves nothing"
    );
}

fn outcome(plane: &ControlPlane, version: Version, purpose: &str, kubeconfig: &Path) -> Outcome {
    let namespace = plane.namespace(purpose, QUOTAS);
    argo::default_requests(plane, &namespace);
    let mut controller = Controller::start(plane, version, kubeconfig, purpose);
    let contention = Contention::start(plane, &namespace);
    let started = Instant::now();
    for index in 0..WORKFLOWS {
        let name = format!("workflow-{index}");
        plane.create(&argo::fan_out_workflow(&namespace, &name, PODS));
    }
    within(Duration::from_secs(600), "every workflow has ended", || {
        controller.assert_running();
        let phases = argo::phases(plane, &namespace);
        for (workflow, (phase, message)) in &phases {
            assert!(
                ["", "Pending", "Running", "Succeeded"].contains(&phase.as_str()),
                "{workflow}: {phase}: {message}"
            );
        }
        phases.values().all(|(phase, _)| phase == "Succeeded")
    });
    let seconds = started.elapsed().as_secs_f64();
    contention.stop();
    let pods = argo::pods_by_workflow(plane, &namespace);
    assert_eq!(pods.len(), WORKFLOWS, "{pods:?}");
    assert!(
        pods.values().all(|count| *count == PODS),
        "a pod is missing or was created twice: {pods:?}"
    );
    quota_is_free(plane, &namespace);
    let seen = controller.said(CONFLICT);
    drop(controller);
    plane.discard(&namespace);
    Outcome { seconds, seen }
}

/// Pods that have ended do not count.
fn quota_is_free(plane: &ControlPlane, namespace: &str) {
    let used = ["-o", "jsonpath={.items[*].status.used.pods}"];
    let get = ["get", "quota", "--namespace", namespace];
    let free = ["0"; QUOTAS].join(" ");
    within(Duration::from_secs(60), "the quota is free again", || {
        plane.kubectl(&[get.as_slice(), &used].concat()) == free
    });
}
