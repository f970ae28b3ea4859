//! Applies `deploy/` to a real control plane whose namespaces enforce Pod Security "restricted".

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::kustomize::ARGO_VERSIONS;
use super::report::Report;
use super::text::{contains, has_no_line};
use super::{CHART, Deploy, values};
use crate::control_plane::ControlPlane;
use crate::process::{everything, output};
use crate::workspace::PROXY;

/// The Go modules with the CRDs of other projects that deploy/ uses, and the files in them.
const CRDS: [(&str, &[&str]); 2] = [
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        &[
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        ],
    ),
    (
        "github.com/cert-manager/cert-manager@v1.19.1",
        &["deploy/crds/cert-manager.io_certificates.yaml"],
    ),
];

pub(super) fn check(deploy: &Deploy, report: &mut Report) -> Result<()> {
    if !report.has("go", "the control plane") || !report.has("openssl", "the control plane") {
        return Ok(());
    }
    deploy.build_helm()?;
    // Only for the rendered files: their own results were printed before.
    let mut rendering = Report::quiet();
    deploy.check_chart(&mut rendering)?;
    deploy.check_kustomize(&mut rendering)?;

    let cluster = Cluster::up(deploy)?;
    cluster.prepare()?;
    report.check("helm install", || {
        cluster.helm(&["install", PROXY, CHART, "--values", &file_of("minimal")])
    });
    report.check("its pods are admitted as restricted", || {
        cluster.admitted(PROXY, "app.kubernetes.io/name=kube-retry-proxy")
    });
    report.check("helm test", || cluster.helm_test());
    report.check(
        "an upgrade keeps the CA, and a change of the mode keeps the pods",
        || cluster.upgrade_keeps(),
    );
    report.check(
        "upstream.discover may list the EndpointSlice kubernetes, and no other",
        || {
            let slices = "endpointslices.discovery.k8s.io";
            let kubernetes = format!("{slices}/kubernetes");
            cluster.may("list", &kubernetes, "no")?;
            cluster.upgrade("discover", &[])?;
            cluster.may("list", &kubernetes, "yes")?;
            cluster.may("list", slices, "no")?;
            cluster.may("list", "pods", "no")
        },
    );
    report.check(
        "events.enabled may create Events everywhere, and nothing else",
        || {
            cluster.may("create", "events.events.k8s.io", "no")?;
            cluster.upgrade("events", &[])?;
            cluster.may("create", "events.events.k8s.io", "yes")?;
            cluster.may("list", "events.events.k8s.io", "no")?;
            cluster.may("create", "pods", "no")
        },
    );
    report.check(
        "fullQuotas.enabled may list and watch quotas everywhere, and nothing else",
        || {
            cluster.may("watch", "resourcequotas", "no")?;
            cluster.upgrade("full-quotas", &[])?;
            cluster.may("list", "resourcequotas", "yes")?;
            cluster.may("watch", "resourcequotas", "yes")?;
            cluster.may("get", "resourcequotas", "no")?;
            cluster.may("update", "resourcequotas", "no")?;
            cluster.may("list", "pods", "no")
        },
    );
    for (namespace, names) in [
        (
            PROXY,
            &[
                "minimal.yaml",
                "base.yaml",
                "full.yaml",
                "discover.yaml",
                "events.yaml",
                "full-quotas.yaml",
                "production.yaml",
                "observe.built.yaml",
                "production.built.yaml",
            ][..],
        ),
        (
            "argo",
            &[
                "sidecar.yaml",
                "sidecar-full.yaml",
                "sidecar-in-cluster.yaml",
            ],
        ),
    ] {
        for name in names {
            report.check(format!("the apiserver accepts {name}"), || {
                cluster.takes(namespace, name)
            });
        }
    }
    for version in ARGO_VERSIONS {
        for (component, shown) in [
            ("sidecar", "sidecar"),
            ("sidecar-in-cluster", "in-cluster sidecar"),
        ] {
            report.check(
                format!("Argo {version} with the {shown} is admitted as restricted"),
                || cluster.sidecar_admitted(version, component),
            );
        }
    }
    Ok(())
}

/// A control plane with one apiserver. It stops when this is dropped, and on SIGINT and SIGTERM.
pub(super) struct Cluster<'a> {
    pub(super) deploy: &'a Deploy,
    plane: Arc<ControlPlane>,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.plane.down() {
            eprintln!("the control plane may still be running: {error:#}");
        }
    }
}

