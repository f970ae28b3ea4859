//! How creates reach the apiservers: directly, with or without client-go's retries, or through the
//! proxy.

use std::fmt;
use std::str::FromStr;

use kube_retry_proxy::app::App;
use kube_retry_proxy::config::Pin;
use kube_retry_proxy_support::proxy_in_front_of;
use model_control_plane::storm::Retry;

/// One policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Policy {
    /// One apiserver handles every create, and only deletions write to the quota as well: the best
    /// possible result.
    Oracle,
    /// Directly to all apiservers in turn.
    Direct(Retry),
    /// Through this many proxies in turn.
    Proxied { pinned: bool, replicas: usize },
}

/// Running proxies.
pub(crate) struct Proxies(Vec<App>);

impl Proxies {
    /// Starts identical proxies in front of `servers`.
    pub(crate) async fn start(
        replicas: usize,
        pinned: bool,
        servers: &[String],
        ca_pem: &str,
    ) -> Proxies {
        let mut proxies = Vec::new();
        for _ in 0..replicas {
            // The only difference between the policies with a proxy.
            let proxy = proxy_in_front_of(servers, ca_pem, |config| {
                config.upstream.pin = if pinned { Pin::Namespace } else { Pin::None };
            });
            proxies.push(proxy.await);
        }
        Proxies(proxies)
    }

    /// Address and certificate authority of each.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.iter().map(|app| {
            (
                format!("https://{}", app.address),
                app.ca_pem.as_deref().unwrap_or_default(),
            )
        })
    }

    /// The metrics of all proxies, in Prometheus' text format.
    pub(crate) fn metrics(&self) -> String {
        self.0.iter().map(|app| app.metrics.render()).collect()
    }

    pub(crate) async fn stop(self) {
        for app in self.0 {
            app.stop().await;
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(name: &str) -> Result<Policy, String> {
        let (kind, replicas) = match name.rsplit_once('-') {
            Some((kind, count)) if count.parse::<usize>().is_ok_and(|count| count > 0) => {
                (kind, count.parse().unwrap_or(1))
            }
            _ => (name, 1),
        };
        match (kind, name) {
            ("unpinned", _) => Ok(Policy::Proxied {
                pinned: false,
                replicas,
            }),
            ("pinned", _) => Ok(Policy::Proxied {
                pinned: true,
                replicas,
            }),
            (_, "oracle") => Ok(Policy::Oracle),
            (_, "direct") => Ok(Policy::Direct(Retry::NONE)),
            (_, "direct-retry") => Ok(Policy::Direct(Retry::DEFAULT_RETRY)),
            (_, "direct-backoff") => Ok(Policy::Direct(Retry::DEFAULT_BACKOFF)),
            _ => Err(format!("{name:?} is not a policy")),
        }
    }
}

/// The same format that is parsed.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Oracle => f.write_str("oracle"),
            Policy::Direct(retry) if *retry == Retry::DEFAULT_RETRY => f.write_str("direct-retry"),
            Policy::Direct(retry) if *retry == Retry::DEFAULT_BACKOFF => {
                f.write_str("direct-backoff")
            }
            Policy::Direct(_) => f.write_str("direct"),
            Policy::Proxied { pinned, replicas } => {
                f.write_str(if *pinned { "pinned" } else { "unpinned" })?;
                if *replicas > 1 {
                    write!(f, "-{replicas}")
                } else {
                    Ok(())
                }
            }
        }
    }
}
