//! The failure that was reported (argo-workflows#13654), reproduced and cured: Argo v3.4.17 fails a whole workflow when its agent pod meets
//! a quota conflict.

use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use crate::argo::{self, Controller, Version};
use crate::contention::{Contention, QUOTAS};
use crate::control_plane::ControlPlane;
use crate::process::within;
use crate::proxy::Proxy;
use crate::table::Table;

const WORKFLOWS: usize = 20;

/// The workflows are submitted again, so many times at most, where none of them met a conflict.
const ROUNDS: usize = 5;

/// Now and then the contention refuses three of four attempts, far more than any cluster does: the default of eight attempts is then used up by
/// one create in ten.
const PATIENT: &str = "replay: {maxAttempts: 40, maxDelay: 500ms, maxHold: 60s}\n";

const REFUSED: &str = "failed to create Agent pod";
const CONFLICT: &str = "Operation cannot be fulfilled on resourcequotas";

pub fn trials() -> Vec<Trial> {
    vec![crate::trial("report::a_conflict_fails_the_workflow_directly_and_is_absorbed_by_the_proxy", reproduced_and_cured)]
}

/// What became of the workflows.
#[derive(Debug, Default)]
struct Outcome {
    /// Ended in Error, because of the conflict.
    failed: usize,
    /// Their agent pod is there and they go on.
    running: usize,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.failed += other.failed;
        self.running += other.running;
    }

    fn workflows(&self) -> usize {
        self.failed + self.running
    }
}

fn reproduced_and_cured(plane: &'static ControlPlane) {
    argo::install(plane, Version::Reported);
    let mut direct = Outcome::default();
    for _ in 0..ROUNDS {
        direct.add(outcome(plane, "report-direct", &plane.kubeconfig("argo", "apiserver-0")));
        if direct.failed > 0 {
            break;
        }
    }

    let proxy = Proxy::start(plane, &plane.servers[..1], PATIENT);
    let mut proxied = Outcome::default();
    for _ in 0..ROUNDS {
        proxied.add(outcome(plane, "report-proxied", &proxy.kubeconfig(plane, "argo")));
        if proxy.conflicts() > 0 {
            break;
        }
    }
    let conflicts = proxy.conflicts();
    proxy.stop();

    let mut table = Table::new(
        "Argo v3.4.17, workflows with an HTTP template",
        &["", "workflows", "ended in Error", "agent pods", "conflicts absorbed"],
    );
    for (name, outcome, conflicts) in [("direct", &direct, "–".to_owned()), ("through the proxy", &proxied, conflicts.to_string())] {
        table.row(&[&name, &outcome.workflows(), &outcome.failed, &outcome.running, &conflicts]);
    }
    table.print();
    assert!(direct.failed > 0, "the reported failure was not reproduced: {direct:?}");
    assert_eq!(proxied.failed, 0, "{proxied:?}");
    assert!(conflicts > 0, "the proxy met no conflict, so that it has shown nothing");
}

/// Submits the workflows to a controller that uses `kubeconfig`, while the quota is contended through the other apiservers.
fn outcome(plane: &ControlPlane, purpose: &'static str, kubeconfig: &Path) -> Outcome {
    let namespace = plane.namespace(purpose, QUOTAS);
    let mut controller = Controller::start(plane, Version::Reported, kubeconfig, purpose);
    let contention = Contention::start(plane, &namespace);
    let workflows: Vec<_> = (0..WORKFLOWS).map(|n| argo::http_workflow(&namespace, &format!("http-{n}"))).collect();
    plane.create(&json!({ "apiVersion": "v1", "kind": "List", "items": workflows }));
    let mut outcome = Outcome::default();
    within(Duration::from_secs(180), "every workflow has its agent pod or has failed", || {
        assert!(controller.is_running(), "the workflow-controller ended");
        let phases = argo::phases(plane, &namespace);
        let pods = argo::pods_by_workflow(plane, &namespace);
        outcome = Outcome::default();
        for (workflow, (phase, message)) in &phases {
            match (phase.as_str(), pods.get(workflow)) {
                ("Error" | "Failed", _) => {
                    assert!(message.contains(REFUSED) && message.contains(CONFLICT), "{workflow} failed otherwise: {message}");
                    outcome.failed += 1;
                }
                (_, Some(pods)) => {
                    assert_eq!(*pods, 1, "{workflow} has one agent pod");
                    outcome.running += 1;
                }
                (_, None) => {}
            }
        }
        outcome.workflows() == WORKFLOWS
    });
    contention.stop();
    drop(controller);
    plane.discard(&namespace);
    outcome
}
