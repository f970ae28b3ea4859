//! The flags of `serve`, in kube-apiserver's spelling where it has one, each with its environment
//! variable.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};
use http::Uri;

use crate::config::{Discover, LogFormat, Mode, Pin, units};

const UPSTREAM: &str = "Upstream";
const SERVING: &str = "Serving";
const REPLAY: &str = "Replay";
const OTHERS: &str = "Logging and administration";

/// What `serve --help` begins with.
pub(crate) const LONG_ABOUT: &str = "\
Run the proxy.

Every setting is taken from the first of: its flag, its environment variable, the file of
--config, the default. In a pod nothing is needed at all.

The upstream is --upstream, else the server of --kubeconfig, else upstream.url or upstream.servers
of the file, else the cluster that the proxy runs in (KUBERNETES_SERVICE_HOST and
KUBERNETES_SERVICE_PORT). It is verified by --upstream-ca-file, else the CA of --kubeconfig, else upstream.caFile, else in a
cluster the service account's ca.crt. Credentials are never read: each client's own pass through.
Only --upstream-discover, to find the apiservers, and events.enabled need a token of the proxy's own.";

const EXAMPLES: &str = "\
Examples:
  In a pod, beside a controller that has KUBECONFIG=/shared/kubeconfig:
    kube-retry-proxy serve --self-signed-dir /shared --bind-address 127.0.0.1
  As a Service, with a certificate of its own:
    kube-retry-proxy serve --config /etc/kube-retry-proxy/config.yaml \\
      --tls-cert-file /tls/tls.crt --tls-private-key-file /tls/tls.key
  Before three apiservers, so that the creates of a namespace keep to one of them:
    kube-retry-proxy serve --kubeconfig ~/.kube/config --self-signed-dir . \\
      --upstream https://10.0.0.1:6443,https://10.0.0.2:6443,https://10.0.0.3:6443
  On a workstation, in front of the current context:
    kube-retry-proxy serve --kubeconfig ~/.kube/config --self-signed-dir .";

