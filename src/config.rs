//! The configuration: one struct for each section, with plain values in their own units.
//!
//! Each setting is declared once, in one of the `settings!` blocks here and in the files below
//! `config/`. Everything else is derived from that block: the reader of the file
//! (`config/file.rs`), `/configz`, the flags of `serve`, and the generated `config/example.yaml`,
//! `docs/configuration.md` and schema of the Helm chart's values (`config/generated.rs`). Rules
//! between settings are in `config/rules.rs`. Each component gets only its own section.

mod creates;
pub mod declare;
mod decode;
mod doubts;
pub mod file;
pub(crate) mod flags;
pub mod generated;
mod kind;
mod mistake;
mod operation;
mod replay;
pub(crate) mod rules;
mod serving;
mod types;
pub(crate) mod units;
mod upstream;
pub(crate) mod yaml;

use std::time::Duration;

pub use creates::{CreatesConfig, Resource, never_waits};
pub(crate) use doubts::doubts;
pub use mistake::{Mistake, Mistakes, Problem};
pub use operation::{
    DrainConfig, EventsConfig, LogFormat, LoggingConfig, MetricsConfig, TracingConfig,
};
pub use replay::{
    Ambiguous, BudgetConfig, Budgets, FullQuotas, OptIn, Rate, RateLimitConfig, ReplayConfig,
};
pub use serving::{AdminConfig, SelfSignedConfig, ServingConfig};
pub use types::{
    Attempts, Burst, ConnectionCount, Count, Held, OutOfRange, Qps, Ratio, Requests, Streams, Wait,
};
pub use upstream::{CaSource, Discover, Pin, UpstreamConfig};

use declare::{Declared, Settings, settings, words};
use kind::{Subsection, word};

/// Where a pod finds the token of its service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

settings! {
    /// Everything that can be configured. `Config::default()` is what an empty file means.
    pub struct Config {
        /// What the proxy does about a create that Kubernetes would accept on another attempt.
        ///
        /// Reloaded at run time.
        mode: Mode = Mode::Enforce, word(), flag "mode" "MODE";
        /// How the proxy reaches kube-apiserver, and how it keeps connections to it.
        upstream: UpstreamConfig = UpstreamConfig::default(), Subsection;
        /// The port that clients connect to. It is always TLS.
        serving: ServingConfig = ServingConfig::default(), Subsection;
        /// The port for probes, metrics and debugging. It is plain HTTP, read-only, and asks for no
        /// credentials.
        admin: AdminConfig = AdminConfig::default(), Subsection;
        /// Which requests count as creates, and how much memory they may use.
        creates: CreatesConfig = CreatesConfig::default(), Subsection;
        /// When and how often the proxy sends a create again. Reloaded at run time.
        replay: ReplayConfig = ReplayConfig::default(), Subsection;
        /// How many creates a second the proxy lets through. A create waits for its turn for up to
        /// `maxWait`. After that the proxy answers 429 with `Retry-After`, and client-go sends the
        /// create again by itself. Reloaded at run time.
        rate_limit: RateLimitConfig = RateLimitConfig::default(), Subsection;
        /// How the proxy stops.
        drain: DrainConfig = DrainConfig::default(), Subsection;
        /// How much the proxy counts and remembers for operators.
        metrics: MetricsConfig = MetricsConfig::default(), Subsection;
        /// What the proxy logs.
        logging: LoggingConfig = LoggingConfig::default(), Subsection;
        /// OpenTelemetry traces of creates: one span for each create, and one for each of its
        /// attempts. `docs/tracing.md` describes them.
        tracing: TracingConfig = TracingConfig::default(), Subsection;
        /// Kubernetes Events about creates that the proxy gave up at a limit (`CreateGivenUp`) or that
        /// wait for a full quota (`CreateWaitsForQuota`), in the namespace of the create: at most one
        /// of each reason every 30 seconds.
        events: EventsConfig = EventsConfig::default(), Subsection;
    }
}

words! {
    /// What the proxy does about a create that Kubernetes would accept on another attempt.
    pub enum Mode {
        /// Nothing. The proxy forwards creates like all other requests and does not buffer them.
        Off = "Off",
        /// It counts the replays that it would make, but makes none.
        Observe = "Observe",
        /// It replays the create until kube-apiserver has decided, or until a limit is reached.
        Enforce = "Enforce",
    }
}

/// All settings, in the order of the file.
#[must_use]
pub fn declared() -> Vec<Declared> {
    Config::declared()
}

/// The effective configuration as JSON, in the structure of the file, so that the output of
/// `/configz` is a valid file. It has no secrets: the configuration contains no credentials, and
/// keys only as paths.
#[must_use]
pub fn show(config: &Config) -> serde_json::Value {
    let mut shown = config.show();
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("apiVersion".into(), file::API_VERSION.into());
        fields.insert("kind".into(), file::KIND.into());
    }
    shown
}

#[cfg(test)]
mod tests;
