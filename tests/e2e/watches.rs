//! Thousands of watches and many creates through one proxy.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::control_plane::{ControlPlane, SERVERS};
use crate::process::{Running, settled, within};
use crate::processors;
use crate::proxy::Proxy;
use crate::table::Table;

const WATCHES: u64 = 5000;
const CREATES: usize = 2000;
const IN_FLIGHT: usize = 200;
/// The number of storms of each kind.
const ROUNDS: usize = 9;

/// The destination of the watches. The creates always go through the proxy.
#[derive(Clone, Copy)]
enum Watched {
    /// No watches.
    Nothing,
    /// Watches directly at the apiservers, which share this machine.
    Apiservers,
    Proxy,
}

/// The figures of a storm, in the order of the table.
const FIGURES: [&str; 7] = [
    "seconds",
    "p50 ms",
    "p99 ms",
    "CPU s: apiservers",
    "CPU s: etcd",
    "CPU s: proxy",
    "CPU s: all",
];

pub fn trials() -> Vec<Trial> {
    // A measurement: `cargo test --release --test e2e -- --ignored watches`.
    vec![
        crate::trial(
            "watches::creates_succeed_beside_five_thousand_watches",
            beside,
        )
        .with_ignored_flag(true),
    ]
}

fn beside(plane: &'static ControlPlane) {
    let proxy = Proxy::start(plane, &plane.servers[..SERVERS], "");
    let idle = plane.namespace("watched", 0);
    let kinds = [Watched::Nothing, Watched::Apiservers, Watched::Proxy];
    let mut measured = kinds.map(|_| Vec::new());
    for round in 1..=ROUNDS {
        // A disturbance of the machine affects every kind of storm.
        let mut turn = [0, 1, 2];
        fastrand::shuffle(&mut turn);
        for kind in turn {
            let watches = open(plane, &proxy, &idle, kinds[kind]);
            measured[kind].push(storm(plane, &proxy));
            if let Some(watches) = watches {
                let report: Value = serde_json::from_str(&watches.stop()).unwrap();
                assert_eq!(report["open"], WATCHES, "{report}");
            }
            eprintln!(
                "round {round} of {ROUNDS}, watches {}: {:.1?}",
                kinds[kind],
                measured[kind].last().unwrap()
            );
        }
    }
    within(Duration::from_secs(20), "the streams have ended", || {
        proxy.metric("kube_retry_proxy_streams", "") == 0
    });
    let mut table = Table::new(
        "Creates through the proxy, beside 5,000 watches",
        &[&["watches"], &FIGURES[..]].concat(),
    );
    for (kind, storms) in kinds.iter().zip(measured) {
        let cells: Vec<_> = (0..FIGURES.len())
            .map(|figure| spread(storms.iter().map(|storm| storm[figure]).collect()))
            .collect();
        let mut row: Vec<&dyn Display> = vec![kind];
        row.extend(cells.iter().map(|cell| cell as &dyn Display));
        table.row(&row);
    }
    table.print();
    proxy.stop();
}

/// Opens the watches on a namespace without changes.
fn open(plane: &ControlPlane, proxy: &Proxy, namespace: &str, watched: Watched) -> Option<Running> {
    let driving = |kubeconfig: PathBuf, servers: &[String]| {
        let (kubeconfig, count) = (kubeconfig.to_str().unwrap().to_owned(), WATCHES.to_string());
        let mut arguments = vec![
            "watches",
            "-kubeconfig",
            &kubeconfig,
            "-namespace",
            namespace,
            "-count",
            &count,
        ];
        servers
            .iter()
            .for_each(|server| arguments.extend(["-server", server]));
        let watches = plane.driving(&arguments);
        watches.says("watching");
        watches
    };
    match watched {
        Watched::Nothing => None,
        Watched::Apiservers => Some(driving(
            plane.kubeconfig("user", "apiserver-0"),
            &plane.servers[..SERVERS],
        )),
        Watched::Proxy => {
            let watches = driving(proxy.kubeconfig(plane, "user"), &[]);
            assert_eq!(proxy.metric("kube_retry_proxy_streams", ""), WATCHES);
            Some(watches)
        }
    }
}

/// Creates pods and deletes them.
fn storm(plane: &ControlPlane, proxy: &Proxy) -> [f64; FIGURES.len()] {
    let namespace = plane.namespace("beside", 1);
    let arguments = proxy.storm(plane, &namespace, CREATES, IN_FLIGHT);
    let spent = || {
        let apiservers = (0..SERVERS)
            .map(|server| processors::process(plane.process(&format!("apiserver-{server}"))))
            .sum();
        [
            apiservers,
            processors::process(plane.process("etcd")),
            processors::process(proxy.id()),
            processors::machine(),
        ]
    };
    settled();
    let before = spent();
    let report = plane.driver(&arguments);
    let after = spent();
    assert_eq!(
        (&report["created"], &report["failed"]),
        (&CREATES.into(), &0.into()),
        "{report}"
    );
    plane.empty(&namespace);
    let [seconds, p50, p99] =
        ["seconds", "p50Ms", "p99Ms"].map(|field| report[field].as_f64().unwrap());
    let [apiservers, etcd, own, machine] = std::array::from_fn(|at| after[at] - before[at]);
    [seconds, p50, p99, apiservers, etcd, own, machine]
}

/// The median and the range.
fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    format!(
        "{:.1} ({:.1}–{:.1})",
        figures[figures.len() / 2],
        figures[0],
        figures[figures.len() - 1]
    )
}

impl Display for Watched {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "none",
            Self::Apiservers => "5,000 directly at the apiservers",
            Self::Proxy => "5,000 through the proxy",
        })
    }
}
