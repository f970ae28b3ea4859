//! The roster of clients, and how their drivers are run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::control_plane::{clients_path, program};
use crate::process::output;

/// The names of the pods that drivers create contain this, those of others do not.
pub const PREFIX: &str = "client-create";

/// The text of a quota conflict, in whatever a client makes of it.
const CONFLICT: &str = "Operation cannot be fulfilled on resourcequotas";

/// How long one run of a driver may take before it is ended.
const LIMIT: &str = "600";

/// A row of the tables.
#[derive(Clone, Copy)]
pub struct Client {
    pub name: &'static str,
    program: Program,
    /// The name of the client in its driver.
    argument: &'static str,
    creates: usize,
    in_flight: usize,
    /// Whether it repeats a create that met a conflict, so that it may show none.
    pub retries: bool,
    /// Whether its driver has the action `streams`.
    pub streams: bool,
    /// Whether it belongs to the short set.
    pub short: bool,
}

#[derive(Clone, Copy)]
enum Program {
    /// A driver with the libraries of this set of `cargo xtask clients`.
    Set(&'static str),
    /// The Helm of this set.
    Helm(&'static str),
    /// The kubectl of the control plane.
    Kubectl,
    /// The client-go of the end-to-end suite.
    ClientGo,
}

pub const CLIENTS: &[Client] = &[
    Client::of("kubernetes (Python)", Program::Set("python"), "kubernetes")
        .that_streams()
        .in_the_short_set(),
    Client::of("kr8s", Program::Set("python"), "kr8s").that_streams(),
    Client::of("pykube-ng", Program::Set("python"), "pykube-ng"),
    Client::of("lightkube", Program::Set("python"), "lightkube").that_streams(),
    Client::of(
        "Airflow, KubernetesExecutor",
        Program::Set("airflow"),
        "executor",
    ),
    Client::of(
        "Airflow, KubernetesExecutor, `async_pod_creation`",
        Program::Set("airflow"),
        "executor-async",
    ),
    Client::of(
        "Airflow, KubernetesPodOperator",
        Program::Set("airflow"),
        "operator",
    )
    .that_retries(),
    Client::of("fabric8, OkHttp", Program::Set("fabric8"), "okhttp").that_streams(),
    Client::of("fabric8, JDK", Program::Set("fabric8"), "jdk").that_streams(),
    Client::of("fabric8, Vert.x", Program::Set("fabric8"), "vertx").that_streams(),
    Client::of("client-java", Program::Set("client-java"), "client-java").that_streams(),
    Client::of("client-node", Program::Set("node"), "client-node")
        .that_streams()
        .in_the_short_set(),
    Client::of(
        "Helm 3, releases of four objects",
        Program::Helm("helm-3"),
        "helm",
    )
    .processes()
    .that_retries(),
    Client::of(
        "Helm 4, releases of four objects",
        Program::Helm("helm-4"),
        "helm",
    )
    .processes()
    .that_retries()
    .in_the_short_set(),
    Client::of("`kubectl create`", Program::Kubectl, "kubectl-create").processes(),
    Client::of("`kubectl apply`", Program::Kubectl, "kubectl-apply").processes(),
    Client::of(
        "`kubectl apply --server-side`",
        Program::Kubectl,
        "kubectl-apply-server-side",
    )
    .processes(),
    Client::of("client-go", Program::ClientGo, ""),
];

/// What a client was told.
#[derive(Default, Deserialize)]
pub struct Outcome {
    pub created: Vec<String>,
    /// The error of each create that failed.
    pub failed: BTreeMap<String, String>,
    pub seconds: f64,
    pub version: String,
}

impl Outcome {
    /// Adds a later run of the same client.
    pub fn add(&mut self, later: Self) {
        self.created.extend(later.created);
        self.failed.extend(later.failed);
        self.seconds += later.seconds;
        self.version = later.version;
    }

    pub fn creates(&self) -> usize {
        self.created.len() + self.failed.len()
    }

    /// Creates that failed with the quota conflict.
    pub fn conflicts(&self) -> usize {
        let conflict = |error: &&String| error.contains(CONFLICT);
        self.failed.values().filter(conflict).count()
    }

    /// Creates that failed otherwise.
    pub fn others(&self) -> usize {
        self.failed.len() - self.conflicts()
    }
}

/// The answer to the question who a client is.
#[derive(Deserialize)]
pub struct Identity {
    pub user: Option<String>,
    /// For a client that cannot ask: whether the apiserver let it do what only the user may.
    pub allowed: Option<bool>,
    pub error: Option<String>,
}

/// What a client got from each kind of stream that it has.
#[derive(Deserialize)]
pub struct Streamed {
    /// The name of the first pod in a watch.
    pub watch: Option<String>,
    /// The first line of a pod's log, followed.
    pub log: Option<String>,
    /// The output of a command.
    pub exec: Option<String>,
    /// What came back through a forwarded port.
    pub forward: Option<String>,
    pub error: Option<String>,
}

/// What a kubeconfig says about its user.
pub enum Credentials {
    Token(String),
    TokenFile(PathBuf),
}

/// A kubeconfig as people write it.
pub fn kubeconfig(server: &str, authority: &Path, credentials: &Credentials) -> NamedTempFile {
    let user = match credentials {
        Credentials::Token(token) => format!("token: {token}"),
        Credentials::TokenFile(file) => format!("tokenFile: {}", file.display()),
    };
    let mut text = "apiVersion: v1\nkind: Config\ncurrent-context: it\n".to_owned();
    write!(
        text,
        "clusters: [{{ name: it, cluster: {{ server: {server}, certificate-authority: {} }} }}]\n\
         contexts: [{{ name: it, context: {{ cluster: it, user: it }} }}]\n\
         users: [{{ name: it, user: {{ {user} }} }}]\n",
        authority.display()
    )
    .unwrap();
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

impl Client {
    const fn of(name: &'static str, program: Program, argument: &'static str) -> Self {
        let (creates, in_flight) = (40, 8);
        let (retries, streams, short) = (false, false, false);
        Self {
            name,
            program,
            argument,
            creates,
            in_flight,
            retries,
            streams,
            short,
        }
    }

    const fn in_the_short_set(self) -> Self {
        Self {
            short: true,
            ..self
        }
    }

    const fn that_streams(self) -> Self {
        Self {
            streams: true,
            ..self
        }
    }

    const fn that_retries(self) -> Self {
        Self {
            retries: true,
            ..self
        }
    }

    /// A client whose every create is a process.
    const fn processes(self) -> Self {
        Self {
            creates: 20,
            in_flight: 4,
            ..self
        }
    }

    /// The same client with this many creates, all at once.
    pub fn at_once(&self, creates: usize) -> Self {
        Self {
            creates,
            in_flight: creates,
            ..*self
        }
    }

    /// The kinds of objects of which each create makes one.
    pub fn kinds(&self) -> &'static [&'static str] {
        match self.program {
            Program::Helm(_) => &["pod", "configmap", "secret", "service"],
            _ => &["pod"],
        }
    }

    /// Creates pods or releases whose names begin with `prefix`.
    pub fn storm(&self, kubeconfig: &Path, namespace: &str, prefix: &str) -> Outcome {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", LIMIT])
            .args(self.words("create"))
            .env("KUBECONFIG", kubeconfig)
            .env("NAMESPACE", namespace)
            .env("PREFIX", prefix)
            .env("COUNT", self.creates.to_string())
            .env("IN_FLIGHT", self.in_flight.to_string());
        self.report(&mut command)
    }

    /// Watches, follows, runs a command in and forwards a port of a running pod.
    pub fn streamed(&self, kubeconfig: &Path, namespace: &str, pod: &str) -> Streamed {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", "120"])
            .args(self.words("streams"))
            .env("KUBECONFIG", kubeconfig)
            .env("NAMESPACE", namespace)
            .env("POD", pod);
        self.report(&mut command)
    }

    /// Asks the apiserver who this client is. `prepare` adds how it finds the server and its token.
    pub fn identity(&self, prepare: impl FnOnce(&[String]) -> Command) -> Identity {
        self.report(&mut prepare(&self.words("whoami")))
    }

    fn report<T: for<'a> Deserialize<'a>>(&self, command: &mut Command) -> T {
        if let Some(executable) = self.executable() {
            command.env("PROGRAM", executable);
        }
        let printed = output(command);
        let line = printed.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{}: {error}: {printed}", self.name))
    }

    /// The executable that the driver of commands runs.
    fn executable(&self) -> Option<PathBuf> {
        match self.program {
            Program::Helm(set) => Some(clients_path(set).remove(0).into()),
            Program::Kubectl => Some(program("kubectl")),
            Program::Set(_) | Program::ClientGo => None,
        }
    }

    /// The command line of the driver.
    fn words(&self, action: &str) -> Vec<String> {
        const COMMANDS: &str = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/clients/commands/driver.py"
        );
        let mut words = match self.program {
            Program::Set(set) => clients_path(set),
            Program::Helm(_) | Program::Kubectl => {
                ["python3", "-B", COMMANDS].map(str::to_owned).into()
            }
            Program::ClientGo => {
                let driver = program("driver").to_str().unwrap().to_owned();
                let mut words = vec![driver, "contract".to_owned()];
                words.extend((action == "whoami").then(|| "-whoami".to_owned()));
                return words;
            }
        };
        words.extend([self.argument.to_owned(), action.to_owned()]);
        words
    }
}
