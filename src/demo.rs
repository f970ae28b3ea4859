//! The `demo` command: sends many creates that charge one quota, in three phases: without the
//! proxy, through a proxy that only replays conflicts, and through a proxy that also avoids them by
//! pinning.
//!
//! The control plane is the model, which runs in this process with three apiservers. Without the
//! proxy, clients use its load balancer; the proxy uses the addresses of the apiservers. All phases
//! send the same creates with the same client. The report counts the objects in the store, not the
//! answers. Progress bars go to stderr, and the caller prints the report. [`serve()`] instead runs
//! a proxy under load until it is stopped.

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

/// The size of the demo.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many pods each phase creates.
    pub pods: u32,
    /// How many creates are in flight at the same time.
    pub concurrency: u32,
}

/// The results of the three phases.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Without the proxy.
    pub direct: PhaseOutcome,
    /// Through a proxy with `pin: None`, which spreads creates over the apiservers and replays
    /// them.
    pub unpinned: PhaseOutcome,
    /// Through a proxy with the default settings: all creates of the namespace go to one apiserver.
    pub pinned: PhaseOutcome,
}

/// The result of one phase.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseOutcome {
    /// Creates that the client sent.
    pub requested: u64,
    /// Pods in the store afterwards.
    pub created: u64,
    /// Creates that the client saw fail.
    pub failed: u64,
    /// Quota conflicts among the answers of the apiservers.
    pub conflicts: u64,
    /// Creates that the proxy sent again; 0 without a proxy.
    pub replays: u64,
    /// Seconds from the first create to the last answer.
    pub seconds: f64,
    /// The median time that a create took for the client, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of that time, in milliseconds.
    pub p99_ms: f64,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The control plane did not start.
    #[error("the embedded control plane cannot start")]
    Model(#[from] ModelError),
    /// The proxy did not start.
    #[error("the proxy cannot start")]
    Proxy(#[from] StartError),
    /// The control plane's address is not a URI.
    #[error("the embedded control plane has no usable address")]
    Address(#[from] http::uri::InvalidUri),
    /// The client could not be set up.
    #[error("the client cannot be set up")]
    Client(#[from] ClientError),
    /// The creates could not be sent.
    #[error("the creates cannot be sent")]
    Storm(#[from] StormError),
    /// The objects in the store differ from the answers that the clients got.
    #[error("the store and the answers disagree")]
    Mismatch(#[from] Mismatch),
    /// One create was stored more than once.
    #[error("the pod {0:?} was stored {1} times")]
    Twice(String, usize),
}

/// Runs all phases. Checks that no pod was stored twice, and that every acknowledged pod was
/// stored.
///
/// # Errors
/// Something cannot start, or a check fails.
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
    /// The report as one line of JSON.
    pub fn json(&self) -> String {
        // Numbers and fixed names cannot fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The report as a table of several lines.
    pub fn table(&self) -> String {
        table::render(self)
    }
}

/// Runs one phase through a new proxy, in a namespace with the name of the phase.
async fn proxied(
    plane: &ControlPlane,
    name: &'static str,
    pin: Pin,
    options: Options,
) -> Result<PhaseOutcome, DemoError> {
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

/// Starts a proxy for all apiservers, as `serve` would.
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
    // No connection stays open at the end, so the drain can be short.
    config.drain.timeout = Duration::from_secs(1);
    Ok(app::start(config, None).await?)
}

/// A progress bar on stderr, or nothing if stderr is not a terminal.
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
    async fn the_report_shows_that_the_proxy_created_everything() {
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
