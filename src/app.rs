//! The composition root: builds every part from the configuration, starts the parts, and stops
//! them.
//!
//! It stops in this order: become unready, stop accepting, let requests finish, release creates
//! that are held, and cut what still streams.

mod doubts;
mod reload;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use reload::ConfigSource;

use crate::admin::{self, Admin, Check, Readiness};
use crate::body::Buffers;
use crate::config::{self, Config};
use crate::create::{CreateSettings, Creates, HeldPlaces};
use crate::decisions::Decisions;
use crate::drain::{Drain, Stage};
use crate::events::Recorder;
use crate::headers::Via;
use crate::identity::Identities;
use crate::kubeconfig::Warning;
use crate::listener::{self, Listener, Turns};
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::quotas::Quotas;
use crate::route::MatchedResources;
use crate::tls::{self, OwnCertificate, TlsError};
use crate::trace::Tracer;
use crate::upgrade::Tunnels;
use crate::upstream::{SetupError, Upstream};
use crate::verdict::Class;

/// How long creates may take to answer once they are released. They have their answer already and
/// only write it.
const RELEASE: Duration = Duration::from_secs(1);

/// How long the last answers may take to reach their sockets before the connections are cut.
const FLUSH: Duration = Duration::from_millis(250);

/// The memory for creates covers their heads too. A head is smaller than this.
const MAX_HEAD: u64 = 64 << 10;

