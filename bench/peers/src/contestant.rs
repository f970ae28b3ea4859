//! The contestants: their configurations, and how they are started.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::client::Protocol;

/// The processor that contestants run on. Client and stub share the other one.
pub(crate) const PROCESSOR: usize = 0;
/// How long a contestant may take to start. Valgrind reads its debug information first.
const START: Duration = Duration::from_secs(120);
/// How long a contestant may take to end by itself. Most wait for their connections.
const END: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// No proxy.
    Direct,
    /// The minimal proxy made of hyper.
    Bare(Protocol),
    Haproxy(Protocol),
    Nginx,
    Envoy,
    /// kube-retry-proxy, with these flags besides.
    Ours(PathBuf, Vec<String>),
}

/// A proxy that is to be measured.
#[derive(Debug, Clone)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Where the programs and files are.
pub(crate) struct Place<'a> {
    /// With the certificates; it gets the configurations and logs.
    pub(crate) directory: &'a Path,
    pub(crate) upstream: SocketAddr,
    pub(crate) haproxy: PathBuf,
    pub(crate) nginx: PathBuf,
    pub(crate) envoy: PathBuf,
}

/// A contestant that serves. It is ended when this is dropped.
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    child: Option<Child>,
}

impl Running {
    /// None: there is no proxy.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else {
            return;
        };
        // A build that takes notes of itself, for profile-guided optimisation, writes them at its
        // end. It may have ended by itself.
        let _asked = Command::new("kill").arg(child.id().to_string()).status();
        let asked = Instant::now();
        while asked.elapsed() < END && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        let _killed = child.kill();
        let _reaped = child.wait();
    }
}

impl Contestant {
    /// Starts it on its processor, and waits until it accepts connections.
    ///
    /// With `replaying` it replays conflicts on quotas, with pauses as short as it can. `under` is
    /// the command that runs it, if any.
    pub(crate) fn start(
        &self,
        place: &Place<'_>,
        replaying: bool,
        under: &[String],
    ) -> Result<Running> {
        let name = self.name.clone();
        if let Kind::Direct = self.kind {
            return Ok(Running {
                name,
                address: place.upstream,
                child: None,
            });
        }
        let port = free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let file = name.replace([' ', ',', '/'], "-");
        let log = place.directory.join(format!("{file}.log"));
        let command = self.command(place, &file, port, replaying)?;
        let child = Command::new("taskset")
            .args(["-c", &PROCESSOR.to_string()])
            .args(under)
            .args(command)
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .context("taskset")?;
        let mut running = Running {
            name,
            address,
            child: Some(child),
        };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            let child = running.child.as_mut().context("a process")?;
            let ended = child.try_wait()?;
            if ended.is_some() || started.elapsed() > START {
                bail!(
                    "{} does not serve: {}",
                    running.name,
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    fn command(
        &self,
        place: &Place<'_>,
        file: &str,
        port: u16,
        replaying: bool,
    ) -> Result<Vec<String>> {
        let directory = place.directory.display().to_string();
        // Envoy reads YAML only from a file with this ending.
        let config = place.directory.join(format!("{file}.yaml"));
        let write = |template: &str, up: Protocol| -> Result<String> {
            let alpn = str::from_utf8(up.alpn())?;
            let text = template
                .replace("@PORT@", &port.to_string())
                .replace("@UPSTREAM@", &place.upstream.port().to_string())
                .replace("@DIR@", &directory)
                .replace("@ALPN@", alpn);
            fs::write(&config, text)?;
            Ok(config.display().to_string())
        };
        let words: Vec<String> = match &self.kind {
            Kind::Direct => Vec::new(),
            Kind::Bare(up) => vec![
                beside("bare")?.display().to_string(),
                port.to_string(),
                place.upstream.port().to_string(),
                up.as_str().to_owned(),
                directory,
            ],
            Kind::Haproxy(up) => {
                let template = if replaying {
                    include_str!("../conf/haproxy-retry.cfg")
                } else {
                    include_str!("../conf/haproxy.cfg")
                };
                let program = place.haproxy.display().to_string();
                vec![program, "-db".into(), "-f".into(), write(template, *up)?]
            }
            Kind::Nginx => {
                let config = write(include_str!("../conf/nginx.conf"), Protocol::Http1)?;
                vec![place.nginx.display().to_string(), "-c".into(), config]
            }
            Kind::Envoy => {
                let (policy, filters) = if replaying {
                    (
                        include_str!("../conf/envoy-retry-policy.yaml"),
                        include_str!("../conf/envoy-upstream-filters.yaml"),
                    )
                } else {
                    ("", "")
                };
                let added = |text: &str| match text.trim_end() {
                    "" => String::new(),
                    text => format!("\n{text}"),
                };
                let template = include_str!("../conf/envoy.yaml")
                    .replace("@RETRY_POLICY@", &added(policy))
                    .replace("@UPSTREAM_FILTERS@", &added(filters));
                let config = write(&template, Protocol::Http2)?;
                [
                    &place.envoy.display().to_string(),
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "--log-level",
                    "warning",
                    "-c",
                    &config,
                ]
                .map(str::to_owned)
                .into()
            }
            Kind::Ours(program, more) => {
                let mut words = vec![
                    program.display().to_string(),
                    "serve".into(),
                    "--bind-address=127.0.0.1".into(),
                    format!("--secure-port={port}"),
                    format!("--admin-bind-address=127.0.0.1:{}", free_port()?),
                    format!("--upstream=https://localhost:{}", place.upstream.port()),
                    format!("--upstream-ca-file={directory}/ca.pem"),
                    format!("--tls-cert-file={directory}/tls.crt"),
                    format!("--tls-private-key-file={directory}/tls.key"),
                ];
                if replaying {
                    let settings = "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\nreplay:\n  baseDelay: 1ms\n  maxDelay: 1ms\n  budget: {quotaConflict: {ratio: 10, perSecond: 1000000}}\n";
                    fs::write(&config, settings)?;
                    words.push(format!("--config={}", config.display()));
                }
                words.extend(more.iter().cloned());
                words
            }
        };
        Ok(words)
    }
}

/// A program that is built together with this one.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let path = this.with_file_name(name);
    ensure!(
        path.exists(),
        "there is no {}: build it with `cargo build --release --workspace --bins`",
        path.display()
    );
    Ok(path)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
