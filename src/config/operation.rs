//! The sections about running the proxy: `drain`, `metrics`, `logging`, `tracing` and `events`.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::declare::{settings, words};
use super::kind::{
    boolean, collector_url, duration, log_level, number, optional, path, text, whole, word,
};
use super::{Count, HOUR, Ratio, SERVICE_ACCOUNT_TOKEN};

settings! {
    /// How the proxy stops.
    #[derive(Eq)]
    pub struct DrainConfig {
        /// How long open requests may take to end after SIGTERM before the proxy breaks them off.
        ///
        /// Keep it below the pod's `terminationGracePeriodSeconds`.
        timeout: Duration = Duration::from_secs(20), duration(Duration::ZERO, HOUR);
    }
}

settings! {
    /// How much the proxy counts and remembers for operators.
    #[derive(Eq)]
    pub struct MetricsConfig {
        /// How many namespaces have a label of their own in the metrics. All others share `_other`.
        max_namespaces: Count<0, 100_000> = Count::new(100), whole();
        /// How many of the last creates `/debug/decisions` shows.
        decisions: Count<0, 100_000> = Count::new(256), whole();
    }
}

words! {
    /// How a log line looks.
    pub enum LogFormat {
        /// Lines for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

settings! {
    /// What the proxy logs.
    #[derive(Eq)]
    pub struct LoggingConfig {
        /// How a log line looks.
        format: LogFormat = LogFormat::Text, word(), flag "log-format" "FORMAT";
        /// The log level: `off`, `error`, `warn`, `info`, `debug` or `trace`. Or directives like
        /// `info,kube_retry_proxy::create=debug`.
        ///
        /// Above `debug`, nothing is logged for each request.
        level: String = "info".into(), log_level(), flag "log-level" "LEVEL";
    }
}

settings! {
    /// OpenTelemetry traces of creates.
    pub struct TracingConfig {
        /// The address of the collector, as `http://host[:port]`. It must take OTLP over HTTP in
        /// protobuf, at `/v1/traces`.
        ///
        /// The port is 4318 if there is none. If not set, the proxy traces nothing and leaves the
        /// `traceparent` of a caller as it is.
        endpoint: Option<Uri> = None, optional(collector_url());
        /// Which share of the creates without a `traceparent` is traced.
        ///
        /// If a create has one, its caller has decided.
        sample_ratio: Ratio<1> = Ratio::new(1.0), number("0.1");
        /// The name of the service that the spans belong to.
        service_name: String = "kube-retry-proxy".into(), text("a name", "");
    }
}

settings! {
    /// Kubernetes Events about creates that the proxy gave up at a limit.
    #[derive(Eq)]
    pub struct EventsConfig {
        /// Whether the proxy writes Events.
        ///
        /// It must be allowed to create `events.events.k8s.io` in the namespaces of the creates.
        enabled: bool = false, boolean();
        /// The file with the bearer token that the proxy writes Events with. The proxy uses it for
        /// nothing else.
        token_file: PathBuf = SERVICE_ACCOUNT_TOKEN.into(), path();
    }
}
