//! `serve`: builds the configuration from flags, environment, file, kubeconfig and cluster.
//!
//! [`load`] reads these sources. [`resolve`] decides between them and is pure. Both run again for
//! each reload.

mod args;

use std::path::PathBuf;

use http::Uri;

pub use args::ServeArgs;
pub(super) use args::{LONG_ABOUT, parse_url};

use crate::config::file::{self, FileError};
use crate::config::{CaSource, Config, Mistakes, flags, rules, units};
use crate::kubeconfig::{self, ApiserverEndpoint, KubeconfigError, Place};

const SERVICE_ACCOUNT_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// The sources besides the flags, already read.
#[derive(Debug, Default)]
pub struct ServeSources {
    /// The configuration from `--config`, or the defaults.
    pub file: Config,
    /// The apiserver of the chosen context of `--kubeconfig`.
    pub kubeconfig: Option<ApiserverEndpoint>,
    /// The cluster that the process runs in. None: it does not run in a pod.
    pub cluster: Option<Cluster>,
}

/// The cluster of the pod that the process runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// `KUBERNETES_SERVICE_HOST`, an IP address or a name.
    pub host: String,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: String,
    /// The CA file of the service account.
    pub ca_file: PathBuf,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The file of `--config` cannot be read or has mistakes.
    #[error("--config cannot be used")]
    File(#[source] FileError),
    /// The file of `--kubeconfig` cannot be read or used.
    #[error("--kubeconfig cannot be used")]
    Kubeconfig(#[source] KubeconfigError),
    /// The URL of the server cannot be an upstream. The error does not print it, because a URL may
    /// contain a password.
    #[error(
        "the server of {origin} cannot be an upstream: expected a URL like https://10.0.0.1:6443, without path, query or credentials"
    )]
    Server {
        /// The file and line or the variable that it came from.
        origin: String,
    },
    /// No source says where the apiserver is.
    #[error(
        "no upstream: give --upstream, --kubeconfig, or upstream.url or upstream.servers in the file of --config (this process does not run in a pod)"
    )]
    NoUpstream,
    /// The cluster of the kubeconfig asks for a connection that nobody verifies.
    #[error(
        "{place}: the cluster has insecure-skip-tls-verify, and the proxy always verifies kube-apiserver: give its CA with --upstream-ca-file or upstream.caFile"
    )]
    Insecure {
        /// The file and the line.
        place: Place,
    },
    /// The upstream is `https`, and no source has a CA for it.
    #[error(
        "no CA verifies {url}: give --upstream-ca-file, upstream.caFile, or a --kubeconfig whose cluster has a certificate-authority"
    )]
    NoAuthority {
        /// The URL of the upstream.
        url: Uri,
    },
    /// Flags and file contradict each other.
    #[error("the flags and the file contradict each other")]
    Rules(#[source] Mistakes),
}

/// Reads the sources that the arguments name, and builds the configuration.
pub fn load(args: &ServeArgs) -> Result<Config, ServeError> {
    let file = args
        .config
        .as_deref()
        .map(file::load)
        .transpose()
        .map_err(ServeError::File)?
        .unwrap_or_default();
    let kubeconfig = args.kubeconfig.as_deref().map(|path| {
        kubeconfig::read_endpoint(path, args.context.as_deref()).map_err(ServeError::Kubeconfig)
    });
    let cluster = Cluster::from_environment(|name| std::env::var(name).ok());
    resolve(
        args,
        ServeSources {
            file,
            kubeconfig: kubeconfig.transpose()?,
            cluster,
        },
    )
}

/// Decides which source each setting is taken from. The result always has an upstream, and a CA for
/// an `https` upstream.
pub fn resolve(args: &ServeArgs, given: ServeSources) -> Result<Config, ServeError> {
    let ServeSources {
        file: mut config,
        kubeconfig,
        cluster,
    } = given;
    resolve_sources(args, &mut config, kubeconfig, cluster)?;
    if let Some(number) = args.verbosity {
        args::verbosity(number).clone_into(&mut config.logging.level);
    }
    let broken: Vec<_> = rules::broken(&config)
        .into_iter()
        .map(|broken| broken.mistake)
        .collect();
    if broken.is_empty() {
        Ok(config)
    } else {
        Err(ServeError::Rules(Mistakes(broken)))
    }
}

impl Cluster {
    /// The cluster as client-go's `InClusterConfig` finds it. `variable` looks up an environment
    /// variable.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let (host, port) = (
            set("KUBERNETES_SERVICE_HOST")?,
            set("KUBERNETES_SERVICE_PORT")?,
        );
        Some(Self {
            host,
            port,
            ca_file: SERVICE_ACCOUNT_CA.into(),
        })
    }

    fn url(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("https://[{host}]:{port}")
        } else {
            format!("https://{host}:{port}")
        }
    }
}

/// Applies the kubeconfig, the flags and the cluster to the settings of the file.
fn resolve_sources(
    args: &ServeArgs,
    config: &mut Config,
    kubeconfig: Option<ApiserverEndpoint>,
    cluster: Option<Cluster>,
) -> Result<(), ServeError> {
    let upstream = &mut config.upstream;
    let mut insecure = None;
    if let Some(endpoint) = kubeconfig {
        upstream.url = Some(server(&endpoint.place.to_string(), &endpoint.server)?);
        insecure = endpoint.insecure.then_some(endpoint.place);
        upstream.servers.clear();
        upstream.ca = endpoint.ca.or(upstream.ca.take());
        // A name belongs to its server, so the name in the file would be wrong for this one.
        upstream.server_name = endpoint.server_name;
    }
    match args.upstream.as_deref() {
        // Discovery replaces the list of the file.
        None if args.settings.has("upstream.discover") => upstream.servers.clear(),
        None => {}
        Some([url]) => (upstream.url, upstream.servers) = (Some(url.clone()), Vec::new()),
        Some(servers) => {
            (upstream.url, upstream.servers, upstream.discover) = (None, servers.to_vec(), None)
        }
    }
    flags::overlay(config, &args.settings.0).map_err(ServeError::Rules)?;

    let upstream = &mut config.upstream;
    if let Some(cluster) = cluster {
        if upstream.addresses().is_empty() {
            upstream.url = Some(server("KUBERNETES_SERVICE_HOST", &cluster.url())?);
        }
        upstream.ca.get_or_insert(CaSource::File(cluster.ca_file));
    }
    let urls = upstream.addresses();
    if urls.is_empty() {
        return Err(ServeError::NoUpstream);
    }
    match urls
        .into_iter()
        .find(|url| url.scheme_str() == Some("https"))
    {
        Some(url) if upstream.ca.is_none() => Err(match insecure {
            Some(place) => ServeError::Insecure { place },
            None => ServeError::NoAuthority { url },
        }),
        _ => Ok(()),
    }
}

fn server(origin: &str, server: &str) -> Result<Uri, ServeError> {
    units::parse_upstream_url(server).map_err(|_| ServeError::Server {
        origin: origin.to_owned(),
    })
}

#[cfg(test)]
mod tests;