impl<'a> Cluster<'a> {
    fn up(deploy: &'a Deploy) -> Result<Self> {
        let plane = Arc::new(ControlPlane::new(&deploy.out("controlplane"), None)?);
        let cluster = Self {
            deploy,
            kubectl: plane.kubectl_path()?,
            kubeconfig: plane.file("admin.kubeconfig"),
            plane: Arc::clone(&plane),
        };
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // `control-plane status` shows components that are still running.
                let _ = plane.down();
                std::process::exit(128 + signal);
            }
        });
        cluster.plane.up(1)?;
        Ok(cluster)
    }

    fn prepare(&self) -> Result<()> {
        for (module, paths) in CRDS {
            let module = output(Command::new("go").args(["mod", "download", "-json", module]))?;
            let module: Value = serde_json::from_str(&module)?;
            let folder = PathBuf::from(module["Dir"].as_str().context("a module's folder")?);
            for path in paths {
                output(self.kubectl().args(["create", "-f"]).arg(folder.join(path)))?;
            }
        }
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd",
            "--all",
        ];
        output(self.kubectl().args(wait))?;
        for namespace in [PROXY, "argo", "airflow"] {
            output(self.kubectl().args(["create", "namespace", namespace]))?;
            let label = |mode| format!("pod-security.kubernetes.io/{mode}=restricted");
            let mut command = self.kubectl();
            command.args(["label", "namespace", namespace]);
            output(command.args([label("enforce"), label("warn")]))?;
        }
        Ok(())
    }

    pub(super) fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// helm with the namespace of the release.
    pub(super) fn helm_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.deploy.helm();
        command
            .args(arguments)
            .args(["--namespace", PROXY])
            .env("KUBECONFIG", &self.kubeconfig);
        command
    }

    fn helm(&self, arguments: &[&str]) -> Result<()> {
        output(&mut self.helm_command(arguments)).map(drop)
    }

    fn upgrade(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let upgrade = ["upgrade", PROXY, CHART, "--values", &file_of(name)];
        self.helm(&[&upgrade, arguments].concat())
    }

    /// A file of the control plane.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.plane.file(name)
    }

    /// A field of an object in the release's namespace.
    pub(super) fn field(&self, object: &str, path: &str) -> Result<String> {
        let mut command = self.kubectl();
        command.args(["--namespace", PROXY, "get", object, "-o"]);
        output(command.arg(format!("jsonpath={path}")))
    }

    /// The apiserver accepts all objects, without a Pod Security warning.
    fn takes(&self, namespace: &str, name: &str) -> Result<()> {
        // `--namespace` would reject objects of other namespaces.
        let context = [
            "config",
            "set-context",
            "--current",
            "--namespace",
            namespace,
        ];
        output(self.kubectl().args(context))?;
        let mut apply = self.kubectl();
        apply.args(["apply", "--dry-run=server", "-f"]);
        let (accepted, said) = everything(apply.arg(self.deploy.out(name)))?;
        ensure!(accepted, "{said}");
        has_no_line(&said, |line| line.contains("would violate PodSecurity"))
    }

    /// A pod with these labels is admitted to the namespace. Otherwise the error contains the
    /// reasons.
    fn admitted(&self, namespace: &str, labels: &str) -> Result<()> {
        let of_namespace = ["--namespace", namespace];
        let mut wait = self.kubectl();
        wait.args(of_namespace)
            .args(["wait", "--for=create", "--timeout=60s", "pod"]);
        let Err(error) = output(wait.args(["--selector", labels])) else {
            return Ok(());
        };
        let mut events = self.kubectl();
        events
            .args(of_namespace)
            .args(["get", "events", "-o", "custom-columns=:message"]);
        let reasons = output(events.args(["--field-selector", "reason=FailedCreate"]))?;
        bail!("{reasons}{error:#}")
    }

    fn upgrade_keeps(&self) -> Result<()> {
        let kept = || {
            let certificate = self.field("secret/kube-retry-proxy-tls", r"{.data.tls\.crt}")?;
            let pods = self.field("deployment/kube-retry-proxy", "{.metadata.generation}")?;
            ensure!(
                !certificate.is_empty() && !pods.is_empty(),
                "no certificate or generation"
            );
            Ok((certificate, pods))
        };
        let before = kept()?;
        self.upgrade("minimal", &["--set", "config.mode=Observe"])?;
        let after = kept()?;
        ensure!(before == after, "{before:?} became {after:?}");
        let config = self.field("configmap/kube-retry-proxy", r"{.data.config\.yaml}")?;
        contains(&config, "mode: Observe")
    }

    /// Checks what the proxy's account may do in the namespace default: `yes` or `no`.
    fn may(&self, verb: &str, what: &str, expected: &str) -> Result<()> {
        let mut command = self.kubectl();
        command.args([
            "auth",
            "can-i",
            verb,
            what,
            "--namespace",
            "default",
            "--as",
        ]);
        command.arg("system:serviceaccount:kube-retry-proxy:kube-retry-proxy");
        // kubectl exits with 1 for `no`, and prints it on stdout.
        let said = command.output()?;
        let answer = String::from_utf8_lossy(&said.stdout);
        ensure!(
            answer.trim() == expected,
            "{verb} {what}: {answer}{}",
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(())
    }

    /// Argo's own pod lacks a seccomp profile. The patch adds one, so that only the sidecar could
    /// cause a rejection.
    fn sidecar_admitted(&self, version: &str, component: &str) -> Result<()> {
        let built = format!("argo-{version}-cluster-install-{component}.built.yaml");
        let mut apply = self.kubectl();
        apply.args(["apply", "--server-side", "--force-conflicts", "-f"]);
        output(apply.arg(self.deploy.out(&built)))?;
        let label = format!("{version}-{component}");
        let patch = serde_json::json!({"spec": {"template": {
            "metadata": {"labels": {"test": label}},
            "spec": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
        }}});
        let of_argo = ["--namespace", "argo"];
        let mut command = self.kubectl();
        command
            .args(of_argo)
            .args(["patch", "deployment", "workflow-controller", "--patch"]);
        output(command.arg(patch.to_string()))?;
        let selector = format!("test={label}");
        self.admitted("argo", &selector)?;
        let mut pods = self.kubectl();
        pods.args(of_argo)
            .args(["get", "pod", "--selector", &selector, "-o"]);
        let policies = "jsonpath={.items[*].spec.initContainers[*].restartPolicy}";
        contains(&output(pods.arg(policies))?, "Always")
    }
}

fn file_of(name: &str) -> String {
    values(name).display().to_string()
}
