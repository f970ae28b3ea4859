//! The configuration: one struct a section, each field in its own unit, with its default.
//!
//! Parsing, strictness and the report of every mistake at once are in `config/file.rs`; the unit types in `config/units.rs`.
//! Plain values only: every component takes its own section.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub struct Config {
    pub mode: Mode,
    pub upstream: Upstream,
    pub serving: Serving,
    pub admin: Admin,
    pub creates: Creates,
    pub replay: Replay,
    pub rate_limit: RateLimit,
    pub drain: Drain,
    pub metrics: Metrics,
    pub logging: Logging,
}

pub enum Mode { Off, Observe, Enforce /* default */ }

pub struct Upstream {
    /// `https://host[:port]` (or `http://`, without TLS, HTTP/1.1). None: found in the cluster (KUBERNETES_SERVICE_HOST/_PORT + service account CA).
    pub url: Option<http::Uri>,
    pub ca_file: Option<PathBuf>,
    pub server_name: Option<String>,
    pub connect_timeout: Duration,          // 5s  TCP + TLS + HTTP handshake
    pub idle_timeout: Duration,             // 75s
    pub keep_alive_interval: Duration,      // 30s HTTP/2 ping
    pub keep_alive_timeout: Duration,       // 15s
    pub connections_per_lane: usize,        // 4   HTTP/2 connections over which a lane spreads
    pub max_streams_per_connection: usize,  // 100 (the peer's SETTINGS may lower it)
}

pub struct Serving {
    pub bind_address: IpAddr,               // 0.0.0.0
    pub secure_port: u16,                   // 8443, 0 = any free port
    pub tls_cert_file: Option<PathBuf>,     // both or neither; neither = self-signed
    pub tls_private_key_file: Option<PathBuf>,
    pub self_signed: SelfSigned,
    pub max_connections: usize,             // 10000
}

/// Used when no certificate file is given.
pub struct SelfSigned {
    pub hosts: Vec<String>,                 // [localhost, 127.0.0.1, "::1"]
    /// Where `ca.crt` and `kubeconfig` are written; None = nowhere.
    pub directory: Option<PathBuf>,
    pub token_file: PathBuf,                // /var/run/secrets/kubernetes.io/serviceaccount/token
}

pub struct Admin { pub bind_address: SocketAddr /* 127.0.0.1:9443? choose 127.0.0.1:8080 */ }

pub struct Creates {
    pub resources: Vec<Resource>,           // [{group: "", version: v1, resource: pods}]
    pub server_side_apply: bool,            // false
    pub max_body: u64,                      // 3Mi
    pub max_buffered: u64,                  // 256Mi over all creates
    pub max_held: usize,                    // 10000 creates waiting between attempts
}

pub struct Resource { pub group: String, pub version: String, pub resource: String }

pub struct Replay {
    pub base_delay: Duration,               // 100ms
    pub max_delay: Duration,                // 2s
    pub max_attempts: u32,                  // 8, the first included
    pub max_hold: Duration,                 // 8s
    pub budget: Budgets,
    pub exceeded_quota: OptIn,              // each: enabled false, max_attempts, max_hold
    pub quota_status_unknown: OptIn,
    pub quota_evaluation_timeout: OptIn,    // max_attempts 2 (one replay)
    pub webhook_unreachable: OptIn,
}
pub struct OptIn { pub enabled: bool, pub max_attempts: u32, pub max_hold: Duration }
pub struct Budgets { pub quota_conflict: Budget /* 1.0, 20 */, pub other: Budget /* 0.2, 10 */ }
pub struct Budget { pub ratio: f64, pub per_second: u32 }

pub struct RateLimit {
    pub namespace: Option<Rate>,            // None = off
    pub global: Option<Rate>,
    pub max_wait: Duration,                 // 5s
    pub max_namespaces: usize,              // 10000
}
pub struct Rate { pub qps: u32 /* or f64 */, pub burst: u32 }

pub struct Drain { pub timeout: Duration /* 20s */ }
pub enum LogFormat { Text, Json }
pub struct Metrics { pub max_namespaces: usize /* 100 */, pub decisions: usize /* 256: kept for /debug/decisions */ }
pub struct Logging { pub format: LogFormat /* text | json */, pub level: String /* info */ }
