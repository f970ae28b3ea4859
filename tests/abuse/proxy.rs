//! The real executable as a child process, observed from outside: its two ports, memory, metrics
//! and log size.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peers::tls::{Dialer, Pki};

/// The limit of every wait. Shorter times are never checked.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Sections of the configuration, each without its outer braces: `connectTimeout: 1s`.
#[derive(Clone, Default)]
pub struct Configuration {
    pub upstream: String,
    pub serving: String,
    pub creates: String,
    pub replay: String,
    /// Serve with the certificate of the upstreams instead of a self-signed one.
    pub served_as_upstream: bool,
}

/// A running proxy. It is killed when this is dropped.
pub struct Proxy {
    child: Child,
    directory: TempDir,
    pub dialer: Dialer,
    pub admin: SocketAddr,
}

impl Proxy {
    /// Starts a proxy in front of these upstreams, whose certificates come from `pki`.
    pub async fn start(pki: &Pki, upstreams: &[SocketAddr], configuration: &Configuration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("upstream-ca.crt"), &pki.ca_pem).unwrap();
        let urls: Vec<_> = upstreams
            .iter()
            .map(|address| format!("'https://{address}'"))
            .collect();
        let servers = if urls.len() == 1 {
            format!("url: {}", urls[0])
        } else {
            format!("servers: [{}]", urls.join(", "))
        };
        let Configuration {
            upstream,
            serving,
            creates,
            replay,
            served_as_upstream,
        } = configuration;
        let certificate = if *served_as_upstream {
            std::fs::write(path("tls.crt"), &pki.certificate_pem).unwrap();
            std::fs::write(path("tls.key"), &pki.key_pem).unwrap();
            format!(
                "tlsCertFile: {}, tlsPrivateKeyFile: {}",
                path("tls.crt").display(),
                path("tls.key").display()
            )
        } else {
            format!("selfSigned: {{directory: {}}}", directory.path().display())
        };
        let ca = path("upstream-ca.crt");
        let text = format!(
            "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\n\
             upstream: {{{servers}, caFile: {}, {upstream}}}\n\
             serving: {{bindAddress: 127.0.0.1, securePort: 0, {certificate}, {serving}}}\n\
             admin: {{bindAddress: 127.0.0.1:0}}\ncreates: {{{creates}}}\nreplay: {{{replay}}}\n",
            ca.display()
        );
        std::fs::write(path("config.yaml"), text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_kube-retry-proxy"))
            .args(["serve", "--config", path("config.yaml").to_str().unwrap()])
            .env_clear()
            // As the manifests have it. What keeps one thread busy delays everybody.
            .env("TOKIO_WORKER_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let mut child = Started(Some(child));
        let line = loop {
            let log = std::fs::read_to_string(path("log")).unwrap();
            if let Some(line) = log.lines().find(|line| line.contains("Serving")) {
                break line.to_owned();
            }
            let ended = child.0.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the proxy did not start:\n{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let field = |name: &str| -> SocketAddr {
            let found = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            found
                .unwrap_or_else(|| panic!("no {name} in {line}"))
                .parse()
                .unwrap()
        };
        let dialer = Dialer::new(
            field("address"),
            &path(if *served_as_upstream {
                "upstream-ca.crt"
            } else {
                "ca.crt"
            }),
        );
        Self {
            dialer,
            admin: field("admin_address"),
            child: child.0.take().unwrap(),
            directory,
        }
    }

    /// The peak memory of the process, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.status("VmHWM")
    }

    /// The current memory of the process, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.status("VmRSS")
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        line.trim_start_matches(':')
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.log_path()).unwrap().len()
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap()).into_owned()
    }

    /// The answer of the admin port with its head. `None` if there is none in time.
    pub async fn admin(&self, path: &str) -> Option<String> {
        let asked = async {
            let mut tcp = TcpStream::connect(self.admin).await.ok()?;
            tcp.write_all(
                format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .await
            .ok()?;
            let mut answer = Vec::new();
            tcp.read_to_end(&mut answer).await.ok()?;
            Some(String::from_utf8_lossy(&answer).into_owned()).filter(|answer| !answer.is_empty())
        };
        tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
    }

    /// The sum of a metric over the series that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin("/metrics").await.unwrap_or_default();
        let series = text.lines().filter(|line| {
            line.strip_prefix("kube_retry_proxy_")
                .and_then(|line| line.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        series
            .filter(|line| line.contains(labels))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It has ended already, if the test found so.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Kills the process if the start fails before a [`Proxy`] exists.
struct Started(Option<Child>);

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ended = child.kill();
            let _ended = child.wait();
        }
    }
}
