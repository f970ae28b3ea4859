//! The clients of `tests/clients`: installs their published packages once and caches them by the
//! content of the files that name their versions.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Subcommand, ValueEnum};
use sha2::{Digest as _, Sha256};

use crate::process::{self, exists, output};
use crate::workspace::root;

/// Packages that are installed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Set {
    /// The official Python client, kr8s, pykube-ng and lightkube.
    Python,
    /// Airflow with its Kubernetes provider. It has 130 packages.
    Airflow,
    /// fabric8's client with its HTTP clients.
    Fabric8,
    /// The official Java client.
    ClientJava,
    /// The official JavaScript client, with a Node.js that it supports.
    Node,
    /// Helm 3.
    #[value(name = "helm-3")]
    Helm3,
    /// Helm 4.
    #[value(name = "helm-4")]
    Helm4,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Install the packages of these sets, or of all sets.
    Build { sets: Vec<Set> },
    /// Print the command line of a set's driver (of Helm: the path of the executable), one word per
    /// line. The packages are installed first if they are missing.
    Path { set: Set },
}

pub(crate) fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Build { sets } => {
            let all = if sets.is_empty() {
                Set::value_variants()
            } else {
                &sets
            };
            all.iter().try_for_each(|set| set.installed().map(drop))
        }
        Verb::Path { set } => {
            let folder = set.installed()?;
            for word in set.command(&folder)? {
                println!("{word}");
            }
            Ok(())
        }
    }
}

impl Set {
    /// The folder with the set's files.
    fn source(self) -> PathBuf {
        let clients = root().join("tests/clients");
        match self {
            Self::Python => clients.join("python"),
            Self::Airflow => clients.join("airflow"),
            Self::Fabric8 => clients.join("fabric8"),
            Self::ClientJava => clients.join("client-java"),
            Self::Node => clients.join("node"),
            Self::Helm3 => clients.join("helm-3"),
            // Its version is the one that checks the chart.
            Self::Helm4 => root().join("tests/deploy"),
        }
    }

