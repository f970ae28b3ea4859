//! The control plane of `cargo xtask control-plane`. The suite shares one, and a second one whose
//! pods run on fake nodes. The first test that needs one starts it.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::process::{Running, output};

/// The number of kube-apiservers. Tests that need fewer use the first ones.
pub const SERVERS: usize = 3;

static SHARED: OnceLock<ControlPlane> = OnceLock::new();

/// The one whose pods run. It is another one, because the other tests need pods that stay Pending.
static WITH_NODES: OnceLock<ControlPlane> = OnceLock::new();

/// Fake nodes. Each one takes 110 pods.
const NODES: &str = "10";

/// A running control plane, shared by all tests unless it is made for one.
pub struct ControlPlane {
    directory: PathBuf,
    /// `https://127.0.0.1:port` of each kube-apiserver.
    pub servers: Vec<String>,
    kubectl: PathBuf,
    driver: PathBuf,
    /// The number of namespaces so far, for unique names.
    namespaces: Mutex<usize>,
}

/// Checks the requirements of the suite other than a Rust toolchain. The error has the missing
/// program.
pub fn prerequisites() -> Result<(), String> {
    for (program, argument) in [("openssl", "version"), ("go", "version")] {
        let found = Command::new(program)
            .arg(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(format!(
                "{program} is not on the PATH (needed: openssl, and Go to build Kubernetes, Argo and the driver)"
            ));
        }
    }
    Ok(())
}

