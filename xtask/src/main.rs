//! `cargo xtask`: tasks of this repository that need more than one command.

mod clients;
mod control_plane;
mod deploy_check;
mod differential;
mod fuzz;
mod hash;
mod process;
mod release;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check the chart, the kustomizations, the alerts, the dashboard and the guides' links.
    #[command(after_help = DEPLOY_HELP)]
    DeployCheck {
        #[arg(value_enum, default_value = "check")]
        what: deploy_check::Action,
    },
    /// Run a real Kubernetes control plane on loopback, as plain processes.
    #[command(after_help = CONTROL_PLANE_HELP)]
    ControlPlane {
        /// An older version of Kubernetes: `1.34` for the one in tests/controlplane/kubernetes-1.34.
        // Its name differs from that of the version of the verb `argo`. clap would mix them up.
        #[arg(long = "version", value_name = "VERSION", global = true)]
        kubernetes: Option<String>,
        #[command(subcommand)]
        verb: control_plane::Verb,
    },
    /// Install the client libraries that the end-to-end suite drives, from their registries.
    #[command(after_help = CLIENTS_HELP)]
    Clients {
        #[command(subcommand)]
        verb: clients::Verb,
    },
    /// Compare the proxy with Kubernetes' own code, in Go, on generated inputs.
    Differential(differential::DifferentialArgs),
    /// Run the fuzz targets, which feed bytes of others to what reads them.
    #[command(after_help = FUZZ_HELP)]
    Fuzz(fuzz::FuzzArgs),
    /// Note what the proxy does in the cells of bench/peers, by which `release` optimises it.
    Profile,
    /// Build static executables, an OCI image, SBOMs and checksums from the current commit.
    Release(release::ReleaseArgs),
}

const DEPLOY_HELP: &str = "\
It uses helm (built from tests/deploy/go.mod), kubectl, promtool and the proxy of this checkout.
Where a tool is missing, its checks are skipped; with CI=true they fail. KUBE_RETRY_PROXY names an
executable to use instead of building one.";

const CONTROL_PLANE_HELP: &str = "\
Components are named etcd, apiserver-0 …, controller-manager, and after `nodes` scheduler and kwok.

`nodes` makes pods run: kube-scheduler binds them to fake nodes, and kwok acts as the kubelet. No
container starts. A pod with restartPolicy Never or OnFailure succeeds after a second, or after the
time in its annotation pod-complete.stage.kwok.x-k8s.io/delay (such as 30s). Other pods run until
they are deleted. Logs and attach show the file log/container.log (in the format of a container
runtime: TIME stdout F TEXT). exec runs the command on this machine. port-forward echoes.

CONTROLPLANE_DIR    scratch folder (default target/controlplane): PKI, tokens, kubeconfigs, logs,
                    etcd's data
CONTROLPLANE_VERSION
                    as --version
CONTROLPLANE_CACHE  where built programs are kept, by version and Go release (default
                    ~/.cache/kube-retry-proxy/controlplane)
KUBEBUILDER_ASSETS  a folder whose etcd, kube-apiserver and kubectl are used instead of built ones,
                    as setup-envtest makes it
APISERVER_FLAGS     further flags of every kube-apiserver of `up`
APISERVER_ADDRESSES addresses of this machine, one for each kube-apiserver of `up`, instead of
                    127.0.0.1. They then share a port and enter themselves into the Service
                    kubernetes, as in a cluster. Kubernetes takes no loopback address there.

It needs openssl, and Go unless KUBEBUILDER_ASSETS has every program.";

const CLIENTS_HELP: &str = "\
The versions are in tests/clients and tests/deploy/go.mod. Installed packages are kept in
~/.cache/kube-retry-proxy/clients.";

const FUZZ_HELP: &str = "\
It needs a nightly toolchain and a C++ compiler. cargo-fuzz is installed if it is missing. An input
that fails is kept in fuzz/artifacts/TARGET; fuzz/README.md says what to do with it.";

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether the checks of the task passed.
fn run(task: Task) -> Result<bool> {
    match task {
        Task::DeployCheck { what } => deploy_check::run_checks(what),
        Task::Profile => release::run_profile().map(|()| true),
        Task::Release(args) => release::run(&args),
        Task::Differential(args) => differential::compare(&args).map(|()| true),
        Task::Fuzz(args) => fuzz::run_targets(&args),
        Task::Clients { verb } => clients::run(verb).map(|()| true),
        Task::ControlPlane { kubernetes, verb } => {
            control_plane::run(verb, kubernetes).map(|()| true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_after_add_belong_to_the_apiserver() {
        let arguments = [
            "x",
            "control-plane",
            "add",
            "narrow",
            "--max-requests=1",
            "--feature=A",
        ];
        let Task::ControlPlane {
            verb: control_plane::Verb::Add { name, flags },
            ..
        } = Cli::parse_from(arguments).task
        else {
            unreachable!("another verb");
        };
        assert_eq!((name.as_str(), flags.len()), ("narrow", 2));
    }

    #[test]
    fn the_versions_of_kubernetes_and_of_argo_are_two() {
        for (arguments, expected) in [
            (["argo", "3.4"].as_slice(), None),
            (&["argo", "3.4", "--version", "1.34"], Some("1.34")),
            (&["up", "3", "--version=1.34"], Some("1.34")),
        ] {
            let arguments = [&["x", "control-plane"], arguments].concat();
            let Task::ControlPlane { kubernetes, .. } = Cli::parse_from(&arguments).task else {
                unreachable!("another task");
            };
            assert_eq!(kubernetes.as_deref(), expected, "{arguments:?}");
        }
    }
}
