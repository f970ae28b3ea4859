//! Reproduces the reported failure (argo-workflows#13654) and shows that the proxy prevents it:
//! Argo v3.4.17 fails a whole workflow when its agent pod meets a quota conflict.

use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::argo::{self, Controller, Submissions, Version};
use crate::contention::{Contention, QUOTAS};
use crate::control_plane::ControlPlane;
use crate::process::within;
use crate::proxy::Proxy;
use crate::table::Table;

const REFUSED: &str = "failed to create Agent pod";
const CONFLICT: &str = "Operation cannot be fulfilled on resourcequotas";

pub fn trials() -> Vec<Trial> {
    vec![crate::trial(
        "report::a_conflict_fails_the_workflow_directly_and_is_absorbed_by_the_proxy",
        reproduced_and_cured,
    )]
}

/// The results of the workflows.
#[derive(Debug, Default)]
struct Outcome {
    /// Workflows that ended in Error because of the conflict.
    failed: usize,
    /// Workflows that have their agent pod and continue.
    running: usize,
}

fn reproduced_and_cured(plane: &'static ControlPlane) {
    argo::install(plane, Version::Reported);
    let direct = outcome(
        plane,
        "report-direct",
        &plane.kubeconfig("argo", "apiserver-0"),
        |outcome| outcome.failed > 0,
    );

    let proxy = Proxy::start(plane, &plane.servers[..1], "");
    let proxied = outcome(
        plane,
        "report-proxied",
        &proxy.kubeconfig(plane, "argo"),
        |_| proxy.conflicts() > 0,
    );
    let conflicts = proxy.conflicts();
    proxy.stop();

    let mut table = Table::new(
        "Argo v3.4.17, workflows with an HTTP template",
        &[
            "",
            "workflows",
            "ended in Error",
            "agent pods",
            "conflicts absorbed",
        ],
    );
    for (name, outcome, conflicts) in [
        ("direct", &direct, "–".to_owned()),
        ("through the proxy", &proxied, conflicts.to_string()),
    ] {
        table.row(&[
            &name,
            &(outcome.failed + outcome.running),
            &outcome.failed,
            &outcome.running,
            &conflicts,
        ]);
    }
    table.print();
    assert!(
        direct.failed > 0,
        "the reported failure was not reproduced: {direct:?}"
    );
    assert_eq!(proxied.failed, 0, "{proxied:?}");
    assert!(
        conflicts > 0,
        "the proxy met no conflict, so this run proves nothing"
    );
}

/// Submits workflows to a controller that uses `kubeconfig`, until `shown` is true, while the quota
/// is contended.
fn outcome(
    plane: &ControlPlane,
    purpose: &'static str,
    kubeconfig: &Path,
    shown: impl Fn(&Outcome) -> bool,
) -> Outcome {
    let namespace = plane.namespace(purpose, QUOTAS);
    let mut controller = Controller::start(plane, Version::Reported, kubeconfig, purpose);
    let contention = Contention::start(plane, &namespace);
    let mut submissions = Submissions::default();
    let mut outcome = Outcome::default();
    within(
        Duration::from_secs(180),
        "every workflow has its agent pod or has failed",
        || {
            controller.assert_running();
            let complete = submissions.next(shown(&outcome), |name| {
                plane.create(&argo::http_workflow(&namespace, name))
            });
            let phases = argo::phases(plane, &namespace);
            let pods = argo::pods_by_workflow(plane, &namespace);
            outcome = Outcome::default();
            for (workflow, (phase, message)) in &phases {
                match (phase.as_str(), pods.get(workflow)) {
                    ("Error" | "Failed", _) => {
                        assert!(
                            message.contains(REFUSED) && message.contains(CONFLICT),
                            "{workflow} failed otherwise: {message}"
                        );
                        outcome.failed += 1;
                    }
                    (_, Some(pods)) => {
                        assert_eq!(*pods, 1, "{workflow} has one agent pod");
                        outcome.running += 1;
                    }
                    (_, None) => {}
                }
            }
            complete && outcome.failed + outcome.running == submissions.len()
        },
    );
    contention.stop();
    drop(controller);
    plane.discard(&namespace);
    outcome
}