    /// The programs that install the set.
    fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Python | Self::Airflow => &["python3"],
            Self::Fabric8 | Self::ClientJava => &["java", "javac", "mvn"],
            Self::Node => &["npm"],
            Self::Helm3 | Self::Helm4 => &["go"],
        }
    }

    /// The files on which the installed folder depends.
    fn files(self) -> Vec<PathBuf> {
        let source = self.source();
        let names: &[&str] = match self {
            Self::Python | Self::Airflow => &["requirements.txt"],
            Self::Fabric8 | Self::ClientJava => &["pom.xml", "Driver.java", "../Contract.java"],
            Self::Node => &["package.json", "package-lock.json"],
            Self::Helm3 | Self::Helm4 => &["go.mod", "go.sum"],
        };
        names.iter().map(|name| source.join(name)).collect()
    }

    /// The folder in the cache. It is filled first if it is missing.
    fn installed(self) -> Result<PathBuf> {
        for tool in self.tools() {
            ensure!(exists(tool), "{tool} is needed for the clients of {self:?}");
        }
        let name = self.source();
        let name = name
            .file_name()
            .context("a set has a folder")?
            .to_string_lossy();
        let name = match self {
            Self::Helm4 => "helm-4".into(),
            _ => name,
        };
        let folder = cache()?.join(format!("{name}-{}", self.key()?));
        // The last step makes this file, so that an interrupted installation is repeated.
        let complete = folder.join(".complete");
        if !complete.is_file() {
            eprintln!("clients: installing {name}, once; this takes minutes");
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir_all(&folder)?;
            self.install(&folder)?;
            fs::write(complete, "")?;
        }
        if self == Self::Node {
            // A module finds packages beside itself only.
            fs::copy(self.source().join(MODULE), folder.join(MODULE))?;
        }
        Ok(folder)
    }

    fn key(self) -> Result<String> {
        let mut hash = Sha256::new();
        for file in self.files() {
            hash.update(fs::read(&file).with_context(|| file.display().to_string())?);
        }
        // A virtual environment and an executable belong to one release of their language.
        match self.tools()[0] {
            "python3" => hash.update(output(Command::new("python3").arg("--version"))?),
            "go" => hash.update(output(Command::new("go").arg("version"))?),
            _ => {}
        }
        Ok(crate::hash::hex(&hash.finalize())[..16].to_owned())
    }

    fn install(self, folder: &Path) -> Result<()> {
        let source = self.source();
        match self {
            Self::Python | Self::Airflow => {
                run_command(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
                let mut pip = Command::new(folder.join("bin/python"));
                pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
                pip.args(["--disable-pip-version-check", "--requirement"]);
                run_command(pip.arg(source.join("requirements.txt")))
            }
            Self::Fabric8 | Self::ClientJava => {
                let mut maven = Command::new("mvn");
                maven.current_dir(&source).args(["-q", "-B", COPY]);
                let jars = folder.join("lib");
                run_command(maven.arg(format!("-DoutputDirectory={}", jars.display())))?;
                let mut compiler = Command::new("javac");
                compiler.arg("-d").arg(folder.join("classes"));
                compiler.arg("-cp").arg(jars.join("*"));
                compiler.arg(source.join("../Contract.java"));
                run_command(compiler.arg(source.join("Driver.java")))
            }
            Self::Node => {
                for file in self.files() {
                    let name = file.file_name().context("a file has a name")?;
                    fs::copy(&file, folder.join(name))?;
                }
                let mut npm = Command::new("npm");
                npm.args(["ci", "--silent", "--no-audit", "--no-fund"]);
                run_command(npm.current_dir(folder))
            }
            Self::Helm3 | Self::Helm4 => {
                let mut go = Command::new("go");
                go.current_dir(&source)
                    .args(["build", "-ldflags", "-s -w", "-o"]);
                let package = match self {
                    Self::Helm3 => "helm.sh/helm/v3/cmd/helm",
                    _ => "helm.sh/helm/v4/cmd/helm",
                };
                run_command(go.arg(folder.join("helm")).arg(package))
            }
        }
    }

    /// The words before a driver's own arguments.
    fn command(self, folder: &Path) -> Result<Vec<String>> {
        let path = |path: PathBuf| path.display().to_string();
        let driver = path(self.source().join("driver.py"));
        Ok(match self {
            Self::Python | Self::Airflow => {
                vec![path(folder.join("bin/python")), "-B".to_owned(), driver]
            }
            Self::Fabric8 | Self::ClientJava => {
                let classes = format!("{0}/classes:{0}/lib/*", folder.display());
                vec!["java".into(), "-cp".into(), classes, "Driver".into()]
            }
            Self::Node => {
                let architecture = match env::consts::ARCH {
                    "x86_64" => "x64",
                    "aarch64" => "arm64",
                    other => bail!("tests/clients/node has no Node.js for {other}"),
                };
                let node = format!("node_modules/node-linux-{architecture}/bin/node");
                vec![path(folder.join(node)), path(folder.join(MODULE))]
            }
            Self::Helm3 | Self::Helm4 => vec![path(folder.join("helm"))],
        })
    }
}

/// Runs a step of an installation. The caller of `path` reads stdout, so that nothing else may
/// print there.
fn run_command(command: &mut Command) -> Result<()> {
    process::run(command.stdout(std::io::stderr()))
}

const MODULE: &str = "driver.mjs";

/// Copies the jars that a pom.xml names.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let caches = match (set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(caches), _) => PathBuf::from(caches),
        (None, Some(home)) => PathBuf::from(home).join(".cache"),
        (None, None) => bail!("neither HOME nor XDG_CACHE_HOME is set"),
    };
    Ok(std::path::absolute(
        caches.join("kube-retry-proxy/clients"),
    )?)
}
