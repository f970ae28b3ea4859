//! Thousands of watches and many creates through one proxy.

use libtest_mimic::Trial;
use serde_json::Value;

use crate::control_plane::{ControlPlane, SERVERS};
use crate::process::within;
use crate::proxy::Proxy;
use crate::table::Table;

const WATCHES: u64 = 5000;
const CREATES: usize = 2000;
const IN_FLIGHT: usize = 200;
/// Storms before the watches are opened, and as many beside them.
const STORMS: usize = 3;

pub fn trials() -> Vec<Trial> {
    // A measurement: `cargo test --release --test e2e -- --ignored watches`.
    vec![crate::trial("watches::five_thousand_leave_creates_alone", beside).with_ignored_flag(true)]
}

fn beside(plane: &'static ControlPlane) {
    let proxy = Proxy::start(plane, &plane.servers[..SERVERS], "");
    let idle = plane.namespace("watched", 0);
    let storm = || {
        let namespace = plane.namespace("beside", 1);
        let report = plane.driver(&proxy.storm(plane, &namespace, CREATES, IN_FLIGHT));
        plane.discard(&namespace);
        assert_eq!((&report["created"], &report["failed"]), (&CREATES.into(), &0.into()), "{report}");
        report
    };
    let mut table = Table::new("Creates beside watches, through the proxy", &["watches", "created", "seconds", "p50 ms", "p99 ms"]);
    let mut row = |watches: u64, report: &Value| {
        let [seconds, p50, p99] = ["seconds", "p50Ms", "p99Ms"].map(|field| format!("{:.1}", report[field].as_f64().unwrap()));
        table.row(&[&watches, &report["created"], &seconds, &p50, &p99]);
    };
    (0..STORMS).for_each(|_| row(0, &storm()));

    let (kubeconfig, count) = (proxy.kubeconfig(plane, "user"), WATCHES.to_string());
    let watches = plane.driving(&["watches", "-kubeconfig", kubeconfig.to_str().unwrap(), "-namespace", &idle, "-count", &count]);
    watches.says("watching");
    assert_eq!(proxy.metric("kube_retry_proxy_streams", ""), WATCHES);
    (0..STORMS).for_each(|_| row(WATCHES, &storm()));
    table.print();
    let report: Value = serde_json::from_str(&watches.stop()).unwrap();
    assert_eq!(report["open"], WATCHES, "{report}");
    within(std::time::Duration::from_secs(20), "the streams have ended", || proxy.metric("kube_retry_proxy_streams", "") == 0);
    proxy.stop();
}
