//! The configuration: one struct a section, each field in its own unit, with its default.
//!
//! Plain values only: every component takes its own section. The file format, its strictness and
//! the report of every mistake at once are in `config/file.rs`; the unit types of the file in
//! `config/units.rs`. Flags and environment are laid over it in `cli/serve.rs`.

mod decode;
pub mod file;
mod mistake;
pub(crate) mod rules;
mod show;
pub(crate) mod units;
mod upstream;
pub(crate) mod yaml;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use mistake::{Mistake, Mistakes, Problem};
pub use show::show;
pub use upstream::{CaSource, Discover, Pin, Upstream};

/// Where a pod finds the token of its service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Everything that can be configured. `Config::default()` is what an empty file means.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// Whether creates are replayed, only watched, or left alone. Reloaded at run time.
    pub mode: Mode,
    /// The kube-apiserver, and how connections to it are kept.
    pub upstream: Upstream,
    /// The port that clients reach.
    pub serving: Serving,
    /// The port for probes, metrics and debugging.
    pub admin: Admin,
    /// Which requests are creates, and how much of them may be held.
    pub creates: Creates,
    /// When and how often a create is sent again. Reloaded at run time.
    pub replay: Replay,
    /// How fast creates may come at all. Reloaded at run time.
    pub rate_limit: RateLimit,
    /// How the process stops.
    pub drain: Drain,
    /// What is counted and kept for debugging.
    pub metrics: Metrics,
    /// What is logged, and how.
    pub logging: Logging,
    /// OpenTelemetry traces of creates.
    pub tracing: Tracing,
    /// Kubernetes Events.
    pub events: Events,
}

/// What happens to a create whose answer could be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A plain proxy: nothing is buffered, nothing is replayed.
    Off,
    /// Nothing is replayed, but what would have been is counted.
    Observe,
    /// Replayed until the apiserver has decided or a limit is reached.
    #[default]
    Enforce,
}

/// The port that clients reach, always TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct Serving {
    /// The address to listen on; `::` for IPv6 (and, on most systems, IPv4 too).
    pub bind_address: IpAddr,
    /// The port to listen on; 0 takes any free port.
    pub secure_port: u16,
    /// PEM certificate chain, leaf first. Given with `tls_private_key_file` or not at all; without
    /// it the proxy signs its own.
    pub tls_cert_file: Option<PathBuf>,
    /// PEM private key of the leaf in `tls_cert_file`.
    pub tls_private_key_file: Option<PathBuf>,
    /// Used when no certificate file is given.
    pub self_signed: SelfSigned,
    /// How long a request's head may take, and a connection stays open without a request. Above
    /// the 90 s after which Go's client closes an idle connection: the client must be the
    /// first, or a request may cross the close.
    pub head_timeout: Duration,
    /// The largest head of a request, in bytes as HTTP/1.1 writes it: its line and its headers.
    pub max_head: u32,
    /// Open client connections, at least 1. Beyond it, the one without a request for longest makes
    /// room for a new one; while all have requests, new ones wait in the kernel's queue.
    pub max_connections: usize,
    /// How many of them may come from one address, at least 1. Beyond it, its own one without a
    /// request for longest makes room; while all have requests, new ones are refused. None:
    /// four fifths of `max_connections`.
    pub max_connections_per_address: Option<usize>,
    /// Requests under way, watches included, at least 1; one address may have four fifths of them.
    /// Beyond it they are answered 429.
    pub max_requests: usize,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            secure_port: 8443,
            tls_cert_file: None,
            tls_private_key_file: None,
            self_signed: SelfSigned::default(),
            head_timeout: Duration::from_secs(120),
            max_head: 64 << 10,
            max_connections: 10_000,
            max_connections_per_address: None,
            max_requests: 20_000,
        }
    }
}

/// The CA and certificate that the proxy makes at start when it has no certificate file. Valid for
/// a year; kept over a restart in `directory`, and renewed by a start in the last month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfSigned {
    /// Names and addresses that the certificate is valid for, at least one. Clients must reach the
    /// proxy by one of them.
    pub hosts: Vec<String>,
    /// Where `ca.crt` and `kubeconfig` are written for the clients, and the certificate and its
    /// key are kept. None: nowhere, and clients cannot verify the proxy.
    pub directory: Option<PathBuf>,
    /// The token file that the written kubeconfig names. The proxy itself never reads it.
    pub token_file: PathBuf,
}

impl Default for SelfSigned {
    fn default() -> Self {
        Self {
            hosts: vec![
                "localhost".into(),
                Ipv4Addr::LOCALHOST.to_string(),
                Ipv6Addr::LOCALHOST.to_string(),
            ],
            directory: None,
            token_file: PathBuf::from(SERVICE_ACCOUNT_TOKEN),
        }
    }
}

/// The port for probes, metrics and debugging: plain HTTP, read-only, without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The address and port to listen on; port 0 takes any free port. All addresses by default,
    /// because the kubelet and Prometheus come from outside of the pod, as with every
    /// controller's `:8080`.
    pub bind_address: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            bind_address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080),
        }
    }
}

/// Which requests are creates, and how much of them may be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creates {
    /// The resources whose creates are replayed, at least one. Others pass through as any call
    /// does.
    pub resources: Vec<Resource>,
    /// Whether a server-side-apply `PATCH` of these resources counts as a create too.
    pub server_side_apply: bool,
    /// The largest body, in bytes, that is buffered for replay. A larger one is forwarded
    /// streaming and never replayed.
    pub max_body: u64,
    /// Bytes buffered over all creates together, at least `max_body`. When they are spent, a
    /// create is forwarded streaming.
    pub max_buffered: u64,
    /// Creates that may wait between attempts at the same time, at least 1. Beyond it, the answer
    /// is relayed.
    pub max_held: usize,
}

