//! A proxy in this process in front of a model control plane.
//!
//! Only this module uses the proxy's library. The rest of the crate judges the proxy and shares no
//! code with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube_retry_proxy::app::{self, App};
use kube_retry_proxy::config::{CaSource, Config};
use kube_retry_proxy::metrics::Metrics;
use model_control_plane::client::Answer;
use model_control_plane::{ControlPlane, Faults, Settings};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::{Client, Protocol, tls_stream};
use crate::{NAMESPACE, Raw, admin};

/// A control plane with the namespace [`NAMESPACE`] and a quota in it, and a proxy in front of its
/// first apiserver.
pub struct Rig {
    pub plane: ControlPlane,
    pub proxy: App,
}

impl Rig {
    /// One quick apiserver, and a proxy with the default configuration.
    pub async fn new() -> Self {
        rig(|_| {}).await
    }

    /// A control plane and a proxy with other settings. With several apiservers the proxy uses the
    /// load balancer.
    pub async fn with(settings: Settings, edit: impl FnOnce(&mut Config)) -> Self {
        let single = settings.apiservers == 1;
        let plane = plane(settings).await;
        let upstream = if single {
            plane.urls()[0].clone()
        } else {
            plane.balanced_url()
        };
        let proxy = proxy_to(&upstream, plane.ca_pem(), edit).await;
        Self { plane, proxy }
    }

    /// As [`Rig::with`], but the proxy has the address of every apiserver.
    pub async fn listed(settings: Settings, edit: impl FnOnce(&mut Config)) -> Self {
        let plane = plane(settings).await;
        let proxy = proxy_in_front_of(&plane.urls(), plane.ca_pem(), edit).await;
        Self { plane, proxy }
    }

    /// One quick apiserver that speaks this protocol to the proxy, which has the default
    /// configuration.
    pub async fn speaking(upstream: Protocol) -> Self {
        Self::with(speaking(upstream), |_| {}).await
    }

    /// A client of the proxy.
    pub async fn client(&self, protocol: Protocol) -> Client {
        Client::connect(
            self.proxy.address,
            self.proxy.ca_pem.as_deref().unwrap(),
            self.plane.token(),
            protocol,
        )
        .await
    }

    /// A client that connects directly to the first apiserver.
    pub async fn direct(&self, protocol: Protocol) -> Client {
        Client::connect(
            self.plane.addresses()[0],
            self.plane.ca_pem(),
            self.plane.token(),
            protocol,
        )
        .await
    }

    /// A raw connection to the proxy.
    pub async fn raw(&self) -> Raw<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        Raw::new(
            tls_stream(
                self.proxy.address,
                self.proxy.ca_pem.as_deref().unwrap(),
                Protocol::Http1,
            )
            .await,
        )
    }

    /// A raw connection to the first apiserver.
    pub async fn raw_direct(&self) -> Raw<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        Raw::new(
            tls_stream(
                self.plane.addresses()[0],
                self.plane.ca_pem(),
                Protocol::Http1,
            )
            .await,
        )
    }

    /// The faults of the first apiserver.
    pub fn faults(&self) -> &Arc<Faults> {
        self.plane.faults(0).unwrap()
    }

    /// Gets a page of the proxy's admin port.
    pub async fn admin(&self, path: &str) -> Answer {
        admin::get(self.proxy.admin_address, path).await
    }

    /// The entries of `/debug/decisions`, newest first.
    pub async fn decisions(&self) -> Vec<serde_json::Value> {
        serde_json::from_slice(&self.admin("/debug/decisions").await.body).unwrap()
    }

    /// Stops proxy and control plane. A panic in a task of the control plane fails the test here.
    pub async fn stop(self) {
        tokio::time::timeout(Duration::from_secs(20), self.proxy.stop())
            .await
            .expect("the proxy stops");
        self.plane.shutdown().await;
    }
}

/// One quick apiserver, and a proxy with this configuration.
pub async fn rig(edit: impl FnOnce(&mut Config)) -> Rig {
    Rig::with(one(), edit).await
}

/// The settings of one quick apiserver.
pub fn one() -> Settings {
    Settings {
        apiservers: 1,
        ..Settings::quick()
    }
}

/// A control plane with the namespace [`NAMESPACE`] and a quota in it.
pub async fn plane(settings: Settings) -> ControlPlane {
    let plane = ControlPlane::start(settings).await.unwrap();
    plane.create_namespace(NAMESPACE).unwrap();
    plane
        .create_quota(NAMESPACE, "compute-quota", &[("pods", "100k")])
        .unwrap();
    plane
}

/// The settings of one quick apiserver that speaks this protocol.
pub fn speaking(upstream: Protocol) -> Settings {
    Settings {
        http1_only: upstream == Protocol::Http1,
        ..one()
    }
}

/// A proxy on free ports of loopback in front of `upstream`.
pub async fn proxy_to(upstream: &str, ca: &str, edit: impl FnOnce(&mut Config)) -> App {
    proxy_in_front_of(&[upstream.to_owned()], ca, edit).await
}

/// A proxy on free ports of loopback in front of these servers.
pub async fn proxy_in_front_of(
    servers: &[String],
    ca: &str,
    edit: impl FnOnce(&mut Config),
) -> App {
    let mut config = Config::default();
    config.upstream.servers = servers.iter().map(|url| url.parse().unwrap()).collect();
    config.upstream.ca = Some(CaSource::Pem(ca.as_bytes().to_vec()));
    config.serving.bind_address = [127, 0, 0, 1].into();
    config.serving.secure_port = 0;
    config.admin.bind_address = SocketAddr::from(([127, 0, 0, 1], 0));
    // Some tests keep connections open on purpose. The drain does not wait long for them.
    config.drain.timeout = Duration::from_millis(200);
    edit(&mut config);
    app::start(config, None).await.unwrap()
}

/// The number of upstream servers that the proxy considers up.
pub fn servers_up(proxy: &App) -> usize {
    let text = proxy.metrics.render();
    text.lines()
        .filter(|line| line.starts_with("kube_retry_proxy_upstream_up{") && line.ends_with(" 1"))
        .count()
}

/// The value of a sample in the proxy's metrics, 0 if it is missing.
pub fn sample(proxy: &App, series: &str) -> f64 {
    sample_of(&proxy.metrics, series)
}

/// As [`sample`], for a proxy that may have stopped.
pub fn sample_of(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.render();
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    line.and_then(|line| line.rsplit(' ').next())
        .map_or(0.0, |value| value.parse().unwrap())
}
