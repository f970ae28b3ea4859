//! OpenTelemetry traces: the spans of a create, the trace headers for the apiserver, and that
//! traces never delay or fail a request.

mod collector;
mod spans;

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use kube_retry_proxy::config::Config;
use kube_retry_proxy::metrics::Metrics;

use crate::support::collector::Collector;
use crate::support::{self, Answer, Client, Rig, sample_of};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A proxy with very short pauses that sends its traces to `collector`.
async fn rig(collector: &Collector, edit: impl FnOnce(&mut Config)) -> Rig {
    support::rig(|config| {
        config.tracing.endpoint = Some(collector.url.parse().unwrap());
        config.replay.base_delay = Duration::from_millis(1);
        edit(config);
    })
    .await
}

/// Creates the pod with these headers.
async fn create_with(client: &mut Client, name: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut request = client.create_request(name);
    for (name, value) in headers {
        request.headers_mut().append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    client.ask(request).await
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// The value of a header in each attempt that reached the apiserver; empty if it was missing.
fn told(rig: &Rig, header: &str) -> Vec<String> {
    let creates = rig.plane.journal().creates();
    let value = |headers: &http::HeaderMap| {
        headers
            .get(header)
            .map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    creates
        .iter()
        .map(|create| value(&create.headers))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spans_counted(metrics: &Metrics, result: &str) -> f64 {
    sample_of(
        metrics,
        &format!("kube_retry_proxy_trace_spans_total{{result=\"{result}\"}}"),
    )
}
