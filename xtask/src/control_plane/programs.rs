//! The programs of a control plane, built once from their published Go modules and cached.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use sha2::{Digest as _, Sha256};

use super::say;
use crate::process::{exists, output, run};
use crate::workspace::root;

/// The folder of the newest version of Kubernetes. That of an older one has its name at the end.
const NEWEST: &str = "kubernetes";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    Etcd,
    #[value(name = "kube-apiserver")]
    Apiserver,
    #[value(name = "kube-controller-manager")]
    ControllerManager,
    /// Not a `tool` in the go.mod of the newest version. It needs no module that the others do not
    /// need, and a new line there would rebuild every cached program.
    #[value(name = "kube-scheduler")]
    Scheduler,
    Kubectl,
    /// The client-go program of the end-to-end suite.
    Driver,
    /// Argo 3.4's workflow-controller.
    #[value(name = "argo-3.4")]
    Argo34,
    /// Argo 4.0's workflow-controller.
    #[value(name = "argo-4.0")]
    Argo40,
    /// The fake kubelet.
    Kwok,
}

impl Program {
    pub(crate) const ALL: &[Self] = &[
        Self::Etcd,
        Self::Apiserver,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubectl,
        Self::Driver,
        Self::Argo34,
        Self::Argo40,
        Self::Kwok,
    ];

    /// The folder of the program's Go module, and the file name of the executable.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Etcd => ("kubernetes", "etcd"),
            Self::Apiserver => ("kubernetes", "kube-apiserver"),
            Self::ControllerManager => ("kubernetes", "kube-controller-manager"),
            Self::Scheduler => ("kubernetes", "kube-scheduler"),
            Self::Kubectl => ("kubernetes", "kubectl"),
            Self::Driver => ("kubernetes", "driver"),
            Self::Argo34 => ("argo-3.4", "workflow-controller"),
            Self::Argo40 => ("argo-4.0", "workflow-controller"),
            Self::Kwok => ("kwok", "kwok"),
        }
    }

    /// Whether KUBEBUILDER_ASSETS may contain it.
    fn is_of_kubernetes(self) -> bool {
        self == Self::Etcd || self.has_versions()
    }

    /// Whether each version of Kubernetes has its own. All of them use the same etcd.
    fn has_versions(self) -> bool {
        matches!(
            self,
            Self::Apiserver | Self::ControllerManager | Self::Scheduler | Self::Kubectl
        )
    }
}

pub(super) struct Programs {
    /// The folder with the Go modules: `tests/controlplane`.
    sources: PathBuf,
    /// The folder in there of the version of Kubernetes.
    kubernetes: String,
    cache: PathBuf,
    /// The folder in KUBEBUILDER_ASSETS.
    assets: Option<PathBuf>,
    /// The path of kubectl, which is needed often while a component becomes ready.
    kubectl: OnceLock<PathBuf>,
}

impl Programs {
    /// Programs of this version of Kubernetes, such as 1.34. `None` is the newest version.
    pub(super) fn from_env(version: Option<&str>) -> Result<Self> {
        let set = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let cache = match (
            set("CONTROLPLANE_CACHE"),
            set("XDG_CACHE_HOME"),
            set("HOME"),
        ) {
            (Some(cache), ..) => cache,
            (None, Some(caches), _) => caches.join("kube-retry-proxy/controlplane"),
            (None, None, Some(home)) => home.join(".cache/kube-retry-proxy/controlplane"),
            (None, None, None) => bail!("neither HOME nor CONTROLPLANE_CACHE is set"),
        };
        let sources = root().join("tests/controlplane");
        let kubernetes = match version {
            Some(version) => older(&sources, version)?,
            None => NEWEST.to_owned(),
        };
        Ok(Self {
            sources,
            kubernetes,
            cache: std::path::absolute(cache)?,
            // Their version is unknown.
            assets: set("KUBEBUILDER_ASSETS").filter(|_| version.is_none()),
            kubectl: OnceLock::new(),
        })
    }

    /// The path of the executable. It is built first if it is missing.
    pub(super) fn path(&self, program: Program) -> Result<PathBuf> {
        if program != Program::Kubectl {
            return self.find(program);
        }
        match self.kubectl.get() {
            Some(known) => Ok(known.clone()),
            None => {
                let found = self.find(program)?;
                Ok(self.kubectl.get_or_init(|| found).clone())
            }
        }
    }

    fn find(&self, program: Program) -> Result<PathBuf> {
        let given = self
            .assets
            .as_ref()
            .map(|assets| assets.join(program.names().1));
        match given.filter(|path| program.is_of_kubernetes() && path.is_file()) {
            Some(path) => Ok(path),
            None if program == Program::Driver => self.driver(),
            None => self.built(program),
        }
    }

    /// Builds a program once for each content of go.mod and go.sum and each Go release.
    fn built(&self, program: Program) -> Result<PathBuf> {
        let (module, name) = (self.module(program), program.names().1);
        let source = self.sources.join(module);
        ensure!(
            exists("go"),
            "Go is needed to build {name} (or set KUBEBUILDER_ASSETS to a folder that contains it)"
        );
        let executable = self
            .cache
            .join(format!("{module}-{}", key(&source)?))
            .join(name);
        if executable.is_file() {
            return Ok(executable);
        }
        say(&format!(
            "building {name} of {module}, once; this takes minutes"
        ));
        if let Some(folder) = executable.parent() {
            fs::create_dir_all(folder)?;
        }
        // An interrupted build must leave no file under the final name.
        let unfinished = executable.with_added_extension("new");
        let mut build = go(&source);
        build.args([
            "build",
            "-ldflags",
            &format!("-s -w {}", self.version_flags(module)?),
            "-o",
        ]);
        run(build.arg(&unfinished).arg(self.package(program)?))?;
        fs::rename(&unfinished, &executable)?;
        Ok(executable)
    }

