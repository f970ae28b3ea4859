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
    /// How often the controller put a pod off because of a conflict.
    requeues: usize,
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
    let given_up = proxy.metric("kube_retry_proxy_outcomes_total", "outcome=\"gave_up\"");
    proxy.stop();

    let mut table = Table::new(
        title,
        &[
            "",
            "workflows",
            "pods of each",
            "seconds until all succeeded",
            "pods put off by a conflict",
            "conflicts that the proxy met",
            "creates that it gave up",
        ],
    );
    let [met, lost] = [conflicts, given_up].map(|count| count.to_string());
    for (name, outcome, met, lost) in [
        ("direct", &direct, "–", "–"),
        ("through the proxy", &proxied, &*met, &*lost),
    ] {
        let seconds = format!("{:.1}", outcome.seconds);
        table.row(&[
            &name,
            &WORKFLOWS,
            &PODS,
            &seconds,
            &outcome.requeues,
            &met,
            &lost,
        ]);
    }
    table.print();
    // On a busy machine a create may wait longer than the hold allows.
    assert!(
        proxied.requeues as u64 <= given_up && proxied.requeues < direct.requeues,
        "conflicts reached the controller: {proxied:?}, given up: {given_up}, direct: {direct:?}"
    );
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
    let requeues = controller.requeues();
    drop(controller);
    plane.discard(&namespace);
    Outcome { seconds, requeues }
}
