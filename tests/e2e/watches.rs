//! Thousands of watches and many creates through one proxy.

use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::control_plane::{ControlPlane, SERVERS};
use crate::process::{Running, within};
use crate::proxy::Proxy;
use crate::table::Table;

const WATCHES: u64 = 5000;
const CREATES: usize = 2000;
const IN_FLIGHT: usize = 200;
/// Of each kind.
const STORMS: usize = 2;

pub fn trials() -> Vec<Trial> {
    // A measurement: `cargo test --release --test e2e -- --ignored watches`.
    vec![crate::trial("watches::creates_succeed_beside_five_thousand_watches", beside).with_ignored_flag(true)]
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
    let mut table = Table::new("Creates through the proxy, beside watches", &["watches", "created", "seconds", "p50 ms", "p99 ms"]);
    let mut storms = |watches: &str| {
        for _ in 0..STORMS {
            let report = storm();
            let [seconds, p50, p99] = ["seconds", "p50Ms", "p99Ms"].map(|field| format!("{:.1}", report[field].as_f64().unwrap()));
            table.row(&[&watches, &report["created"], &seconds, &p50, &p99]);
        }
    };
    let open = |kubeconfig: PathBuf, servers: &[String]| {
        let (kubeconfig, count) = (kubeconfig.to_str().unwrap().to_owned(), WATCHES.to_string());
        let mut arguments = vec!["watches", "-kubeconfig", &kubeconfig, "-namespace", &idle, "-count", &count];
        servers.iter().for_each(|server| arguments.extend(["-server", server]));
        let watches = plane.driving(&arguments);
        watches.says("watching");
        watches
    };
    let close = |watches: Running| {
        let report: Value = serde_json::from_str(&watches.stop()).unwrap();
        assert_eq!(report["open"], WATCHES, "{report}");
    };
    storms("none");
    // What they cost the apiservers, which share this machine.
    let watches = open(plane.kubeconfig("user", "apiserver-0"), &plane.servers[..SERVERS]);
    storms("5,000 straight at the apiservers");
    close(watches);

    let watches = open(proxy.kubeconfig(plane, "user"), &[]);
    assert_eq!(proxy.metric("kube_retry_proxy_streams", ""), WATCHES);
    storms("5,000 through the proxy");
    close(watches);
    within(Duration::from_secs(20), "the streams have ended", || proxy.metric("kube_retry_proxy_streams", "") == 0);
    table.print();
    proxy.stop();
}
