//! Installs Argo Workflows. Its controller is started by whoever tests it.

use anyhow::Result;

use super::ControlPlane;
use crate::process::{output, output_with_input};

impl ControlPlane {
    /// Argo's manifests for a whole cluster: CRDs, RBAC, configuration. Without a kubelet the
    /// Deployments stay Pending, so the controller runs as a process.
    pub(super) fn argo(&self, version: &str) -> Result<()> {
        let source = self.programs.source(&format!("argo-{version}"))?;
        let namespace = ["--namespace", "argo"];
        self.apply(&["create", "namespace", "argo"])?;
        let manifests = format!("{}/manifests/cluster-install", source.display());
        let mut install = self.kubectl(["apply", "--server-side", "--force-conflicts", "-k"])?;
        output(install.arg(manifests))?;
        let crds = ["workflows", "workflowtasksets"].map(|kind| format!("crd/{kind}.argoproj.io"));
        let mut wait = self.kubectl(["wait", "--for=condition=Established", "--timeout=60s"])?;
        output(wait.args(crds))?;
        // Disables metrics. Until a controller is the leader, a dummy server has the metrics port,
        // and the controller panics if the real server starts before the dummy has stopped. A
        // kubelet would restart the controller; here nothing does.
        let mut patch = self.kubectl(["patch", "configmap", "workflow-controller-configmap"])?;
        let no_metrics = r#"{"data": {"metricsConfig": "{enabled: false}"}}"#;
        output(
            patch
                .args(namespace)
                .args(["--type", "merge", "--patch", no_metrics]),
        )?;
        // The roles of Argo 3.4 lack these rights, which HTTP templates need: the agent looks for a
        // CA bundle in the workflow's namespace and updates the status of its task sets.
        self.apply(&[
            "create",
            "clusterrole",
            "argo-agents",
            "--verb=get,patch,update",
            "--resource=secrets,workflowtasksets.argoproj.io/status",
        ])?;
        self.apply(&[
            "create",
            "clusterrolebinding",
            "argo-agents",
            "--clusterrole=argo-agents",
            "--serviceaccount=argo:argo",
        ])?;
        let mut token = self.kubectl(["create", "token", "argo", "--duration", "24h"])?;
        self.write_secret("argo.token", &output(token.args(namespace))?)
    }

    /// `kubectl create …` that also succeeds if the object exists.
    fn apply(&self, create: &[&str]) -> Result<()> {
        let mut rendered = self.kubectl(create.iter().copied())?;
        let object = output(rendered.args(["--dry-run=client", "-o", "yaml"]))?;
        output_with_input(&mut self.kubectl(["apply", "-f", "-"])?, object.as_bytes()).map(drop)
    }
}
