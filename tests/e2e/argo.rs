//! Argo's real workflow-controller, and workflows for it.
//!
//! Without nodes all pods stay Pending. That is enough for tests of the creation of pods. On the
//! control plane with nodes the pods end and with them the workflows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, program};
use crate::process::{Running, output, within};

/// The version of Argo.
#[derive(Clone, Copy)]
pub enum Version {
    /// 3.4.17, the version in the original report: client-go 0.24, JSON.
    Reported,
    /// A current version: client-go 0.33, protobuf.
    Current,
}

impl Version {
    /// As in the name of the Go module that builds it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reported => "3.4",
            Self::Current => "4.0",
        }
    }

    /// The path of the executable.
    pub fn controller(self) -> Command {
        Command::new(program(&format!("argo-{}", self.name())))
    }
}

/// A running controller. It uses a fixed port (6060), so only one can run at a time.
pub struct Controller(Running);

impl Controller {
    /// Installs this version's manifests and runs its controller with `kubeconfig`. Returns when it
    /// is the leader.
    pub fn start(
        plane: &ControlPlane,
        version: Version,
        kubeconfig: &Path,
        log_name: &str,
    ) -> Self {
        let mut command = version.controller();
        command.arg("--kubeconfig").arg(kubeconfig);
        Self::run(plane, &mut command, log_name)
    }

    /// Runs a controller with the given address of the apiserver.
    pub fn run(plane: &ControlPlane, command: &mut Command, log_name: &str) -> Self {
        let log = plane.logs().join(format!("argo-{log_name}.log"));
        command
            .args([
                "--namespace",
                "argo",
                "--executor-image",
                "argoexec:none",
                "--loglevel",
                "debug",
            ])
            .env("LEADER_ELECTION_IDENTITY", log_name);
        // The lease of a killed controller stays, and the next controller would wait for its end.
        plane.kubectl(&["delete", "lease", "--namespace", "argo", "--all"]);
        let mut controller = Running::logging("workflow-controller", command, &log);
        within(
            Duration::from_secs(60),
            "the workflow-controller leads",
            || {
                controller.assert_running();
                std::fs::read_to_string(&log).is_ok_and(|printed| {
                    printed.to_lowercase().contains("started leading")
                        || printed.contains("became leader")
                })
            },
        );
        Self(controller)
    }

    /// How many lines of its log have this text.
    pub fn said(&self, text: &str) -> usize {
        self.0
            .log()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Fails if the controller has ended. It exits when it loses its lease.
    pub fn assert_running(&mut self) {
        self.0.assert_running();
    }
}

/// Installs the manifests of a version.
pub fn install(plane: &ControlPlane, version: Version) {
    plane.component(&["argo", version.name()]);
}

/// Workflows that are submitted one by one. In a burst an apiserver would charge many creates in
/// one write, and all of them would fail or succeed together.
#[derive(Default)]
pub struct Submissions(BTreeMap<String, Instant>);

impl Submissions {
    const FEW: usize = 20;
    const MANY: usize = 100;

    /// Submits one more workflow. Returns whether that was the last: after a minimum number it
    /// stops when `shown` is true, and at the latest at the maximum.
    pub fn next(&mut self, shown: bool, submit: impl FnOnce(&str)) -> bool {
        let complete = self.0.len() >= if shown { Self::FEW } else { Self::MANY };
        if !complete {
            let name = format!("workflow-{}", self.0.len());
            submit(&name);
            self.0.insert(name, Instant::now());
        }
        complete
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time since this workflow was submitted.
    pub fn elapsed(&self, workflow: &str) -> Duration {
        self.0[workflow].elapsed()
    }
}

/// A workflow of one HTTP template, which an agent pod would call.
pub fn http_workflow(namespace: &str, name: &str) -> Value {
    let template = json!({ "name": "main", "http": { "url": "http://localhost:1/" } });
    workflow(namespace, name, json!([template]))
}

/// A workflow of one ordinary pod.
pub fn pod_workflow(namespace: &str, name: &str) -> Value {
    workflow(namespace, name, json!([container("main")]))
}

/// A workflow that creates this many pods at once.
pub fn fan_out_workflow(namespace: &str, name: &str, pods: usize) -> Value {
    let each =
        json!({ "name": "each", "template": "one", "withSequence": { "count": pods.to_string() } });
    let main = json!({ "name": "main", "steps": [[each]] });
    workflow(namespace, name, json!([main, container("one")]))
}

fn container(name: &str) -> Value {
    let requests = json!({ "requests": { "cpu": "10m", "memory": "16Mi" } });
    json!({ "name": name, "container": { "image": "busybox", "command": ["true"], "resources": requests } })
}

fn workflow(namespace: &str, name: &str, templates: Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": { "namespace": namespace, "name": name },
        "spec": { "entrypoint": "main", "templates": templates },
    })
}

/// Argo's own containers request no resources, and a quota of CPU and memory refuses that. This
/// creates defaults for the namespace.
pub fn default_requests(plane: &ControlPlane, namespace: &str) {
    plane.create(&json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "defaults", "namespace": namespace },
        "spec": { "limits": [{ "type": "Container", "defaultRequest": { "cpu": "10m", "memory": "16Mi" } }] },
    }));
}

/// Phase and message of each workflow.
pub fn phases(plane: &ControlPlane, namespace: &str) -> BTreeMap<String, (String, String)> {
    let list = get(plane, namespace, "workflows");
    let of = |item: &Value, field: &str| {
        item["status"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    list.iter()
        .map(|item| {
            (
                item["metadata"]["name"].as_str().unwrap().to_owned(),
                (of(item, "phase"), of(item, "message")),
            )
        })
        .collect()
}

/// The workflow of each existing pod.
pub fn pods_by_workflow(plane: &ControlPlane, namespace: &str) -> BTreeMap<String, usize> {
    let mut pods = BTreeMap::new();
    for pod in get(plane, namespace, "pods") {
        if let Some(workflow) = pod["metadata"]["labels"]["workflows.argoproj.io/workflow"].as_str()
        {
            *pods.entry(workflow.to_owned()).or_default() += 1;
        }
    }
    pods
}

fn get(plane: &ControlPlane, namespace: &str, kind: &str) -> Vec<Value> {
    let kubeconfig = plane.kubeconfig("admin", "apiserver-0");
    let printed = output(plane.kubectl_with(&kubeconfig).args([
        "get",
        kind,
        "--namespace",
        namespace,
        "-o",
        "json",
    ]));
    let list: Value = serde_json::from_str(&printed).unwrap();
    list["items"].as_array().unwrap().clone()
}
