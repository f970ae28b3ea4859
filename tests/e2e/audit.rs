//! `explain --audit-log` finds in the logs of real apiservers what the client itself counted.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::control_plane::{ControlPlane, SERVERS};
use crate::process::output;
use crate::table::Table;

/// The policy that docs/do-i-have-this-problem.md recommends.
const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/audit-policy.yaml");

pub fn trials() -> Vec<Trial> {
    vec![crate::trial(
        "audit::explain_counts_what_the_client_counted",
        counted,
    )]
}

/// An apiserver that writes an audit log.
struct Audited<'a> {
    plane: &'a ControlPlane,
    name: String,
    url: String,
}

impl<'a> Audited<'a> {
    fn start(plane: &'a ControlPlane, name: &str, flags: &[&str]) -> Self {
        let mut audited = Self {
            plane,
            name: name.to_owned(),
            url: String::new(),
        };
        let log = format!("--audit-log-path={}", audited.log().display());
        let policy = format!("--audit-policy-file={POLICY}");
        audited.url = plane.add(name, &[&[log.as_str(), &policy], flags].concat());
        audited
    }

    fn log(&self) -> PathBuf {
        self.plane.logs().join(format!("{}.audit.log", self.name))
    }

    /// `apiserver_request_total` with these labels.
    fn requests(&self, labels: &[&str]) -> u64 {
        let admin = self.plane.kubeconfig("admin", &self.name);
        let mut get = self.plane.kubectl_with(&admin);
        let metrics = output(get.args(["get", "--raw", "/metrics"]));
        let lines = metrics.lines().filter(|line| {
            line.starts_with("apiserver_request_total{")
                && labels.iter().all(|label| line.contains(label))
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

impl Drop for Audited<'_> {
    fn drop(&mut self) {
        self.plane.component(&["stop", &self.name]);
    }
}

/// What a client counted in its namespace.
struct Truth {
    namespace: String,
    creates: u64,
    conflicts: u64,
    throttled: u64,
}

fn counted(plane: &'static ControlPlane) {
    let audited: Vec<_> = (0..SERVERS)
        .map(|n| Audited::start(plane, &format!("apiserver-audited-{n}"), &[]))
        .collect();
    // This one throttles.
    let narrow = Audited::start(
        plane,
        "apiserver-audited-narrow",
        &[
            "--max-mutating-requests-inflight=2",
            "--enable-priority-and-fairness=false",
        ],
    );
    let all: Vec<_> = audited.iter().collect();
    let truths = [
        storm(plane, &all, 1, &["-in-flight", "50", "-deletes", "50"]),
        storm(plane, &all, 3, &["-in-flight", "20"]),
        storm(plane, &[&narrow], 0, &["-in-flight", "20"]),
    ];

    let mut logs = vec![narrow.log()];
    logs.extend(audited.iter().map(Audited::log));
    println!("{}", explain(&logs, "table"));
    let report: Value = serde_json::from_str(&explain(&logs, "json")).unwrap();
    let mut table = Table::new(
        "Creates in the audit logs",
        &[
            "namespace",
            "creates: client",
            "explain",
            "conflicts: client",
            "explain",
            "throttled: client",
            "explain",
        ],
    );
    let mut wrong = Vec::new();
    for truth in &truths {
        let found = |count: &str| {
            let rows = report["rows"].as_array().unwrap().iter();
            let of_namespace = rows.filter(|row| row["namespace"] == *truth.namespace);
            of_namespace.map(|row| row[count].as_u64().unwrap()).sum()
        };
        let counts: [u64; 3] = ["creates", "quotaConflicts", "throttled"].map(found);
        table.row(&[
            &truth.namespace,
            &truth.creates,
            &counts[0],
            &truth.conflicts,
            &counts[1],
            &truth.throttled,
            &counts[2],
        ]);
        if counts != [truth.creates, truth.conflicts, truth.throttled] {
            wrong.push(&truth.namespace);
        }
    }
    table.print();
    assert!(wrong.is_empty(), "{wrong:?}: {report}");
    let sum = |count: fn(&Truth) -> u64| truths.iter().map(count).sum::<u64>();
    let (conflicts, throttled) = (sum(|truth| truth.conflicts), sum(|truth| truth.throttled));
    assert!(
        conflicts > 0 && throttled > 0,
        "nothing was refused, so this run proves nothing"
    );
    let of_all = ["quotaConflicts", "throttled", "wouldReplay"].map(|count| &report[count]);
    assert_eq!(
        of_all,
        [conflicts, throttled, conflicts + throttled],
        "{report}"
    );
    assert_eq!(report["skipped"], serde_json::json!([]), "{report}");

    // The queries that docs/do-i-have-this-problem.md shows count the same.
    let metric = |labels: &[&str]| {
        let servers = audited.iter().chain([&narrow]);
        servers.map(|server| server.requests(labels)).sum::<u64>()
    };
    let pods = |code| metric(&["resource=\"pods\"", "verb=\"POST\"", "dry_run=\"\"", code]);
    assert_eq!(pods("code=\"409\""), conflicts);
    assert_eq!(pods("code=\"429\""), throttled);
    let lost_updates = metric(&[
        "resource=\"resourcequotas\"",
        "subresource=\"status\"",
        "verb=\"PUT\"",
        "code=\"409\"",
    ]);
    println!("updates of quotas that lost: {lost_updates}");
    assert!(lost_updates > 0);
}

/// Creates pods straight at these apiservers, in a namespace of its own.
fn storm(plane: &ControlPlane, servers: &[&Audited<'_>], quotas: usize, how: &[&str]) -> Truth {
    let namespace = plane.namespace("audited", quotas);
    let (user, judge) = (
        plane.kubeconfig("user", "apiserver-0"),
        plane.kubeconfig("admin", "apiserver-0"),
    );
    let mut arguments = vec![
        "storm",
        "-kubeconfig",
        user.to_str().unwrap(),
        "-judge-kubeconfig",
        judge.to_str().unwrap(),
        "-namespace",
        &namespace,
        "-pods",
        "300",
    ];
    arguments.extend(how);
    for server in servers {
        arguments.extend(["-server", &server.url]);
    }
    let report = plane.driver(&arguments);
    plane.discard(&namespace);
    assert_eq!(report["noAnswer"], 0, "{report}");
    Truth {
        namespace,
        creates: report["attempts"].as_u64().unwrap(),
        conflicts: report["conflicts"].as_u64().unwrap(),
        throttled: report["answers"]["HTTP/2.0 429"].as_u64().unwrap_or(0),
    }
}

fn explain(logs: &[PathBuf], form: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-retry-proxy"));
    command.args(["explain", "--output", form, "--audit-log"]);
    output(command.args(logs))
}
