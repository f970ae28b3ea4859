//! The proxy finds the apiservers in the EndpointSlice that they maintain themselves, as in a
//! cluster.
//!
//! Kubernetes accepts no loopback address as an endpoint. Therefore this test adds three addresses
//! to the machine and removes them at the end. Only root on Linux may do that, so the test runs
//! only on request.

use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::control_plane::{ControlPlane, SERVERS};
use crate::outages::judge_storm;
use crate::process::{output, within};
use crate::proxy::Proxy;

/// Addresses of TEST-NET-2, which are never assigned (RFC 5737).
const ADDRESSES: [&str; SERVERS] = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];

/// A killed apiserver stays in the slice until its lease of 15 s has expired. That is checked every
/// 10 s.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    let run = || {
        followed();
        Ok(())
    };
    // `cargo test --test e2e -- --ignored discovery`, as root.
    vec![
        Trial::test("discovery::servers_come_and_go_with_their_endpoints", run)
            .with_ignored_flag(true),
    ]
}

fn followed() {
    let _addresses = Addresses::add();
    let plane = ControlPlane::with_addresses(&ADDRESSES);
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), token_to_discover(&plane)).unwrap();
    // The first apiserver stands for the Service's address, which always leads to a live apiserver.
    let upstream = format!(
        "url: {}, discover: Kubernetes, discoverTokenFile: {}",
        plane.servers[0],
        token.path().display()
    );
    let proxy = Proxy::before(&plane, &upstream, "");
    // The format and the order of the proxy.
    let all: Vec<_> = plane
        .servers
        .iter()
        .map(|server| server.trim_start_matches("https://").to_owned())
        .collect();
    within(PATIENCE, "the proxy uses every apiserver", || {
        in_use(&proxy) == all
    });

    // A storm in a namespace that is not pinned to the first server.
    let (storm, pinned) = loop {
        let namespace = plane.namespace("discovery", 1);
        let storm = plane.driving(&proxy.storm(&plane, &namespace, 3000, 50));
        let mut pinned = None;
        within(PATIENCE, "the storm is running", || {
            pinned = proxy.server_of(&namespace);
            pinned.is_some()
                && proxy.metric(
                    "kube_retry_proxy_outcomes_total",
                    &format!("namespace=\"{namespace}\""),
                ) > 300
        });
        match pinned.and_then(|pinned| all.iter().position(|server| *server == pinned)) {
            Some(pinned) if pinned > 0 => break (storm, pinned),
            _ => judge_storm(&serde_json::from_str(&storm.finish()).unwrap()),
        }
    };
    let name = format!("apiserver-{pinned}");
    plane.component(&["kill", &name]);
    let without: Vec<_> = all
        .iter()
        .filter(|server| **server != all[pinned])
        .cloned()
        .collect();
    let report: Value = serde_json::from_str(&storm.finish()).unwrap();
    judge_storm(&report);
    eprintln!("killed {name}: {report}");
    within(
        PATIENCE,
        "the server without an endpoint is removed",
        || known(&proxy) == without,
    );

    plane.component(&["start", &name]);
    within(PATIENCE, "the returned server is used", || {
        in_use(&proxy) == all
    });
    let namespace = plane.namespace("discovery", 1);
    let report = plane.driver(&proxy.storm(&plane, &namespace, 1000, 50));
    judge_storm(&report);
    assert_eq!(report["failed"], 0, "{report}");
    proxy.stop();
}

/// A service account that may only read the EndpointSlice, and its token.
fn token_to_discover(plane: &ControlPlane) -> String {
    let name = "kube-retry-proxy";
    let in_default =
        |arguments: &[&str]| plane.kubectl(&[&["--namespace", "default"], arguments].concat());
    in_default(&["create", "serviceaccount", name]);
    let what = [
        "--verb=list,watch",
        "--resource=endpointslices.discovery.k8s.io",
        "--resource-name=kubernetes",
    ];
    in_default(&[&["create", "role", name], &what[..]].concat());
    in_default(&[
        "create",
        "rolebinding",
        name,
        "--role",
        name,
        "--serviceaccount",
        &format!("default:{name}"),
    ]);
    in_default(&["create", "token", name, "--duration", "1h"])
}

fn addresses_of(servers: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut addresses: Vec<_> = servers
        .into_iter()
        .map(|server| server["address"].as_str().unwrap().to_owned())
        .collect();
    addresses.sort();
    addresses
}

fn known(proxy: &Proxy) -> Vec<String> {
    addresses_of(proxy.servers())
}

fn in_use(proxy: &Proxy) -> Vec<String> {
    addresses_of(
        proxy
            .servers()
            .into_iter()
            .filter(|server| server["healthy"] == true),
    )
}

/// Addresses of this machine, removed when this is dropped.
struct Addresses;

impl Addresses {
    fn add() -> Self {
        let added = Self;
        for address in ADDRESSES {
            output(Command::new("ip").args([
                "address",
                "replace",
                &format!("{address}/32"),
                "dev",
                "lo",
            ]));
        }
        added
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        for address in ADDRESSES {
            // This fails if the address was not added.
            let _ = Command::new("ip")
                .args(["address", "del", &format!("{address}/32"), "dev", "lo"])
                .stderr(Stdio::null())
                .status();
        }
    }
}
