//! The section `upstream`.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::declare::{settings, words};
use super::kind::{
    bytes, duration, host, list_or_none, optional, path, path_of, upstream_url, whole, word,
};
use super::{Count, HOUR, MILLISECOND, SECOND, SERVICE_ACCOUNT_TOKEN, Streams, Wait};

settings! {
    /// How the proxy reaches kube-apiserver, and how it keeps connections to it.
    ///
    /// Once `cli::serve::resolve` has returned, either `url` or `servers` is set.
    pub struct UpstreamConfig {
        /// The address of kube-apiserver, as `https://host[:port]` without a path.
        ///
        /// With `http://`, bearer tokens cross the network unencrypted. If neither this nor `servers`
        /// is set, the proxy uses the cluster that it runs in (`KUBERNETES_SERVICE_HOST` and
        /// `KUBERNETES_SERVICE_PORT`).
        url: Option<Uri> = None, optional(upstream_url());
        /// The addresses of all kube-apiservers, for example `[https://10.0.0.1:6443,
        /// https://10.0.0.2:6443]`.
        ///
        /// Give up to 64 of them, each once, and do not set `url` or `discover`. This is better
        /// than the address of a load balancer: all replicas of the proxy then pin a namespace to
        /// the same kube-apiserver, and the proxy probes each of them.
        servers: Vec<Uri> = Vec::new(), list_or_none(upstream_url());
        /// Find every kube-apiserver with the token in `upstream.discoverTokenFile`, instead of listing
        /// them in `upstream.servers`.
        ///
        /// The proxy asks for them at `url`, which in a cluster is the address of the Service.
        /// Until it has found them, it sends all requests to `url`. Their certificates must have
        /// the name in `serverName`, or else the host of `url`.
        discover: Option<Discover> = None, optional(word()), flag "upstream-discover" "HOW";
        /// The file with the bearer token that `discover` uses.
        ///
        /// The token must be allowed to list and watch `endpointslices.discovery.k8s.io` with the
        /// name `kubernetes` in the namespace `default`. The proxy uses it for nothing else.
        discover_token_file: PathBuf = SERVICE_ACCOUNT_TOKEN.into(), path();
        /// Which creates go to the same kube-apiserver.
        ///
        /// Most quota conflicts happen when two kube-apiservers write the same quota. Pinning
        /// avoids them, while replaying only repairs them.
        pin: Pin = Pin::Namespace, word(), flag "upstream-pin" "PIN";
        /// The file with the PEM certificates that verify kube-apiserver.
        ///
        /// If not set, the proxy uses the service account's `ca.crt` in a cluster. Outside of one,
        /// `https` needs this file.
        ca as "caFile": Option<CaSource> = None, optional(path_of(CaSource::File, show_ca)),
            flag "upstream-ca-file" "FILE";
        /// The name that the certificate of every kube-apiserver must have. The proxy also sends it
        /// as SNI. If not set, it is the host of each URL.
        server_name: Option<String> = None, optional(host()), flag "upstream-server-name" "NAME";
        /// The file with the PEM certificate that lets the proxy say for whom it asks: one that the
        /// CA of kube-apiserver's `--requestheader-client-ca-file` has issued, with a common name
        /// of `--requestheader-allowed-names`.
        ///
        /// The proxy shows it only for requests of clients that have a certificate themselves (see
        /// `serving.clientCaFile`). It reads replaced files without a restart.
        front_proxy_cert_file: Option<PathBuf> = None, optional(path()),
            flag "front-proxy-cert-file" "FILE";
        /// The file with the PEM private key of the certificate in `frontProxyCertFile`.
        ///
        /// Whoever has this key can be any user at kube-apiserver.
        front_proxy_key_file: Option<PathBuf> = None, optional(path()),
            flag "front-proxy-key-file" "FILE";
        /// How long TCP, TLS and the HTTP handshake together may take.
        ///
        /// If it takes longer, the proxy tries the next server, or replays the create.
        connect_timeout: Duration = Duration::from_secs(5), duration(MILLISECOND, HOUR);
        /// How long a connection stays open without a request.
        ///
        /// Keep it below the 90 s of kube-apiserver, so that kube-apiserver never closes first.
        idle_timeout: Duration = Duration::from_secs(75), duration(SECOND, HOUR);
        /// How often the proxy pings an HTTP/2 connection.
        keep_alive_interval: Wait<1> = Wait::secs(30), duration(SECOND, HOUR);
        /// How long the proxy waits for the answer to a ping before it gives up the connection.
        keep_alive_timeout: Wait<1> = Wait::secs(15), duration(SECOND, HOUR);
        /// How many HTTP/2 connections to one address the requests of one kind are spread over.
        ///
        /// More connections reach more of the kube-apiservers behind a load balancer. If there is
        /// only one address, the creates of a pinned namespace use only one of these connections.
        connections_per_lane: Count<1, 64> = Count::new(4), whole();
        /// How many requests may run on one HTTP/2 connection at the same time.
        ///
        /// The limit of kube-apiserver applies as well.
        max_streams_per_connection: Streams = Streams::new(100), whole();
        /// How much memory answers may use that clients have stopped reading.
        ///
        /// One watch uses at most 144 KiB, one list at most 384 KiB. Above the limit, the proxy
        /// breaks off the answers that have stalled for longest, and for at least 5 s.
        max_unread: u64 = 96 << 20, bytes(1 << 20, 1 << 40);
    }
}

/// Shows the path of the CA. A CA inside a kubeconfig has none.
fn show_ca(source: &CaSource) -> serde_json::Value {
    match source {
        CaSource::File(path) => path.display().to_string().into(),
        CaSource::Pem(_) => "(from the kubeconfig)".into(),
    }
}

impl UpstreamConfig {
    /// The configured addresses of the servers.
    pub fn addresses(&self) -> Vec<Uri> {
        self.url.iter().chain(&self.servers).cloned().collect()
    }
}

words! {
    /// How the servers are found.
    pub enum Discover {
        /// The proxy reads them from the EndpointSlice of the Service `kubernetes` in the namespace
        /// `default`, and follows its changes.
        Kubernetes = "Kubernetes",
    }
}

words! {
    /// Which creates go to the same kube-apiserver.
    pub enum Pin {
        /// The creates of one namespace go to one of `servers`. If there is only one address, they
        /// use one of its HTTP/2 connections. Over HTTP/1.1 there is nothing to pin to.
        Namespace = "Namespace",
        /// Creates are spread like all other requests.
        None = "None",
    }
}

/// The source of the certificates that verify the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaSource {
    /// A PEM file, as in `caFile` and `certificate-authority`.
    File(PathBuf),
    /// PEM text, as in a kubeconfig's `certificate-authority-data` (already base64-decoded).
    Pem(Vec<u8>),
}
