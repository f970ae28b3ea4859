//! Checks `deploy/` and the guides with the real tools: helm, kubectl, promtool, and the proxy
//! itself.
//!
//! Each check has a name and is a function that returns an error if something is wrong. If a tool
//! is missing, its checks are skipped; with CI=true they fail.

mod chart;
mod cluster;
mod guides;
mod helm_test;
mod kustomize;
mod monitoring;
mod report;
mod text;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::process::{output, run};
use crate::workspace::{Metadata, PROXY, cargo, root};
use report::Report;

const CHART: &str = "deploy/helm/kube-retry-proxy";
const KUSTOMIZE: &str = "deploy/kustomize";
const VALUES: &str = "tests/deploy/values";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// Check the chart, the kustomizations, the alert rules, the dashboard and the guides' links.
    Check,
    /// Apply everything to a real control plane whose namespaces enforce Pod Security "restricted".
    Cluster,
    /// Regenerate the files in deploy/kustomize that come from the chart.
    Update,
}

/// Returns whether every check passed.
pub(crate) fn run_checks(what: Action) -> Result<bool> {
    // All paths below are relative to the root, like the paths in the messages of the tools.
    env::set_current_dir(root())?;
    let mut report = Report::default();
    let deploy = Deploy::new()?;
    match what {
        Action::Check => {
            deploy.check_chart(&mut report)?;
            deploy.check_kustomize(&mut report)?;
            deploy.check_monitoring(&mut report)?;
            guides::check(&mut report)?;
        }
        Action::Cluster => cluster::check(&deploy, &mut report)?,
        Action::Update => {
            deploy.build_helm()?;
            deploy.generate(Path::new(KUSTOMIZE))?;
            return Ok(true);
        }
    }
    Ok(report.finish())
}

/// The tools, and the folder for rendered files.
struct Deploy {
    out: PathBuf,
    helm: PathBuf,
    proxy: PathBuf,
    version: String,
}

impl Deploy {
    fn new() -> Result<Self> {
        let metadata = Metadata::of(root())?;
        let out = metadata.target.join("deploy");
        fs::create_dir_all(&out)?;
        let key = crate::hash::sha256(&fs::read("tests/deploy/go.mod")?);
        let proxy = match env::var_os("KUBE_RETRY_PROXY").filter(|given| !given.is_empty()) {
            Some(given) => std::path::absolute(given)?,
            None => metadata.target.join("debug").join(PROXY),
        };
        Ok(Self {
            // One build for each go.mod.
            helm: out.join(format!("helm-{}", &key[..16])),
            out,
            proxy,
            version: metadata.field("version")?.to_owned(),
        })
    }

    fn build_helm(&self) -> Result<()> {
        if self.helm.is_file() {
            return Ok(());
        }
        let mut build = Command::new("go");
        build
            .args(["build", "-o"])
            .arg(&self.helm)
            .arg("helm.sh/helm/v4/cmd/helm");
        run(build.current_dir("tests/deploy"))
    }

    fn build_proxy(&self) -> Result<()> {
        if env::var_os("KUBE_RETRY_PROXY").is_some_and(|given| !given.is_empty()) {
            return Ok(());
        }
        run(cargo().args(["build", "--locked", "--quiet", "--bin", PROXY]))
    }

    fn helm(&self) -> Command {
        Command::new(&self.helm)
    }

    /// Renders the chart with a file of values.
    fn template(&self, values: &Path, arguments: &[&str]) -> Result<String> {
        let mut helm = self.helm();
        helm.args(["template", PROXY, CHART, "--namespace", PROXY, "--values"])
            .arg(values);
        output(helm.args(arguments))
    }

    fn out(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// The output of an earlier check.
    fn rendered(&self, name: &str) -> Result<String> {
        read(&self.out(name))
    }
}

fn values(name: &str) -> PathBuf {
    Path::new(VALUES).join(format!("{name}.yaml"))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// The files of a folder with this extension, sorted by name.
fn files(folder: &str, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.to_owned())? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The name of a file without its extension.
fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
