//! A real Kubernetes control plane on loopback, without containers: etcd, kube-apiservers and
//! kube-controller-manager run as plain processes. kube-scheduler and fake nodes can be added.
//!
//! The state that one call leaves for the next is in a folder: `run/NAME.pid`, `.url` and `.cmd` of
//! each component, `version` (of Kubernetes, if not the newest), `servers` (the URL of each kube-apiserver, one per line), `pki/`, `log/`, tokens
//! and kubeconfigs. The end-to-end suite and the benchmarks read these files.

mod argo;
mod components;
mod credentials;
mod nodes;
mod programs;

use std::env;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use rustix::process::Signal;

use crate::process::output;
use crate::workspace::root;
pub(crate) use programs::argo_manifests;
use programs::{Program, Programs};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Build the missing programs: those of Kubernetes, Argo's workflow-controllers, and kwok.
    Build,
    /// Start etcd, N kube-apiservers and kube-controller-manager, and wait until they are ready.
    Up {
        /// The number of kube-apiservers.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        servers: u16,
    },
    /// Start one more kube-apiserver with these flags.
    Add {
        name: String,
        #[arg(
            value_name = "FLAG",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        flags: Vec<String>,
    },
    /// Add kube-scheduler and COUNT fake nodes, on which pods run, answer and end.
    Nodes {
        #[arg(value_parser = clap::value_parser!(u16).range(1..))]
        count: u16,
    },
    /// Stop a component and wait for its end.
    Stop {
        name: String,
        /// The signal to stop it with.
        #[arg(value_parser = components::signal, default_value = "TERM")]
        signal: Signal,
    },
    /// Stop a component with SIGKILL.
    Kill { name: String },
    /// Start a component again with the same command line, and wait until it is ready.
    Start { name: String },
    /// Send a signal, such as STOP or CONT.
    Signal {
        name: String,
        #[arg(value_parser = components::signal)]
        signal: Signal,
    },
    /// Install Argo's manifests and create a token for its service account (argo.kubeconfig).
    Argo {
        #[arg(value_parser = ["3.4", "4.0"])]
        version: String,
    },
    /// Show the state, URL and log file of each component.
    Status,
    /// Print the path of an executable. It is built first if it is missing.
    Path { program: Program },
    /// Stop everything. Logs are kept.
    Down,
}

/// Runs a verb on the control plane in CONTROLPLANE_DIR, with a version of Kubernetes. Without one,
/// a new control plane has the newest version, and a running one keeps its own.
pub(crate) fn run(verb: Verb, version: Option<String>) -> Result<()> {
    let directory = match env::var_os("CONTROLPLANE_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => root().join("target/controlplane"),
    };
    let version = version
        .or_else(|| env::var("CONTROLPLANE_VERSION").ok())
        .filter(|version| !version.is_empty());
    let version = match verb {
        Verb::Up { .. } => version,
        _ => version.or_else(|| fs::read_to_string(directory.join("version")).ok()),
    };
    let plane = ControlPlane::new(&directory, version)?;
    match verb {
        Verb::Build => Program::ALL
            .iter()
            .try_for_each(|program| plane.programs.path(*program).map(drop)),
        Verb::Up { servers } => plane.up(servers.into()),
        Verb::Add { name, flags } => plane.add(&name, &flags),
        Verb::Nodes { count } => plane.nodes(count),
        Verb::Stop { name, signal } => plane.stop(&name, signal),
        Verb::Kill { name } => plane.stop(&name, Signal::KILL),
        Verb::Start { name } => plane.start(&name).and_then(|()| plane.wait_ready(&name)),
        Verb::Signal { name, signal } => plane.signal(&name, signal),
        Verb::Argo { version } => plane.argo(&version),
        Verb::Status => plane.status(),
        Verb::Path { program } => {
            println!("{}", plane.programs.path(program)?.display());
            Ok(())
        }
        Verb::Down => plane.down(),
    }
}

pub(crate) struct ControlPlane {
    directory: PathBuf,
    /// The version of Kubernetes, if it is not the newest.
    version: Option<String>,
    programs: Programs,
}

impl ControlPlane {
    pub(crate) fn new(directory: &Path, version: Option<String>) -> Result<Self> {
        Ok(Self {
            directory: std::path::absolute(directory)?,
            programs: Programs::from_env(version.as_deref())?,
            version,
        })
    }

