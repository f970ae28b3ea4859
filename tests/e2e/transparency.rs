//! Requests other than creates pass as without a proxy: client-go's informers, leases and API
//! calls, and kubectl.

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::control_plane::{ControlPlane, SERVERS};
use crate::proxy::Proxy;

pub fn trials() -> Vec<Trial> {
    vec![
        crate::trial("transparency::informers_see_every_event_once", informers),
        crate::trial(
            "transparency::a_lease_is_renewed_all_through_a_storm",
            lease,
        ),
        crate::trial("transparency::uses_of_the_api_do_the_same", objects),
        crate::trial("transparency::kubectl_prints_the_same", kubectl),
    ]
}

fn informers(plane: &'static ControlPlane) {
    let proxy = Proxy::start(plane, &plane.servers[..SERVERS], "");
    let (through, admin) = (
        proxy.kubeconfig(plane, "admin"),
        plane.kubeconfig("admin", "apiserver-0"),
    );
    for encoding in ["json", "protobuf"] {
        let namespace = plane.namespace("informer", 0);
        let report = plane.driver(&[
            "informer",
            "-kubeconfig",
            through.to_str().unwrap(),
            "-direct-kubeconfig",
            admin.to_str().unwrap(),
            "-namespace",
            &namespace,
            "-encoding",
            encoding,
        ]);
        assert_eq!(report["ok"], true, "{encoding}: {report}");
        plane.discard(&namespace);
    }
    proxy.stop();
}

/// Argo's controller exits when it loses its lease. Therefore nothing may delay a renewal, not even
/// a storm of creates.
fn lease(plane: &'static ControlPlane) {
    let proxy = Proxy::start(plane, &plane.servers[..SERVERS], "");
    let admin = proxy.kubeconfig(plane, "admin");
    let namespace = plane.namespace("lease", 1);
    let holder = plane.driving(&[
        "lease",
        "-kubeconfig",
        admin.to_str().unwrap(),
        "-namespace",
        &namespace,
        "-for",
        "25s",
    ]);
    let storm = plane.driver(&proxy.storm(plane, &namespace, 2000, 200));
    let report: Value = serde_json::from_str(&holder.finish()).unwrap();
    assert_eq!(
        (&report["acquisitions"], &report["losses"]),
        (&1.into(), &0.into()),
        "{report}"
    );
    assert!(report["renewals"].as_u64().unwrap() >= 3, "{report}");
    assert_eq!(storm["failed"], 0, "{storm}");
    plane.discard(&namespace);
    proxy.stop();
}

fn objects(plane: &'static ControlPlane) {
    let proxy = Proxy::start(plane, &plane.servers[..SERVERS], "");
    let (through, admin) = (
        proxy.kubeconfig(plane, "admin"),
        plane.kubeconfig("admin", "apiserver-0"),
    );
    let namespace = plane.namespace("objects", 0);
    let (through, direct) = (through.to_str().unwrap(), admin.to_str().unwrap());
    let report = plane.driver(&[
        "objects",
        "-kubeconfig",
        through,
        "-direct-kubeconfig",
        direct,
        "-namespace",
        &namespace,
    ]);
    plane.discard(&namespace);
    let failed: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["ok"] != true)
        .collect();
    assert!(
        failed.is_empty() && report["checks"].as_array().unwrap().len() >= 10,
        "{failed:?} of {report}"
    );
    proxy.stop();
}

/// The output and the exit status of kubectl, directly and through the proxy.
fn kubectl(plane: &'static ControlPlane) {
    const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"app":"a"}},"spec":{"containers":[{"name":"main","image":"busybox","resources":{"requests":{"cpu":"10m","memory":"16Mi"}}}]}}"#;
    let proxy = Proxy::start(plane, &plane.servers[..SERVERS], "");
    let namespace = plane.namespace("kubectl", 1);
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("pod.json");
    std::fs::write(&manifest, POD).unwrap();
    let manifest = manifest.to_str().unwrap();
    let commands: &[&[&str]] = &[
        &["apply", "-f", manifest],
        &["apply", "-f", manifest],
        &["create", "-f", manifest],
        &[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            manifest,
        ],
        &["get", "pods", "-o", "name"],
        &[
            "get",
            "pod",
            "a",
            "-o",
            "jsonpath={.metadata.labels.app} {.status.phase}",
        ],
        &[
            "get",
            "pods",
            "-l",
            "app=a",
            "--chunk-size=1",
            "--no-headers",
            "-o",
            "custom-columns=NAME:.metadata.name",
        ],
        &["describe", "resourcequota"],
        &["label", "pod", "a", "tier=test"],
        &["get", "pod", "nobody"],
        &["auth", "can-i", "create", "pods"],
        &["auth", "can-i", "create", "clusterroles"],
        &["auth", "can-i", "--list"],
        &["auth", "whoami"],
        &["api-resources"],
        &["api-versions"],
        &["explain", "pod.spec.containers"],
        &["version"],
        &["get", "clusterroles"],
        &["delete", "pod", "a", "--grace-period=0", "--force"],
        &["get", "pods"],
    ];
    let run = |kubeconfig: &Path| -> Vec<String> {
        commands
            .iter()
            .map(|arguments| {
                printed(
                    plane
                        .kubectl_with(kubeconfig)
                        .args(["--namespace", &namespace])
                        .args(*arguments),
                )
            })
            .collect()
    };
    let direct = run(&plane.kubeconfig("user", "apiserver-0"));
    let proxied = run(&proxy.kubeconfig(plane, "user"));
    for ((arguments, direct), proxied) in commands.iter().zip(direct).zip(proxied) {
        assert_eq!(direct, proxied, "kubectl {arguments:?}");
    }
    plane.discard(&namespace);
    proxy.stop();
}

/// The exit status and the whole output.
fn printed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
