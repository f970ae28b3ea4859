//! The flags of `serve`, in kube-apiserver's spelling where it has one, each with its environment
//! variable. The flag of a setting is made from the setting's declaration.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint};
use http::Uri;
use serde_json::Value as Json;

use crate::config::declare::plain;
use crate::config::flags::{self, GivenSetting};
use crate::config::{self, Config, units};

const UPSTREAM: &str = "Upstream";
const SERVING: &str = "Serving";
const REPLAY: &str = "Replay";
const OTHERS: &str = "Logging and administration";

/// The beginning of `serve --help`.
pub(crate) const LONG_ABOUT: &str = "\
Run the proxy.

The proxy takes each setting from the first place that has it: the flag, the environment variable,
the file of --config, the default. In a pod, no setting is needed.

The proxy takes the address of kube-apiserver from --upstream, else from --kubeconfig, else from
upstream.url or upstream.servers of the file, else from the cluster that it runs in
(KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT). It verifies kube-apiserver with
--upstream-ca-file, else with the CA of --kubeconfig, else with upstream.caFile, else with the
ca.crt of the service account. The credentials of each client pass through. Only
--upstream-discover, events.enabled and replay.fullQuotas.watch need a token of the proxy's own, and
--client-ca-file needs a front-proxy certificate.";

const EXAMPLES: &str = "\
Examples:
  In a pod, beside a controller that has KUBECONFIG=/shared/kubeconfig:
    kube-retry-proxy serve --self-signed-dir /shared --bind-address 127.0.0.1
  As a Service, with a certificate from files:
    kube-retry-proxy serve --config /etc/kube-retry-proxy/config.yaml \\
      --tls-cert-file /tls/tls.crt --tls-private-key-file /tls/tls.key
  In front of three kube-apiservers, with the creates of a namespace pinned to one of them:
    kube-retry-proxy serve --kubeconfig ~/.kube/config --self-signed-dir . \\
      --upstream https://10.0.0.1:6443,https://10.0.0.2:6443,https://10.0.0.3:6443
  On a workstation, in front of the cluster of the current context:
    kube-retry-proxy serve --kubeconfig ~/.kube/config --self-signed-dir .";

/// Arguments of `serve`. A flag wins over its environment variable, that over the file, and that
/// over the default.
#[derive(Debug, Default, Args)]
#[command(after_help = EXAMPLES, mut_args(|arg| arg.hide_env_values(true)))]
pub struct ServeArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "KUBE_RETRY_PROXY_CONFIG", help_heading = REPLAY)]
    pub config: Option<PathBuf>,

    /// The address of kube-apiserver, like https://10.0.0.1:6443, or the addresses of all of them.
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
    /// Take the address of kube-apiserver and its CA, but no credentials, from this kubeconfig, or
    /// from a list of them like a:b:c.
    #[arg(long, value_name = "FILE[:FILE…]", env = "KUBE_RETRY_PROXY_KUBECONFIG", help_heading = UPSTREAM)]
    pub kubeconfig: Option<PathBuf>,
    /// The context to take from the kubeconfig. By default it is the current one.
    #[arg(long, value_name = "NAME", env = "KUBE_RETRY_PROXY_CONTEXT", help_heading = UPSTREAM, requires = "kubeconfig")]
    pub context: Option<String>,

    /// The settings that have a flag.
    #[command(flatten)]
    pub(super) settings: SettingFlags,

    /// The log level as a number, as other Kubernetes components have it: up to 3 is info, 4 and 5
    /// are debug, 6 and above are trace.
    #[arg(short, long = "v", value_name = "N", env = "KUBE_RETRY_PROXY_V", help_heading = OTHERS, conflicts_with = "logging.level")]
    pub verbosity: Option<u8>,
}

/// The settings that flags gave. The flags are made from the declarations of the settings.
#[derive(Debug, Default)]
pub(super) struct SettingFlags(pub(super) Vec<GivenSetting>);

impl SettingFlags {
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.iter().any(|given| given.path == path)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Self::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (path, declared) in flags::flags() {
            if let Some(texts) = matches.get_many::<String>(&path) {
                let given = GivenSetting::new(&path, &declared.shape, texts.cloned());
                self.0.push(given);
            }
        }
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let defaults = config::show(&Config::default());
        let flags = flags::flags().into_iter().filter_map(|(path, declared)| {
            let flag = declared.flag?;
            let default = defaults.pointer(&format!("/{}", path.replace('.', "/")));
            let mut help = first_paragraph(declared.doc);
            if let Some(default) = default.and_then(one_line) {
                help += &format!(" [default: {default}]");
            }
            let several = flags::is_list(&declared.shape);
            let arg = Arg::new(path.clone())
                .long(flag.name)
                .value_name(flag.value)
                .env(format!(
                    "KUBE_RETRY_PROXY_{}",
                    flag.name.to_uppercase().replace('-', "_")
                ))
                .help(help)
                .help_heading(heading(&path))
                .action(ArgAction::Set)
                .num_args(1)
                .value_delimiter(several.then_some(','))
                .value_hint(if ["FILE", "DIR"].contains(&flag.value) {
                    ValueHint::AnyPath
                } else {
                    ValueHint::Unknown
                });
            Some(match flags::words(&declared.shape) {
                Some(words) => {
                    let words = words
                        .iter()
                        .map(|(word, doc)| PossibleValue::new(*word).help(first_paragraph(doc)));
                    arg.value_parser(PossibleValuesParser::new(words))
                        .ignore_case(true)
                }
                None => arg.value_parser(move |text: &str| {
                    let given = GivenSetting::new(&path, &declared.shape, [text.to_owned()]);
                    given.check().map(|()| text.to_owned())
                }),
            })
        });
        // Each file needs the other one. clap reports that before any file is read.
        command
            .args(flags)
            .mut_arg("serving.tlsCertFile", |arg| {
                arg.requires("serving.tlsPrivateKeyFile")
            })
            .mut_arg("serving.tlsPrivateKeyFile", |arg| {
                arg.requires("serving.tlsCertFile")
            })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The help of a flag or of a word, without the last full stop, as clap has it.
fn first_paragraph(doc: &str) -> String {
    let first = plain(doc).into_iter().next().unwrap_or_default();
    first.strip_suffix('.').unwrap_or(&first).to_owned()
}

/// Where the help lists the flag of a setting.
fn heading(path: &str) -> &'static str {
    match path.split('.').next() {
        Some("mode") => REPLAY,
        Some("upstream") => UPSTREAM,
        Some("serving") => SERVING,
        _ => OTHERS,
    }
}

/// A default in the notation of a flag. None if there is no default.
fn one_line(default: &Json) -> Option<String> {
    match default {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        Json::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(one_line).collect();
            Some(items.join(","))
        }
        other => Some(other.to_string()),
    }
}

/// klog's numbers: clusters run with 2, 4 is "debug level verbosity", and from 6 on klog shows
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
            format!("expected a URL, {why}")
        }
    })
}
