//! A current Argo with ordinary pods. It retries after a conflict, but only after ten seconds. The
//! test measures the time until the pod exists.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::argo::{self, Controller, Submissions, Version};
use crate::contention::{Contention, QUOTAS};
use crate::control_plane::ControlPlane;
use crate::process::within;
use crate::proxy::Proxy;
use crate::table::Table;

pub fn trials() -> Vec<Trial> {
    vec![crate::trial(
        "requeue::pods_of_a_current_argo_come_without_waiting_for_its_requeue",
        sooner_through_the_proxy,
    )]
}

fn sooner_through_the_proxy(plane: &'static ControlPlane) {
    argo::install(plane, Version::Current);
    let direct = times(
        plane,
        "requeue-direct",
        &plane.kubeconfig("argo", "apiserver-0"),
        || true,
    );

    let proxy = Proxy::start(plane, &plane.servers[..1], "");
    let proxied = times(
        plane,
        "requeue-proxied",
        &proxy.kubeconfig(plane, "argo"),
        || proxy.conflicts() > 0,
    );
    let conflicts = proxy.conflicts();
    proxy.stop();

    let mut table = Table::new(
        "Argo v4.0.5, workflows of one pod: seconds from submit to pod",
        &[
            "",
            "workflows",
            "median",
            "slowest",
            "slower than 9 s",
            "conflicts absorbed",
        ],
    );
    for (name, times, conflicts) in [
        ("direct", &direct, "–".to_owned()),
        ("through the proxy", &proxied, conflicts.to_string()),
    ] {
        let slow = times
            .iter()
            .filter(|time| **time > Duration::from_secs(9))
            .count();
        let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
        let (median, slowest) = (
            seconds(times[times.len() / 2]),
            seconds(times[times.len() - 1]),
        );
        table.row(&[&name, &times.len(), &median, &slowest, &slow, &conflicts]);
    }
    table.print();
    assert!(
        conflicts > 0,
        "the proxy met no conflict, so this run proves nothing"
    );
}

/// The time until each workflow has its pod, sorted. More workflows are submitted until `shown` is
/// true.
fn times(
    plane: &ControlPlane,
    purpose: &'static str,
    kubeconfig: &Path,
    shown: impl Fn() -> bool,
) -> Vec<Duration> {
    let namespace = plane.namespace(purpose, QUOTAS);
    argo::default_requests(plane, &namespace);
    let mut controller = Controller::start(plane, Version::Current, kubeconfig, purpose);
    let contention = Contention::start(plane, &namespace);
    let mut submissions = Submissions::default();
    let mut seen: BTreeMap<String, Duration> = BTreeMap::new();
    within(
        Duration::from_secs(300),
        "every workflow has its pod",
        || {
            controller.assert_running();
            let complete = submissions.next(shown(), |name| {
                plane.create(&argo::pod_workflow(&namespace, name))
            });
            for (workflow, (phase, message)) in argo::phases(plane, &namespace) {
                assert!(
                    phase != "Error" && phase != "Failed",
                    "{workflow}: {message}"
                );
            }
            for (workflow, pods) in argo::pods_by_workflow(plane, &namespace) {
                assert_eq!(pods, 1, "{workflow} has one pod");
                seen.entry(workflow)
                    .or_insert_with_key(|workflow| submissions.elapsed(workflow));
            }
            complete && seen.len() == submissions.len()
        },
    );
    contention.stop();
    drop(controller);
    plane.discard(&namespace);
    let mut times: Vec<_> = seen.into_values().collect();
    times.sort_unstable();
    times
}
