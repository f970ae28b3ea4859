//! Argo's real workflow-controller, and workflows for it.
//!
//! There is no kubelet, so pods stay Pending: enough, for what fails is their creation.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, program};
use crate::process::{Running, output, within};

/// Which Argo.
#[derive(Clone, Copy)]
pub enum Version {
    /// 3.4.17, of the report: client-go 0.24, JSON.
    Reported,
    /// A current one: client-go 0.33, protobuf.
    Current,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::Reported => "3.4",
            Self::Current => "4.0",
        }
    }

    /// Its executable.
    pub fn controller(self) -> Command {
        Command::new(program(&format!("argo-{}", self.name())))
    }
}

/// A running controller. It listens on a port of its own choice (6060), so there can only be one at
/// a time.
pub struct Controller(Running);

impl Controller {
    /// Installs this version's manifests and runs its controller with `kubeconfig`; returns once it
    /// leads.
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

    /// Runs a controller that has been told where its apiserver is.
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
        // Its lease outlives a controller that is killed, and the next one would wait for its end.
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

    /// Fails if it has ended: a controller that loses its lease exits.
    pub fn assert_running(&mut self) {
        self.0.assert_running();
    }
}

/// Installs the manifests of a version.
pub fn install(plane: &ControlPlane, version: Version) {
    plane.component(&["argo", version.name()]);
}

/// Workflows that are submitted one after the other: an apiserver charges a quota once for all
/// creates that have come meanwhile, so that those of a burst would be refused together or not at
/// all.
#[derive(Default)]
pub struct Submissions(BTreeMap<String, Instant>);

impl Submissions {
    const FEW: usize = 20;
    const MANY: usize = 100;

    /// Submits one more: few, and more until they have shown what they are to show, but not more
    /// than many. Whether these were all.
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

    /// How long ago this one was submitted.
    pub fn elapsed(&self, workflow: &str) -> Duration {
        self.0[workflow].elapsed()
    }
}

/// A workflow of one HTTP template, which an agent pod would call.
pub fn http_workflow(namespace: &str, name: &str) -> Value {
    workflow(
        namespace,
        name,
        json!({ "name": "main", "http": { "url": "http://localhost:1/" } }),
    )
}

/// A workflow of one ordinary pod.
pub fn pod_workflow(namespace: &str, name: &str) -> Value {
    let requests = json!({ "requests": { "cpu": "10m", "memory": "16Mi" } });
    workflow(
        namespace,
        name,
        json!({ "name": "main", "container": { "image": "busybox", "command": ["true"], "resources": requests } }),
    )
}

fn workflow(namespace: &str, name: &str, template: Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": { "namespace": namespace, "name": name },
        "spec": { "entrypoint": "main", "templates": [template] },
    })
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

/// The workflow of each pod that is there.
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
