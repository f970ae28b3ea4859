//! The real executable in front of the control plane.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::control_plane::ControlPlane;
use crate::process::{Running, within};

/// A running `kube-retry-proxy serve`.
pub struct Proxy {
    process: Running,
    directory: TempDir,
    /// `https://127.0.0.1:port`.
    pub url: String,
    admin: String,
}

impl Proxy {
    /// In front of these apiservers, with defaults and `more` sections of the configuration file.
    pub fn start(plane: &ControlPlane, servers: &[String], more: &str) -> Self {
        Self::before(plane, &format!("servers: [{}]", servers.join(", ")), more)
    }

    /// In front of the upstream in these fields of the section `upstream`.
    pub fn before(plane: &ControlPlane, upstream: &str, more: &str) -> Self {
        Self::serving(plane, upstream, "", more)
    }

    /// In front of these apiservers, with client certificates that pass. `serving` is more of that
    /// section.
    pub fn with_certificates(
        plane: &ControlPlane,
        servers: &[String],
        serving: &str,
        more: &str,
    ) -> Self {
        Self::with_certificates_of(plane, servers, &plane.ca_file(), serving, more)
    }

    /// As [`Proxy::with_certificates`], with the certificates of other CAs.
    pub fn with_certificates_of(
        plane: &ControlPlane,
        servers: &[String],
        ca: &Path,
        serving: &str,
        more: &str,
    ) -> Self {
        let serving = format!("clientCaFile: {}, {serving}", ca.display());
        let upstream = format!(
            "servers: [{}], frontProxyCertFile: {}, frontProxyKeyFile: {}",
            servers.join(", "),
            plane.pki("front-proxy-client.crt").display(),
            plane.pki("front-proxy-client.key").display(),
        );
        Self::serving(plane, &upstream, &serving, more)
    }

    fn serving(plane: &ControlPlane, upstream: &str, serving: &str, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let config = format!(
            "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\n\
             upstream: {{{upstream}, caFile: {}}}\n\
             serving: {{{serving}bindAddress: 127.0.0.1, securePort: 0, selfSigned: {{directory: {}, tokenFile: {}}}}}\n\
             admin: {{bindAddress: 127.0.0.1:0}}\n{more}",
            plane.ca_file().display(),
            directory.path().display(),
            plane.token_file("user").display(),
        );
        fs::write(path("config.yaml"), config).unwrap();
        Self::run(
            command()
                .arg("serve")
                .arg("--config")
                .arg(path("config.yaml")),
            directory,
        )
    }

    /// Runs a `serve` that writes its certificate and kubeconfig to `directory`. Returns when it
    /// serves.
    pub fn run(command: &mut Command, directory: TempDir) -> Self {
        let log = directory.path().join("log");
        let mut process = Running::logging(
            "kube-retry-proxy",
            command.args(["--log-format", "json"]),
            &log,
        );
        let mut said = None;
        within(Duration::from_secs(20), "the proxy serves", || {
            process.assert_running();
            said = fs::read_to_string(&log)
                .unwrap()
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|line| line["address"].is_string());
            said.is_some()
        });
        let said = said.unwrap();
        let url = format!("https://{}", said["address"].as_str().unwrap());
        let admin = said["admin_address"].as_str().unwrap().to_owned();
        Self {
            process,
            directory,
            url,
            admin,
        }
    }

    /// The kubeconfig that the proxy has written.
    pub fn written_kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// A kubeconfig through the proxy with the token of this user.
    pub fn kubeconfig(&self, plane: &ControlPlane, user: &str) -> PathBuf {
        let written = fs::read_to_string(self.written_kubeconfig()).unwrap();
        let mine = written.replace(
            plane.token_file("user").to_str().unwrap(),
            plane.token_file(user).to_str().unwrap(),
        );
        let path = self.directory.path().join(format!("{user}.kubeconfig"));
        fs::write(&path, mine).unwrap();
        path
    }

    /// The driver's arguments for a storm through the proxy. The driver checks the result against
    /// the objects in the first apiserver.
    pub fn storm(
        &self,
        plane: &ControlPlane,
        namespace: &str,
        pods: usize,
        in_flight: usize,
    ) -> Vec<String> {
        let path = |kubeconfig: PathBuf| kubeconfig.to_str().unwrap().to_owned();
        let (user, judge) = (
            path(self.kubeconfig(plane, "user")),
            path(plane.kubeconfig("admin", "apiserver-0")),
        );
        let (pods, in_flight) = (pods.to_string(), in_flight.to_string());
        [
            "storm",
            "-kubeconfig",
            &user,
            "-judge-kubeconfig",
            &judge,
            "-namespace",
            namespace,
            "-pods",
            &pods,
            "-in-flight",
            &in_flight,
        ]
        .map(str::to_owned)
        .into()
    }

    /// The file with the CA of the proxy's self-signed certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// The CA of the proxy's self-signed certificate.
    pub fn ca_pem(&self) -> String {
        fs::read_to_string(self.ca_file()).unwrap()
    }

    /// The sum of a metric's samples whose labels contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> u64 {
        let page = self.admin("/metrics");
        let samples = page.lines().filter(|line| {
            line.starts_with(name)
                && line[name.len()..].starts_with(['{', ' '])
                && line.contains(labels)
        });
        samples
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum::<f64>() as u64
    }

    /// The number of quota conflicts that the proxy received.
    pub fn conflicts(&self) -> u64 {
        self.metric("kube_retry_proxy_conflicts_total", "")
    }

    /// The servers that it knows, as `/status.json` has them.
    pub fn servers(&self) -> Vec<Value> {
        let status: Value = serde_json::from_str(&self.admin("/status.json")).unwrap();
        status["servers"].as_array().unwrap().clone()
    }

    /// The address of the server that a namespace is pinned to, after its first create.
    pub fn server_of(&self, namespace: &str) -> Option<String> {
        let pinned = |server: &Value| {
            server["namespaces"]
                .as_array()
                .unwrap()
                .iter()
                .any(|name| name == namespace)
        };
        self.servers()
            .into_iter()
            .find(pinned)
            .map(|server| server["address"].as_str().unwrap().to_owned())
    }

    /// The body of a page of the admin port.
    pub fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.admin
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer to {path}: {answer}"))
            .1
            .to_owned()
    }

    /// The process id of the proxy.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops the proxy with SIGTERM, as Kubernetes does. It must exit with success.
    pub fn stop(self) {
        self.process.stop();
    }
}

/// The executable without the environment variables of the tests.
pub fn command() -> Command {
    kube_retry_proxy_support::executable::command(&[])
}
