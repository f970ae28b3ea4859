//! The kustomizations, and the sidecar in Argo's manifests.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::report::Report;
use super::text::contains;
use super::{Deploy, KUSTOMIZE, read, write};
use crate::control_plane::argo_manifests;
use crate::process::output;

pub(super) const ARGO_VERSIONS: [&str; 2] = ["3.4", "4.0"];

impl Deploy {
    pub(super) fn check_kustomize(&self, report: &mut Report) -> Result<()> {
        if !report.has("kubectl", "everything about kustomize") {
            return Ok(());
        }
        for overlay in [
            "base",
            "overlays/observe",
            "overlays/production",
            "overlays/front-proxy",
        ] {
            let name = overlay.rsplit('/').next().unwrap_or(overlay);
            report.check(format!("kustomize build, {overlay}"), || {
                self.build(&Path::new(KUSTOMIZE).join(overlay), name)
            });
        }
        report.check("three replicas in production", || {
            contains(&self.rendered("production.built.yaml")?, "replicas: 3")
        });
        report.check("the front proxy's key is for the proxy's user only", || {
            let built = self.rendered("front-proxy.built.yaml")?;
            contains(&built, "defaultMode: 288")?;
            contains(&built, "fsGroup: 65532")
        });
        if !report.has("go", "the sidecar in Argo's manifests") {
            return Ok(());
        }
        for version in ARGO_VERSIONS {
            for install in ["cluster-install", "namespace-install"] {
                report.check(
                    format!("overlays/argo on Argo {version}, {install}"),
                    || self.build_argo(version, install, "sidecar"),
                );
            }
            report.check(
                format!("--namespaced survives the patch, Argo {version}"),
                || {
                    let built = format!("argo-{version}-namespace-install-sidecar.built.yaml");
                    contains(&self.rendered(&built)?, "- --namespaced")
                },
            );
            for component in ["sidecar-in-cluster", "client", "client-in-cluster"] {
                report.check(format!("components/{component} on Argo {version}"), || {
                    self.build_argo(version, "cluster-install", component)
                });
            }
        }
        Ok(())
    }

    fn build(&self, folder: &Path, name: &str) -> Result<()> {
        let built = output(Command::new("kubectl").arg("kustomize").arg(folder))?;
        write(&self.out(&format!("{name}.built.yaml")), &built)
    }

    /// Builds overlays/argo with another component. Argo's manifests come from its Go module, not
    /// from the network.
    fn build_argo(&self, version: &str, install: &str, component: &str) -> Result<()> {
        let name = format!("argo-{version}-{install}-{component}");
        let work = self.out(&name);
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        copy(
            &Path::new(KUSTOMIZE).join("components"),
            &work.join("components"),
        )?;
        copy(&argo_manifests(version)?, &work.join("argo"))?;
        let overlay = read(&Path::new(KUSTOMIZE).join("overlays/argo/kustomization.yaml"))?;
        let to = work.join("overlays/argo");
        write(
            &to.join("kustomization.yaml"),
            &with(&overlay, install, component),
        )?;
        self.build(&to, &name)
    }
}

/// The overlay with local manifests and another component.
fn with(overlay: &str, install: &str, component: &str) -> String {
    let replaced = overlay.lines().map(|line| {
        if let Some((before, _)) = line.split_once("https://github.com/argoproj") {
            format!("{before}../../argo/{install}\n")
        } else if let Some(before) = line.strip_suffix("components/sidecar") {
            format!("{before}components/{component}\n")
        } else {
            format!("{line}\n")
        }
    });
    replaced.collect()
}

/// Copies a folder and makes the files writable: the files in Go's module cache are read-only.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::write(target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_overlay_gets_local_manifests_and_the_component() {
        let overlay = "resources:\n  - https://github.com/argoproj/x?ref=v1\n\
                       components:\n  - ../../components/sidecar\n";
        assert_eq!(
            super::with(overlay, "cluster-install", "client"),
            "resources:\n  - ../../argo/cluster-install\ncomponents:\n  - ../../components/client\n"
        );
    }
}
