//! Reloads the parts that may change while the proxy runs: `mode`, `replay` and `rateLimit` of the
//! configuration, the certificates of the proxy, and the CAs of the upstream and of clients. An error
//! is logged once, and the last good state stays in use.
//!
//! Files are read again every few seconds and compared by content. A ConfigMap or Secret changes by
//! swapping symlinks, and a watch on the file would miss that.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::create::CreateSettings;
use crate::metrics::{Metrics, Reloaded};
use crate::proxy::Proxy;
use crate::tls::OwnCertificate;

const EVERY: Duration = Duration::from_secs(5);

/// Where the configuration is reloaded from while the proxy runs.
pub struct ConfigSource {
    /// Reads the configuration from all its sources, flags included.
    pub read: Box<dyn Fn() -> Result<Config, Box<dyn Error + Send + Sync>> + Send + Sync>,
    /// The time between two reads. Certificate files are read as often.
    pub every: Duration,
}

impl ConfigSource {
    /// Reads every five seconds. The kubelet takes longer to update a ConfigMap in a pod.
    pub fn new(
        read: impl Fn() -> Result<Config, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            read: Box::new(read),
            every: EVERY,
        }
    }
}

pub(super) struct Reloader {
    /// None: only the certificate files are reloaded.
    pub source: Option<ConfigSource>,
    pub current: Arc<ArcSwap<Config>>,
    pub proxy: Arc<Proxy>,
    pub certificate: Arc<OwnCertificate>,
    pub metrics: Arc<Metrics>,
}

impl Reloader {
    /// Looks for changes until it is dropped.
    pub(super) async fn run(self) {
        let mut logged = Logged::default();
        let mut every =
            tokio::time::interval(self.source.as_ref().map_or(EVERY, |source| source.every));
        loop {
            every.tick().await;
            let config = self.config(&mut logged.waiting);
            logged.once(&self.metrics, Reloaded::Config, config);
            let certificate = self.certificate();
            logged.once(&self.metrics, Reloaded::Certificate, certificate);
            let upstream_ca = self.proxy.upstream.reload_ca().map_err(Into::into);
            logged.once(&self.metrics, Reloaded::UpstreamCa, upstream_ca);
            let client_ca = self.client_ca();
            logged.once(&self.metrics, Reloaded::ClientCa, client_ca);
            let front_proxy = self.front_proxy();
            logged.once(&self.metrics, Reloaded::FrontProxyCertificate, front_proxy);
        }
    }

    /// Applies the sections that can change, even if the file also changes sections that need a
    /// restart. Somebody who needs `mode: Off` must not wait for that.
    fn config(&self, waiting: &mut Vec<&'static str>) -> Changed {
        let Some(source) = &self.source else {
            return Ok(false);
        };
        let read = (source.read)()?;
        let current = self.current.load();
        let mut new = Config::clone(&current);
        (new.mode, new.replay, new.rate_limit) =
            (read.mode, read.replay.clone(), read.rate_limit.clone());
        let fixed = fixed_sections_changed(&read, &current);
        if !fixed.is_empty() && fixed != *waiting {
            warn!(
                sections = fixed.join(", "),
                "These sections have changed and take effect at the next start"
            );
        }
        *waiting = fixed;
        if new == **current {
            return Ok(false);
        }
        self.proxy.creates.reload(CreateSettings::new(&new));
        self.metrics.mode(new.mode);
        self.current.store(Arc::new(new));
        Ok(true)
    }

    fn certificate(&self) -> Changed {
        let changed = self.certificate.reload()?;
        if changed {
            report_expiry(&self.metrics, &self.certificate);
        }
        Ok(changed)
    }

    fn client_ca(&self) -> Changed {
        let identities = self.proxy.identities.as_ref();
        Ok(identities.map_or(Ok(false), |identities| identities.reload())?)
    }

    fn front_proxy(&self) -> Changed {
        let changed = self.proxy.upstream.reload_front_proxy()?;
        if changed {
            report_front_proxy_expiry(&self.metrics, self.proxy.upstream.front_proxy());
        }
        Ok(changed)
    }
}

/// The changed sections among those that take effect only at a start.
fn fixed_sections_changed(read: &Config, current: &Config) -> Vec<&'static str> {
    // The pattern names every section, so that a new one cannot be forgotten.
    let Config {
        mode: _,
        replay: _,
        rate_limit: _,
        upstream,
        serving,
        admin,
        creates,
        drain,
        metrics,
        logging,
        tracing,
        events,
    } = read;
    let changed = [
        ("upstream", *upstream != current.upstream),
        ("serving", *serving != current.serving),
        ("admin", *admin != current.admin),
        ("creates", *creates != current.creates),
        ("drain", *drain != current.drain),
        ("metrics", *metrics != current.metrics),
        ("logging", *logging != current.logging),
        ("tracing", *tracing != current.tracing),
        ("events", *events != current.events),
    ];
    changed
        .into_iter()
        .filter_map(|(name, changed)| changed.then_some(name))
        .collect()
}

/// Whether a part has changed.
type Changed = Result<bool, Box<dyn Error + Send + Sync>>;

/// The messages that were logged, so that they are not repeated every few seconds.
#[derive(Default)]
struct Logged {
    /// The changed sections that wait for a restart.
    waiting: Vec<&'static str>,
    config: Option<String>,
    certificate: Option<String>,
    upstream_ca: Option<String>,
    client_ca: Option<String>,
    front_proxy: Option<String>,
}

impl Logged {
    fn once(&mut self, metrics: &Metrics, what: Reloaded, changed: Changed) {
        let last = match what {
            Reloaded::Config => &mut self.config,
            Reloaded::Certificate => &mut self.certificate,
            Reloaded::UpstreamCa => &mut self.upstream_ca,
            Reloaded::ClientCa => &mut self.client_ca,
            Reloaded::FrontProxyCertificate => &mut self.front_proxy,
        };
        match changed {
            Ok(changed) => {
                *last = None;
                if changed {
                    metrics.reload(what, true);
                    info!(what = what.as_str(), "Reloaded");
                }
            }
            Err(error) => {
                let text = crate::telemetry::chain(&*error).to_string();
                if last.as_ref() != Some(&text) {
                    metrics.reload(what, false);
                    error!(
                        what = what.as_str(),
                        error = text,
                        "Cannot reload, the last good state stays in use"
                    );
                    *last = Some(text);
                }
            }
        }
    }
}

/// Updates the metric, and warns of a certificate that has expired.
pub(super) fn report_expiry(metrics: &Metrics, certificate: &OwnCertificate) {
    metrics.certificate_expiry(unix_seconds(certificate.not_after()));
    if certificate.not_after() < SystemTime::now() {
        warn!("The serving certificate has expired");
    }
}

/// The same for the certificate that the proxy shows to the apiserver.
pub(super) fn report_front_proxy_expiry(
    metrics: &Metrics,
    certificate: Option<&Arc<OwnCertificate>>,
) {
    let Some(certificate) = certificate else {
        return;
    };
    metrics.front_proxy_certificate_expiry(unix_seconds(certificate.not_after()));
    if certificate.not_after() < SystemTime::now() {
        warn!("The certificate of upstream.frontProxyCertFile has expired");
    }
}

fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
