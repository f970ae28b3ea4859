//! The list of servers, and how discovery replaces it.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use http::Uri;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::connect::Connectors;
use super::server::{Server, ServerContext};
use super::{AddressError, SetupError};
use crate::body::Flows;
use crate::config;
use crate::config::rules::MAX_SERVERS;
use crate::metrics::Metrics;
use crate::telemetry::chain;
use crate::tls::{OwnCertificate, TlsError};

pub(super) struct ServerList {
    /// Never empty. Discovery replaces the whole list.
    current: ArcSwap<Vec<Arc<Server>>>,
    /// Notified when the list has been replaced.
    pub(super) replaced: Notify,
    connectors: Connectors,
    settings: config::UpstreamConfig,
    pub(super) context: ServerContext,
}

impl ServerList {
    /// The servers of `settings`, with no connection yet.
    pub(super) fn new(
        settings: &config::UpstreamConfig,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, SetupError> {
        let urls = settings.addresses();
        let connectors = Connectors::new(settings, &urls)?;
        let context = ServerContext {
            metrics: Arc::clone(metrics),
            changed: Arc::default(),
            flows: Flows::new(settings.max_unread, metrics),
        };
        let mut servers = Vec::new();
        for url in urls.into_iter().take(MAX_SERVERS) {
            let connector =
                connectors
                    .to(&url)
                    .map_err(|source: AddressError| SetupError::Address {
                        url: url.to_string(),
                        source: Box::new(source),
                    })?;
            servers.push(Arc::new(Server::new(connector, settings, &context)));
        }
        if servers.is_empty() {
            return Err(SetupError::NoServer);
        }
        servers
            .iter()
            .for_each(|server| metrics.upstream_up(&server.name, false));
        Ok(Self {
            current: ArcSwap::from_pointee(servers),
            replaced: Notify::new(),
            connectors,
            settings: settings.clone(),
            context,
        })
    }

    /// The current list, for use without an await.
    pub(super) fn load(&self) -> Guard<Arc<Vec<Arc<Server>>>> {
        self.current.load()
    }

    /// The current list, for use across awaits: one request uses one list from its start to its
    /// end.
    pub(super) fn snapshot(&self) -> Arc<Vec<Arc<Server>>> {
        self.current.load_full()
    }

    /// Replaces the list with the servers at `urls`. A server that is already in the list keeps its
    /// connections and its health. An empty `urls` changes nothing.
    pub(super) fn replace(&self, urls: &[Uri]) {
        let known = self.snapshot();
        let mut servers = Vec::new();
        for url in urls.iter().take(MAX_SERVERS) {
            let connector = match self.connectors.to(url) {
                Ok(connector) => connector,
                Err(error) => {
                    warn!(%url, error = %chain(&error), "An apiserver's address is not usable");
                    continue;
                }
            };
            let same = known.iter().find(|server| server.name == connector.name());
            let new = || Arc::new(Server::new(connector, &self.settings, &self.context));
            servers.push(same.map_or_else(new, Arc::clone));
        }
        if servers.is_empty() {
            warn!("Discovery found no apiserver, keeping the present ones");
            return;
        }
        if servers.len() == known.len() && servers.iter().all(|server| contains(&known, server)) {
            return;
        }
        info!(
            servers = servers
                .iter()
                .map(|server| &*server.name)
                .collect::<Vec<_>>()
                .join(","),
            "Found the apiservers"
        );
        let servers = Arc::new(servers);
        self.current.store(Arc::clone(&servers));
        for removed in known.iter().filter(|server| !contains(&servers, server)) {
            removed.health.remove();
            self.context.metrics.upstream_gone(&removed.name);
        }
        self.replaced.notify_one();
        self.context.changed.notify_one();
    }

    pub(super) fn reload_ca(&self) -> Result<bool, TlsError> {
        self.connectors.reload_trust()
    }

    pub(super) fn front_proxy(&self) -> Option<&Arc<OwnCertificate>> {
        self.connectors.front_proxy()
    }

    pub(super) fn reload_front_proxy(&self) -> Result<bool, TlsError> {
        let changed = self.front_proxy().map_or(Ok(false), |own| own.reload())?;
        if changed {
            let servers = self.load();
            servers.iter().for_each(|server| server.retire_identified());
        }
        Ok(changed)
    }
}

pub(super) fn contains(servers: &[Arc<Server>], server: &Arc<Server>) -> bool {
    servers.iter().any(|other| Arc::ptr_eq(other, server))
}
