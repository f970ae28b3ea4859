//! The configuration as it can be shown: JSON in the file's own shape, so that what `/configz`
//! prints can be pasted into a file. The configuration holds no secrets: credentials are the
//! callers' own, keys are named by path.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Budget, CaSource, Config, LogFormat, OptIn, Rate};

/// The effective configuration, every field named, in the shape of `config/example.yaml`.
#[must_use]
pub fn show(config: &Config) -> Value {
    let Config {
        mode,
        upstream,
        serving,
        admin,
        creates,
        replay,
        rate_limit,
        drain,
        metrics,
        logging,
        tracing,
        events,
    } = config;
    json!({
        "apiVersion": "kube-retry-proxy/v1alpha1",
        "kind": "ProxyConfiguration",
        "mode": format!("{mode:?}"),
        "upstream": {
            "url": upstream.url.as_ref().map(url),
            "servers": Some(upstream.servers.iter().map(url).collect::<Vec<_>>()).filter(|servers| !servers.is_empty()),
            "discover": upstream.discover.map(|discover| format!("{discover:?}")),
            "discoverTokenFile": path(Some(&upstream.discover_token_file)),
            "pin": format!("{:?}", upstream.pin),
            "caFile": upstream.ca.as_ref().map(ca),
            "serverName": upstream.server_name,
            "connectTimeout": duration(upstream.connect_timeout),
            "idleTimeout": duration(upstream.idle_timeout),
            "keepAliveInterval": duration(upstream.keep_alive_interval),
            "keepAliveTimeout": duration(upstream.keep_alive_timeout),
            "connectionsPerLane": upstream.connections_per_lane,
            "maxStreamsPerConnection": upstream.max_streams_per_connection,
            "maxUnread": bytes(upstream.max_unread),
        },
        "serving": {
            "bindAddress": serving.bind_address,
            "securePort": serving.secure_port,
            "tlsCertFile": path(serving.tls_cert_file.as_ref()),
            "tlsPrivateKeyFile": path(serving.tls_private_key_file.as_ref()),
            "headTimeout": duration(serving.head_timeout),
            "maxHead": bytes(serving.max_head.into()),
            "maxConnections": serving.max_connections,
            "maxConnectionsPerAddress": serving.max_connections_per_address,
            "maxRequests": serving.max_requests,
            "selfSigned": {
                "hosts": serving.self_signed.hosts,
                "directory": path(serving.self_signed.directory.as_ref()),
                "tokenFile": path(Some(&serving.self_signed.token_file)),
            },
        },
        "admin": { "bindAddress": admin.bind_address },
        "creates": {
            "resources": creates.resources.iter().map(|each| {
                json!({ "group": each.group, "version": each.version, "resource": each.resource })
            }).collect::<Vec<_>>(),
            "serverSideApply": creates.server_side_apply,
            "maxBody": bytes(creates.max_body),
            "maxBuffered": bytes(creates.max_buffered),
            "maxHeld": creates.max_held,
        },
        "replay": {
            "baseDelay": duration(replay.base_delay),
            "maxDelay": duration(replay.max_delay),
            "maxAttempts": replay.max_attempts,
            "maxHold": duration(replay.max_hold),
            "budget": { "quotaConflict": budget(&replay.budget.quota_conflict), "other": budget(&replay.budget.other) },
            "exceededQuota": opt_in(&replay.exceeded_quota),
            "quotaStatusUnknown": opt_in(&replay.quota_status_unknown),
            "quotaEvaluationTimeout": opt_in(&replay.quota_evaluation_timeout),
            "webhookUnreachable": opt_in(&replay.webhook_unreachable),
        },
        "rateLimit": {
            "namespace": rate_limit.namespace.as_ref().map(rate),
            "global": rate_limit.global.as_ref().map(rate),
            "maxWait": duration(rate_limit.max_wait),
            "maxNamespaces": rate_limit.max_namespaces,
        },
        "drain": { "timeout": duration(drain.timeout) },
        "metrics": { "maxNamespaces": metrics.max_namespaces, "decisions": metrics.decisions },
        "logging": {
            "format": match logging.format { LogFormat::Text => "text", LogFormat::Json => "json" },
            "level": logging.level,
        },
        "tracing": {
            "endpoint": tracing.endpoint.as_ref().map(url),
            "sampleRatio": tracing.sample_ratio,
            "serviceName": tracing.service_name,
        },
        "events": { "enabled": events.enabled, "tokenFile": path(Some(&events.token_file)) },
    })
}

fn url(url: &http::Uri) -> String {
    url.to_string().trim_end_matches('/').to_owned()
}

fn opt_in(class: &OptIn) -> Value {
    json!({ "enabled": class.enabled, "maxAttempts": class.max_attempts, "maxHold": duration(class.max_hold) })
}

fn budget(budget: &Budget) -> Value {
    json!({ "ratio": budget.ratio, "perSecond": budget.per_second })
}

fn rate(rate: &Rate) -> Value {
    json!({ "qps": rate.qps, "burst": rate.burst })
}

/// A CA that came inline from a kubeconfig has no file to name.
fn ca(source: &CaSource) -> String {
    match source {
        CaSource::File(path) => path.display().to_string(),
        CaSource::Pem(_) => "(from the kubeconfig)".to_owned(),
    }
}

fn path(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

/// The largest unit that is exact, as in `75s` or `250ms`.
fn duration(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => format!("{}s", duration.as_secs()),
        nanos if nanos % 1_000_000 == 0 => format!("{}ms", duration.as_millis()),
        _ => format!("{}ns", duration.as_nanos()),
    }
}

/// The largest binary unit that is exact, as in `3Mi`.
fn bytes(bytes: u64) -> String {
    [(30, "Gi"), (20, "Mi"), (10, "Ki")]
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(
            || bytes.to_string(),
            |(shift, unit)| format!("{}{unit}", bytes >> shift),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;
    use crate::config::{Mode, Pin};

    #[test]
    fn what_is_shown_can_be_read_again() {
        let mut config = Config {
            mode: Mode::Observe,
            ..Config::default()
        };
        config.upstream.url = Some("https://10.0.0.1:6443".parse().unwrap());
        config.upstream.ca = Some(CaSource::File("/ca.crt".into()));
        config.replay.base_delay = Duration::from_millis(1500);
        config.creates.max_body = 1025;
        config.rate_limit.global = Some(Rate { qps: 0.5, burst: 3 });
        config.tracing.endpoint = Some("http://[fd00::1]:4318".parse().unwrap());
        let mut listed = Config::default();
        listed.upstream.servers = ["https://10.0.0.1:6443", "https://[fd00::1]"]
            .map(|url| url.parse().unwrap())
            .into();
        listed.upstream.pin = Pin::None;
        for config in [Config::default(), config, listed] {
            assert_eq!(
                parse(&show(&config).to_string()).unwrap(),
                config,
                "JSON is YAML too"
            );
        }
    }
}
