//! Components that fail during a storm: no created pod is lost, none is stored twice, and every
//! client gets an answer.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::control_plane::{ControlPlane, SERVERS};
use crate::process::{Running, within};
use crate::proxy::Proxy;

/// Enough pods for a storm that is longer than the outage.
const PODS: usize = 3000;

/// Creates in flight in each of the four storms during the failure of an apiserver.
const IN_FLIGHT: usize = 12;

/// The number of created pods at which the outage begins.
const BEFORE: u64 = 300;

pub fn trials() -> Vec<Trial> {
    vec![
        crate::trial("outages::goaways_at_random_lose_nothing", goaways),
        crate::trial(
            "outages::an_apiserver_is_killed_and_comes_back",
            apiserver_killed,
        ),
        crate::trial("outages::etcd_stalls_for_five_seconds", etcd_stopped),
    ]
}

/// An apiserver that sends GOAWAY after one request in fifty, as `--goaway-chance` does to
/// rebalance its clients.
fn goaways(plane: &'static ControlPlane) {
    const NAME: &str = "apiserver-goaway";
    let url = plane.add(NAME, &["--goaway-chance=0.02"]);
    let proxy = Proxy::start(plane, &[url], "");
    let namespace = plane.namespace("goaway", 1);
    // Deletes are calls, and the proxy does not replay those.
    let mut storm = proxy.storm(plane, &namespace, 2000, 50);
    storm.extend(["-deletes", "100"].map(str::to_owned));
    let report = plane.driver(&storm);
    judge_storm(&report);
    assert_eq!(
        (&report["failed"], &report["deleteFailedBy"]),
        (&0.into(), &serde_json::json!({})),
        "{report}"
    );
    assert_eq!(
        proxy.metric("kube_retry_proxy_requests_total", "code=\"503\""),
        0,
        "no request was handed back"
    );
    let connections = proxy.metric(
        "kube_retry_proxy_upstream_connect_duration_seconds_count",
        "result=\"success\"",
    );
    assert!(
        connections > 10,
        "only {connections} connections: there were no GOAWAYs"
    );
    plane.discard(&namespace);
    proxy.stop();
    plane.component(&["stop", NAME]);
}

/// Two replicas pin namespaces in the same way. When an apiserver fails, only its own namespaces
/// move.
fn apiserver_killed(plane: &'static ControlPlane) {
    let replicas = [(), ()].map(|()| Proxy::start(plane, &plane.servers[..SERVERS], ""));
    let namespaces = pinned_apart(plane, &replicas);
    let pins = || {
        namespaces.each_ref().map(|namespace| {
            replicas
                .each_ref()
                .map(|replica| replica.server_of(namespace).unwrap())
        })
    };
    let before = pins();
    assert!(
        before.iter().all(|[one, other]| one == other),
        "the replicas disagree: {before:?}"
    );

    let mut drivers = Vec::new();
    for namespace in &namespaces {
        for (replica, number) in replicas.iter().zip(0..) {
            let mut storm = replica.storm(plane, namespace, PODS / 4, IN_FLIGHT);
            storm.extend(["-name-prefix".to_owned(), format!("storm-{number}")]);
            drivers.push(plane.driving(&storm));
        }
    }
    let created = || {
        replicas
            .iter()
            .map(|replica| replica.metric("kube_retry_proxy_outcomes_total", "created"))
            .sum::<u64>()
    };
    within(Duration::from_secs(60), "the storms are running", || {
        created() >= BEFORE
    });
    let killed = plane
        .servers
        .iter()
        .position(|server| server.ends_with(&before[0][0]))
        .unwrap();
    let name = format!("apiserver-{killed}");
    let outage = {
        let name = name.clone();
        std::thread::spawn(move || {
            plane.component(&["kill", &name]);
            plane.component(&["start", &name]);
        })
    };
    let mut moved = false;
    within(
        Duration::from_secs(120),
        "the storms and the outage are over",
        || {
            let [own, others] = pins();
            moved |= own != before[0];
            assert_eq!(others, before[1], "a namespace of another apiserver moved");
            outage.is_finished() && drivers.iter_mut().all(Running::has_ended)
        },
    );
    outage.join().unwrap();
    assert!(moved, "no namespace left {name}");
    for driver in drivers {
        let report: Value = serde_json::from_str(&driver.finish()).unwrap();
        judge_storm(&report);
        // A starting apiserver answers before it has read the RBAC rules.
        assert_eq!(
            report["refused"], 0,
            "a create went to an apiserver that was starting up: {report}"
        );
        assert!(
            report["failed"].as_u64().unwrap() <= IN_FLIGHT as u64,
            "more failed than were in flight when it died: {report}"
        );
        eprintln!("killed {name}: {report}");
    }
    let healthy = |replica: &Proxy| {
        replica
            .servers()
            .iter()
            .all(|server| server["healthy"] == true)
    };
    within(
        Duration::from_secs(60),
        "the apiserver is used again",
        || replicas.iter().all(healthy),
    );
    for namespace in &namespaces {
        create_by_each(plane, &replicas, namespace, "after");
    }
    assert_eq!(pins(), before, "its namespaces return");
    namespaces
        .iter()
        .for_each(|namespace| plane.discard(namespace));
    replicas.into_iter().for_each(Proxy::stop);
}