/// A running proxy.
pub struct App {
    /// The address that clients connect to.
    pub address: SocketAddr,
    /// The address of the admin port.
    pub admin_address: SocketAddr,
    /// The CA of the self-signed certificate, as PEM. None: the certificate comes from files.
    pub ca_pem: Option<String>,
    /// The metrics of this proxy.
    pub metrics: Arc<Metrics>,
    /// The apiservers, and what the proxy knows about them.
    pub upstream: Arc<Upstream>,
    drain: Drain,
    drain_timeout: Duration,
    serving: Check,
    proxy: Arc<Proxy>,
    connections: TaskTracker,
    background: TaskTracker,
    stop: CancellationToken,
}

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The upstream cannot be used as configured.
    #[error("the upstream cannot be set up")]
    Upstream(#[from] SetupError),
    /// Certificates or keys cannot be read or used.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({what})")]
    Bind {
        /// `serving` or `admin`.
        what: &'static str,
        /// The address as configured.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The signals that end the process cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
}

/// Starts a proxy. It serves when this returns. With a `source`, the configuration is reloaded
/// while the proxy runs.
///
/// # Errors
/// The configuration cannot be used; nothing is served then.
pub async fn start(config: Config, source: Option<ConfigSource>) -> Result<App, StartError> {
    let class_labels: Vec<_> = Class::ALL.iter().map(|class| class.as_str()).collect();
    let metrics = Arc::new(Metrics::new(
        config.metrics.max_namespaces.size(),
        &class_labels,
    ));
    metrics.mode(config.mode);
    doubts::warn_of(&config);
    let identities = Identities::new(&config.serving)?;
    let upstream = Arc::new(Upstream::new(&config.upstream, &metrics)?);
    let (certificate, ca_pem) = certificate(&config.serving)?;
    let certificate = Arc::new(certificate);
    let tls = tls::server_config(Arc::clone(&certificate))?;
    reload::report_expiry(&metrics, &certificate);
    reload::report_front_proxy_expiry(&metrics, upstream.front_proxy());

    let socket = bind(
        "serving",
        SocketAddr::new(config.serving.bind_address, config.serving.secure_port),
    )
    .await?;
    let admin_socket = bind("admin", config.admin.bind_address).await?;
    let address = local_address("serving", &socket)?;
    let admin_address = local_address("admin", &admin_socket)?;

    let (drain, watcher) = Drain::new();
    let (reports, recorder) = Recorder::new(&config.events, &upstream, &metrics).unzip();
    let decisions = Arc::new(Decisions::new(config.metrics.decisions.size()).report_to(reports));
    let stop = CancellationToken::new();
    let (tracer, exporter) = Tracer::new(&config.tracing, &metrics).unzip();
    let creates = Creates {
        settings: ArcSwap::from_pointee(CreateSettings::new(&config)),
        upstream: Arc::clone(&upstream),
        quotas: Quotas::new(&upstream, &metrics),
        buffers: Buffers::new(
            config.creates.max_buffered,
            config.creates.max_body.saturating_add(MAX_HEAD),
            metrics.buffered(),
        ),
        max_body: config.creates.max_body,
        held: HeldPlaces::new(config.creates.max_held.size(), config.creates.max_buffered),
        in_flight: TaskTracker::new(),
        claims: Arc::default(),
        decisions: Arc::clone(&decisions),
        tracer,
        metrics: Arc::clone(&metrics),
        drain: watcher.clone(),
    };
    let proxy = Arc::new(Proxy {
        matched: MatchedResources::from(&config.creates),
        creates,
        upstream: Arc::clone(&upstream),
        tunnels: Tunnels {
            tasks: TaskTracker::new(),
            drain: watcher.clone(),
        },
        identities,
        via: Via::new(fastrand::u64(..)),
        metrics: Arc::clone(&metrics),
    });
    let connections = TaskTracker::new();
    let listener = Listener {
        proxy: Arc::clone(&proxy),
        tls,
        turns: Turns::of_runtime(),
        limits: listener::ListenerLimits::from(&config.serving),
        metrics: Arc::clone(&metrics),
        drain: watcher,
        connections: connections.clone(),
    };
    let readiness = Arc::new(Readiness::default());
    let serving = readiness.check("serving");
    let reachable = readiness.check("upstream");
    let current = Arc::new(ArcSwap::from_pointee(config));
    let admin = Admin {
        metrics: Arc::clone(&metrics),
        decisions,
        readiness,
        config: Box::new({
            let current = Arc::clone(&current);
            move || current.load_full()
        }),
        servers: Box::new({
            let upstream = Arc::clone(&upstream);
            move || upstream.status()
        }),
    };

    let kubeconfig = match &ca_pem {
        Some(ca) => {
            let serving = &current.load().serving;
            let reached = tls::reached_at(&serving.self_signed, serving.bind_address);
            tls::write_kubeconfig(&reached, ca, address.port())?
        }
        None => None,
    };
    let background = TaskTracker::new();
    background.spawn(admin::serve(admin_socket, admin, stop.clone()));
    background.spawn({
        let (upstream, stop) = (Arc::clone(&upstream), stop.clone());
        async move { upstream.run(stop).await }
    });
    background.spawn(
        stop.clone()
            .run_until_cancelled_owned(watch_upstream(Arc::clone(&upstream), reachable)),
    );
    let reloader = reload::Reloader {
        source,
        current: Arc::clone(&current),
        proxy: Arc::clone(&proxy),
        certificate,
        metrics: Arc::clone(&metrics),
    };
    background.spawn(stop.clone().run_until_cancelled_owned(reloader.run()));
    if let Some(exporter) = exporter {
        background.spawn(exporter.run(stop.clone()));
    }
    if let Some(recorder) = recorder {
        background.spawn(recorder.run(stop.clone()));
    }
    background.spawn(listener.serve(socket));
    serving.set(Ok(String::new()));
    announce(address, admin_address, &current.load(), kubeconfig);
    let drain_timeout = current.load().drain.timeout;
    Ok(App {
        address,
        admin_address,
        ca_pem,
        metrics,
        upstream,
        drain,
        drain_timeout,
        serving,
        proxy,
        connections,
        background,
        stop,
    })
}

impl App {
    /// Drains and stops the proxy. Returns when everything has ended, at the latest shortly after
    /// `drain.timeout`.
    pub async fn stop(self) {
        info!(timeout = ?self.drain_timeout, "Stopping: accepting no new connections, finishing requests");
        self.serving.set(Err("draining".to_owned()));
        self.drain.advance(Stage::Draining);
        let ended = async {
            self.connections.close();
            self.proxy.tunnels.tasks.close();
            self.connections.wait().await;
            self.proxy.tunnels.tasks.wait().await;
        };
        let mut ended = std::pin::pin!(ended);
        if tokio::time::timeout(self.drain_timeout, ended.as_mut())
            .await
            .is_err()
        {
            self.drain.advance(Stage::Releasing);
            let creates = &self.proxy.creates.in_flight;
            if !creates.is_empty() {
                creates.close();
                // Creates that do not answer in time are cut below.
                let _answered = tokio::time::timeout(RELEASE, creates.wait()).await;
                tokio::time::sleep(FLUSH).await;
            }
            warn!(
                connections = self.connections.len(),
                tunnels = self.proxy.tunnels.tasks.len(),
                "Cutting the connections that are still open"
            );
            self.drain.advance(Stage::Cut);
            ended.await;
        }
        self.stop.cancel();
        self.background.close();
        self.background.wait().await;
        info!("Stopped");
    }
}

/// How the proxy stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every request ended, or had until `drain.timeout` to do so.
    Drained,
    /// A second signal ended the drain. Kubernetes' own components then exit with 1:
    /// <https://github.com/kubernetes/apiserver/blob/v0.34.0/pkg/server/signal.go>
    Forced,
}

