//! The Helm chart, and the files in deploy/kustomize that come from it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::report::Report;
use super::text::{contains, has_line, has_no_line, same, under};
use super::{CHART, Deploy, KUSTOMIZE, files, read, stem, values, write};
use crate::process::{everything, output};

const COMPONENTS: [&str; 2] = ["sidecar", "sidecar-in-cluster"];

impl Deploy {
    pub(super) fn check_chart(&self, report: &mut Report) -> Result<()> {
        report.check("the chart has Cargo.toml's version", || {
            let chart = read(&Path::new(CHART).join("Chart.yaml"))?;
            has_line(&chart, &format!("version: {}", self.version))?;
            has_line(&chart, &format!("appVersion: {}", self.version))
        });
        if !report.has("go", "everything about the chart") {
            return Ok(());
        }
        self.build_helm()?;
        self.build_proxy()?;
        for file in files(super::VALUES, "yaml")? {
            let name = stem(&file);
            report.check(format!("helm lint, {name}"), || {
                let mut lint = self.helm();
                lint.args(["lint", "--strict", "--quiet", CHART, "--values"])
                    .arg(&file);
                output(&mut lint).map(drop)
            });
            report.check(format!("helm template, {name}"), || {
                self.render(&file, &name)
            });
            report.check(format!("check-config, {name}"), || {
                let config = self.out(&format!("{name}.config.yaml"));
                output(Command::new(&self.proxy).arg("check-config").arg(config)).map(drop)
            });
        }
        for file in files("tests/deploy/bad", "yaml")? {
            report.check(format!("helm refuses {}", stem(&file)), || {
                self.refuses(&file)
            });
        }
        report.check("no RBAC unless an option needs it", || {
            ["minimal", "base", "full", "sidecar", "sidecar-full"]
                .iter()
                .try_for_each(|name| {
                    let rendered = self.rendered(&format!("{name}.yaml"))?;
                    has_no_line(&rendered, |line| {
                        line.starts_with("kind: ") && line.contains("Role")
                    })
                    .with_context(|| (*name).to_owned())
                })
        });
        report.check("no token for the proxy unless an option needs it", || {
            self.no_token()
        });
        for (what, name, line) in [
            (
                "discover is added to upstream's other settings",
                "discover",
                "      discover: Kubernetes",
            ),
            (
                "events are added to the configuration",
                "events",
                "    events:",
            ),
            (
                "a watch of quotas is added to replay's other settings",
                "full-quotas",
                "        watch: true",
            ),
        ] {
            report.check(what, || {
                has_line(&self.rendered(&format!("{name}.yaml"))?, line)
            });
        }
        for (what, part) in [
            ("memory limit: the bounds together", "memory: 1777Mi"),
            (
                "grace period: preStop, drain.timeout and 10 s",
                "terminationGracePeriodSeconds: 105",
            ),
            (
                "the front proxy's key is for the proxy's user only",
                "secret: { secretName: front-proxy, defaultMode: 0440 }",
            ),
            (
                "the front proxy has the CA of clients",
                "configMap: { name: client-ca }",
            ),
        ] {
            report.check(what, || contains(&self.rendered("full.yaml")?, part));
        }
        report.check("a change of the mode does not restart the pods", || {
            let (before, after) = self.checksums("config.mode=Off")?;
            ensure!(before == after, "{before} became {after}");
            Ok(())
        });
        report.check("a change of a buffer restarts the pods", || {
            let (before, after) = self.checksums("config.creates.maxBuffered=1Gi")?;
            ensure!(before != after, "{before} did not change");
            Ok(())
        });
        report.check("the notes name the next two commands", || self.notes());
        report.check("deploy/kustomize has what the chart renders", || {
            self.generated()
        });
        Ok(())
    }

    fn render(&self, file: &Path, name: &str) -> Result<()> {
        let rendered = self.template(file, &[])?;
        let config = under(&rendered, "config.yaml");
        write(&self.out(&format!("{name}.yaml")), &rendered)?;
        write(&self.out(&format!("{name}.config.yaml")), &config)?;
        ensure!(!config.is_empty(), "no config.yaml");
        Ok(())
    }