/// Two namespaces that are pinned to different apiservers.
fn pinned_apart(plane: &ControlPlane, replicas: &[Proxy; 2]) -> [String; 2] {
    let used = || {
        let namespace = plane.namespace("outage", 1);
        create_by_each(plane, replicas, &namespace, "before");
        namespace
    };
    let (one, mut other) = (used(), used());
    while replicas[0].server_of(&other) == replicas[0].server_of(&one) {
        plane.discard(&std::mem::replace(&mut other, used()));
    }
    [one, other]
}

/// Sends one create through each of the replicas.
fn create_by_each(plane: &ControlPlane, replicas: &[Proxy; 2], namespace: &str, purpose: &str) {
    for (replica, number) in replicas.iter().zip(0..) {
        let mut storm = replica.storm(plane, namespace, 1, 1);
        storm.extend(["-name-prefix".to_owned(), format!("{purpose}-{number}")]);
        let report = plane.driver(&storm);
        assert_eq!(report["created"], 1, "{report}");
    }
}

fn etcd_stopped(plane: &'static ControlPlane) {
    let storm = Storm::start(plane);
    plane.component(&["signal", "etcd", "STOP"]);
    std::thread::sleep(Duration::from_secs(5));
    plane.component(&["signal", "etcd", "CONT"]);
    let report = storm.finish();
    eprintln!("etcd stalled: {report}");
}

/// A running storm through a proxy that knows all apiservers.
struct Storm<'a> {
    plane: &'a ControlPlane,
    proxy: Proxy,
    namespace: String,
    driver: Running,
}

impl<'a> Storm<'a> {
    fn start(plane: &'a ControlPlane) -> Self {
        let namespace = plane.namespace("outage", 1);
        let proxy = Proxy::start(plane, &plane.servers[..SERVERS], "");
        let driver = plane.driving(&proxy.storm(plane, &namespace, PODS, 50));
        within(Duration::from_secs(60), "the storm is running", || {
            proxy.metric("kube_retry_proxy_outcomes_total", "created") >= BEFORE
        });
        Self {
            plane,
            proxy,
            namespace,
            driver,
        }
    }

    /// Waits for the end of the storm and checks it: creates may be refused, but every created pod
    /// is stored once, and no other pod is.
    fn finish(self) -> Value {
        let report: Value = serde_json::from_str(&self.driver.finish()).unwrap();
        self.plane.discard(&self.namespace);
        judge_storm(&report);
        assert!(report["created"].as_u64().unwrap() > BEFORE, "{report}");
        self.proxy.stop();
        report
    }
}

/// The requirements on every storm through the proxy.
pub fn judge_storm(report: &Value) {
    for wrong in ["missing", "unexpected", "uidMismatch", "deletedButPresent"] {
        assert_eq!(report["judgement"][wrong], 0, "{wrong}: {report}");
    }
    assert_eq!(
        report["alreadyExists"], 0,
        "a create was sent again after it was stored: {report}"
    );
    assert_eq!(report["noAnswer"], 0, "a client got no answer: {report}");
    assert_eq!(
        report["conflicts"], 0,
        "a conflict reached the client: {report}"
    );
}