/// Arguments of `serve`. A flag wins over its environment variable, that over the file, and that
/// over the default.
#[derive(Debug, Default, Args)]
#[command(after_help = EXAMPLES, mut_args(|arg| arg.hide_env_values(true)))]
pub struct ServeArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "KUBE_RETRY_PROXY_CONFIG", help_heading = REPLAY)]
    pub config: Option<PathBuf>,
    /// Whether creates are replayed (Enforce), only counted (Observe) or left alone (Off).
    #[arg(long, value_name = "MODE", env = "KUBE_RETRY_PROXY_MODE", help_heading = REPLAY, ignore_case = true, value_parser = mode())]
    pub mode: Option<Mode>,

    /// The apiserver, like https://10.0.0.1:6443, or each of several by its own address.
    #[arg(
        long,
        value_name = "URL,…",
        env = "KUBE_RETRY_PROXY_UPSTREAM",
        help_heading = UPSTREAM,
        action = ArgAction::Set,
        value_delimiter = ',',
        num_args = 1,
        value_parser = parse_url
    )]
    pub upstream: Option<Vec<Uri>>,
    /// Find every apiserver in the EndpointSlice of the Service kubernetes, with the token of
    /// upstream.discoverTokenFile.
    #[arg(
        long,
        value_name = "HOW",
        env = "KUBE_RETRY_PROXY_UPSTREAM_DISCOVER",
        help_heading = UPSTREAM,
        ignore_case = true,
        value_parser = discover()
    )]
    pub upstream_discover: Option<Discover>,
    /// Whether the creates of a namespace keep to one apiserver (Namespace) or not (None).
    #[arg(long, value_name = "PIN", env = "KUBE_RETRY_PROXY_UPSTREAM_PIN", help_heading = UPSTREAM, ignore_case = true, value_parser = pin())]
    pub upstream_pin: Option<Pin>,
    /// PEM certificates that verify the apiserver.
    #[arg(long, value_name = "FILE", env = "KUBE_RETRY_PROXY_UPSTREAM_CA_FILE", help_heading = UPSTREAM)]
    pub upstream_ca_file: Option<PathBuf>,
    /// The name that the apiserver's certificate must have; by default the host of its URL.
    #[arg(long, value_name = "NAME", env = "KUBE_RETRY_PROXY_UPSTREAM_SERVER_NAME", help_heading = UPSTREAM)]
    pub upstream_server_name: Option<String>,
    /// Take the apiserver and its CA, but no credentials, from this kubeconfig.
    #[arg(long, value_name = "FILE", env = "KUBE_RETRY_PROXY_KUBECONFIG", help_heading = UPSTREAM)]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context to take; by default the current one.
    #[arg(long, value_name = "NAME", env = "KUBE_RETRY_PROXY_CONTEXT", help_heading = UPSTREAM, requires = "kubeconfig")]
    pub context: Option<String>,

    /// The IP address to listen on.
    #[arg(long, value_name = "IP", env = "KUBE_RETRY_PROXY_BIND_ADDRESS", help_heading = SERVING)]
    pub bind_address: Option<IpAddr>,
    /// The port to listen on; 0 takes any free one.
    #[arg(long, value_name = "N", env = "KUBE_RETRY_PROXY_SECURE_PORT", help_heading = SERVING)]
    pub secure_port: Option<u16>,
    /// PEM certificate chain, leaf first; without it the proxy signs its own.
    #[arg(
        long,
        value_name = "FILE",
        env = "KUBE_RETRY_PROXY_TLS_CERT_FILE",
        help_heading = SERVING,
        requires = "tls_private_key_file"
    )]
    pub tls_cert_file: Option<PathBuf>,
    /// PEM private key of that certificate.
    #[arg(
        long,
        value_name = "FILE",
        env = "KUBE_RETRY_PROXY_TLS_PRIVATE_KEY_FILE",
        help_heading = SERVING,
        requires = "tls_cert_file"
    )]
    pub tls_private_key_file: Option<PathBuf>,
    /// Where ca.crt and kubeconfig are written for clients, and the self-signed certificate is
    /// kept.
    #[arg(long, value_name = "DIR", env = "KUBE_RETRY_PROXY_SELF_SIGNED_DIR", help_heading = SERVING)]
    pub self_signed_dir: Option<PathBuf>,
    /// Names and addresses of the self-signed certificate; the first is the kubeconfig's server.
    #[arg(
        long,
        value_name = "HOST,…",
        env = "KUBE_RETRY_PROXY_SELF_SIGNED_HOSTS",
        help_heading = SERVING,
        action = ArgAction::Set,
        value_delimiter = ',',
        num_args = 1,
        value_parser = host
    )]
    pub self_signed_hosts: Option<Vec<String>>,
    /// The token file that the written kubeconfig names.
    #[arg(long, value_name = "FILE", env = "KUBE_RETRY_PROXY_TOKEN_FILE", help_heading = SERVING)]
    pub token_file: Option<PathBuf>,

    /// IP:PORT of probes and metrics, plain HTTP.
    #[arg(long, value_name = "IP:PORT", env = "KUBE_RETRY_PROXY_ADMIN_BIND_ADDRESS", help_heading = OTHERS)]
    pub admin_bind_address: Option<SocketAddr>,
    /// How a log line looks.
    #[arg(long, value_name = "FORMAT", env = "KUBE_RETRY_PROXY_LOG_FORMAT", help_heading = OTHERS, value_parser = log_format())]
    pub log_format: Option<LogFormat>,
    /// off, error, warn, info, debug, trace, or directives like
    /// info,kube_retry_proxy::create=debug.
    #[arg(long, value_name = "LEVEL", env = "KUBE_RETRY_PROXY_LOG_LEVEL", help_heading = OTHERS, value_parser = log_level)]
    pub log_level: Option<String>,
    /// The same as a number, as other Kubernetes components have it: up to 3 info, 4 and 5 debug,
    /// from 6 trace.
    #[arg(short, long = "v", value_name = "N", env = "KUBE_RETRY_PROXY_V", help_heading = OTHERS, conflicts_with = "log_level")]
    pub verbosity: Option<u8>,
}

/// klog's numbers: 2 is what clusters run with, 4 is "debug level verbosity", 6 begins to show
/// requests.
pub(super) fn verbosity(number: u8) -> &'static str {
    match number {
        0..=3 => "info",
        4 | 5 => "debug",
        6.. => "trace",
    }
}

pub(crate) fn parse_url(text: &str) -> Result<Uri, String> {
    units::parse_upstream_url(text).map_err(|why| {
        if why.is_empty() {
            "expected a URL like https://10.0.0.1:6443".into()
        } else {
            format!("expected a URL {why}")
        }
    })
}

fn host(text: &str) -> Result<String, String> {
    units::parse_host(text)
        .ok_or_else(|| "expected a host name or an IP address without a port".into())
}

fn log_level(text: &str) -> Result<String, String> {
    units::parse_log_level(text).ok_or_else(|| {
        "expected a level like debug, or directives like info,kube_retry_proxy::create=debug".into()
    })
}

fn mode() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(["Off", "Observe", "Enforce"]).map(|word| {
        match word.to_ascii_lowercase().as_str() {
            "off" => Mode::Off,
            "observe" => Mode::Observe,
            _ => Mode::Enforce,
        }
    })
}

fn discover() -> impl TypedValueParser<Value = Discover> {
    PossibleValuesParser::new(["Kubernetes"]).map(|_| Discover::Kubernetes)
}

fn pin() -> impl TypedValueParser<Value = Pin> {
    PossibleValuesParser::new(["Namespace", "None"]).map(|word| {
        if word.eq_ignore_ascii_case("none") {
            Pin::None
        } else {
            Pin::Namespace
        }
    })
}

fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"]).map(|word| {
        if word == "json" {
            LogFormat::Json
        } else {
            LogFormat::Text
        }
    })
}
