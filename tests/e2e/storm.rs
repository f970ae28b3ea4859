//! Many creates at once, over one, two and three apiservers. Without the proxy some fail even with
//! client-go's retries; through the proxy none fails, and exactly the created pods are stored.

use libtest_mimic::Trial;
use serde_json::Value;

use crate::control_plane::{ControlPlane, SERVERS};
use crate::proxy::Proxy;
use crate::table::Table;

const PODS: usize = 1000;

/// The rate of deletions per second, in storms that delete pods.
const DELETES: usize = 100;

/// The component that handles the conflicts.
enum Way<'a> {
    /// The client, with or without client-go's `retry.OnError`.
    Direct { retry: &'static str },
    /// The proxy, with the same number of apiservers.
    Proxied(&'a Proxy),
}

/// The parameters of one storm.
#[derive(Clone, Copy)]
struct Storm {
    /// The number of apiservers that take part, the first ones.
    servers: usize,
    in_flight: usize,
    deletes: bool,
    encoding: &'static str,
    http: usize,
}

pub fn trials() -> Vec<Trial> {
    vec![
        crate::trial("storm::no_create_fails_through_the_proxy", |plane| {
            proxied(plane, &SAMPLE.map(Storm::of))
        }),
        crate::trial("storm::creates_fail_directly", |plane| {
            direct(plane, &DIRECT_SAMPLE.map(Storm::of))
        }),
        // These take 15 and 45 minutes: `cargo test --test e2e -- --ignored storm`.
        crate::trial(
            "storm::no_create_fails_through_the_proxy_in_the_whole_grid",
            |plane| proxied(plane, &grid()),
        )
        .with_ignored_flag(true),
        crate::trial("storm::creates_fail_directly_in_the_whole_grid", |plane| {
            direct(plane, &grid())
        })
        .with_ignored_flag(true),
    ]
}

/// A sample of the grid: every value of every axis, and every pair of values of the axes that
/// matter together: apiservers, creates in flight and deletes.
const SAMPLE: [Axes; 12] = [
    (1, 10, false, "json", 1),
    (1, 200, true, "protobuf", 2),
    (1, 50, true, "json", 2),
    (2, 50, false, "protobuf", 1),
    (2, 10, true, "json", 2),
    (2, 100, true, "protobuf", 2),
    (2, 200, false, "json", 1),
    (3, 10, false, "protobuf", 2),
    (3, 50, true, "protobuf", 1),
    (3, 100, false, "json", 2),
    (3, 100, true, "json", 1),
    (3, 200, true, "protobuf", 2),
];

/// Enough storms to show the race.
const DIRECT_SAMPLE: [Axes; 2] = [(3, 10, false, "protobuf", 2), (3, 50, true, "protobuf", 2)];

/// The column names for the fields of a [`Storm`].
const CONDITIONS: [&str; 5] = ["apiservers", "in flight", "deletes", "encoding", "HTTP"];

/// The fields of a [`Storm`], in their order.
type Axes = (usize, usize, bool, &'static str, usize);

/// Every combination: 96 storms.
fn grid() -> Vec<Storm> {
    let mut storms = Vec::new();
    for servers in [1, 2, 3] {
        for in_flight in [10, 50, 100, 200] {
            for deletes in [false, true] {
                for encoding in ["json", "protobuf"] {
                    storms.extend(
                        [1, 2].map(|http| Storm::of((servers, in_flight, deletes, encoding, http))),
                    );
                }
            }
        }
    }
    storms
}

fn proxied(plane: &'static ControlPlane, storms: &[Storm]) {
    let proxies: Vec<_> = (1..=SERVERS)
        .map(|n| Proxy::start(plane, &plane.servers[..n], ""))
        .collect();
    let figures_of_it = [
        "created",
        "failed",
        "conflicts met by the proxy",
        "replays",
        "seconds",
        "p99 ms",
    ];
    let mut table = Table::new(
        "Storms through the proxy",
        &[&CONDITIONS[..], &figures_of_it].concat(),
    );
    for storm in storms {
        let Storm {
            servers,
            in_flight,
            deletes,
            encoding,
            http,
        } = storm;
        let proxy = &proxies[servers - 1];
        let before = (
            proxy.conflicts(),
            proxy.metric("kube_retry_proxy_replays_total", ""),
        );
        let report = storm.run(plane, &Way::Proxied(proxy));
        let (conflicts, replays) = (
            proxy.conflicts() - before.0,
            proxy.metric("kube_retry_proxy_replays_total", "") - before.1,
        );
        let (created, failed, seconds, p99) = figures(&report);
        table.row(&[
            servers,
            in_flight,
            &rate(*deletes),
            encoding,
            http,
            created,
            failed,
            &conflicts,
            &replays,
            &seconds,
            &p99,
        ]);
        assert_eq!(
            (&report["created"], &report["failed"]),
            (&PODS.into(), &0.into()),
            "{storm}: {report}"
        );
        assert_eq!(
            report["conflicts"], 0,
            "{storm}: a conflict reached the client: {report}"
        );
    }
    table.print();
    proxies.into_iter().for_each(Proxy::stop);
}

fn direct(plane: &'static ControlPlane, storms: &[Storm]) {
    let figures_of_it = [
        "created",
        "failed",
        "conflicts seen",
        "attempts",
        "seconds",
        "p99 ms",
    ];
    let mut table = Table::new(
        "Storms straight at the apiservers",
        &[&["retry"], &CONDITIONS[..], &figures_of_it].concat(),
    );
    let mut conflicts = 0;
    for retry in ["none", "DefaultRetry", "DefaultBackoff"] {
        for storm in storms {
            let Storm {
                servers,
                in_flight,
                deletes,
                encoding,
                http,
            } = storm;
            let report = storm.run(plane, &Way::Direct { retry });
            conflicts += report["conflicts"].as_u64().unwrap();
            let (created, failed, seconds, p99) = figures(&report);
            let (seen, attempts) = (&report["conflicts"], &report["attempts"]);
            table.row(&[
                &retry,
                servers,
                in_flight,
                &rate(*deletes),
                encoding,
                http,
                created,
                failed,
                seen,
                attempts,
                &seconds,
                &p99,
            ]);
        }
    }
    table.print();
    assert!(
        conflicts > 0,
        "the race was not reproduced, so the other storms prove nothing"
    );
}

fn rate(deletes: bool) -> String {
    if deletes {
        format!("{DELETES}/s")
    } else {
        "–".to_owned()
    }
}

/// Created, failed, seconds and the 99th percentile in milliseconds, as a table shows them.
fn figures(report: &Value) -> (&Value, &Value, String, String) {
    let float = |field: &str| report[field].as_f64().unwrap();
    (
        &report["created"],
        &report["failed"],
        format!("{:.1}", float("seconds")),
        format!("{:.0}", float("p99Ms")),
    )
}

impl Storm {
    fn of((servers, in_flight, deletes, encoding, http): Axes) -> Self {
        Self {
            servers,
            in_flight,
            deletes,
            encoding,
            http,
        }
    }

    /// Runs the storm in its own namespace, and checks the stored pods.
    fn run(self, plane: &ControlPlane, way: &Way<'_>) -> Value {
        let namespace = plane.namespace("storm", 1);
        let user = match way {
            Way::Direct { .. } => plane.kubeconfig("user", "apiserver-0"),
            Way::Proxied(proxy) => proxy.kubeconfig(plane, "user"),
        };
        let judge = plane.kubeconfig("admin", "apiserver-0");
        let (pods, in_flight, http) = (
            PODS.to_string(),
            self.in_flight.to_string(),
            self.http.to_string(),
        );
        let deletes = if self.deletes { DELETES } else { 0 }.to_string();
        let mut arguments = vec![
            "storm",
            "-kubeconfig",
            user.to_str().unwrap(),
            "-judge-kubeconfig",
            judge.to_str().unwrap(),
        ];
        arguments.extend([
            "-namespace",
            &namespace,
            "-pods",
            &pods,
            "-in-flight",
            &in_flight,
            "-deletes",
            &deletes,
        ]);
        arguments.extend(["-encoding", self.encoding, "-http", &http]);
        if let Way::Direct { retry } = way {
            arguments.extend(["-retry", retry]);
            plane.servers[..self.servers]
                .iter()
                .for_each(|server| arguments.extend(["-server", server]));
        }
        let report = plane.driver(&arguments);
        plane.empty(&namespace);
        self.judge(&report);
        report
    }

    /// Whatever the answers are, exactly the created pods are stored, each once.
    fn judge(self, report: &Value) {
        let judgement = &report["judgement"];
        for wrong in ["missing", "unexpected", "uidMismatch", "deletedButPresent"] {
            assert_eq!(judgement[wrong], 0, "{self}: {wrong}: {report}");
        }
        assert_eq!(
            report["alreadyExists"], 0,
            "{self}: a create was sent again after it was stored: {report}"
        );
        assert_eq!(
            report["noAnswer"], 0,
            "{self}: a client got no answer: {report}"
        );
        let present = judgement["present"].as_u64().unwrap();
        let expected = report["created"].as_u64().unwrap() - report["deleted"].as_u64().unwrap();
        assert_eq!(
            present, expected,
            "{self}: pods present and creates acknowledged: {report}"
        );
    }
}

impl std::fmt::Display for Storm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            servers,
            in_flight,
            deletes,
            encoding,
            http,
        } = self;
        write!(
            f,
            "{servers} apiservers, {in_flight} in flight, deletes {deletes}, {encoding}, HTTP/{http}"
        )
    }
}
