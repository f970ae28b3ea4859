//! The configuration: one struct for each section, with plain values in their own units.
//!
//! Each setting is declared once, in one of the `settings!` blocks here and in the files below
//! `config/`. What the block says is all there is: the reader of the file (`config/file.rs`),
//! `/configz`, the flags of `serve`, `config/example.yaml`, `docs/configuration.md` and the schema of
//! the Helm chart's values are derived from it (`config/generated.rs`). Rules between settings are in
//! `config/rules.rs`. Every component takes its own section.

mod creates;
pub mod declare;
mod decode;
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

pub use creates::{Creates, Resource};
pub use mistake::{Mistake, Mistakes, Problem};
pub use operation::{Drain, Events, LogFormat, Logging, Metrics, Tracing};
pub use replay::{Budget, Budgets, OptIn, Rate, RateLimit, Replay};
pub use serving::{Admin, SelfSigned, Serving};
pub use types::{
    Attempts, Burst, Connections, Count, Held, OutOfRange, Qps, Ratio, Requests, Streams, Wait,
};
pub use upstream::{CaSource, Discover, Pin, Upstream};

use declare::{Declared, Settings, settings, words};
use kind::{Sub, word};

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
        upstream: Upstream = Upstream::default(), Sub;
        /// The port that clients connect to. It is always TLS.
        serving: Serving = Serving::default(), Sub;
        /// The port for probes, metrics and debugging. It is plain HTTP, read-only, and asks for no
        /// credentials.
        admin: Admin = Admin::default(), Sub;
        /// Which requests count as creates, and how much memory they may use.
        creates: Creates = Creates::default(), Sub;
        /// When and how often the proxy sends a create again. Reloaded at run time.
        replay: Replay = Replay::default(), Sub;
        /// How many creates a second the proxy lets through. A create waits for its turn for up to
        /// `maxWait`. After that the proxy answers 429 with `Retry-After`, and client-go sends the
        /// create again by itself. Reloaded at run time.
        rate_limit: RateLimit = RateLimit::default(), Sub;
        /// How the proxy stops.
        drain: Drain = Drain::default(), Sub;
        /// How much the proxy counts and remembers for operators.
        metrics: Metrics = Metrics::default(), Sub;
        /// What the proxy logs.
        logging: Logging = Logging::default(), Sub;
        /// OpenTelemetry traces of creates: one span for each create, and one for each of its
        /// attempts. `docs/tracing.md` describes them.
        tracing: Tracing = Tracing::default(), Sub;
        /// Kubernetes Events about creates that the proxy gave up at a limit. An Event has the reason
        /// `CreateGivenUp` and is written to the namespace of the create, at most one every 30
        /// seconds.
        events: Events = Events::default(), Sub;
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

/// The effective configuration as JSON, in the shape of the file, so that what `/configz` prints
/// can be pasted into one. It holds no secrets: credentials are the callers' own, and keys are named
/// by their paths.
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
