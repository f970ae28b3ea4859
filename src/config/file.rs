//! The configuration file: `apiVersion: kube-retry-proxy/v1alpha1`, `kind: ProxyConfiguration`,
//! strict.
//!
//! An empty file means all defaults. `config/example.yaml` documents every field; a test below
//! holds it and this walk together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::decode::{Decoder, Section};
use super::mistake::{Mistake, Mistakes, Problem};
use super::rules::{self, Broken};
use super::units::{
    api_group, api_name, boolean, bytes, collector_url, duration, host, log_level, number, one_of,
    path, some, some_of, text, upstream_url, whole,
};
use super::yaml::{self, Value};
use super::{
    Budget, CaSource, Config, Creates, Discover, LogFormat, Metrics, Mode, OptIn, Pin, Rate,
    RateLimit, Replay, Resource, Serving, Upstream,
};

const API_VERSION: &str = "kube-retry-proxy/v1alpha1";
const KIND: &str = "ProxyConfiguration";

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It holds mistakes.
    #[error("{} has mistakes", path.display())]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them.
        #[source]
        source: Mistakes,
    },
}

/// Reads a file.
pub fn load(path: &Path) -> Result<Config, FileError> {
    let text = fs::read_to_string(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|source| FileError::Mistakes {
        path: path.to_owned(),
        source,
    })
}

/// Reads the text of a file; all mistakes are reported at once.
pub fn parse(text: &str) -> Result<Config, Mistakes> {
    let (config, decoder) = walk(text);
    if decoder.mistakes.is_empty() {
        Ok(config)
    } else {
        Err(Mistakes(decoder.mistakes))
    }
}

fn walk(text: &str) -> (Config, Decoder) {
    let mut config = Config::default();
    let mut decoder = Decoder::default();
    match yaml::parse(text) {
        Ok(node) if node.value == Value::Null => {}
        Ok(node) => {
            decoder.section(String::new(), node, |section| {
                document(section, &mut config)
            });
            let mistaken = |decoder: &Decoder, path: &str| {
                decoder.mistakes.iter().any(|mistake| mistake.path == path)
            };
            for Broken { mut mistake, other } in rules::broken(&config) {
                // A field that was read wrongly still has its default, which may break a rule that
                // nobody broke.
                if !mistaken(&decoder, &mistake.path) && !mistaken(&decoder, other) {
                    mistake.line = decoder
                        .line_of(&mistake.path)
                        .or_else(|| decoder.line_of(other));
                    decoder.mistakes.push(mistake);
                }
            }
        }
        Err(error) => {
            let problem = Problem::Syntax(error.to_string());
            decoder.mistakes.push(Mistake {
                line: error.line(),
                path: String::new(),
                problem,
            });
        }
    }
    decoder.mistakes.sort_by_key(|mistake| mistake.line);
    (config, decoder)
}

fn document(section: &mut Section<'_>, config: &mut Config) {
    section.required("apiVersion", one_of(&[(API_VERSION, ())]));
    section.required("kind", one_of(&[(KIND, ())]));
    section.field(
        "mode",
        &mut config.mode,
        one_of(&[
            ("Off", Mode::Off),
            ("Observe", Mode::Observe),
            ("Enforce", Mode::Enforce),
        ]),
    );
    section.section("upstream", |section| {
        upstream(section, &mut config.upstream)
    });
    section.section("serving", |section| serving(section, &mut config.serving));
    section.section("admin", |section| {
        let expected = "an address and a port, like 0.0.0.0:8080 or [::]:8080";
        section.field(
            "bindAddress",
            &mut config.admin.bind_address,
            text(expected),
        );
    });
    section.section("creates", |section| creates(section, &mut config.creates));
    section.section("replay", |section| replay(section, &mut config.replay));
    section.section("rateLimit", |section| {
        rate_limit(section, &mut config.rate_limit)
    });
    section.section("drain", |section| {
        section.field(
            "timeout",
            &mut config.drain.timeout,
            duration(Duration::ZERO, HOUR),
        )
    });
    section.section("metrics", |section| metrics(section, &mut config.metrics));
    section.section("logging", |section| {
        section.field(
            "format",
            &mut config.logging.format,
            one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
        );
        section.field("level", &mut config.logging.level, log_level);
    });
    section.section("tracing", |section| {
        section.field(
            "endpoint",
            &mut config.tracing.endpoint,
            some(collector_url),
        );
        section.field(
            "sampleRatio",
            &mut config.tracing.sample_ratio,
            number(0.0, 1.0, "0.1"),
        );
        section.field(
            "serviceName",
            &mut config.tracing.service_name,
            text("a name"),
        );
    });
    section.section("events", |section| {
        section.field("enabled", &mut config.events.enabled, boolean);
        section.field("tokenFile", &mut config.events.token_file, path);
    });
}

