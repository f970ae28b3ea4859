//! The section `upstream`.

use std::path::PathBuf;
use std::time::Duration;

use super::SERVICE_ACCOUNT_TOKEN;

/// The kube-apiserver, and how connections to it are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// `https://host[:port]`, or `http://host[:port]` for an upstream without TLS (tokens then cross the network in the clear).
    ///
    /// None: `servers`, or found in the cluster, from `KUBERNETES_SERVICE_HOST` and
    /// `KUBERNETES_SERVICE_PORT`. Once `cli::serve::resolve` has returned, either this or
    /// `servers` is set. Never has a path, a query or credentials.
    pub url: Option<http::Uri>,
    /// Every apiserver by its own address, in the form of `url`, at most 64 and none twice. Not
    /// together with `url` or `discover`.
    pub servers: Vec<http::Uri>,
    /// Whether the servers are found, through `url`, which stands for them until then.
    pub discover: Option<Discover>,
    /// The bearer token that they are found with; for nothing else.
    pub discover_token_file: PathBuf,
    /// Which creates keep to one apiserver.
    pub pin: Pin,
    /// What verifies the upstream's certificate. None: the service account's CA in a cluster,
    /// otherwise a mistake for `https`.
    pub ca: Option<CaSource>,
    /// The name that every server's certificate must have, also sent as SNI. None: the host of its
    /// URL.
    pub server_name: Option<String>,
    /// How long TCP, TLS and the HTTP handshake may take together. Running out is a connect
    /// failure, which is safe to replay.
    pub connect_timeout: Duration,
    /// After how long without a request a connection is closed. Below the apiserver's own 90 s, so
    /// that it never closes first.
    pub idle_timeout: Duration,
    /// How often an HTTP/2 connection is pinged.
    pub keep_alive_interval: Duration,
    /// How long a ping may stay unanswered before the connection counts as dead.
    pub keep_alive_timeout: Duration,
    /// Over how many HTTP/2 connections to one server a lane spreads, from 1 to 64. Behind one
    /// address they reach several apiservers, and a namespace whose creates are pinned keeps
    /// to one of them.
    pub connections_per_lane: usize,
    /// Concurrent requests on one HTTP/2 connection, at least 1. The peer's SETTINGS may lower it.
    pub max_streams_per_connection: usize,
    /// Bytes that answers may occupy which their clients do not read. Beyond it those that have
    /// stood still the longest are broken off.
    pub max_unread: u64,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: None,
            servers: Vec::new(),
            discover: None,
            discover_token_file: PathBuf::from(SERVICE_ACCOUNT_TOKEN),
            pin: Pin::default(),
            ca: None,
            server_name: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(15),
            connections_per_lane: 4,
            max_streams_per_connection: 100,
            max_unread: 96 << 20,
        }
    }
}

impl Upstream {
    /// The addresses of the servers, as far as they are configured.
    pub fn addresses(&self) -> Vec<http::Uri> {
        self.url.iter().chain(&self.servers).cloned().collect()
    }
}

/// How the servers are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discover {
    /// From the EndpointSlice of the Service `kubernetes` in the namespace `default`.
    Kubernetes,
}

/// Which creates keep to one apiserver, and behind one address to one HTTP/2 connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pin {
    /// Those of one namespace, which avoids most quota conflicts.
    #[default]
    Namespace,
    /// None: creates are spread as all other requests are.
    None,
}

/// Where the certificates that verify the upstream come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaSource {
    /// A PEM file, as in `caFile` and `certificate-authority`.
    File(PathBuf),
    /// PEM text, as in a kubeconfig's `certificate-authority-data` (already base64-decoded).
    Pem(Vec<u8>),
}