/// Serves until SIGTERM or SIGINT, then drains. A second signal stops the proxy at once.
///
/// # Errors
/// The errors of [`start`].
pub async fn run(config: Config, source: Option<ConfigSource>) -> Result<Stopped, StartError> {
    let mut signals = Signals::new()?;
    let app = start(config, source).await?;
    signals.next().await;
    tokio::select! {
        () = app.stop() => Ok(Stopped::Drained),
        () = signals.next() => {
            warn!("Received a second signal, stopping at once");
            Ok(Stopped::Forced)
        }
    }
}

/// The serving certificate and, if it is self-signed, its CA as PEM.
fn certificate(
    serving: &config::ServingConfig,
) -> Result<(OwnCertificate, Option<String>), StartError> {
    if let (Some(certificate), Some(key)) = (&serving.tls_cert_file, &serving.tls_private_key_file)
    {
        return Ok((OwnCertificate::from_files(certificate, key)?, None));
    }
    let made = tls::self_signed(&tls::reached_at(&serving.self_signed, serving.bind_address))?;
    Ok((made.certificate, Some(made.ca_pem)))
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Bind {
            what,
            address,
            source,
        })
}

fn local_address(what: &'static str, socket: &TcpListener) -> Result<SocketAddr, StartError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    socket.local_addr().map_err(|source| StartError::Bind {
        what,
        address: unknown,
        source,
    })
}

/// Logs the line with the addresses. Scripts that start the proxy with port 0 read it.
fn announce(
    address: SocketAddr,
    admin_address: SocketAddr,
    config: &Config,
    kubeconfig: Option<(PathBuf, Vec<Warning>)>,
) {
    let upstream = config
        .upstream
        .addresses()
        .iter()
        .map(|url| url.to_string())
        .collect::<Vec<_>>()
        .join(",");
    let (path, warnings) = kubeconfig.unzip();
    for warning in warnings.iter().flatten() {
        warn!("The kubeconfig for clients: {warning}");
    }
    let kubeconfig = path
        .as_ref()
        .map(|path| tracing::field::display(path.display()));
    info!(%address, %admin_address, %upstream, kubeconfig, mode = ?config.mode, "Serving");
}

/// Keeps the readiness check of the upstream up to date.
async fn watch_upstream(upstream: Arc<Upstream>, reachable: Check) {
    loop {
        if let Some(condition) = upstream.condition() {
            reachable.set(condition);
        }
        upstream.changed().await;
    }
}

/// The signals that stop a process: SIGTERM from the kubelet, SIGINT from a terminal.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, StartError> {
        let of = |kind| signal(kind).map_err(StartError::Signals);
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
