//! Components that die in a storm: nothing that was acknowledged is lost, nothing is made twice, and every client gets an answer.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::control_plane::{ControlPlane, SERVERS};
use crate::process::{Running, within};
use crate::proxy::Proxy;

/// Enough to last over an outage.
const PODS: usize = 3000;

/// What has been created before the outage begins.
const BEFORE: u64 = 300;

pub fn trials() -> Vec<Trial> {
    vec![
        crate::trial("outages::goaways_at_random_lose_nothing", goaways),
        crate::trial("outages::an_apiserver_is_killed_and_comes_back", apiserver_killed),
        crate::trial("outages::etcd_stands_still_for_five_seconds", etcd_stopped),
    ]
}

/// An apiserver that sends GOAWAY after one request in fifty, as `--goaway-chance` does to rebalance its clients.
fn goaways(plane: &'static ControlPlane) {
    const NAME: &str = "apiserver-goaway";
    let url = plane.add(NAME, &["--goaway-chance=0.02"]);
    let proxy = Proxy::start(plane, &[url], "");
    let namespace = plane.namespace("goaway", 1);
    // Deletes are calls, which the proxy does not replay.
    let mut storm = proxy.storm(plane, &namespace, 2000, 50);
    storm.extend(["-deletes", "100"].map(str::to_owned));
    let report = plane.driver(&storm);
    judge_storm(&report);
    assert_eq!((&report["failed"], &report["deleteFailedBy"]), (&0.into(), &serde_json::json!({})), "{report}");
    assert_eq!(proxy.metric("kube_retry_proxy_requests_total", "code=\"503\""), 0, "no request was handed back");
    let connections = proxy.metric("kube_retry_proxy_upstream_connect_duration_seconds_count", "result=\"success\"");
    assert!(connections > 10, "only {connections} connections: GOAWAYs did not come");
    plane.discard(&namespace);
    proxy.stop();
    plane.component(&["stop", NAME]);
}

fn apiserver_killed(plane: &'static ControlPlane) {
    let before: Vec<_> = (0..SERVERS).map(|server| creates_of(plane, server)).collect();
    let storm = Storm::start(plane);
    // The one that the storm's namespace is pinned to.
    let pinned = (0..SERVERS).max_by_key(|server| creates_of(plane, *server) - before[*server]).unwrap();
    let name = format!("apiserver-{pinned}");
    plane.component(&["kill", &name]);
    plane.component(&["start", &name]);
    let report = storm.finish();
    eprintln!("killed {name}: {report}");
    // Back it is before it has read who may do what.
    assert_eq!(report["refused"], 0, "a create went to an apiserver that was starting up: {report}");
}

fn etcd_stopped(plane: &'static ControlPlane) {
    let storm = Storm::start(plane);
    plane.component(&["signal", "etcd", "STOP"]);
    std::thread::sleep(Duration::from_secs(5));
    plane.component(&["signal", "etcd", "CONT"]);
    let report = storm.finish();
    eprintln!("etcd stood still: {report}");
}

/// A storm through a proxy that knows all apiservers, under way.
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
        within(Duration::from_secs(60), "the storm is under way", || proxy.metric("kube_retry_proxy_outcomes_total", "created") >= BEFORE);
        Self { plane, proxy, namespace, driver }
    }

    /// Waits for its end and judges: refusals are answers too, but what was acknowledged is there, once, and nothing else is.
    fn finish(self) -> Value {
        let report: Value = serde_json::from_str(&self.driver.finish()).unwrap();
        self.plane.discard(&self.namespace);
        judge_storm(&report);
        assert!(report["created"].as_u64().unwrap() > BEFORE, "{report}");
        self.proxy.stop();
        report
    }
}

/// What holds of every storm through the proxy, whatever happens meanwhile.
pub fn judge_storm(report: &Value) {
    for wrong in ["missing", "unexpected", "uidMismatch", "deletedButPresent"] {
        assert_eq!(report["judgement"][wrong], 0, "{wrong}: {report}");
    }
    assert_eq!(report["alreadyExists"], 0, "a create was sent again after it was stored: {report}");
    assert_eq!(report["noAnswer"], 0, "a client got no answer: {report}");
    assert_eq!(report["conflicts"], 0, "a conflict reached the client: {report}");
}

/// Pod creates that this apiserver has answered with success.
fn creates_of(plane: &ControlPlane, server: usize) -> u64 {
    let kubeconfig = plane.kubeconfig("admin", &format!("apiserver-{server}"));
    let metrics = crate::process::output(plane.kubectl_with(&kubeconfig).args(["get", "--raw", "/metrics"]));
    let created = |line: &&str| {
        line.starts_with("apiserver_request_total{")
            && ["code=\"201\"", "resource=\"pods\"", "subresource=\"\"", "verb=\"POST\""].iter().all(|label| line.contains(label))
    };
    metrics.lines().filter(created).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}