fn upstream(section: &mut Section<'_>, upstream: &mut Upstream) {
    section.field("url", &mut upstream.url, some(upstream_url));
    section.field("servers", &mut upstream.servers, some_of(upstream_url));
    section.field(
        "discover",
        &mut upstream.discover,
        some(one_of(&[("Kubernetes", Discover::Kubernetes)])),
    );
    section.field("discoverTokenFile", &mut upstream.discover_token_file, path);
    section.field(
        "pin",
        &mut upstream.pin,
        one_of(&[("Namespace", Pin::Namespace), ("None", Pin::None)]),
    );
    section.field(
        "caFile",
        &mut upstream.ca,
        some(|value| path(value).map(CaSource::File)),
    );
    section.field("serverName", &mut upstream.server_name, some(host));
    section.field(
        "connectTimeout",
        &mut upstream.connect_timeout,
        duration(MILLISECOND, HOUR),
    );
    section.field(
        "idleTimeout",
        &mut upstream.idle_timeout,
        duration(SECOND, HOUR),
    );
    section.field(
        "keepAliveInterval",
        &mut upstream.keep_alive_interval,
        duration(SECOND, HOUR),
    );
    section.field(
        "keepAliveTimeout",
        &mut upstream.keep_alive_timeout,
        duration(SECOND, HOUR),
    );
    section.field(
        "connectionsPerLane",
        &mut upstream.connections_per_lane,
        count(1, 64),
    );
    section.field(
        "maxStreamsPerConnection",
        &mut upstream.max_streams_per_connection,
        count(1, 10_000),
    );
    section.field(
        "maxUnread",
        &mut upstream.max_unread,
        bytes(1 << 20, 1 << 40),
    );
}

fn serving(section: &mut Section<'_>, serving: &mut Serving) {
    section.field(
        "bindAddress",
        &mut serving.bind_address,
        text("an IP address without a port, like 0.0.0.0 or ::"),
    );
    section.field(
        "securePort",
        &mut serving.secure_port,
        whole(0, u16::MAX.into()),
    );
    section.field("tlsCertFile", &mut serving.tls_cert_file, some(path));
    section.field(
        "tlsPrivateKeyFile",
        &mut serving.tls_private_key_file,
        some(path),
    );
    section.field(
        "headTimeout",
        &mut serving.head_timeout,
        duration(MILLISECOND, HOUR),
    );
    section.field("maxHead", &mut serving.max_head, head);
    section.field(
        "maxConnections",
        &mut serving.max_connections,
        count(1, 1_000_000),
    );
    section.field(
        "maxConnectionsPerAddress",
        &mut serving.max_connections_per_address,
        some(count(1, 1_000_000)),
    );
    section.field(
        "maxRequests",
        &mut serving.max_requests,
        count(1, 10_000_000),
    );
    section.section("selfSigned", |section| {
        section.field("hosts", &mut serving.self_signed.hosts, some_of(host));
        section.field("directory", &mut serving.self_signed.directory, some(path));
        section.field("tokenFile", &mut serving.self_signed.token_file, path);
    });
}

/// From what any request needs to the apiserver's own 1 MiB.
fn head(value: &Value) -> super::units::Parsed<u32> {
    bytes(4 << 10, 1 << 20)(value)
        .and_then(|number| u32::try_from(number).map_err(|_| "a smaller size".into()))
}