impl Default for Creates {
    fn default() -> Self {
        Self {
            resources: vec![Resource {
                group: String::new(),
                version: "v1".into(),
                resource: "pods".into(),
            }],
            server_side_apply: false,
            max_body: 3 << 20,
            max_buffered: 256 << 20,
            max_held: 10_000,
        }
    }
}

/// One resource of the Kubernetes API, by its plural name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version, as in `v1`.
    pub version: String,
    /// The plural name, as in `pods`.
    pub resource: String,
}

/// When and how often a create is sent again.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The upper bound of the first pause; it doubles with each further attempt, and the pause is
    /// drawn evenly below it.
    pub base_delay: Duration,
    /// What the upper bound of a pause never exceeds. At least `base_delay`.
    pub max_delay: Duration,
    /// Attempts for one create, the first included. At least 1, which never replays.
    pub max_attempts: u32,
    /// How long after a create's arrival its last attempt may start. When the next one would start
    /// later, the answer is relayed.
    pub max_hold: Duration,
    /// How many replays a namespace, and all together, may cause.
    pub budget: Budgets,
    /// Hold creates refused by `exceeded quota` until the quota frees.
    pub exceeded_quota: OptIn,
    /// Replay `status unknown for quota`.
    pub quota_status_unknown: OptIn,
    /// Replay `resource quota evaluation timed out`. The quota may have been charged already.
    pub quota_evaluation_timeout: OptIn,
    /// Replay `failed calling webhook`. Other webhooks may see the create more than once.
    pub webhook_unreachable: OptIn,
}

impl Default for Replay {
    fn default() -> Self {
        let (max_attempts, max_hold) = (8, Duration::from_secs(8));
        Self {
            base_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(2),
            max_attempts,
            max_hold,
            budget: Budgets::default(),
            // Quota frees when a pod ends: that takes as long as pods run, so a short hold would be
            // of no use.
            exceeded_quota: OptIn {
                enabled: false,
                max_attempts: 30,
                max_hold: Duration::from_secs(30),
            },
            quota_status_unknown: OptIn {
                enabled: false,
                max_attempts,
                max_hold,
            },
            // The apiserver has already spent 10 s when it gives this answer.
            quota_evaluation_timeout: OptIn {
                enabled: false,
                max_attempts: 2,
                max_hold: Duration::from_secs(25),
            },
            // A webhook has 10 s to answer, unless its configuration says otherwise.
            webhook_unreachable: OptIn {
                enabled: false,
                max_attempts: 4,
                max_hold: Duration::from_secs(25),
            },
        }
    }
}

/// A class of answers that is replayed only when asked for, with its own limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptIn {
    /// Whether it is replayed at all.
    pub enabled: bool,
    /// Attempts for one create, the first included. At least 1.
    pub max_attempts: u32,
    /// How long after a create's arrival its last attempt may start.
    pub max_hold: Duration,
}

/// The replay budgets, one a kind of answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budgets {
    /// Replays after a quota conflict.
    pub quota_conflict: Budget,
    /// Replays after everything else.
    pub other: Budget,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            quota_conflict: Budget {
                ratio: 1.0,
                per_second: 20,
            },
            other: Budget {
                ratio: 0.2,
                per_second: 10,
            },
        }
    }
}

/// How many replays are allowed; when they are spent, the answer is relayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Replays per create, from 0 to 10: each create adds this much to the budget.
    pub ratio: f64,
    /// Replays a second that are allowed however few creates there are.
    pub per_second: u32,
}

/// How fast creates may come. Waits inside the request up to `max_wait`, then answers 429 with
/// Retry-After.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// The limit of each namespace. None: no limit.
    pub namespace: Option<Rate>,
    /// The limit of all creates together. None: no limit.
    pub global: Option<Rate>,
    /// How long a create may wait for its turn before it is answered with 429.
    pub max_wait: Duration,
    /// Namespaces remembered at the same time, at least 1. The key comes from a URL, so it must be
    /// bounded.
    pub max_namespaces: usize,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            namespace: None,
            global: None,
            max_wait: Duration::from_secs(5),
            max_namespaces: 10_000,
        }
    }
}

/// A rate with a burst, as in client-go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Creates a second in the long run, from 0.001 to 1000000; 0.5 is one every two seconds.
    pub qps: f64,
    /// Creates that may come at once, at least 1.
    pub burst: u32,
}

/// How the process stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long open requests may take to finish after SIGTERM, before they are cut. Below the
    /// pod's grace period.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
        }
    }
}

/// What is counted and kept for debugging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// How many namespaces get a label of their own; further ones share `_other`.
    pub max_namespaces: usize,
    /// How many of the last decisions `/debug/decisions` shows.
    pub decisions: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            max_namespaces: 100,
            decisions: 256,
        }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// How a line looks.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives as
    /// `info,kube_retry_proxy::create=debug`.
    pub level: String,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".into(),
        }
    }
}

/// OpenTelemetry traces of creates.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// The collector, `http://host[:port]`, which takes OTLP over HTTP in protobuf. None: nothing is traced.
    pub endpoint: Option<http::Uri>,
    /// How many of the creates that come without a trace are traced, from 0 to 1. Where the caller
    /// has a trace, it has decided.
    pub sample_ratio: f64,
    /// What the spans are shown under.
    pub service_name: String,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample_ratio: 1.0,
            service_name: "kube-retry-proxy".into(),
        }
    }
}

/// Kubernetes Events of creates that were given up at a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Whether they are written.
    pub enabled: bool,
    /// The bearer token that they are written with; for nothing else.
    pub token_file: PathBuf,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            enabled: false,
            token_file: PathBuf::from(SERVICE_ACCOUNT_TOKEN),
        }
    }
}