    /// A file in the folder of the control plane.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn kubectl_path(&self) -> Result<PathBuf> {
        self.programs.path(Program::Kubectl)
    }

    /// kubectl with the rights of the administrator.
    fn kubectl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Command> {
        let mut command = Command::new(self.kubectl_path()?);
        command
            .arg("--kubeconfig")
            .arg(self.file("admin.kubeconfig"))
            .args(arguments);
        Ok(command)
    }

    pub(crate) fn up(&self, servers: usize) -> Result<()> {
        let addresses = words_of("APISERVER_ADDRESSES");
        ensure!(
            addresses.is_empty() || addresses.len() == servers,
            "APISERVER_ADDRESSES has {} addresses, want {servers}",
            addresses.len()
        );
        for name in self.started() {
            ensure!(
                !self.alive(&name),
                "{name} is already running: stop it first with `down`"
            );
        }
        // Builds all programs before any component starts.
        let etcd = self.programs.path(Program::Etcd)?;
        self.programs.path(Program::Apiserver)?;
        let controller_manager = self.programs.path(Program::ControllerManager)?;
        self.kubectl_path()?;
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory)?;
        }
        for folder in ["run", "log", "pki", "etcd", "ports"] {
            fs::create_dir_all(self.file(folder))?;
        }
        if let Some(version) = &self.version {
            fs::write(self.file("version"), version)?;
        }
        self.make_pki(&addresses)?;
        self.make_tokens()?;

        let url = format!("http://127.0.0.1:{}", self.port("etcd")?);
        let peers = format!("http://127.0.0.1:{}", self.port("etcd-peer")?);
        self.define(
            "etcd",
            &url,
            &etcd,
            &[
                format!("--data-dir={}", self.file("etcd").display()),
                "--unsafe-no-fsync".into(),
                format!("--listen-client-urls={url}"),
                format!("--advertise-client-urls={url}"),
                format!("--listen-peer-urls={peers}"),
            ],
        )?;
        let flags = words_of("APISERVER_FLAGS");
        for index in 0..servers {
            let address = addresses.get(index).map_or("127.0.0.1", String::as_str);
            self.define_apiserver(&format!("apiserver-{index}"), address, &flags)?;
        }
        let port = self.port("controller-manager")?;
        let pki = self.file("pki");
        let pki = pki.display();
        self.define(
            "controller-manager",
            &format!("https://127.0.0.1:{port}"),
            &controller_manager,
            &[
                format!("--kubeconfig={}", self.file("admin.kubeconfig").display()),
                "--leader-elect=false".into(),
                "--use-service-account-credentials".into(),
                format!("--service-account-private-key-file={pki}/service-account.key"),
                format!("--root-ca-file={pki}/ca.crt"),
                format!("--secure-port={port}"),
                "--bind-address=127.0.0.1".into(),
                format!("--cert-dir={pki}/controller-manager"),
            ],
        )?;

        self.start("etcd")?;
        // The first apiserver starts alone, because it creates objects that several would create at
        // the same time.
        self.start("apiserver-0")?;
        self.wait_ready("apiserver-0")?;
        for index in 1..servers {
            self.start(&format!("apiserver-{index}"))?;
        }
        self.start("controller-manager")?;
        for index in 1..servers {
            self.wait_ready(&format!("apiserver-{index}"))?;
        }
        self.wait_ready("controller-manager")?;
        // `user` may do everything in an ordinary namespace except quotas and RBAC.
        let binding = ["create", "clusterrolebinding", "user-edits"];
        let rights = ["--clusterrole=edit", "--user=user"];
        output(&mut self.kubectl([binding.as_slice(), &rights].concat())?)?;
        say(&format!(
            "up: {}",
            fs::read_to_string(self.file("servers"))?.replace('\n', " ")
        ));
        Ok(())
    }

    fn add(&self, name: &str, flags: &[String]) -> Result<()> {
        ensure!(
            self.file("pki/ca.crt").exists(),
            "no control plane in {}: start one with `up N`",
            self.directory.display()
        );
        self.define_apiserver(name, "127.0.0.1", flags)?;
        self.start(name)?;
        self.wait_ready(name)
    }

    fn define_apiserver(&self, name: &str, address: &str, flags: &[String]) -> Result<()> {
        let (port, reconciler) = match address {
            "127.0.0.1" => (self.port(name)?, "none"),
            // These apiservers have the same port, because the Service kubernetes has only one.
            _ => (self.port("apiserver")?, "lease"),
        };
        let url = format!("https://{address}:{port}");
        let pki = self.file("pki");
        let pki = pki.display();
        let mut arguments = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.port("etcd")?),
            format!("--bind-address={address}"),
            format!("--secure-port={port}"),
            format!("--advertise-address={address}"),
            format!("--endpoint-reconciler-type={reconciler}"),
            format!("--tls-cert-file={pki}/apiserver.crt"),
            format!("--tls-private-key-file={pki}/apiserver.key"),
            format!("--client-ca-file={pki}/ca.crt"),
            format!("--requestheader-client-ca-file={pki}/front-proxy-ca.crt"),
            "--requestheader-allowed-names=front-proxy-client".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-uid-headers=X-Remote-Uid".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            format!("--token-auth-file={}", self.file("tokens.csv").display()),
            "--authorization-mode=RBAC".into(),
            format!("--kubelet-certificate-authority={pki}/ca.crt"),
            // No DNS server knows the nodes' names.
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={pki}/service-account.pub"),
            format!("--service-account-signing-key-file={pki}/service-account.key"),
            "--shutdown-delay-duration=0s".into(),
        ];
        arguments.extend_from_slice(flags);
        self.define(
            name,
            &url,
            &self.programs.path(Program::Apiserver)?,
            &arguments,
        )?;
        let mut servers = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.file("servers"))?;
        writeln!(servers, "{url}")?;
        for user in ["admin", "user", "argo"] {
            self.write_kubeconfig(&format!("{user}.{name}.kubeconfig"), &url, user)?;
            let of_first = format!("{user}.kubeconfig");
            if !self.file(&of_first).exists() {
                self.write_kubeconfig(&of_first, &url, user)?;
            }
        }
        Ok(())
    }

    /// A component keeps its port, so that it can be started again. The port is below the range
    /// that the kernel assigns to clients, so that no client takes it while the component is down.
    fn port(&self, name: &str) -> Result<u16> {
        let file = self.file("ports").join(name);
        if let Ok(known) = fs::read_to_string(&file) {
            return Ok(known.trim().parse()?);
        }
        let taken = fs::read_dir(self.file("ports"))?
            .map(|entry| Ok(fs::read_to_string(entry?.path())?.trim().parse()?))
            .collect::<Result<Vec<u16>>>()?;
        for _ in 0..1_000 {
            let candidate = 20_000 + u16::from_ne_bytes(credentials::random()?) % 12_000;
            if !taken.contains(&candidate) && TcpListener::bind(("127.0.0.1", candidate)).is_ok() {
                fs::write(file, format!("{candidate}\n"))?;
                return Ok(candidate);
            }
        }
        bail!("no port between 20000 and 31999 is free")
    }

    fn status(&self) -> Result<()> {
        println!(
            "{:<20} {:<8} {:<8} {:<26} LOG",
            "COMPONENT", "STATE", "PID", "URL"
        );
        for name in self.defined().context("no control plane")? {
            let state = if self.alive(&name) {
                "running"
            } else {
                "stopped"
            };
            let pid = self
                .pid(&name)
                .map_or_else(|_| "-".into(), |pid| pid.to_string());
            let url = fs::read_to_string(self.file(&format!("run/{name}.url")))?;
            let log = self.file(&format!("log/{name}.log"));
            println!(
                "{name:<20} {state:<8} {pid:<8} {:<26} {}",
                url.trim(),
                log.display()
            );
        }
        Ok(())
    }
}

/// The words in an environment variable.
fn words_of(variable: &str) -> Vec<String> {
    let value = env::var(variable).unwrap_or_default();
    value.split_whitespace().map(str::to_owned).collect()
}

fn say(what: &str) {
    eprintln!("control plane: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_keeps_its_port_and_shares_it_with_none() {
        let folder = tempfile::tempdir().unwrap();
        let plane = ControlPlane::new(folder.path(), None).unwrap();
        fs::create_dir(plane.file("ports")).unwrap();
        let mut ports: Vec<_> = (0..50)
            .map(|index| plane.port(&format!("component-{index}")).unwrap())
            .collect();
        assert_eq!(plane.port("component-7").unwrap(), ports[7]);
        assert!(ports.iter().all(|port| (20_000..32_000).contains(port)));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }
}