fn creates(section: &mut Section<'_>, creates: &mut Creates) {
    section.sections("resources", &mut creates.resources, |section| {
        let mut resource = Resource {
            group: String::new(),
            version: "v1".into(),
            resource: String::new(),
        };
        section.field("group", &mut resource.group, api_group);
        section.field(
            "version",
            &mut resource.version,
            api_name("an API version like v1"),
        );
        resource.resource = section.required(
            "resource",
            api_name("a plural name in lower case without a subresource, like pods"),
        )?;
        Some(resource)
    });
    section.field("serverSideApply", &mut creates.server_side_apply, boolean);
    section.field("maxBody", &mut creates.max_body, bytes(1 << 10, 64 << 20));
    section.field(
        "maxBuffered",
        &mut creates.max_buffered,
        bytes(1 << 10, 1 << 40),
    );
    section.field("maxHeld", &mut creates.max_held, count(1, 1_000_000));
}

fn replay(section: &mut Section<'_>, replay: &mut Replay) {
    section.field(
        "baseDelay",
        &mut replay.base_delay,
        duration(MILLISECOND, HOUR),
    );
    section.field(
        "maxDelay",
        &mut replay.max_delay,
        duration(MILLISECOND, HOUR),
    );
    section.field("maxAttempts", &mut replay.max_attempts, whole(1, 1000));
    section.field(
        "maxHold",
        &mut replay.max_hold,
        duration(Duration::ZERO, HOUR),
    );
    section.section("budget", |section| {
        section.section("quotaConflict", |section| {
            budget(section, &mut replay.budget.quota_conflict)
        });
        section.section("other", |section| budget(section, &mut replay.budget.other));
    });
    section.section("exceededQuota", |section| {
        opt_in(section, &mut replay.exceeded_quota)
    });
    section.section("quotaStatusUnknown", |section| {
        opt_in(section, &mut replay.quota_status_unknown)
    });
    section.section("quotaEvaluationTimeout", |section| {
        opt_in(section, &mut replay.quota_evaluation_timeout)
    });
    section.section("webhookUnreachable", |section| {
        opt_in(section, &mut replay.webhook_unreachable)
    });
}

fn budget(section: &mut Section<'_>, budget: &mut Budget) {
    section.field("ratio", &mut budget.ratio, number(0.0, 10.0, "1.0"));
    section.field("perSecond", &mut budget.per_second, whole(0, 1_000_000));
}

fn opt_in(section: &mut Section<'_>, class: &mut OptIn) {
    section.field("enabled", &mut class.enabled, boolean);
    section.field("maxAttempts", &mut class.max_attempts, whole(1, 1000));
    section.field(
        "maxHold",
        &mut class.max_hold,
        duration(Duration::ZERO, HOUR),
    );
}

fn rate_limit(section: &mut Section<'_>, limit: &mut RateLimit) {
    limit.namespace = section.section("namespace", rate).flatten();
    limit.global = section.section("global", rate).flatten();
    section.field(
        "maxWait",
        &mut limit.max_wait,
        duration(Duration::ZERO, HOUR),
    );
    section.field(
        "maxNamespaces",
        &mut limit.max_namespaces,
        count(1, 1_000_000),
    );
}

fn rate(section: &mut Section<'_>) -> Option<Rate> {
    let qps = section.required("qps", number(0.001, 1_000_000.0, "20"));
    let burst = section.required("burst", whole(1, 1_000_000));
    Some(Rate {
        qps: qps?,
        burst: burst?,
    })
}

fn metrics(section: &mut Section<'_>, metrics: &mut Metrics) {
    section.field(
        "maxNamespaces",
        &mut metrics.max_namespaces,
        count(0, 100_000),
    );
    section.field("decisions", &mut metrics.decisions, count(0, 100_000));
}

fn count(min: u32, max: u32) -> impl Fn(&Value) -> super::units::Parsed<usize> {
    move |value| {
        whole::<u32>(min, max)(value)
            .and_then(|number| usize::try_from(number).map_err(|_| "a smaller number".into()))
    }
}

#[cfg(test)]
mod tests;