    /// Builds the client-go program. Go's build cache makes this fast if nothing has changed.
    fn driver(&self) -> Result<PathBuf> {
        fs::create_dir_all(&self.cache)?;
        let executable = self.cache.join("driver");
        let mut build = go(&self.sources.join("kubernetes"));
        run(build.args(["build", "-o"]).arg(&executable).arg("./driver"))?;
        Ok(executable)
    }

    fn module(&self, program: Program) -> &str {
        if program.has_versions() {
            &self.kubernetes
        } else {
            program.names().0
        }
    }

    fn package(&self, program: Program) -> Result<String> {
        let (module, name) = program.names();
        match name {
            "etcd" => Ok("go.etcd.io/etcd/server/v3".to_owned()),
            "workflow-controller" | "kwok" => self.tool(module),
            _ => Ok(format!("k8s.io/kubernetes/cmd/{name}")),
        }
    }

    /// The linker flags that set the version, as in a release build. Clients, features and emulated
    /// versions depend on it.
    fn version_flags(&self, module: &str) -> Result<String> {
        if module != self.kubernetes {
            return Ok(String::new());
        }
        let version = self.list(module, &["-m", "-f", "{{.Version}}", "k8s.io/kubernetes"])?;
        let minor = version
            .split('.')
            .nth(1)
            .context("the version of k8s.io/kubernetes")?;
        let packages = [
            "k8s.io/component-base/version",
            "k8s.io/client-go/pkg/version",
        ];
        let flags = packages.map(|package| {
            let variables = [
                ("gitVersion", &*version),
                ("gitMajor", "1"),
                ("gitMinor", minor),
            ];
            variables
                .map(|(name, value)| format!("-X {package}.{name}={value}"))
                .join(" ")
        });
        Ok(flags.join(" "))
    }

    /// The source of the program in one of our modules, with its manifests.
    pub(super) fn source(&self, module: &str) -> Result<PathBuf> {
        let tool = self.tool(module)?;
        let (path, _) = tool
            .split_once("/cmd/")
            .with_context(|| format!("the tool line of {module}/go.mod names no /cmd/"))?;
        run(go(&self.sources.join(module)).args(["mod", "download", path]))?;
        Ok(self.list(module, &["-m", "-f", "{{.Dir}}", path])?.into())
    }

    /// The package in the `tool` line of go.mod. `go list tool` would load the package to print it.
    fn tool(&self, module: &str) -> Result<String> {
        let manifest = fs::read_to_string(self.sources.join(module).join("go.mod"))?;
        let tool = manifest.lines().find_map(|line| line.strip_prefix("tool "));
        Ok(tool
            .with_context(|| format!("{module}/go.mod has no tool line"))?
            .to_owned())
    }

    fn list(&self, module: &str, arguments: &[&str]) -> Result<String> {
        let listed = output(go(&self.sources.join(module)).arg("list").args(arguments))?;
        Ok(listed.trim().to_owned())
    }
}

/// The folder with the manifests of an Argo version.
pub(crate) fn argo_manifests(version: &str) -> Result<PathBuf> {
    Ok(Programs::from_env(None)?
        .source(&format!("argo-{version}"))?
        .join("manifests"))
}

/// The folder of an older version of Kubernetes.
fn older(sources: &Path, version: &str) -> Result<String> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(sources)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(older) = name.strip_prefix(&format!("{NEWEST}-")) {
            versions.push(older.to_owned());
        }
    }
    versions.sort();
    ensure!(
        versions.iter().any(|known| known == version),
        "Kubernetes {version} is not in {}. Name one of {}, or no version for the newest",
        sources.display(),
        versions.join(", ")
    );
    Ok(format!("{NEWEST}-{version}"))
}

fn go(module: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(module);
    command
}

fn key(module: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(fs::read(module.join("go.mod"))?);
    hash.update(fs::read(module.join("go.sum"))?);
    hash.update(output(go(module).arg("version"))?);
    Ok(crate::hash::hex(&hash.finalize())[..16].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_its_own_programs_of_kubernetes_and_shares_the_others() {
        let programs = Programs::from_env(Some("1.34")).unwrap();
        for (program, module) in [
            (Program::Apiserver, "kubernetes-1.34"),
            (Program::Scheduler, "kubernetes-1.34"),
            (Program::Etcd, "kubernetes"),
            (Program::Driver, "kubernetes"),
            (Program::Argo40, "argo-4.0"),
            (Program::Kwok, "kwok"),
        ] {
            assert_eq!(programs.module(program), module);
        }
        assert_eq!(programs.assets, None);
        let newest = Programs::from_env(None).unwrap();
        assert_eq!(newest.module(Program::Apiserver), "kubernetes");
    }

    #[test]
    fn an_unknown_version_is_refused_with_those_that_exist() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["kubernetes", "kubernetes-1.30", "kubernetes-1.31", "kwok"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(older(folder.path(), "1.31").unwrap(), "kubernetes-1.31");
        let refused = older(folder.path(), "1.3").unwrap_err().to_string();
        assert!(refused.contains("one of 1.30, 1.31,"), "{refused}");
    }
}
