//! The `demo` command: a race of creates for one quota, first straight at a control plane, then
//! through the proxy, which once only mends the conflicts by replaying and once avoids them by
//! pinning.
//!
//! The control plane is the model, in this process: three apiservers, straight behind one load
//! balancer, and known to the proxy by their addresses. All phases send the same creates with the
//! same client. What was created is read back from the store, never from what the client was told.
//! The progress bars go to stderr; printing the report is the caller's. [`serve()`] goes on for
//! ever instead, for people who want to look at it.

mod phase;
mod serve;
mod table;

pub use serve::serve;

use std::net::SocketAddr;
use std::time::Duration;

use http::Version;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::app::{self, App, StartError};
use crate::config::{CaSource, Config, Pin};
use model_control_plane::client::{ClientError, Endpoint};
use model_control_plane::storm::{Mismatch, StormError};
use model_control_plane::{ControlPlane, ModelError, Settings};

/// What the demo does.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many pods each phase creates.
    pub pods: u32,
    /// How many creates are in flight at the same time.
    pub concurrency: u32,
}

/// What came of the phases.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Straight at the apiservers.
    pub direct: Outcome,
    /// Through the proxy with `pin: None`, which spreads creates over the apiservers and replays.
    pub unpinned: Outcome,
    /// Through the proxy as it is by default: all creates of the namespace go to one apiserver.
    pub pinned: Outcome,
}

/// What came of one phase.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Creates that the client asked for.
    pub requested: u64,
    /// Pods in the store afterwards.
    pub created: u64,
    /// Creates that the client saw fail.
    pub failed: u64,
    /// Quota conflicts that the apiservers answered.
    pub conflicts: u64,
    /// Creates that the proxy sent again; 0 without a proxy.
    pub replays: u64,
    /// From the first create to the last answer.
    pub seconds: f64,
    /// Median time of a create, as the client sees it.
    pub p50_ms: f64,
    /// 99th percentile of the same.
    pub p99_ms: f64,
}

/// Why the demo could not be run, or what it found wrong.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The control plane did not start.
    #[error("the embedded control plane cannot start")]
    Model(#[from] ModelError),
    /// The proxy did not start.
    #[error("the proxy cannot start")]
    Proxy(#[from] StartError),
    /// The control plane's own address is no URI.
    #[error("the embedded control plane has no usable address")]
    Address(#[from] http::uri::InvalidUri),
    /// The client could not be set up.
    #[error("the client cannot be set up")]
    Client(#[from] ClientError),
    /// The creates could not be sent.
    #[error("the creates cannot be sent")]
    Storm(#[from] StormError),
    /// What is in the store is not what the clients were told.
    #[error("the store and the answers disagree")]
    Mismatch(#[from] Mismatch),
    /// One create was stored more than once.
    #[error("the pod {0:?} was stored {1} times")]
    Twice(String, usize),
}

/// Runs both phases. What it reports has been checked: no pod twice, and none missing that was
/// acknowledged.
///
/// # Errors
/// If something cannot start, or a check fails.
pub async fn run(options: Options) -> Result<Report, DemoError> {
    let plane = ControlPlane::start(Settings::default()).await?;
    let direct = {
        let endpoint = Endpoint::new(
            &plane.balanced_url(),
            plane.ca_pem(),
            plane.token(),
            Version::HTTP_11,
        )?;
        phase::run(
            &plane,
            "direct",
            &endpoint,
            options,
            progress("direct", options.pods),
        )
        .await?
    };
    let unpinned = proxied(&plane, "unpinned", Pin::None, options).await?;
    let pinned = proxied(&plane, "pinned", Pin::Namespace, options).await?;
    plane.shutdown().await;
    Ok(Report {
        direct,
        unpinned,
        pinned,
    })
}

impl Report {
    /// One JSON object on one line.
    pub fn json(&self) -> String {
        // Numbers and fixed names cannot fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A table for people, of several lines.
    pub fn table(&self) -> String {
        table::render(self)
    }
}

/// One phase through a proxy of its own, in a namespace called like the phase.
async fn proxied(
    plane: &ControlPlane,
    name: &'static str,
    pin: Pin,
    options: Options,
) -> Result<Outcome, DemoError> {
    let proxy = start_proxy(plane, pin).await?;
    // The demo configures no certificate, so there always is a self-signed one.
    let ca = proxy.ca_pem.as_deref().unwrap_or_default();
    let endpoint = Endpoint::new(
        &format!("https://{}", proxy.address),
        ca,
        plane.token(),
        Version::HTTP_11,
    )?;
    let mut outcome = phase::run(
        plane,
        name,
        &endpoint,
        options,
        progress(name, options.pods),
    )
    .await?;
    outcome.replays = proxy.metrics.replays();
    proxy.stop().await;
    Ok(outcome)
}

/// A proxy before all apiservers, as `serve` would start it.
async fn start_proxy(plane: &ControlPlane, pin: Pin) -> Result<App, DemoError> {
    let mut config = Config::default();
    config.upstream.servers = plane
        .urls()
        .iter()
        .map(|url| url.parse())
        .collect::<Result<_, _>>()?;
    config.upstream.pin = pin;
    config.upstream.ca = Some(CaSource::Pem(plane.ca_pem().as_bytes().to_vec()));
    config.serving.bind_address = [127, 0, 0, 1].into();
    config.serving.secure_port = 0;
    config.admin.bind_address = SocketAddr::from(([127, 0, 0, 1], 0));
    // Nothing is left open at the end.
    config.drain.timeout = Duration::from_secs(1);
    Ok(app::start(config, None).await?)
}

/// A bar on stderr; nothing where stderr is no terminal.
fn progress(name: &'static str, pods: u32) -> ProgressBar {
    const TEMPLATE: &str = "{prefix:8} [{bar:40}] {pos}/{len} creates, {msg}";
    let bar = ProgressBar::new(pods.into())
        .with_prefix(name)
        .with_message("0 failed");
    match indicatif::ProgressStyle::with_template(TEMPLATE) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn creates_everything_through_the_proxy_and_tells_so() {
        let report = run(Options {
            pods: 60,
            concurrency: 20,
        })
        .await
        .unwrap();
        for proxied in [&report.unpinned, &report.pinned] {
            assert_eq!((proxied.created, proxied.failed), (60, 0), "{report:?}");
        }
        assert_eq!(
            (report.pinned.conflicts, report.pinned.replays),
            (0, 0),
            "{report:?}"
        );
        assert_eq!(report.direct.created + report.direct.failed, 60);
        assert_eq!(
            (report.direct.replays, report.direct.conflicts),
            (0, report.direct.failed)
        );
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        for phase in ["direct", "unpinned", "pinned"] {
            for field in [
                "requested",
                "created",
                "failed",
                "conflicts",
                "replays",
                "seconds",
                "p50_ms",
                "p99_ms",
            ] {
                assert!(json[phase][field].is_number(), "{phase}.{field}");
            }
        }
        let table = report.table();
        assert!(
            ["direct", "unpinned", "pinned"]
                .iter()
                .all(|phase| table.contains(phase)),
            "{table}"
        );
    }
}