impl ControlPlane {
    /// The suite's control plane.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(|| Self::up("controlplane", &[]))
    }

    /// The suite's control plane with kube-scheduler and fake nodes (`cargo xtask control-plane
    /// nodes`).
    pub fn with_nodes() -> &'static Self {
        WITH_NODES.get_or_init(|| {
            let plane = Self::up("controlplane-nodes", &[]);
            plane.component(&["nodes", NODES]);
            plane
        })
    }

    /// Stops the suite's control planes that are running. Their logs stay.
    pub fn down() {
        for plane in [&SHARED, &WITH_NODES].into_iter().filter_map(OnceLock::get) {
            plane.component(&["down"]);
        }
    }

    /// A control plane for one test, whose apiservers have these addresses and register in the
    /// Service `kubernetes`. It stops when it is dropped.
    pub fn with_addresses(addresses: &[&str; SERVERS]) -> Self {
        Self::up("controlplane-addresses", addresses)
    }

    /// A control plane for one test, which may stop its kube-controller-manager. It stops when it is
    /// dropped.
    pub fn own(name: &str) -> Self {
        Self::up(name, &[])
    }

    fn up(name: &str, addresses: &[&str]) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        output(&mut task(&directory, &["down"]));
        output(
            task(&directory, &["up", &SERVERS.to_string()])
                .env("APISERVER_ADDRESSES", addresses.join(" ")),
        );
        let servers = fs::read_to_string(directory.join("servers"))
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        Self {
            directory,
            servers,
            kubectl: program("kubectl"),
            driver: program("driver"),
            namespaces: Mutex::new(0),
        }
    }

    /// The kubeconfig of `user` (admin, user or argo) for this component.
    pub fn kubeconfig(&self, user: &str, apiserver: &str) -> PathBuf {
        self.directory
            .join(format!("{user}.{apiserver}.kubeconfig"))
    }

    /// The file with the bearer token of a user.
    pub fn token_file(&self, user: &str) -> PathBuf {
        self.directory.join(format!("{user}.token"))
    }

    /// The bearer token of a user.
    pub fn token(&self, user: &str) -> String {
        fs::read_to_string(self.token_file(user))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// The CA that signed the apiservers' certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("pki/ca.crt")
    }

    /// A file of the keys and certificates, such as `front-proxy-client.crt`.
    pub fn pki(&self, name: &str) -> PathBuf {
        self.directory.join("pki").join(name)
    }

    /// The command line of a component: the program and its arguments.
    pub fn command_line(&self, component: &str) -> Vec<String> {
        let lines = fs::read_to_string(self.directory.join(format!("run/{component}.cmd")));
        lines.unwrap().lines().map(str::to_owned).collect()
    }

    /// The URL of etcd.
    pub fn etcd(&self) -> String {
        format!(
            "http://127.0.0.1:{}",
            fs::read_to_string(self.directory.join("ports/etcd"))
                .unwrap()
                .trim()
        )
    }

    /// A folder that is kept after the suite, like the control plane's logs.
    pub fn logs(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Starts one more kube-apiserver with its own flags, and returns its URL.
    pub fn add(&self, name: &str, flags: &[&str]) -> String {
        self.component(&[&["add", name], flags].concat());
        fs::read_to_string(self.directory.join("servers"))
            .unwrap()
            .lines()
            .last()
            .unwrap()
            .to_owned()
    }

    /// `kill`, `stop`, `start` or `signal` of a component.
    pub fn component(&self, arguments: &[&str]) {
        output(&mut task(&self.directory, arguments));
    }

    /// The process id of a component.
    pub fn process(&self, component: &str) -> u32 {
        fs::read_to_string(self.directory.join(format!("run/{component}.pid")))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Creates a namespace with this many quotas that have room for everything. When this returns,
    /// the quota controller has computed them.
    pub fn namespace(&self, purpose: &str, quotas: usize) -> String {
        let number = {
            let mut namespaces = self
                .namespaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *namespaces += 1;
            *namespaces
        };
        let namespace = format!("{purpose}-{number}");
        let admin = self.kubeconfig("admin", "apiserver-0");
        self.driver(&[
            "quota",
            "-kubeconfig",
            admin.to_str().unwrap(),
            "-namespace",
            &namespace,
            "-quotas",
            &quotas.to_string(),
        ]);
        namespace
    }

    /// Deletes the pods of a namespace. They are gone when this returns, because no node runs them,
    /// so the next measurement has the machine to itself. The deletion of the namespace starts five
    /// seconds later and takes longer.
    pub fn empty(&self, namespace: &str) {
        self.kubectl(&[
            "delete",
            "--raw",
            &format!("/api/v1/namespaces/{namespace}/pods"),
        ]);
    }

    /// Deletes a namespace with all its objects, so that later tests do not carry its load. Does
    /// not wait for the end.
    pub fn discard(&self, namespace: &str) {
        self.kubectl(&["delete", "namespace", namespace, "--wait=false"]);
    }

    /// Runs the driver and returns its report.
    pub fn driver<A: AsRef<OsStr> + Debug>(&self, arguments: &[A]) -> Value {
        let printed = output(Command::new(&self.driver).args(arguments));
        serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("driver {arguments:?}: {error}: {printed}"))
    }

    /// Starts the driver in the background.
    pub fn driving<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Running {
        Running::start("driver", Command::new(&self.driver).args(arguments))
    }

    /// Runs kubectl as admin, which must succeed, and returns its output.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        output(
            self.kubectl_with(&self.kubeconfig("admin", "apiserver-0"))
                .args(arguments),
        )
    }

    /// Creates an object, or a `List` of them, as admin.
    pub fn create(&self, object: &Value) {
        let mut file = NamedTempFile::new().unwrap();
        write!(file, "{object}").unwrap();
        self.kubectl(&["create", "-f", file.path().to_str().unwrap()]);
    }

    /// kubectl with a kubeconfig and without the user's own configuration.
    pub fn kubectl_with(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env("HOME", &self.directory)
            .env_remove("KUBECONFIG");
        command
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // Nobody would see why not.
        let _ = task(&self.directory, &["down"]).status();
    }
}

/// The path of a program, which is built if it is missing.
pub fn program(name: &str) -> PathBuf {
    output(&mut task(
        Path::new(env!("CARGO_TARGET_TMPDIR")),
        &["path", name],
    ))
    .trim()
    .into()
}

/// The command line of a client's driver, whose packages are installed if they are missing.
pub fn clients_path(set: &str) -> Vec<String> {
    let printed = output(Command::new(xtask()).args(["clients", "path", set]));
    printed.lines().map(str::to_owned).collect()
}

/// Runs `cargo xtask control-plane`. Its progress messages are passed through.
fn task(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(xtask());
    command
        .arg("control-plane")
        .args(arguments)
        .env("CONTROLPLANE_DIR", directory);
    command
}

/// The executable behind `cargo xtask`, built once. A call through cargo would wait for every other
/// build.
fn xtask() -> &'static Path {
    static XTASK: OnceLock<PathBuf> = OnceLock::new();
    XTASK.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--locked", "--quiet", "--package", "xtask"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        let messages = output(build.arg("--message-format=json"));
        let executable = messages.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            Some(PathBuf::from(message["executable"].as_str()?))
        });
        executable.expect("cargo names the executable that it has built")
    })
}
