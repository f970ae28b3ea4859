//! Fake nodes: kube-scheduler binds pods to them, and kwok acts as their kubelet. No container
//! starts.
//!
//! kwok's own stages make nodes ready, start pods and delete them. The file
//! `tests/controlplane/kwok/pods.yaml` says when pods end, and what logs, exec, attach and
//! port-forward answer. kwok asks for no credentials, so it listens on loopback only.

use std::fs;

use anyhow::Result;

use super::programs::Program;
use super::{ControlPlane, say};
use crate::process::{output, output_with_input};
use crate::workspace::root;

/// What logs and attach show of every container.
const LOG: &str = "log/container.log";

impl ControlPlane {
    /// Adds nodes up to this number. The first call starts kube-scheduler and kwok.
    pub(super) fn nodes(&self, count: u16) -> Result<()> {
        if !self.alive("scheduler") {
            self.define_scheduler()?;
            self.start("scheduler")?;
        }
        if !self.alive("kwok") {
            self.define_kwok()?;
            self.start("kwok")?;
        }
        let nodes = serde_json::json!({
            "apiVersion": "v1", "kind": "List", "items": (0..count).map(node).collect::<Vec<_>>(),
        });
        output_with_input(
            &mut self.kubectl(["apply", "-f", "-"])?,
            nodes.to_string().as_bytes(),
        )?;
        self.wait_ready("scheduler")?;
        self.wait_ready("kwok")?;
        let ready = ["wait", "nodes", "--all", "--for=condition=Ready"];
        output(self.kubectl(ready)?.arg("--timeout=60s"))?;
        say(&format!("{count} nodes"));
        Ok(())
    }

    fn define_scheduler(&self) -> Result<()> {
        let port = self.port("scheduler")?;
        self.define(
            "scheduler",
            &format!("https://127.0.0.1:{port}"),
            &self.programs.path(Program::Scheduler)?,
            &[
                format!("--kubeconfig={}", self.file("admin.kubeconfig").display()),
                "--leader-elect=false".into(),
                format!("--secure-port={port}"),
                "--bind-address=127.0.0.1".into(),
                format!("--cert-dir={}", self.file("pki/scheduler").display()),
            ],
        )
    }

    fn define_kwok(&self) -> Result<()> {
        let program = self.programs.path(Program::Kwok)?;
        let stages = self.programs.source("kwok")?.join("kustomize/stage");
        let log = self.file(LOG);
        if !log.exists() {
            fs::write(&log, "2026-01-01T00:00:00Z stdout F a fake container\n")?;
        }
        let pods = fs::read_to_string(root().join("tests/controlplane/kwok/pods.yaml"))?
            .replace("CONTAINER_LOG", &log.display().to_string());
        fs::write(self.file("kwok.yaml"), pods)?;

        let port = self.port("kwok")?;
        let pki = self.file("pki");
        let pki = pki.display();
        let mut arguments = vec![
            format!("--kubeconfig={}", self.file("admin.kubeconfig").display()),
            "--manage-all-nodes".into(),
            "--node-ip=127.0.0.1".into(),
            format!("--node-port={port}"),
            format!("--server-address=127.0.0.1:{port}"),
            // It is valid for this address.
            format!("--tls-cert-file={pki}/apiserver.crt"),
            format!("--tls-private-key-file={pki}/apiserver.key"),
            format!("--config={}", self.file("kwok.yaml").display()),
        ];
        // Leases are the heartbeats. kwok's stage for heartbeats in the status would remove the
        // addresses.
        let own = [
            "node/fast/node-initialize.yaml",
            "pod/fast/pod-ready.yaml",
            "pod/fast/pod-delete.yaml",
        ];
        arguments.extend(own.map(|stage| format!("--config={}", stages.join(stage).display())));
        let url = format!("https://127.0.0.1:{port}");
        self.define("kwok", &url, &program, &arguments)
    }
}

/// A large node with the usual limit of pods. kwok fills in the rest of its status.
fn node(index: u16) -> serde_json::Value {
    let name = format!("node-{index}");
    let addresses = serde_json::json!([
        { "type": "InternalIP", "address": "127.0.0.1" },
        { "type": "Hostname", "address": name },
    ]);
    let resources = serde_json::json!({ "cpu": "64", "memory": "256Gi", "pods": "110" });
    serde_json::json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" },
        },
        "status": {
            "addresses": addresses, "allocatable": resources, "capacity": resources,
        },
    })
}