    /// Each file of bad values begins with a comment that contains the error expected from helm.
    fn refuses(&self, file: &Path) -> Result<()> {
        let text = read(file)?;
        let first = text.lines().next().unwrap_or_default();
        let complaint = first
            .strip_prefix("# ")
            .context("no comment with the expected error")?;
        let mut helm = self.helm();
        helm.args([
            "template",
            "kube-retry-proxy",
            CHART,
            "--namespace",
            "kube-retry-proxy",
        ]);
        let (accepted, said) = everything(helm.arg("--values").arg(file))?;
        if accepted {
            bail!("accepted");
        }
        contains(&said, complaint)
    }

    fn no_token(&self) -> Result<()> {
        let show = ["--show-only", "templates/deployment.yaml"];
        let pod = self.template(&values("full"), &show)?;
        for manifest in [pod, self.rendered("sidecar.yaml")?] {
            has_no_line(&manifest, |line| line.contains("serviceAccountToken"))?;
        }
        Ok(())
    }

    /// The checksums that restart the pods, without and with a setting.
    fn checksums(&self, set: &str) -> Result<(String, String)> {
        let of = |arguments: &[&str]| {
            let rendered = self.template(&values("minimal"), arguments)?;
            let lines: Vec<_> = rendered
                .lines()
                .filter(|line| line.contains("checksum/config"))
                .collect();
            ensure!(!lines.is_empty(), "no checksum/config");
            Ok(lines.join("\n"))
        };
        Ok((of(&[])?, of(&["--set", set])?))
    }

    fn notes(&self) -> Result<()> {
        for (name, command) in [
            ("minimal", "helm test kube-retry-proxy -n argo"),
            (
                "sidecar",
                "kubectl -n argo patch deployment workflow-controller --patch-file /dev/stdin",
            ),
        ] {
            let mut install = self.helm();
            install.args(["install", "kube-retry-proxy", CHART, "--dry-run=client"]);
            install
                .args(["--namespace", "argo", "--values"])
                .arg(values(name));
            contains(&output(&mut install)?, command)?;
        }
        Ok(())
    }

    /// Writes the files of deploy/kustomize that come from the chart to the folder `to`, and
    /// returns their names. They lack the labels that only helm uses.
    pub(super) fn generate(&self, to: &Path) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let mut put = |name: String, text: &str| {
            write(&to.join(&name), text)?;
            files.push(name);
            anyhow::Ok(())
        };
        put(
            "base/deployment.yaml".into(),
            &self.plain("base", &["--skip-tests"])?,
        )?;
        for kind in COMPONENTS {
            let rendered = self.plain(kind, &[])?;
            let end = rendered
                .find("\n  # For `kubectl patch")
                .map_or(rendered.len(), |at| at + 1);
            put(format!("components/{kind}/config.yaml"), &rendered[..end])?;
            put(
                format!("components/{kind}/patch.yaml"),
                &under(&rendered, "patch.yaml"),
            )?;
        }
        for (component, template, file) in [
            ("monitoring", "monitoring", "monitoring"),
            ("cert-manager", "certificate", "certificate"),
        ] {
            let template = format!("templates/{template}.yaml");
            let rendered = self.plain("production", &["--show-only", &template])?;
            put(format!("components/{component}/{file}.yaml"), &rendered)?;
        }
        Ok(files)
    }

    /// Renders the chart without the parts that only helm needs.
    fn plain(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let rendered = self.template(&values(name), arguments)?;
        let kept = rendered.lines().filter(|line| {
            !line.starts_with("# Source:")
                && !["helm.sh/chart:", "app.kubernetes.io/managed-by:"]
                    .iter()
                    .any(|label| line.contains(label))
        });
        Ok(kept.flat_map(|line| [line, "\n"]).collect())
    }

    fn generated(&self) -> Result<()> {
        let to = self.out("generated");
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        for file in self.generate(&to)? {
            let found = read(&Path::new(KUSTOMIZE).join(&file))?;
            same(&read(&to.join(&file))?, &found).with_context(|| {
                format!("{KUSTOMIZE}/{file} is stale: run `cargo xtask deploy-check update`")
            })?;
        }
        Ok(())
    }
}
